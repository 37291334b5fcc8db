"""Rows as conversational training records: messages, pairs, labelled answers, prompts alone.

A record holds lists of turns in the form of the OpenAI API (`chat.template_turns`), never plain
strings, so every trainer applies its chat template; ``tools`` lists the functions of the row.

| shape | fields of a record |
|---|---|
| messages | messages |
| prompt_completion | prompt, completion |
| prompt_only | prompt, answer (a reference answer as text, or null), source, row |
| preference | prompt, chosen, rejected |
| unpaired | prompt, completion, label |
| text | text |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

from siftune.curate.chat.template_turns import chat, tools_of, turn_keys
from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.ranked_pairs import distinct_scores, places_of

__all__ = ["FITS", "SHAPES", "Shape", "prompt_of", "records"]

Shape: TypeAlias = Literal[
    "messages", "prompt_completion", "prompt_only", "preference", "unpaired", "text"
]
SHAPES: Final = get_args(Shape)

_ANSWERS: Final[tuple[Shape, ...]] = ("messages", "prompt_completion", "prompt_only")
FITS: Final[Mapping[Kind, tuple[Shape, ...]]] = {
    "conversation": _ANSWERS,
    "text": ("text",),
    "preference": ("preference", *_ANSWERS, "unpaired"),
    "unpaired": ("unpaired", *_ANSWERS),
    "ranked": ("preference", *_ANSWERS, "unpaired"),
}
"""The shapes that rows of each kind have, the usual one first.

A ranked list is the pair of its best and its worst answer; of a pair, ``messages`` and
``prompt_completion`` take the chosen side; of labelled answers, those labelled true.
"""

_REFERENCES: Final = ("answer", "solution", "ground_truth")
"""Columns, or fields beside a prompt, that hold a reference answer; the first with a value."""


def records(row: Row, shape: Shape) -> list[Row]:
    """The records of one of our rows; an unpaired pair gives two. ``extra`` is an object.

    Raises:
        BadRow: the row has no record of this shape.
    """
    made = _MAKERS[shape](_native(row), row)
    tools = _tools(row["extra"])
    return [record | {"tools": tools} for record in made] if tools else made


def prompt_of(turns: Sequence[Row]) -> list[Row]:
    """The turns to answer, without any answer to the last user turn.

    A conversation that ends with the assistant is cut after its last user or system turn: the
    calls and results of tools on the way to the answer are part of the answer.

    Raises:
        BadRow: no user turn is left.
    """
    asked = [at for at, turn in enumerate(turns) if turn["role"] not in ("assistant", "tool")]
    answered = bool(turns) and turns[-1]["role"] == "assistant"
    kept = [*turns[: asked[-1] + 1 if asked else 0]] if answered else [*turns]
    if not any(turn["role"] == "user" for turn in kept):
        raise BadRow("no_prompt", "there is no user turn to be answered")
    return kept


def _native(row: Row) -> Row:
    """The record of the row's own kind, before it is made into another."""
    extra = row["extra"]
    match row["kind"]:
        case "preference":
            return {name: _turns(row, name) for name in ("prompt", "chosen", "rejected")}
        case "unpaired":
            sides = {name: _turns(row, name) for name in ("prompt", "completion")}
            return sides | {"label": row["label"]}
        case "ranked":
            ((best, worst),) = places_of(distinct_scores(row), "best_worst")
            completions = row["completions"]
            pair = {
                name: _listed(completions[at], f"completions[{at}]", extra)
                for name, at in (("chosen", best), ("rejected", worst))
            }
            return {"prompt": _turns(row, "prompt")} | pair
    return {"messages": _turns(row, "messages")}


def _turns(row: Row, column: str) -> list[Row]:
    return _listed(row[column], column, row["extra"])


def _listed(turns: Sequence[Row], column: str, extra: Row) -> list[Row]:
    return chat(turns, turn_keys(extra, column, turns))


def _tools(extra: Mapping[str, Any]) -> list[Row] | None:
    tools = tools_of(extra)
    if tools is None and (extra.get("tools") or extra.get("functions")):
        raise BadRow("bad_tools", "its tools are no list of functions with names")
    return tools


def _answered(native: Row) -> tuple[list[Row], list[Row]]:
    """The prompt and the good answer of any record."""
    if "chosen" in native:
        return native["prompt"], native["chosen"]
    if "completion" in native:
        if not native["label"]:
            raise BadRow("bad_answer", "the answer is labelled false")
        return native["prompt"], native["completion"]
    turns = native["messages"]
    if not turns or turns[-1]["role"] != "assistant":
        raise BadRow("no_answer", "the conversation does not end with an assistant turn")
    return turns[:-1], turns[-1:]


def _messages(native: Row, row: Row) -> list[Row]:
    if "messages" in native:
        turns = native["messages"]
        if not any(turn["role"] == "assistant" for turn in turns):
            raise BadRow("no_answer", "the conversation has no assistant turn")
        return [{"messages": turns}]
    prompt, answer = _answered(native)
    return [{"messages": [*prompt, *answer]}]


def _prompt_completion(native: Row, row: Row) -> list[Row]:
    prompt, answer = _answered(native)
    return [{"prompt": _some(prompt), "completion": answer}]


def _prompt_only(native: Row, row: Row) -> list[Row]:
    asked = native["messages"] if "messages" in native else native["prompt"]
    beside = {"answer": _reference(native, row), "source": row["source"], "row": row["row"]}
    return [{"prompt": prompt_of(asked)} | beside]


def _reference(native: Row, row: Row) -> str | None:
    """The reference answer of a prompt: a field of that name, or else the good answer's text."""
    given = (place.get(name) for place in (row, row["extra"]) for name in _REFERENCES)
    named = next((value for value in given if value not in (None, "", [])), None)
    if isinstance(named, str | int | float):
        return str(named)
    try:
        answer = _answered(native)[1]
    except BadRow:
        return None
    return str(answer[-1]["content"]) if answer else None


def _preference(native: Row, row: Row) -> list[Row]:
    return [native | {"prompt": _some(native["prompt"])}]


def _unpaired(native: Row, row: Row) -> list[Row]:
    prompt = _some(native["prompt"])
    sides = (("chosen", True), ("rejected", False))
    if "chosen" in native:
        return [{"prompt": prompt, "completion": native[s], "label": good} for s, good in sides]
    return [native]


def _text(native: Row, row: Row) -> list[Row]:
    return [{"text": "".join(turn["content"] for turn in native["messages"])}]


def _some(prompt: list[Row]) -> list[Row]:
    if not prompt:
        raise BadRow("no_prompt", "there is no prompt before the answer")
    return prompt


_MAKERS: Final[Mapping[Shape, Callable[[Row, Row], list[Row]]]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "prompt_only": _prompt_only,
    "preference": _preference,
    "unpaired": _unpaired,
    "text": _text,
}
