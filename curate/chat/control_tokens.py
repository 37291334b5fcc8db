"""Control tokens of a tokenizer, and escaping of their spellings in the data."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.chat.templates import THINK, Tools, Turns
from siftune.curate.models.model_files import generation_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DataGuard", "control_tokens", "end_tokens", "private_characters", "strings"]

_ASSISTANT_MAY_WRITE: Final = frozenset(THINK)
_PRIVATE: Final = range(0xF0000, 0x10FFFE)  # characters that Unicode leaves to private use


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The texts that the tokenizer turns into special ids: turn ends, padding and so on."""
    added = tokenizer.added_tokens_decoder.values()
    return frozenset(token.content for token in added if token.special or token.content in THINK)


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The tokens that generation stops at: the tokenizer's, and those of the model's settings.

    The settings are ``generation_config.json`` in the folder that the tokenizer was read from.
    """
    folder = str(tokenizer.name_or_path or "")
    ids = generation_ends(Path(folder)) if folder else ()
    texts = tokenizer.convert_ids_to_tokens([i for i in ids if 0 <= i < len(tokenizer)])
    own = [tokenizer.eos_token] if tokenizer.eos_token else []
    return frozenset([*own, *(text for text in texts if text)])


def private_characters(*texts: str) -> Iterator[str]:
    """Characters of Unicode's private use planes that are in none of ``texts``."""
    taken = {character for text in texts for character in set(text)}
    return filterfalse(taken.__contains__, map(chr, _PRIVATE))


class DataGuard:
    """Swaps control tokens in a conversation for private characters, and back after rendering."""

    def __init__(self, control: Collection[str], chat: Turns, tools: Tools) -> None:
        """Look for ``control`` tokens in every string of ``chat`` and ``tools``."""
        data = "".join(strings([*chat, *(tools or ())]))
        self._tokens = sorted(token for token in control if token in data)
        self._mark = dict(zip(self._tokens, private_characters(data), strict=False))
        self._back = {mark: token for token, mark in self._mark.items()}

    def hide(self, chat: Turns) -> list[dict[str, Any]]:
        """Turns as a template gets them: without ``weight``, which is not part of the text."""
        bare = [{key: turn[key] for key in turn if key != "weight"} for turn in chat]
        return [self._hide_turn(turn) for turn in bare] if self._tokens else bare

    def hide_tools(self, tools: Tools) -> list[Mapping[str, Any]] | None:
        """Tools as a template gets them."""
        return [_replaced(tool, self._mark) for tool in tools] if tools else None

    def _hide_turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        allowed = _ASSISTANT_MAY_WRITE if turn.get("role") == "assistant" else frozenset()
        hidden = {token: mark for token, mark in self._mark.items() if token not in allowed}
        return {key: _replaced(value, hidden) for key, value in turn.items()}

    def show(self, text: str) -> Iterator[str]:
        """The data's own text again, each of its control tokens cut in two: they stay text."""
        marks = "".join(self._back)
        for part in re.split(f"([{marks}])", text) if marks else [text]:
            if part in self._back:
                yield from filter(None, (self._back[part][:1], self._back[part][1:]))
            elif part:
                yield part


def strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def _replaced(value: Any, marks: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for token, mark in marks.items():
            value = value.replace(token, mark)
        return value
    if isinstance(value, Mapping):
        return {_replaced(key, marks): _replaced(inner, marks) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, marks) for inner in value]
    return value
