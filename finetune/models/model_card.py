"""The card of a model folder: what it is, from what, on which rows, how well it did."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from siftune.curate.core.markdown import escaped

__all__ = ["card"]

_HEAD: Final = """---
library_name: transformers
tags:
- siftune
{licence}---

# {name}

{what}

It loads with plain `transformers`; `siftune.json` beside this card holds the same facts for
programs.
"""
_SHORTENED: Final = (
    "Absolute paths are shortened to their last two names, and the one of the model to its last: "
    "the card is the same wherever it was made. Put your own in their place.\n"
)
_IDENTIFIER: Final = re.compile(r"[\w.-]+")


def card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown of the facts of a model (see `saving.save_model`)."""
    licence = (facts.get("base") or {}).get("licence", "")
    head = f"license: {licence}\n" if _IDENTIFIER.fullmatch(licence) else ""
    parts = [_HEAD.format(name=escaped(name), what=_what(facts), licence=head)]
    parts += _command(name, facts)
    tables = {
        "Data": facts.get("data"),
        "Options": _effective(facts),
        "Metrics": facts.get("metrics"),
        "Versions": facts.get("versions"),
    }
    parts += [_table(title, rows) for title, rows in tables.items() if rows]
    return "\n".join(parts)


def _what(facts: Mapping[str, Any]) -> str:
    made = f"Made by `siftune finetune {facts.get('stage', 'train')}`"
    base = facts.get("base")
    if not base:
        return f"{made}, from random weights."
    path, number = escaped(base["path"]), escaped(base["hash"])
    licence = f"is {escaped(base['licence'])}" if "licence" in base else "is not stated"
    return (
        f"{made}, from {path} (hash {number}), seed {facts.get('seed')}. "
        f"The licence of the base model {licence}; the rows may have terms of their own."
    )


def _command(name: str, facts: Mapping[str, Any]) -> list[str]:
    """The command as an indented block, in which Markdown reads no markup."""
    if "command" not in facts:
        return []
    line = " ".join(f"{facts['command']} --out {shlex.quote(name)}".split())
    return [f"## Command\n\n    {line}\n", _SHORTENED]


def _effective(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options, with the number format that ``auto`` came to."""
    used = {"precision": facts["precision"]} if "precision" in facts else {}
    return {**(facts.get("options") or {}), **used}


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {escaped(key)} | {_cell(value)} |" for key, value in sorted(rows.items())]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines, ""])


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{escaped(key)}: {_cell(inner)}" for key, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else escaped(value)
