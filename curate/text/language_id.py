"""Language of a text by py3langid, and the codes that mean one language to us."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from siftune.curate.core.errors import UsageError

__all__ = ["MERGED", "NO_LANGUAGE", "langid_model", "merged", "missing"]

MERGED: Final = {"nb": "no", "nn": "no", "wuu": "zh", "yue": "zh", "ary": "ar", "arz": "ar"}
NO_LANGUAGE: Final = "zxx"  # of ISO 639-2, the answer of py3langid to what is no prose


@cache
def langid_model() -> Any:
    """The identifier with its probabilities, loaded once.

    Raises:
        UsageError: py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise missing("langid") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def missing(extra: str) -> UsageError:
    """The error of a detector that is not installed."""
    return UsageError(f"language: the detector is not installed: pip install 'siftune[{extra}]'")


def merged(ranked: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """The probabilities of the codes that mean one language to us added, the largest first."""
    total: dict[str, float] = {}
    for code, probability in ranked:
        ours = MERGED.get(code, code)
        total[ours] = total.get(ours, 0.0) + probability
    return sorted(
        ((code, min(one, 1.0)) for code, one in total.items()), key=lambda one: (-one[1], one[0])
    )
