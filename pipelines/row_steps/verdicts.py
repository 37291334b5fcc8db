"""Judgements of given pairs, right ones preferred to wrong ones, to train a judge on: Con-J."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from siftune.curate.core.ranges import Natural
from siftune.curate.core.schema import Kind
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import whole_folder
from siftune.curate.judge_calls.types import Item, Question
from siftune.curate.judging.judgement_pairs import SingleJudgement, judgement_pairs
from siftune.finetune.data import training_rows
from siftune.pipelines.judge_options import JudgeOptions, Outcomes, placeholder, questions_of

__all__ = ["Verdicts"]

_COMMAND: Final = "pipelines verdicts"
_TASK: Final = "contrastive"


@dataclass(frozen=True, kw_only=True)
class Verdicts(JudgeOptions):
    """Preference rows whose answers are judgements: a right one chosen, a wrong one rejected.

    Con-J (Ye et al. 2024, arXiv:2410.03742): the judge, which is the model to be trained, samples
    judgements with reasons of each given pair, in both orders of its answers; right is a verdict
    for the chosen answer. Where an order has only right or only wrong judgements, or none that
    parses, the missing ones are asked for with the verdict as a hint (``hints``; hint-driven
    sampling), which the prompt that is trained on does not have. A hinted text without a verdict
    gets the hinted one as its last line; one with the other verdict is left out. An order that then
    lacks either is left out.

    Options:
        hints: Ask for a missing right or wrong judgement by naming its verdict.
    """

    ask_again: Natural = 0  # an answer to a second prompt is no answer to the first
    hints: bool = True

    reads: ClassVar[tuple[Kind, ...]] = ("preference",)
    makes: ClassVar = "preference"

    def check_options(self) -> None:
        """Refuse a wrong option of the task before anything runs."""
        self.task_of(_TASK)

    def __call__(self, rows: Path, out: Path) -> Mapping[str, Any]:
        """Write the folder ``out``; returns what was counted.

        Raises:
            DataError: no order has a right and a wrong judgement.
        """
        table = training_rows.load(rows, self.reads)
        outcomes = Outcomes()
        found = judgement_pairs(
            table,
            self.task_of(_TASK),
            lambda task, items, ids: self.verdicts(task, items, ids, outcomes),
            self.hints,
        )
        outcomes.kept = found.rows.height
        outcomes.left_out.update(found.left_out)
        # what a hint made up for is not missing
        outcomes.unscored = [one for one in outcomes.unscored if one["id"] in found.lost]
        outcomes.refuse_none(rows, "pair of judgements")
        facts = {
            **outcomes.facts(),
            "judge": self.backend.identity,
            "sampled": {"right": found.right, "wrong": found.wrong},
            "hinted": found.hinted,
        }
        with whole_folder(out, _COMMAND) as part:
            found.rows.write_parquet(part / "kept.parquet")
            write_json(part / "judging.json", facts)
            outcomes.write_unscored(part)
        return facts

    def describe(self) -> dict[str, Any]:
        """What the judgements depend on besides the options."""
        return {**super().describe(), "task": self.code_of_tasks(_TASK)}

    def foresee(self, items: Sequence[Item]) -> tuple[list[Item], dict[str, list[Question]]]:
        """Judgements of example rows in both orders, all asked for again with both hints."""
        task = self.task_of(_TASK)
        sampled = questions_of(task, items)
        hints = [{"number": n, "hint": h} for n in (0, 1) for h in "AB"] if self.hints else []
        hinted = [replace(item, extra=one) for item in items for one in hints]
        made = [
            Item(question.messages, (placeholder(question.max_tokens),) * 2) for question in sampled
        ]
        return made, {self.judge: [*sampled, *questions_of(SingleJudgement(task), hinted)]}
