"""Unpaired preference: a prompt, a completion, and whether it is a good one, as for KTO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.layout import Layout, Side
from siftune.curate.records.prompts import CHATS, QUESTIONS, chat_key, question_keys, read_prompt
from siftune.curate.records.question_parts import PART_KEYS
from siftune.curate.records.turns import ROLES, leftover, plain, read_side, write_side
from siftune.curate.rows.turn_fields import has_fields, put_fields

__all__ = ["Unpaired"]

_TRUE: Final = frozenset(
    ["true", "desirable", "good", "chosen", "preferred", "accepted", "liked", "thumbs_up"]
)
_FALSE: Final = frozenset(
    [
        "false",
        "undesirable",
        "bad",
        "rejected",
        "dispreferred",
        "refused",
        "disliked",
        "thumbs_down",
    ]
)
_NUMBERS: Final[Mapping[float, bool]] = {1: True, 0: False, -1: False}
_TYPES: Final = (bool, int, float, str)
_KEYS = ("label", "kto_tag")
_ANSWERS = ("completion", "response", "output")


@dataclass(frozen=True)
class Unpaired:
    """``prompt`` and ``completion``, texts or lists of turns, and ``label``.

    A label is true or false, 1 or 0 (or -1), these as text (CSV), or a word for them: desirable or
    undesirable, good or bad, chosen or rejected …; ``kto_tag`` is one too. Instead of
    prompt and completion there may be ``messages`` or ``conversations``, whose last turn is the
    completion, or the prompt under another name (`records.prompts`) beside
    ``response`` or ``output``. Ethayarajh et al. 2024, arXiv:2402.01306.
    """

    kind: ClassVar[Kind] = "unpaired"
    over: ClassVar[tuple[str, ...]] = (
        *("prompt_completion", "text", "messages", "sharegpt", "alpaca"),
    )
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {"prompt": (Side("prompt", "user"),), "completion": (Side("completion"),)},
        roles=ROLES,
        truths=("label",),
        refused=(*QUESTIONS, *CHATS, "history", "kto_tag"),
        doubted=PART_KEYS,
    )

    def matches(self, row: Row) -> bool:
        """Whether it has a label of two values and what that is about."""
        if _label(row.get(_label_key(row))) is None or "rejected" in row:
            return False
        if "prompt" in row and "completion" in row:
            return True
        asked = "prompt" in row or bool(question_keys(row))
        return chat_key(row) is not None or (
            asked
            and any(key in row for key in _ANSWERS)
            and ("completion" in row or _is_truth(row))
        )

    def read(self, row: Row) -> list[Row]:
        """The labelled answer of one record."""
        key = _label_key(row)
        if row.get(key) is None:
            raise BadRow("missing_field", f"{key!r} is missing or null; expected true or false")
        label = _label(row[key])
        if label is None:
            raise BadRow("wrong_type", f"{key!r} is {str(row[key])[:40]!r}; expected a boolean")
        extra = leftover(row, frozenset({key}))
        chat = chat_key(row)
        if chat is not None and "completion" not in row:
            prompt, completion = _parted(row, chat, extra)
        else:
            prompt, completion = _answered(row, extra)
        return [{"prompt": prompt, "completion": completion, "label": label, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record: texts if both are one turn of text, else lists of turns."""
        extra = dict(row.get("extra") or {})
        texts = plain(row["prompt"], "user") and plain(row["completion"], "assistant")
        listed = not texts or has_fields(extra, "prompt", "completion")
        if not row["prompt"] or not row["completion"]:
            raise BadRow("no_place", "the prompt or the completion has no turn")
        return {
            "prompt": write_side(row["prompt"], "prompt", extra, listed=listed),
            "completion": write_side(row["completion"], "completion", extra, listed=listed),
            "label": row["label"],
        } | extra


def _parted(row: Row, key: str, extra: Row) -> tuple[list[Row], list[Row]]:
    """The turns of a chat before its last answer, and that answer."""
    turns = read_side(row, key, "user", extra)
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        raise BadRow("no_answer", f"{key!r} does not end with an answer to another turn")
    extra.pop(key)
    fields = extra.pop(f"{key}.fields", [])
    put_fields(extra, "prompt", fields[:-1])
    put_fields(extra, "completion", fields[-1:])
    return turns[:-1], turns[-1:]


def _answered(row: Row, extra: Row) -> tuple[list[Row], list[Row]]:
    """The prompt and the completion that are fields of their own."""
    key = next((name for name in _ANSWERS if name in row), "completion")
    completion = read_side(row, key, "assistant", extra)
    put_fields(extra, "completion", extra.pop(f"{key}.fields", ()))
    extra.pop(key)
    prompt = read_prompt(row, extra, (completion,))
    if not prompt:
        raise BadRow(
            "missing_field", "no prompt; expected 'prompt' or a question beside the answer"
        )
    return prompt, completion


def _label_key(row: Row) -> str:
    return next((key for key in _KEYS if row.get(key) is not None), "label")


def _is_truth(row: Row) -> bool:
    """Whether a label is true or false, and no number of a class."""
    return _folded(row[_label_key(row)]) in _TRUE | _FALSE


def _label(value: Any) -> bool | None:
    word = _folded(value)
    if word in _TRUE | _FALSE:
        return word in _TRUE
    try:
        return _NUMBERS.get(float(word))
    except ValueError:
        return None


def _folded(value: Any) -> str:
    return str(value).strip().lower().replace(" ", "_") if isinstance(value, _TYPES) else ""
