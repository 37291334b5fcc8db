"""A quality head: linear in its features, calibrated, kept as JSON and an array."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.heads.features import Features
from siftune.curate.judge_stats.calibration import Calibrator, Kind, Scale
from siftune.curate.judge_stats.intervals import Floats

__all__ = ["ALONE", "FACTS", "Head", "is_head", "load_head"]

ALONE: Final = "Text:"
"""The prompt of a text that is judged by itself, as rows of kind text are."""
FACTS: Final = "head.json"
_WEIGHTS: Final = "weights.safetensors"
_FORMAT: Final = 1


@dataclass(frozen=True)
class Head:
    """A linear function of the features of a prompt and an answer, and its calibration.

    What its scores are depends on its ``kind`` (`Scale`). ``facts`` are what it was fitted on, and
    its cross-validated figures.
    """

    kind: Kind
    features: Features
    weights: Floats  # (features,)
    offset: float
    calibrator: Calibrator
    low: float = 0.0
    high: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[str | None], answers: Sequence[str | None]) -> Floats:
        """Scores (rows,); NaN where prompt or answer is missing, blank or without tokens."""
        products = self.features(prompts, answers) * self.weights
        # a matrix product would round by the number of rows
        return self.scores(np.ascontiguousarray(products).sum(1) + self.offset)

    def scores(self, raw: Floats) -> Floats:
        """The calibrated scores of the linear function's values."""
        return Scale(self.kind, self.calibrator, self.low, self.high)(raw)

    @cached_property
    def described(self) -> dict[str, Any]:
        """All but the weights, as JSON holds it, with their hash."""
        return {
            "format": _FORMAT,
            "kind": self.kind,
            "offset": self.offset,
            "low": self.low,
            "high": self.high,
            "calibrator": asdict(self.calibrator),
            "features": self.features.describe(),
            "weights_sha256": hashlib.sha256(self._bytes).hexdigest(),
            **self.facts,
        }

    @property
    def identity(self) -> str:
        """Hash of all that the scores depend on."""
        names = ("kind", "offset", "low", "high", "calibrator", "features", "weights_sha256")
        text = json.dumps([self.described[name] for name in names], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the head into an empty folder; equal heads have equal bytes."""
        (folder / _WEIGHTS).write_bytes(self._bytes)
        text = json.dumps(self.described, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")

    @property
    def _bytes(self) -> bytes:
        from safetensors.numpy import save

        written: bytes = save({"weights": np.ascontiguousarray(self.weights, "<f8")})
        return written


def is_head(folder: str | Path) -> bool:
    """Whether a folder holds a head."""
    return (Path(folder) / FACTS).is_file()


def load_head(folder: str | Path, cache: str | None = None) -> Head:
    """The head in ``folder``; ``cache`` is a folder for embeddings.

    Raises:
        UsageError: there is none, it is damaged, or its embedding model is another one here.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(folder)
    if not is_head(path):
        raise UsageError(
            f"{folder} holds no quality head (no {FACTS}): make one with "
            "`siftune curate fit-quality`"
        )
    try:
        facts = orjson.loads((path / FACTS).read_bytes())
        held = (path / _WEIGHTS).read_bytes()
        if facts["format"] != _FORMAT or facts["weights_sha256"] != _sha(held):
            raise ValueError(f"{_WEIGHTS} is not the one that {FACTS} names")
        weights = load(held)["weights"]
        offset, low, high = (float(facts[name]) for name in ("offset", "low", "high"))
        calibrator = Calibrator.of(facts["calibrator"])
        kind, features = facts["kind"], facts["features"]
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise UsageError(f"{folder}: the quality head is damaged ({error}): fit it again") from None
    made = Features.of(features, cache)
    if weights.shape != (made.width,) or not np.isfinite(weights).all():
        raise UsageError(f"{folder}: the quality head is damaged (its weights): fit it again")
    return Head(kind, made, weights, offset, calibrator, low, high)


def _sha(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()
