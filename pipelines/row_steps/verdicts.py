"""Judgements of given pairs, right ones preferred to wrong ones, to train a judge on: Con-J."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import orjson
import polars as pl

from siftune.curate.core.ranges import Natural
from siftune.curate.core.schema import Kind, schema_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import whole_folder
from siftune.curate.judging.row_items import items_of
from siftune.curate.judging.types import Answer, Item, Question, UnparsedError
from siftune.curate.rows.chat import turn
from siftune.curate.rows.convert import content_digest
from siftune.finetune.data import training_rows
from siftune.pipelines.judge_options import JudgeOptions, Outcomes, placeholder, questions_of

__all__ = ["Verdicts"]

_COMMAND: Final = "pipelines verdicts"
_TASK: Final = "contrastive"
_HINT: Final = """

Answer {label} is the better one. Give the reasons for that verdict, and end with the line \
"Verdict: {label}"."""
_VERDICT: Final = re.compile(r"\bverdict\b", re.IGNORECASE)


class _Judgement(NamedTuple):
    """A text about a row (``at``) in one order of its answers, and whether its verdict is right."""

    at: int
    swapped: bool
    right: bool
    text: str


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
        items = dict(enumerate(items_of(table)))
        outcomes = Outcomes()
        ids = table["id"].to_list()
        sampled = list(self._sampled(items, ids, outcomes))
        hinted = list(self._hinted(items, ids, sampled, outcomes)) if self.hints else []
        task = self.task_of(_TASK)
        kept: list[dict[str, Any]] = []
        lost: set[str] = set()
        for at, item in items.items():
            for swapped in (False, True):
                here = [
                    one for one in (*sampled, *hinted) if (one.at, one.swapped) == (at, swapped)
                ]
                right = next((one.text for one in here if one.right), None)
                wrong = next((one.text for one in here if not one.right), None)
                if right is None or wrong is None:
                    outcomes.left_out["order_without_both_verdicts"] += 1
                    lost.add(ids[at])
                    continue
                question = task.questions(item)[int(swapped)]
                kept.append(_row(table.row(at, named=True), question, swapped, right, wrong))
        outcomes.kept = len(kept)
        # what a hint made up for is not missing
        outcomes.unscored = [one for one in outcomes.unscored if one["id"] in lost]
        outcomes.refuse_none(rows, "pair of judgements")
        right_ones = sum(one.right for one in sampled)
        facts = {
            **outcomes.facts(),
            "judge": self.backend.identity,
            "sampled": {"right": right_ones, "wrong": len(sampled) - right_ones},
            "hinted": len(hinted),
        }
        with whole_folder(out, _COMMAND) as part:
            pl.DataFrame(kept, schema_of("preference")).write_parquet(part / "kept.parquet")
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
        return made, {self.judge: [*sampled, *questions_of(_Single(task), hinted)]}

    def _sampled(
        self, items: Mapping[int, Item], ids: Sequence[str], outcomes: Outcomes
    ) -> Iterator[_Judgement]:
        """The judgements that have a verdict; each is an item of its own, and fails alone."""
        task = self.task_of(_TASK)
        asked = [
            (at, number)
            for at, item in items.items()
            for number in range(len(task.questions(item)))
        ]
        single = [replace(items[at], extra={"number": number}) for at, number in asked]
        found = self.verdicts(_Single(task), single, [ids[at] for at, _ in asked], outcomes)
        for (at, number), verdict in zip(asked, found, strict=True):
            if verdict.values is None:
                outcomes.left_out[f"judgement_{verdict.error}"] += 1
                continue
            swapped = number % 2 == 1
            right = verdict.values["label"] == ("B" if swapped else "A")
            yield _Judgement(at, swapped, right, verdict.values["text"])

    def _hinted(
        self,
        items: Mapping[int, Item],
        ids: Sequence[str],
        sampled: Sequence[_Judgement],
        outcomes: Outcomes,
    ) -> Iterator[_Judgement]:
        """One judgement for each order and verdict that was not sampled."""
        there = {(one.at, one.swapped, one.right) for one in sampled}
        asked = [
            (at, swapped, right)
            for at in items
            for swapped in (False, True)
            for right in (True, False)
            if (at, swapped, right) not in there
        ]
        hinted = [
            replace(
                items[at],
                extra={"number": int(swapped), "hint": "A" if right != swapped else "B"},
            )
            for at, swapped, right in asked
        ]
        rows = [ids[at] for at, _, _ in asked]
        found = self.verdicts(_Single(self.task_of(_TASK)), hinted, rows, outcomes)
        for (at, swapped, right), verdict in zip(asked, found, strict=True):
            if verdict.values is None:
                outcomes.left_out[f"hinted_{verdict.error}"] += 1
            else:
                yield _Judgement(at, swapped, right, verdict.values["text"])


@dataclass(frozen=True)
class _Single:
    """One question of the task contrastive, ``number`` in the item's ``extra``, maybe hinted."""

    task: Any

    answers: ClassVar = 2
    adds: ClassVar = {"label": pl.String, "text": pl.String}

    def questions(self, item: Item) -> Sequence[Question]:
        """The question, with the hint behind it."""
        question = self.task.questions(item)[item.extra["number"]]
        hint = item.extra.get("hint")
        if hint is None:
            return [question]
        *before, (role, text) = question.messages
        messages = (*before, (role, text + _HINT.format(label=hint)))
        return [replace(question, messages=messages, version=f"{question.version}#hint")]

    def parse(self, item: Item, question: int, answer: Answer) -> Mapping[str, Any]:
        """The verdict, A or B as they were shown, and the text."""
        hint, text = item.extra.get("hint"), (answer.text or "").strip()
        if hint is not None and text and not _VERDICT.search(text):
            return {"label": hint, "text": f"{_whole(text, answer.truncated)}\n\nVerdict: {hint}"}
        shown, text = self.task.parse(item, item.extra["number"], answer)
        label = "A" if shown.verdict == 1 else "B"
        if hint is not None and label != hint:
            raise UnparsedError(f"expected the verdict {hint}", "other_verdict")
        return {"label": label, "text": text}

    def verdict(self, item: Item, parsed: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """What was parsed."""
        return parsed[0]


def _whole(text: str, cut: bool) -> str:
    """A text that was cut, up to its last whole sentence, if it has one."""
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)", text)]
    return text[: ends[-1]] if cut and ends else text


def _row(
    base: Mapping[str, Any], question: Question, swapped: bool, right: str, wrong: str
) -> dict[str, Any]:
    """A preference row: the question of the judge, and a right and a wrong judgement."""
    row = {
        **{name: base[name] for name in ("source", "row")},
        "id": f"{base['id']}#{'swapped' if swapped else 'given'}",
        "kind": "preference",
        "extra": orjson.dumps({"judged_pair": base["id"]}).decode(),
        "prompt": [turn(role, text) for role, text in question.messages],
        "chosen": [turn("assistant", right)],
        "rejected": [turn("assistant", wrong)],
        **dict.fromkeys(("score_chosen", "score_rejected", "margin", "win_probability")),
    }
    row["digest"] = content_digest("preference", row)
    return row
