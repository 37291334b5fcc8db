"""Form of a conversation: turns, length, similarity of adjacent turns, and faults of its order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.text.word_pattern import WORD
from siftune.curate.text.words import words_of
from siftune.curate.vectors.embed import Embedder

__all__ = ["Conversation"]

_Turn = Mapping[str, Any]
_FLAGS: Final = (
    *("copied_turn", "empty_turn", "not_alternating", "repeated_turn", "starts_with_answer"),
    "unanswered",
)
_FEW: Final = 4
"""Words that a turn has, at least, to count as repeated: people may say "Thanks!" twice."""
_SPACES: Final = re.compile(r"\W+")


@dataclass(frozen=True)
class Conversation:
    """Turns of the user and the assistant; those of the system and of tools are left out.

    * ``conversation_turns``, ``conversation_exchanges``: number of turns, and of the user's turns
      that have an answer
    * ``conversation_words``: words of these turns
    * ``conversation_similarity``, ``conversation_least_similar``: mean and least similarity of each
      turn to the next, of those with words; null where there is no such pair. It is the Jaccard
      index of the sets of words, or with ``model`` the cosine of the turns' embeddings, which also
      links turns that share no word. A low least value is a change of subject, or an answer to
      something else
    * ``conversation_repeated``: share of the turns that repeat an earlier one of the same role,
      without case and punctuation; turns of fewer than 4 words do not count as repeated
    * ``conversation_flags``: ``unanswered`` (a turn of the user without an answer or a call before
      the next one, or at the end), ``not_alternating`` (two turns of the same role in a row, but
      for calls and their results), ``starts_with_answer``, ``repeated_turn``, ``copied_turn`` (as
      the turn before it, of the other role), ``empty_turn`` (neither text nor calls)

    A set of prompts is flagged ``unanswered`` as a whole, which is no fault of it. A row without
    such turns has null.

    Not for the quality of an answer; nor for comparing similarities of long and short turns: the
    Jaccard index falls with the difference of their lengths.

    Options:
        model: Embedding model for the similarity, as a folder or a name of `siftune models list`;
            none compares words.
    """

    model: str | None = None

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"conversation_flags": _FLAGS}
    adds: ClassVar[dict[str, pl.DataType | type[pl.DataType]]] = {
        "conversation_turns": pl.UInt32,
        "conversation_exchanges": pl.UInt32,
        "conversation_words": pl.UInt32,
        "conversation_similarity": pl.Float64,
        "conversation_least_similar": pl.Float64,
        "conversation_repeated": pl.Float32,
        "conversation_flags": pl.List(pl.String),
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Read each conversation."""
        chats = [_turns(messages) for messages in batch["messages"].to_list()]
        said = pl.Series("text", [turn["content"] for chat in chats for turn in chat], pl.String)
        words = words_of(said).fill_null(0).to_list()
        units = self._vectors(said)
        rows, at = [], 0
        for chat in chats:
            part = slice(at, at + len(chat))
            at += len(chat)
            rows.append(_row(chat, words[part], units[part]) if chat else (None,) * 7)
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The embedding model by its content."""
        return {} if self.model is None else Embedder(self.model).describe()

    def _vectors(self, texts: pl.Series) -> list[Any]:
        """The set of words, or the unit vector, of each text; None where it has none."""
        if self.model is None:
            listed = texts.str.to_lowercase().str.extract_all(WORD).to_list()
            return [set(one) if one else None for one in listed]
        some = [at for at, text in enumerate(texts.to_list()) if text and text.strip()]
        units: list[Any] = [None] * len(texts)
        if some:
            vectors, cut = Embedder(self.model).encode([texts[at] for at in some])
            for at, vector, share in zip(some, vectors, cut, strict=True):
                units[at] = None if np.isnan(share) else vector.astype(np.float64)
        return units


def _turns(messages: Sequence[_Turn] | None) -> list[_Turn]:
    return [one for one in messages or () if one["role"] in ("user", "assistant")]


def _row(chat: Sequence[_Turn], words: Sequence[int], units: Sequence[Any]) -> tuple[Any, ...]:
    if all(turn["content"] is None and turn["tool_calls"] is None for turn in chat):
        return (None,) * 7
    alike = [
        _similarity(*pair)
        for pair in pairwise(units)
        if pair[0] is not None and pair[1] is not None
    ]
    keys = [(turn["role"], _plain(turn["content"])) for turn in chat]
    again = [
        count >= _FEW and key in keys[:at]
        for at, (key, count) in enumerate(zip(keys, words, strict=True))
    ]
    mean, least = (float(np.mean(alike)), float(min(alike))) if alike else (None, None)
    found = set(_faults(chat, keys, words)) | ({"repeated_turn"} if any(again) else set())
    exchanges = sum(map(_is_answered, range(len(chat)), [chat] * len(chat)))
    repeated = sum(again) / len(chat)
    return len(chat), exchanges, sum(words), mean, least, repeated, sorted(found)


def _faults(
    chat: Sequence[_Turn], keys: Sequence[tuple[str, str]], words: Sequence[int]
) -> Iterator[str]:
    if chat[0]["role"] == "assistant":
        yield "starts_with_answer"
    for at, turn in enumerate(chat):
        if not (turn["content"] or "").strip() and not turn["tool_calls"]:
            yield "empty_turn"
        if turn["role"] == "user" and not _is_answered(at, chat):
            yield "unanswered"
    for at, (one, other) in enumerate(pairwise(chat), 1):
        if one["role"] == other["role"] and not one["tool_calls"]:
            yield "not_alternating"
        elif words[at] >= _FEW and keys[at - 1][1] == keys[at][1]:
            yield "copied_turn"


def _is_answered(at: int, chat: Sequence[_Turn]) -> bool:
    """Whether the turn is of the user, and what follows it is an answer or a call."""
    if chat[at]["role"] != "user" or at + 1 == len(chat) or chat[at + 1]["role"] == "user":
        return False
    return bool((chat[at + 1]["content"] or "").strip() or chat[at + 1]["tool_calls"])


def _plain(text: str | None) -> str:
    return _SPACES.sub(" ", (text or "").lower()).strip()


def _similarity(one: Any, other: Any) -> float:
    """Jaccard index of two sets, or dot product of two unit vectors.

    >>> _similarity({"a", "b"}, {"b", "c"})
    0.3333333333333333
    """
    if isinstance(one, set):
        return len(one & other) / len(one | other)
    return float(one @ other)
