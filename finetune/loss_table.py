"""Facts of objectives that help shows: paper, data, and what each needs; none is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from siftune.curate.core.registry import described, options, summary, usable
from siftune.finetune.core.methods import FAMILIES

__all__ = ["PAIRS", "data_of", "loss_rows", "loss_table"]

PAIRS: Final = "finetune.losses.pair"
_LISTS: Final = "finetune.losses.listwise"
_DATA: Final = {
    PAIRS: "pairs",
    "finetune.losses.unpaired": "answers",
    "finetune.losses.token": "answers",
    _LISTS: "ranked lists",
}
_ARXIV: Final = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CITED: Final = re.compile(r"(?m)([A-Z]\S+ (?:et al\.|& [A-Z]\w+)? ?\d{4})\b")
_HEAD: Final = ("name", "arXiv", "data", "needs", "what it does")


def loss_rows() -> Iterator[dict[str, Any]]:
    """One row for each objective of each family, by name: plain values."""
    for group in FAMILIES:
        for name in usable(group):
            yield _row(group, name)


def _row(group: str, name: str) -> dict[str, Any]:
    loss = described(group, name)
    doc = loss.__doc__ or ""
    labels = getattr(loss, "needs_label", False)
    cited, arxiv = _CITED.search(doc), _ARXIV.search(doc)
    return {
        "name": name,
        "paper": cited[1] if cited else None,
        "arxiv": arxiv[1] if arxiv else None,
        "data": f"labelled {_DATA[group]}" if labels else _DATA[group],
        "reference": getattr(loss, "needs_reference", False),
        "labels": labels,
        "scores": list(getattr(loss, "needs_columns", ())),
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


def data_of(group: str, loss: Any) -> str:
    """What rows a loss (or its class) of ``group`` is trained on, in words."""
    if group == PAIRS:
        rows = "preference rows (a prompt, a chosen and a rejected answer)"
    elif group == _LISTS:
        rows = (
            "ranked rows (`prompt`, `completions` and `scores`: K answers and a number for each), "
            "or pairs as lists of two"
        )
    elif getattr(loss, "needs_label", False):
        rows = "unpaired rows (a prompt, an answer, whether it is a good one), or pairs"
    else:
        rows = (
            "unpaired rows (a prompt and an answer), conversations, or each answer of a list or of "
            "a pair"
        )
    each = "pair" if group == PAIRS else "answer"
    numbers = "".join(
        f"; the number `{name}` of each {each}" for name in getattr(loss, "needs_columns", ())
    )
    on_policy = getattr(loss, "on_policy", False)
    samples = "; the answers are to be the model's own samples" if on_policy else ""
    return f"Data: {rows}{numbers}{samples}."
