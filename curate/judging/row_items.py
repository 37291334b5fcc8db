"""What a judge is shown of rows: the prompt, its answers, and further columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import polars as pl

from siftune.curate.judge_calls.types import Item, Message
from siftune.curate.rows.chat import contents, with_calls

__all__ = ["items_of"]


def items_of(batch: pl.DataFrame, given: Mapping[str, str] | None = None) -> Iterator[Item]:
    """One item a row: a conversation with its last answer, a pair, or a prompt with all answers.

    The text of tool calls is part of a turn. ``extra`` of an item holds the fields of the row's
    ``extra``, and the columns that ``given`` names (name for the task: column), which are its
    ``given``, too.
    """
    shown = _conversations(batch) if "messages" in batch.columns else _with_answers(batch)
    columns = {name: batch[column].to_list() for name, column in (given or {}).items()}
    for at, ((prompt, answers), extra) in enumerate(zip(shown, _extras(batch), strict=True)):
        named = {name: values[at] for name, values in columns.items()}
        yield Item(prompt, answers, {**extra, **named}, named)


def _conversations(batch: pl.DataFrame) -> Iterator[tuple[tuple[Message, ...], tuple[str, ...]]]:
    """The turns before the last one of the assistant, and that one's text, if there is one."""
    for turns in with_calls(batch["messages"]).to_list():
        messages = _messages(turns)
        last = max((at for at, (role, _) in enumerate(messages) if role == "assistant"), default=-1)
        if last < 0:
            yield messages, ()
        else:
            yield messages[:last], (messages[last][1],)


def _with_answers(batch: pl.DataFrame) -> Iterator[tuple[tuple[Message, ...], tuple[str, ...]]]:
    """A prompt, and the text of each of its answers: chosen and rejected, or those of a list."""
    prompts = map(_messages, with_calls(batch["prompt"]).to_list())
    if "completions" in batch.columns:
        listed = with_calls(batch["completions"]).to_list()
        answers = [tuple(_text(turns) for turns in one or ()) for one in listed]
    else:
        sides = [contents(batch[side]).fill_null("").to_list() for side in ("chosen", "rejected")]
        answers = list(zip(*sides, strict=True))
    yield from zip(prompts, answers, strict=True)


def _messages(turns: Sequence[Mapping[str, Any]] | None) -> tuple[Message, ...]:
    return tuple((turn["role"], turn["content"] or "") for turn in turns or ())


def _text(turns: Sequence[Mapping[str, Any]] | None) -> str:
    return "\n\n".join(turn["content"] for turn in turns or () if turn["content"] is not None)


def _extras(batch: pl.DataFrame) -> Iterator[dict[str, Any]]:
    raw = batch["extra"].to_list() if "extra" in batch.columns else [None] * batch.height
    yield from (orjson.loads(text) if text else {} for text in raw)
