"""The table of all objectives: paper, data, and what each needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from siftune.curate.core.registry import find, names, options, summary
from siftune.finetune.core.methods import FAMILIES
from siftune.finetune.losses.types import needs_of

__all__ = ["loss_rows", "loss_table"]

_DATA: Final = {
    "finetune.losses.pair": "pairs",
    "finetune.losses.unpaired": "answers",
    "finetune.losses.token": "answers",
    "finetune.losses.listwise": "ranked lists",
}
_ARXIV: Final = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CITED: Final = re.compile(r"(?m)([A-Z]\S+ (?:et al\.|& [A-Z]\w+)? ?\d{4})\b")
_HEAD: Final = ("name", "arXiv", "data", "needs", "what it does")


def loss_rows() -> Iterator[dict[str, Any]]:
    """One row for each objective of each family, by name: plain values."""
    for group in FAMILIES:
        for name in names(group):
            yield _row(group, name)


def _row(group: str, name: str) -> dict[str, Any]:
    loss = find(group, name)
    doc = loss.__doc__ or ""
    needs = needs_of(loss)
    cited, arxiv = _CITED.search(doc), _ARXIV.search(doc)
    return {
        "name": name,
        "paper": cited[1] if cited else None,
        "arxiv": arxiv[1] if arxiv else None,
        "data": f"labelled {_DATA[group]}" if needs.label else _DATA[group],
        "reference": needs.reference,
        "labels": needs.label,
        "scores": list(needs.columns),
        "own_samples": bool(getattr(loss, "on_policy", False)),
        "options": list(options(loss)),
        "summary": summary(group, name),
    }


def loss_table() -> str:
    """The table as text, a line for each objective."""
    rows = [_HEAD, *((_cells(row)) for row in loss_rows())]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    needs = [
        *(["reference"] if row["reference"] else []),
        *row["scores"],
        *(["own samples"] if row["own_samples"] else []),
    ]
    return (
        row["name"],
        row["arxiv"] or "-",
        row["data"],
        ", ".join(needs) or "-",
        row["summary"],
    )
