"""The card of a model folder: what it is, from what, on which rows, how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from curate.core.markdown import escaped

__all__ = ["card"]

_HEAD: Final = """---
library_name: transformers
tags:
- siftune
---

# {name}

{what}

It loads with plain `transformers`; `siftune.json` beside this card holds the same facts for
programs.
"""


def card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown of the facts of a model (see `finetune.saving.save_model`)."""
    parts = [_HEAD.format(name=escaped(name), what=_what(facts))]
    tables = {
        "Data": facts.get("data"),
        "Options": facts.get("options"),
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
    return f"{made}, from {path} (hash {number}), seed {facts.get('seed')}."


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {escaped(key)} | {_cell(value)} |" for key, value in sorted(rows.items())]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines, ""])


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else escaped(value)
