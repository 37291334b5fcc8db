"""Before and after: one table of the held-out metrics and answers of a run's models, base first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.curate.files.atomic import read_json
from siftune.finetune.core.intervals import as_text
from siftune.finetune.models.loading import shown

__all__ = ["comparison", "means_of", "reference_of"]

_MOST_PROMPTS: Final = 10


def comparison(run: Path) -> dict[str, Any] | None:
    """Metrics and answers by model; None where the base was not evaluated.

    ``models`` are the names; ``metrics`` has a name and one text a model, ``answers`` a prompt, one
    answer a model and the known answer, for the first ten prompts that all models were asked.
    """
    folders = _folders(run)
    if "base" not in folders:
        return None
    means = [as_text(means_of(path)) for path in folders.values()]
    start = reference_of(read_json(run / "manifest.json"))
    rows = [_answers(path) for path in folders.values()]
    return {
        "models": list(folders),
        "metrics": [
            (_from(name, start), [one.get(name, "") for one in means]) for name in means[0]
        ],
        "answers": [
            (_question(row), [one[key]["completion"] for one in rows], row.get("reference"))
            for key, row in rows[0].items()
            if all(key in one for one in rows)
        ][:_MOST_PROMPTS],
    }


def means_of(evaluation: Path) -> dict[str, float]:
    """The means of an evaluation."""
    found: dict[str, float] = read_json(evaluation / "evaluation.json")["last"]
    return found


def reference_of(manifest: Mapping[str, Any]) -> str:
    """The reference model of the KL in a run's evaluations."""
    given = manifest["recipe"].get("evaluate", {}).get("reference")
    if given is not None:
        return shown(given)
    return "sft" if any(one["label"] == "sft" for one in manifest["models"]) else "base"


def _from(metric: str, reference: str) -> str:
    return f"{metric}, from the model {reference}" if metric.startswith("kl_") else metric


def _folders(run: Path) -> dict[str, Path]:
    """The evaluations on held-out prompts, by the label of the model."""
    path = run / "manifest.json"
    manifest = read_json(path) if path.is_file() else {}
    before = {"base": manifest["before"]} if manifest.get("before") else {}
    after = {
        model["label"]: model["evaluation"]
        for model in manifest.get("models", [])
        if "evaluation" in model and not model.get("arm") and "accuracy" not in model["found"]
    }
    return {label: run / folder for label, folder in (before | after).items()}


def _answers(folder: Path) -> dict[str, Mapping[str, Any]]:
    lines = (folder / "rows.jsonl").read_bytes().splitlines()
    return {row["id"]: row for row in map(orjson.loads, lines)}


def _question(row: Mapping[str, Any]) -> str:
    return str(row.get("question") or row["prompt"])
