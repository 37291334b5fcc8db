"""Tool calls, results, tools and reasoning that a chat template leaves out, found by encoding.

A template without tool calls writes an empty answer in their place, and a model learns empty
answers. So each conversation with calls is also encoded with sentinels for their names and
arguments: where one is missing from what is learned, the template cannot write it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.chat.encoding import Encoded, encode_chats, encode_prompts, encode_unmasked
from siftune.curate.core.errors import DataError
from siftune.finetune.data.preflight import Problem
from siftune.finetune.data.row_extras import turns_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_calls", "check_unweighed"]

_SHOWN: Final = 5
_BESIDE: Final = ("tool_calls", "reasoning_content")
_SIDES: Final = ("chosen", "rejected", "completion", "answer")


def check_calls(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    learned: bool = True,
) -> list[Problem]:
    """Problems of ``rows`` (of `data.training_rows`): parts that the template leaves out.

    Errors: names or arguments of calls that are not in what is learned (in the text, where nothing
    is ``learned``), results of tools that are nowhere. Warnings, as an answer can be learned
    without them: tools and reasoning that are nowhere, weights of 1 on turns of others.
    """
    lost: dict[str, list[str]] = {kind: [] for kind in _REPORTS}
    for row in rows:
        for chat in _chats(row):
            for kind in _lost(tokenizer, chat, row.get("tools"), learned):
                if row["id"] not in lost[kind][-1:]:
                    lost[kind].append(row["id"])
    return [_REPORTS[kind].of(ids) for kind, ids in lost.items() if ids]


def check_unweighed(rows: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Turns of weight 0 where whole conversations are to be learned."""
    found = [row["id"] for row in rows if any(t.get("weight") == 0 for _, t in turns_in(row))]
    return [_UNWEIGHED.of(found)] if found else []


@dataclass(frozen=True)
class _Report:
    level: Any
    what: str
    fix: str
    where: str = "chat template"

    def of(self, ids: Sequence[str]) -> Problem:
        more = ", ..." if len(ids) > _SHOWN else ""
        shown = ", ".join(ids[:_SHOWN])
        what = self.what.format(rows=f"{len(ids)} rows ({shown}{more})")
        return Problem(self.level, self.where, what, self.fix)


_UNWEIGHED: Final = _Report(
    "error",
    "it learns whole conversations, and turns have weight 0 in {rows}",
    "leave assistant_only_loss on, which honours weights, or take the weights out of the data",
    "assistant_only_loss: false",
)
_REPORTS: Final = {
    "calls": _Report(
        "error",
        "it cannot write the tool calls of {rows}: they would be learned as empty answers",
        "give the model a chat template that writes tool calls, or select these rows away",
    ),
    "results": _Report(
        "error",
        "it leaves out the results of tools in {rows}",
        "give the model a chat template that writes tool turns, or select these rows away",
    ),
    "tools": _Report(
        "warning",
        "it does not write the tools of {rows}",
        "the model does not see which functions it may call; put them into the system turn",
    ),
    "reasoning": _Report(
        "warning",
        "it has no place for the reasoning of {rows}",
        "it is not learned; put it into the content, or use a model whose template writes it",
    ),
    "weights": _Report(
        "warning",
        "turns that are not the assistant's have weight 1 in {rows}",
        "only the assistant's turns are learned",
        "rows",
    ),
}


def _chats(row: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The whole conversations of a row: two of a pair, one for each answer of a list."""
    known = [row[side] for side in _SIDES if row.get(side) is not None]  # a prompt may have none
    sides = [*known, *row.get("completions", ())]
    before = row["prompt"] if "prompt" in row else row["messages"]
    yield from ([*before, *side] for side in sides or [[]])


def _lost(
    tokenizer: Any, chat: Sequence[Mapping[str, Any]], tools: Any, learned: bool
) -> Iterator[str]:
    """Kinds of parts that the template leaves out of a conversation, as in `_REPORTS`."""
    if learned and any(turn["role"] != "assistant" and turn.get("weight") == 1 for turn in chat):
        yield "weights"
    if not tools and not any(turn["role"] == "tool" or _beside(turn) for turn in chat):
        return
    tried = _Sentinels()
    turns = [tried.turn(turn, learned) for turn in chat]
    try:
        encoded = _encoded(tokenizer, turns, tried.tools(tools), learned)
    except DataError:
        if _same_without_calls(tokenizer, chat, tools):
            yield "calls"
        return
    yield from tried.lost(*_texts(tokenizer, encoded))


def _beside(turn: Mapping[str, Any]) -> bool:
    return any(turn.get(key) for key in _BESIDE)


def _encoded(tokenizer: Any, chat: Sequence[Any], tools: Any, learned: bool) -> Encoded:
    if chat and chat[-1]["role"] != "assistant":
        ids = encode_prompts(tokenizer, [chat], tools=[tools])[0]
    elif learned:
        return encode_chats(tokenizer, [chat], tools=[tools])[0]
    else:
        ids = encode_unmasked(tokenizer, [chat], [tools])[0]
    return Encoded(ids, [0] * len(ids))


def _texts(tokenizer: Any, encoded: Encoded) -> tuple[str, str]:
    """The learned text and the whole text, without white space."""
    pairs = zip(encoded.ids, encoded.mask, strict=True)
    parts = [token for token, bit in pairs if bit], encoded.ids
    learned, whole = ("".join(tokenizer.decode(part).split()) for part in parts)
    return learned, whole


def _same_without_calls(tokenizer: Any, chat: Sequence[Any], tools: Any) -> bool:
    """Whether a template that refuses sentinels writes the same text without the calls."""
    bare = [{key: turn[key] for key in turn if key != "tool_calls"} for turn in chat]
    if bare == [*chat]:
        return False
    try:
        both = encode_unmasked(tokenizer, [chat, bare], [tools, tools])
    except DataError:
        return False  # what is trained on is encoded as well, and refused by name
    return both[0] == both[1]


@dataclass
class _Sentinels:
    """Unique words in place of the parts that a template may leave out."""

    learned: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    reasoned: list[str] = field(default_factory=list)
    count: int = 0

    def turn(self, turn: Mapping[str, Any], learned: bool) -> dict[str, Any]:
        made = dict(turn)
        if turn["role"] == "tool":
            made["content"] = self._word(self.results)
        if turn.get("tool_calls"):
            kept = self.learned if learned and turn.get("weight", 1) else self.read
            made["tool_calls"] = [self._call(call, kept) for call in turn["tool_calls"]]
        if turn.get("reasoning_content"):
            made["reasoning_content"] = self._word(self.reasoned)
        return made

    def tools(self, tools: Sequence[Mapping[str, Any]] | None) -> list[Any] | None:
        if not tools:
            return None
        return [
            {**tool, "function": {**tool["function"], "name": self._word(self.declared)}}
            for tool in tools
        ]

    def lost(self, learned: str, whole: str) -> Iterator[str]:
        missing = [word for word in self.learned if word not in learned]
        if missing or any(word not in whole for word in self.read):
            yield "calls"
        if any(word not in whole for word in self.results):
            yield "results"
        if self.declared and not any(word in whole for word in self.declared):
            yield "tools"
        if self.reasoned and not any(word in whole for word in self.reasoned):
            yield "reasoning"

    def _call(self, call: Mapping[str, Any], kept: list[str]) -> dict[str, Any]:
        arguments = self._values(call["function"]["arguments"], kept)
        return {**call, "function": {"name": self._word(kept), "arguments": arguments}}

    def _values(self, value: Any, kept: list[str]) -> Any:
        if isinstance(value, str):
            return self._word(kept)
        if isinstance(value, Mapping):
            return {key: self._values(inner, kept) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._values(inner, kept) for inner in value]
        if type(value) is int:
            self.count += 1
            kept.append(str(730000 + self.count))
            return 730000 + self.count
        return value

    def _word(self, kept: list[str]) -> str:
        self.count += 1
        kept.append(f"zq{self.count}qz")
        return kept[-1]
