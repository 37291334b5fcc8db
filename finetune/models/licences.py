"""The licence that a model comes with, as its folder or the catalogue states it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.models.catalog import CATALOG
from siftune.finetune.models.loading import model_hash, read_facts, resolve, shown

__all__ = ["base_facts", "licence_of"]

_STATED: Final = re.compile(r"(?m)^license:\s*['\"]?([\w .+()-]{1,60}?)['\"]?\s*$")


def base_facts(model: str | Path) -> dict[str, Any]:
    """``path``, ``hash`` and, where it is stated, ``licence`` of a model to start from."""
    licence = licence_of(model)
    stated = {} if licence is None else {"licence": licence}
    return {"path": shown(model), "hash": model_hash(model), **stated}


def licence_of(model: str | Path) -> str | None:
    """That of `siftune models list`, of the model's own card, or of what it was trained from."""
    if str(model) in CATALOG and not Path(model).is_dir():
        return CATALOG[str(model)].licence
    folder = resolve(model)
    stated = _STATED.search(_front_matter(folder / "README.md"))
    if stated is not None:
        return stated[1]
    base = _facts(folder).get("base")
    known = base.get("licence") if isinstance(base, dict) else None
    return known if isinstance(known, str) else None


def _facts(folder: Path) -> dict[str, object]:
    try:
        return read_facts(folder)
    except UsageError:  # not ours, or damaged: what it says is not needed to train
        return {}


def _front_matter(card: Path) -> str:
    """The YAML that a card begins with; empty where there is none."""
    if not card.is_file():
        return ""
    text = card.read_text(encoding="utf-8", errors="replace")
    return text[4:].partition("\n---")[0] if text.startswith("---\n") else ""
