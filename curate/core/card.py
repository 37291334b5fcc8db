"""The card that goes with exported rows: where they come from and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from curate.core.story import manifest_of

__all__ = ["dataset_card"]


def dataset_card(
    run: Path, layout: str, rows: int, left_out: Sequence[tuple[str, str]] = ()
) -> str:
    """Markdown with the front matter that dataset hubs read."""
    manifest = manifest_of(run)
    front = yaml.safe_dump({"tags": ["siftune", layout], "size_categories": [_size(rows)]})
    counts = manifest["counts"]
    sources = [f"- `{Path(i['path']).name}`, sha256 `{i['sha256']}`" for i in manifest["inputs"]]
    parts = [
        f"---\n{front}---",
        f"# {manifest['recipe']['name']}",
        f"{rows:,} rows in the `{layout}` layout, selected by Siftune {manifest['siftune']} from "
        f"{counts['rows']:,}: {counts['dropped']:,} dropped, "
        f"{counts['quarantined']:,} could not be read.",
        "## Sources",
        "\n".join(sources),
        "The licence of the sources holds for these rows; it is not known to the tool.",
        "## Stages",
        "\n".join(f"- {_stage(stage)}" for stage in manifest["stages"]),
    ]
    if left_out:
        shown = [f"- `{row}`: {why}" for row, why in left_out[:20]]
        more = [f"- and {len(left_out) - 20} more"] if len(left_out) > 20 else []
        parts += ["## Left out by the layout", "\n".join([*shown, *more])]
    return "\n\n".join(parts) + "\n"


def _stage(stage: dict[str, Any]) -> str:
    if "reasons" in stage:
        return f"`{stage['stage']}`: " + ", ".join(
            f"{n:,} {why}" for why, n in stage["reasons"].items()
        )
    if "columns" in stage:
        return f"`{stage['stage']}` added {', '.join(f'`{name}`' for name in stage['columns'])}"
    return f"`{stage['stage']}`: {stage['kept']:,} rows read, {stage['quarantined']:,} set aside"


def _size(rows: int) -> str:
    steps = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for limit, name in steps.items() if rows < limit), "n>1M")
