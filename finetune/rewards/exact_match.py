"""1 where the completion is the row's known answer, 0 where it is not."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ExactMatch"]


@dataclass(frozen=True)
class ExactMatch:
    """Whether the completion says the same as the row's ``reference``.

    Both are compared in Unicode form NFKC with white space runs as one blank; ``ignore_case`` also
    folds case. A row without a reference cannot be scored.

    >>> ExactMatch()(["2+2?", "?"], [" 4 ", "4"], [{"reference": "4"}, {"reference": None}])
    [1.0, None]
    """

    ignore_case: bool = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """1.0, 0.0 or None for each completion."""
        return [
            None if row.get("reference") is None else float(self._same(said, row["reference"]))
            for said, row in zip(completions, rows, strict=True)
        ]

    def _same(self, said: str, known: str) -> bool:
        return self._plain(said) == self._plain(known)

    def _plain(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split())
        return text.casefold() if self.ignore_case else text
