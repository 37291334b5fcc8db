"""Settings that all topics share: the data, the sizes, a folder for outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.data import Data
from benchmarks.figures import Topic, lines_of
from benchmarks.measure import Contestant, Failed, alternate, run_once
from benchmarks.vectors import write_table

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """``most`` caps every size; ``repeats`` is how often quick contestants run."""

    data: Data
    say: Callable[[str], None]
    limits: Mapping[str, float]
    most: int | None = None
    repeats: int = 5

    def rows(self, wanted: int) -> int:
        """So many, or the cap."""
        return wanted if self.most is None else min(wanted, self.most)

    def scratch(self, name: str) -> str:
        """A file or folder for outputs of this run alone; `clear` removes them."""
        self._outputs.mkdir(exist_ok=True)
        return str(self._outputs / name)

    def clear(self) -> None:
        """Remove the outputs; data and embeddings stay for the next run."""
        shutil.rmtree(self._outputs, ignore_errors=True)

    @property
    def _outputs(self) -> Path:
        return self.data.folder / f"outputs-{os.getpid()}"

    def compare(self, topic: Topic, contestants: Sequence[Contestant], ours: str) -> set[str]:
        """Run contestants in turns and add them to the topic's table; names of those that ran."""
        self.say(f"{topic.name}: {', '.join(one.name for one in contestants)}")
        samples = alternate(contestants, lambda text: self._said(topic, text))
        topic.lines += lines_of(contestants, samples, ours)
        return set(samples)

    def once(self, topic: Topic, contestant: Contestant) -> Mapping[str, object] | None:
        """Facts that one run reports; None, and a note, where it cannot run."""
        try:
            return run_once(contestant).facts
        except Failed as error:
            self._said(topic, f"  {contestant.name}: {error}")
            return None

    def vectors(self, rows: int, sentences: bool = False) -> tuple[Path, Path]:
        """Real embeddings as a matrix and as a table: Alpaca rows, or single sentences."""
        name = f"{'sentences' if sentences else 'alpaca'}-{rows}"
        matrix = self.data.folder / f"vectors-{name}.npy"
        table = self.data.folder / f"vectors-{name}.parquet"
        if not table.exists():
            self.say(f"embedding {rows:,} {'sentences' if sentences else 'Alpaca rows'} (kept)")
            texts = self.data.sentences(rows) if sentences else self._alpaca_texts(rows)
            options = {
                "texts": str(texts),
                "way": "auto",
                "out": str(matrix),
                "cache": str(self.data.folder / "embeddings"),
            }
            run_once(Contestant("embed", "benchmarks.ours.embed", options, rows))
            write_table(np.load(matrix), table)
        return matrix, table

    def _alpaca_texts(self, rows: int) -> Path:
        path = self.data.folder / f"alpaca-texts-{rows}.parquet"
        whole = pl.read_ndjson(self.data.alpaca(rows))
        whole.select(text=pl.concat_str(pl.all(), separator="\n")).write_parquet(path)
        return path

    def _said(self, topic: Topic, text: str) -> None:
        self.say(text)
        if "not installed" in text or ": failed" in text:
            topic.notes.append(text.strip())
