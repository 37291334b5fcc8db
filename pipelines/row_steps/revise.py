"""Answers criticised and revised by principles, as the supervised half of Constitutional AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
import polars as pl

from siftune.curate.core.ranges import Count, Seed
from siftune.curate.core.schema import Kind, schema_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import whole_folder
from siftune.curate.judge_calls.types import Item, Question, Verdict
from siftune.curate.judge_stats.intervals import Estimate, mean
from siftune.curate.judging.row_items import items_of
from siftune.curate.rows.chat import turn
from siftune.curate.rows.convert import content_digest
from siftune.finetune.data import training_rows
from siftune.pipelines.judge_options import (
    JudgeOptions,
    Outcomes,
    estimated,
    placeholder,
    questions_of,
)

__all__ = ["Revise"]

_COMMAND: Final = "pipelines revise"


@dataclass(frozen=True, kw_only=True)
class Revise(JudgeOptions):
    """Conversations whose answer was criticised and rewritten, ``rounds`` times.

    The supervised half of Constitutional AI (Bai et al. 2022, arXiv:2212.08073): in each round a
    principle is drawn for each row, the judge criticises the answer by it, and rewrites the answer
    by the critique. Of ranked rows the first answer is revised. A row whose critique or revision
    fails in a round is left out, by its reason. ``extra`` has the first answer, and the principle
    and critique of each round; ``judging.json`` the counts, and the mean change of the answers'
    length in words with its interval.

    Options:
        rounds: How often each answer is criticised and revised.
        revision_options: Options of the task revision; ``task_options`` are those of critique.
    """

    rounds: Count = 1
    revision_options: Mapping[str, Any] = field(default_factory=dict)
    seed: Seed = 0

    reads: ClassVar[tuple[Kind, ...]] = ("ranked", "conversation")
    makes: ClassVar = "conversation"

    def check_options(self) -> None:
        """Refuse a wrong option of a task before anything runs."""
        self._tasks(0)

    def __call__(self, rows: Path, out: Path) -> Mapping[str, Any]:
        """Write the folder ``out``; returns what was counted and measured.

        Raises:
            DataError: no answer was revised.
        """
        table = training_rows.load(rows, self.reads)
        first = {at: _alone(item) for at, item in enumerate(items_of(table))}
        revised, outcomes = dict(first), Outcomes()
        told: dict[int, list[Mapping[str, Any]]] = {at: [] for at in first}
        for round_ in range(self.rounds):
            for task in self._tasks(round_):
                places = list(revised)
                ids = [table["id"][at] for at in places]
                verdicts = self.verdicts(task, revised.values(), ids, outcomes)
                for at, verdict in zip(places, list(verdicts), strict=True):
                    self._take(revised, told, at, verdict, outcomes)
        outcomes.kept = len(revised)
        outcomes.refuse_none(rows, "revised answer")
        facts = {
            **outcomes.facts(),
            "judge": self.backend.identity,
            "rounds": self.rounds,
            **estimated({"words_more": lambda: _words_more(first, revised)}),
        }
        kept = [
            _row(table.row(at, named=True), first[at], item, told[at])
            for at, item in revised.items()
        ]
        with whole_folder(out, _COMMAND) as part:
            pl.DataFrame(kept, schema_of("conversation")).write_parquet(part / "kept.parquet")
            write_json(part / "judging.json", facts)
            outcomes.write_unscored(part)
        return facts

    def describe(self) -> dict[str, Any]:
        """What the revisions depend on besides the options."""
        return {**super().describe(), "tasks": self.code_of_tasks("critique", "revision")}

    def foresee(self, items: Sequence[Item]) -> tuple[list[Item], dict[str, list[Question]]]:
        """Example rows with revised answers, and what the judge is asked in all rounds."""
        asked: list[Question] = []
        made = [_alone(item) for item in items]
        for round_ in range(self.rounds):
            critique, revision = self._tasks(round_)
            told = {"critique": placeholder(critique.max_tokens)}
            asked += questions_of(critique, made)
            made = [replace(item, extra={**item.extra, **told}) for item in made]
            asked += questions_of(revision, made)
            made = [replace(item, answers=(placeholder(revision.max_tokens),)) for item in made]
        return made, {self.judge: asked}

    def _tasks(self, round_: int) -> list[Any]:
        """Critique and revision of a round, which draw the same principle for a row."""
        seed = self.seed + round_
        revision = replace(
            self, task_options={**_shared(self.task_options), **self.revision_options}
        )
        return [self.task_of("critique", seed=seed), revision.task_of("revision", seed=seed)]

    @staticmethod
    def _take(
        revised: dict[int, Item],
        told: dict[int, list[Mapping[str, Any]]],
        at: int,
        verdict: Verdict,
        outcomes: Outcomes,
    ) -> None:
        """Go on with a critique or a revision, or leave the row out."""
        if verdict.values is None:
            outcomes.left_out[verdict.error or "unscored"] += 1
            del revised[at]
            return
        item = revised[at]
        if "critique" in verdict.values:
            told[at].append(verdict.values)
            revised[at] = replace(item, extra={**item.extra, **verdict.values})
        else:
            text = str(verdict.values["revision"])
            extra = {k: v for k, v in item.extra.items() if k not in ("critique", "principle")}
            revised[at] = replace(item, answers=(text,), extra=extra)


def _shared(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of critique that revision has to have, too."""
    return {key: options[key] for key in ("principles", "seed", "max_chars") if key in options}


def _alone(item: Item) -> Item:
    """The item with its first answer."""
    return replace(item, answers=item.answers[:1])


def _words_more(first: Mapping[int, Item], revised: Mapping[int, Item]) -> Estimate:
    words = [[len(item.answers[0].split()) for item in (revised[at], first[at])] for at in revised]
    return mean([after - before for after, before in words])


def _row(
    base: Mapping[str, Any], first: Item, revised: Item, told: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A conversation with the revised answer."""
    turns = [turn(role, text) for role, text in revised.prompt]
    if "prompt" in base:
        turns = list(base["prompt"])
    extra = {
        **orjson.loads(base["extra"] or "{}"),
        "first_answer": first.answers[0],
        "principles": [one["principle"] for one in told],
        "critiques": [one["critique"] for one in told],
    }
    row = {
        **{name: base[name] for name in ("id", "source", "row")},
        "kind": "conversation",
        "extra": orjson.dumps(extra, option=orjson.OPT_SORT_KEYS).decode(),
        "messages": [*turns, turn("assistant", revised.answers[0])],
    }
    row["digest"] = content_digest("conversation", row)
    return row
