"""Select the data that matters, train on it, and prove that it helped.

>>> import siftune as sf
>>> raw = [{"prompt": f"What is {n} + 1?", "response": f"It is {n + 1}."} for n in (1, 2, 2, 30)]
>>> rows = sf.read(raw)  # or a file, a hub name, a frame of polars or pandas, a `datasets.Dataset`
>>> rows = rows.score("length").dedup("exact")
>>> rows = rows.select("top_fraction", by="length_chars", fraction=0.5)
>>> rows
Rows(2 conversation rows kept, 2 dropped)
  ingest               4 records read
  1:length             added length_chars, length_words
  2:exact_dedup        kept 3 of 4, 1 exact_duplicate
  3:top_fraction       kept 2 of 3, 1 below_cutoff
>>> rows.dropped.select("id", "stage", "reason").rows()
[('rows:1', '3:top_fraction', 'below_cutoff'), ('rows:3', '2:exact_dedup', 'exact_duplicate')]
>>> rows.explain("rows:3").detail
{'similarity': 1.0, 'survivor': 'rows:2'}

``rows.kept`` and ``rows.dropped`` are polars frames, ``rows.to_datasets()`` is what the trainers of
TRL take, ``rows.report("report.html")`` shows it all. `siftune.train` has a function for each
method: ``sf.train.sft(rows, model="HuggingFaceTB/SmolLM2-135M", out="runs/sft")``, ``train.dpo``,
``train.ppo``, and ``sf.evaluate(model, rows)`` measures what came of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from siftune import losses, rewards, scorers, selectors, train
    from siftune.components import loss, reward, scorer, selector
    from siftune.curate.core.errors import DataError, LockedError, SiftuneError, UsageError
    from siftune.curate.profiling.profile import Profile
    from siftune.finetune.core.types import EvalResult, TrainResult
    from siftune.profiles import profile
    from siftune.recipes import PipelineRun, run
    from siftune.results import Explanation, agree, explain, measure, report
    from siftune.rows import Rows, open_run, read
    from siftune.session import show_progress
    from siftune.shortcuts import (
        dedup,
        from_datasets,
        from_polars,
        from_records,
        judge,
        score,
        select,
    )
    from siftune.train import evaluate, merge, rejection, sample

    __version__: str

__all__ = [
    "DataError",
    "EvalResult",
    "Explanation",
    "LockedError",
    "PipelineRun",
    "Profile",
    "Rows",
    "SiftuneError",
    "TrainResult",
    "UsageError",
    "__version__",
    "agree",
    "dedup",
    "evaluate",
    "explain",
    "from_datasets",
    "from_polars",
    "from_records",
    "judge",
    "loss",
    "losses",
    "measure",
    "merge",
    "open_run",
    "profile",
    "read",
    "rejection",
    "report",
    "reward",
    "rewards",
    "run",
    "sample",
    "score",
    "scorer",
    "scorers",
    "select",
    "selector",
    "selectors",
    "show_progress",
    "train",
]

_PLACES: Final = {
    "components": ("loss", "reward", "scorer", "selector"),
    "curate.core.errors": ("DataError", "LockedError", "SiftuneError", "UsageError"),
    "curate.profiling.profile": ("Profile",),
    "finetune.core.types": ("EvalResult", "TrainResult"),
    "profiles": ("profile",),
    "recipes": ("PipelineRun", "run"),
    "results": ("Explanation", "agree", "explain", "measure", "report"),
    "rows": ("Rows", "open_run", "read"),
    "shortcuts": (
        *("dedup", "from_datasets", "from_polars", "from_records", "judge", "score", "select"),
    ),
    "session": ("show_progress",),
    "train": ("evaluate", "merge", "rejection", "sample"),
}
"""Where each name lives; a module is imported when one of its names is used."""

_MODULES: Final = ("losses", "rewards", "scorers", "selectors", "train")


if not TYPE_CHECKING:  # for a type checker there are the names above, and no others

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("siftune")
        if name in _MODULES:
            return importlib.import_module(f"siftune.{name}")
        for module, names in _PLACES.items():
            if name in names:
                return getattr(importlib.import_module(f"siftune.{module}"), name)
        raise AttributeError(f"module 'siftune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
