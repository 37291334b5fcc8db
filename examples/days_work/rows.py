"""The raw files of a made-up day's work: instructions, chats with tool calls, pairs, held-out rows.

The facts are those of `demo.world`, the layouts those that such files have: Alpaca, ShareGPT
with ``function_call`` and ``observation`` turns, pairs as three texts and pairs as lists of turns.
One line of each file cannot be read, as happens.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from examples.demo.world import generate

__all__ = ["Raw", "make"]

_SYSTEM: Final = "You look facts up before you answer."
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "The fact that answers a question.",
        "parameters": {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
        },
    },
}


@dataclass(frozen=True)
class Raw:
    """Files to work with; ``text`` is what a small base model reads, where none is given."""

    instructions: Path
    chats: Path
    pairs: tuple[Path, ...]
    held_out: Path
    text: Path | None = None


def make(folder: Path, rows: int = 400) -> Raw:
    """Write the files into ``folder``, about ``rows`` instructions and half as many of the others.

    Equal arguments write equal bytes; files of an earlier call are replaced.
    """
    world = generate(folder / "world", seed=0, size=rows)
    pairs = _read(world.pairs)
    draw = random.Random(0)
    known = [row for row in _read(world.pool) if row["output"].strip()]
    chats = [_chat(draw.sample(known, 2), called=at % 3 == 0) for at in range(rows // 2)]
    half = len(pairs) // 2
    raw = Raw(
        folder / "instructions.jsonl",
        folder / "chats.jsonl",
        (folder / "pairs_as_texts.jsonl", folder / "pairs_as_turns.jsonl"),
        world.questions,
        world.facts,
    )
    _write(raw.instructions, _read(world.pool), b'{"instruction": "Name a town.", "output": 7}')
    _write(raw.chats, chats, b'{"conversations": []}')
    _write(raw.pairs[0], pairs[:half], b'{"prompt": "Name a town.", "chosen": "Bru')
    _write(raw.pairs[1], map(_turns, pairs[half:]), b'{"chosen": [], "rejected": []}')
    return raw


def _chat(rows: Iterable[Mapping[str, str]], *, called: bool) -> dict[str, Any]:
    """A system prompt and a question or two; with ``called`` the first is looked up."""
    first, second = rows
    turns = [("human", first["instruction"])]
    if called:
        call = {"name": "look_up", "arguments": {"question": first["instruction"]}}
        turns += [("function_call", orjson.dumps(call).decode()), ("observation", first["output"])]
    turns += [("gpt", first["output"])]
    if not called:
        turns += [("human", second["instruction"]), ("gpt", second["output"])]
    chat = {
        "system": _SYSTEM,
        "conversations": [{"from": role, "value": value} for role, value in turns],
    }
    return chat | ({"tools": orjson.dumps([_TOOL]).decode()} if called else {})


def _turns(pair: Mapping[str, str]) -> dict[str, Any]:
    """A pair as UltraFeedback's and TRL's sets have it: both sides begin with the question."""
    asked = {"role": "user", "content": pair["prompt"]}
    return {
        side: [asked, {"role": "assistant", "content": pair[side]}]
        for side in ("chosen", "rejected")
    }


def _read(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def _write(path: Path, rows: Iterable[Mapping[str, Any]], unreadable: bytes) -> None:
    lines = [orjson.dumps(row) for row in rows]
    path.write_bytes(b"\n".join([*lines[:40], unreadable, *lines[40:], b""]))
