"""Compare the prompts of RL, or held-out ones, with those that a reward model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import orjson

from siftune.curate.core.errors import DataError
from siftune.curate.core.ranges import Count, Natural, Seed, check_ranges
from siftune.curate.core.schema import KINDS
from siftune.curate.files.atomic import read_json, write_json, write_text
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import training_rows
from siftune.finetune.models import loading
from siftune.finetune.reward_models.prompt_coverage import Cluster, coverage_of
from siftune.finetune.tools.evaluate import chosen_rows

__all__ = ["Coverage", "table_of"]

_COMMAND: Final = "finetune coverage"
_LONGEST: Final = 160


@dataclass(frozen=True)
class Coverage:
    """Prompts that a reward model was not trained on: clusters of them beside its training prompts.

    The scores of a reward model on prompts unlike those of its pairs are extrapolations, and RL
    finds those that are too high. The prompts of both are embedded and clustered together. A
    cluster is a gap where it has fewer training prompts than chance explains (hypergeometric, 5 %,
    divided by the number of clusters) and less than half of their share; it is named by its words
    and its nearest prompts. A prompt is far where its nearest training prompt is farther than that
    of 95 % of the training prompts themselves.

    ``coverage.json`` has the clusters, ``rows.jsonl`` each prompt with its cluster. Each prompt is
    counted once, however many rows have it. The data are the prompts that are to be covered, those
    of RL or held-out ones.

    Options:
        against: Rows that the reward model was trained on: a file or a run folder.
        model: Embedding model, a name or folder; none takes all-MiniLM-L6-v2.
        clusters: Number of clusters; none takes the square root of half the prompts, at most 50.
        examples: Number of prompts that are shown of each cluster.
        limit: Largest number of prompts of each side, drawn at random; 0 for all.
        seed: Seed of the first centres and of the draw.
    """

    against: str
    model: str | None = None
    clusters: Count | None = None
    examples: Natural = 3
    limit: Natural = 5000
    seed: Seed = 0

    reads: ClassVar = KINDS

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_ranges(self)

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Write ``coverage.json`` and ``rows.jsonl`` to the folder ``out``.

        Raises:
            DataError: one side has no prompts.
            UsageError: the model cannot be used, or ``out`` is not of an earlier comparison.
        """
        check_folder(out, _COMMAND)
        (ids, asked), (_, known) = self._prompts(rows), self._prompts(Path(self.against))
        found = coverage_of(
            self._vectors(known),
            self._vectors(asked),
            asked,
            self.clusters,
            self.examples,
            self.seed,
        )
        far = float(np.mean(found.far))
        means = {
            "prompts": len(asked),
            "trained_prompts": len(known),
            "far": far,
            "gaps": len(found.gaps),
            "in_gaps": sum(one.asked for one in found.gaps) / len(asked),
        }
        facts = {
            "options": asdict(self) | {"against": loading.shown(self.against)},
            "rows": loading.shown(rows),
            **means,
            "far_below": found.limit,
            "clusters": [_facts(one, asked, len(known)) for one in found.clusters],
        }
        columns = (found.of, found.similarity, found.far)
        each = zip(ids, *(column.tolist() for column in columns), strict=True)
        lines = [
            {"id": key, "cluster": cluster, "similarity": round(near, 6), "far": is_far}
            for key, cluster, near, is_far in each
        ]
        with whole_folder(out, _COMMAND) as part:
            write_text(part / "rows.jsonl", "".join(orjson.dumps(x).decode() + "\n" for x in lines))
            write_json(part / "coverage.json", facts)
        return TrainResult(out, len(asked), means)

    def _prompts(self, rows: Path) -> tuple[list[str], list[str]]:
        """Ids and texts of the distinct prompts."""
        table = training_rows.load(rows, KINDS)
        once = table.filter(training_rows.prompt_keys(table).is_first_distinct())
        read = training_rows.to_prompts(chosen_rows(once, self.limit, self.seed))
        texts = {row["id"]: _text(row["prompt"]) for row in read}
        full = {key: text for key, text in texts.items() if text.strip()}
        if len(full) < 2:
            raise DataError(f"{rows}: expected two different prompts at least, got {len(full)}")
        return list(full), list(full.values())

    def _vectors(self, texts: Sequence[str]) -> Any:
        from siftune.curate.vectors.embed import Embedder

        return Embedder(self.model).encode(texts).vectors


def _text(turns: Sequence[Any]) -> str:
    return "\n\n".join(str(turn["content"]) for turn in turns)


def _facts(cluster: Cluster, texts: Sequence[str], trained: int) -> dict[str, Any]:
    return {
        "cluster": cluster.number,
        "is_gap": cluster.is_gap,
        "asked": cluster.asked,
        "asked_share": cluster.asked / len(texts),
        "trained": cluster.trained,
        "trained_share": cluster.trained / trained,
        "chance": cluster.chance,
        "words": list(cluster.words),
        "examples": [_excerpt(texts[at]) for at in cluster.examples],
    }


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def table_of(folder: Path) -> str:
    """The gaps in a coverage's folder, each with its words and examples, as text."""
    facts = read_json(folder / "coverage.json")
    lines = [
        f"{facts['prompts']:,} prompts beside {facts['trained_prompts']:,} of the training: "
        f"{facts['far']:.1%} are far from all of these (5 % of a set like them would be)"
    ]
    gaps = [one for one in facts["clusters"] if one["is_gap"]]
    for one in gaps:
        lines.append(
            f"  gap: {', '.join(one['words']) or 'no common words'}: {one['asked']:,} prompts "
            f"({one['asked_share']:.1%}), {one['trained']:,} of the training "
            f"({one['trained_share']:.1%})"
        )
        lines += [f"    {example}" for example in one["examples"]]
    if not gaps:
        lines.append(f"  no gap among {len(facts['clusters'])} clusters")
    return "\n".join(lines)
