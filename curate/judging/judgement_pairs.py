"""Judgements of labelled pairs by a judge that writes: right ones, and wrong ones, of each pair."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

import orjson
import polars as pl

from siftune.curate.core.schema import schema_of
from siftune.curate.judge_calls.types import (
    Answer,
    Item,
    Question,
    Task,
    UnjudgeableError,
    UnparsedError,
    Verdict,
)
from siftune.curate.judging.row_items import items_of
from siftune.curate.rows.chat import turn
from siftune.curate.rows.convert import content_digest

__all__ = ["JudgementPairs", "SingleJudgement", "judgement_pairs"]

_Ask = Callable[[Task, Sequence[Item], Sequence[str]], Iterator[Verdict]]
_HINT: Final = """

Answer {label} is the better one. Give the reasons for that verdict, and end with the line \
"Verdict: {label}"."""
_VERDICT: Final = re.compile(r"\bverdict\b", re.IGNORECASE)


@dataclass
class JudgementPairs:
    """Preference rows of judgements, with counts of the answers.

    ``right`` and ``wrong`` count the judgements that were sampled, ``hinted`` those with a hint;
    ``left_out`` counts by reason the judgements and the orders that are in no row, ``lost`` are the
    ids of the pairs with such an order.
    """

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=schema_of("preference")))
    right: int = 0
    wrong: int = 0
    hinted: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)


class _Judgement(NamedTuple):
    """A text about a row (``at``) in one order of its answers, and whether its verdict is right."""

    at: int
    swapped: bool
    right: bool
    text: str


def judgement_pairs(table: pl.DataFrame, task: Any, ask: _Ask, hints: bool) -> JudgementPairs:
    """A right and a wrong judgement of each pair in ``table``, in both orders of its answers.

    ``task`` is `contrastive`; ``ask`` gives the verdicts of the judge on items, in order, of rows
    with these ids. With ``hints`` a judgement that an order lacks is asked for by naming its
    verdict, which the prompt in the rows does not have; an order that then lacks one has no row.
    """
    found, ids = JudgementPairs(), table["id"].to_list()
    items = dict(_judgeable(table, ids, task, found))
    sampled = list(_sampled(items, ids, task, ask, found.left_out))
    hinted = list(_hinted(items, ids, sampled, task, ask, found.left_out)) if hints else []
    kept = []
    for at, item in items.items():
        for swapped in (False, True):
            here = [one for one in (*sampled, *hinted) if (one.at, one.swapped) == (at, swapped)]
            right = next((one.text for one in here if one.right), None)
            wrong = next((one.text for one in here if not one.right), None)
            if right is None or wrong is None:
                found.left_out["order_without_both_verdicts"] += 1
                found.lost.add(ids[at])
                continue
            question = task.questions(item)[int(swapped)]
            kept.append(_row(table.row(at, named=True), question, swapped, right, wrong))
    found.rows = pl.DataFrame(kept, schema_of("preference"))
    found.right = sum(one.right for one in sampled)
    found.wrong, found.hinted = len(sampled) - found.right, len(hinted)
    return found


def _judgeable(
    table: pl.DataFrame, ids: Sequence[str], task: Any, found: JudgementPairs
) -> Iterator[tuple[int, Item]]:
    """The pairs that can be asked about; the others, as of an empty answer, are left out."""
    for at, item in enumerate(items_of(table)):
        try:
            task.questions(item)
        except UnjudgeableError as error:
            found.left_out[error.reason] += 1
            found.lost.add(ids[at])
        else:
            yield at, item


def _sampled(
    items: Mapping[int, Item], ids: Sequence[str], task: Any, ask: _Ask, left_out: Counter[str]
) -> Iterator[_Judgement]:
    """The judgements that have a verdict; each is an item of its own, and fails alone."""
    asked = [
        (at, number) for at, item in items.items() for number in range(len(task.questions(item)))
    ]
    single = [replace(items[at], extra={"number": number}) for at, number in asked]
    verdicts = ask(SingleJudgement(task), single, [ids[at] for at, _ in asked])
    for (at, number), verdict in zip(asked, verdicts, strict=True):
        if verdict.values is None:
            left_out[f"judgement_{verdict.error}"] += 1
            continue
        swapped = number % 2 == 1
        right = verdict.values["label"] == ("B" if swapped else "A")
        yield _Judgement(at, swapped, right, verdict.values["text"])


def _hinted(
    items: Mapping[int, Item],
    ids: Sequence[str],
    sampled: Sequence[_Judgement],
    task: Any,
    ask: _Ask,
    left_out: Counter[str],
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
        replace(items[at], extra={"number": int(swapped), "hint": "A" if right != swapped else "B"})
        for at, swapped, right in asked
    ]
    verdicts = ask(SingleJudgement(task), hinted, [ids[at] for at, _, _ in asked])
    for (at, swapped, right), verdict in zip(asked, verdicts, strict=True):
        if verdict.values is None:
            left_out[f"hinted_{verdict.error}"] += 1
        else:
            yield _Judgement(at, swapped, right, verdict.values["text"])


@dataclass(frozen=True)
class SingleJudgement:
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


def _whole(text: str, cut: bool | None) -> str:
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
