"""Comparison of judges with gold labels: all figures that fit the kind of label, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from siftune.curate.judge_stats.intervals import Estimate, NotEstimableError
from siftune.curate.judge_stats.labels import CORRECTED, NEXT, Kind, Labels

__all__ = ["AgreementReport", "Kind", "compare"]


@dataclass(frozen=True, repr=False)
class AgreementReport:
    """How judges agree with gold, and what a win rate by them is when corrected.

    ``figures`` are by name and judge; ``not_estimable`` has the reason where one has no value.
    ``rows`` counts: judged, gold, compared (both), prompts of the compared, gold ties, and the
    unscored of each judge. ``disagreements`` are the compared rows that differ most. ``label_next``
    has, of each judge whose win rate is corrected by Rogan and Gladen's estimate, how many true
    losses and wins of 100 more gold labels narrow it most.
    """

    level: Kind
    rows: Mapping[str, Any]
    figures: Mapping[str, Mapping[str, Estimate]]
    not_estimable: Mapping[str, Mapping[str, str]]
    disagreements: Sequence[Mapping[str, Any]]
    label_next: Mapping[str, Mapping[str, int]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        """As `siftune curate agree` prints it."""
        rows = self.rows
        lines = [
            f"{rows['compared']:,} rows compared, of {rows['prompts']:,} prompts "
            f"({rows['judged']:,} judged, {rows['gold']:,} gold, {rows['gold_ties']:,} gold ties); "
            f"labels are {self.level}"
        ]
        lines += [f"  {name}: {count:,} rows unscored" for name, count in rows["unscored"].items()]
        width = max(len(judge) for by in self.figures.values() for judge in by)
        wide = max(30, 2 + max(map(len, self.figures)))
        for figure, by_judge in self.figures.items():
            for at, (judge, one) in enumerate(by_judge.items()):
                head = "" if at else figure
                lines.append(f"  {head:<{wide}}{judge:<{width}}  {one}  {one.rows:,} rows")
        for figure, reasons in self.not_estimable.items():
            lines += [
                f"  {figure}: not estimable for {name}: {why}" for name, why in reasons.items()
            ]
        lines += [
            f"  for {CORRECTED} of {name}, label {NEXT} more rows: {more['losses']} losses "
            f"and {more['wins']} wins, drawn among those that it calls so"
            for name, more in self.label_next.items()
        ]
        if self.disagreements:
            lines.append("rows that differ most:")
        for row in self.disagreements:
            labels = ", ".join(f"{name} {label}" for name, label in row["judges"].items())
            lines.append(f"  {row['key']}  gold {row['gold']}, {labels}")
        return "\n".join(lines)


def compare(
    judges: Mapping[str, Sequence[Any]],
    gold: Sequence[Any],
    keys: Sequence[Any],
    prompts: Sequence[Any] | None = None,
    *,
    level: Kind | None = None,
    tie: Any = "tie",
    win: Any = None,
    worst: int = 5,
) -> AgreementReport:
    """Compare the labels of each judge with ``gold``, row by row; None, NaN, infinity are none.

    ``level`` is found from the labels by default: text or 0 and 1 are nominal, up to ten whole
    numbers ordinal, others interval; numbers within 0 … 1 beside a gold of 0 and 1 are
    probabilities. ``tie`` is the label of a tie (0.5 where wins are 1 and 0), ``win`` that of a win
    (1 there): with it there are win rates, corrected by gold where rows without gold are.
    Several judges are also a panel: its majority, median or mean is compared, too.

    Raises:
        NotEstimableError: no row has both labels, or no figure can be estimated.
    """
    labels = Labels.of(judges, gold, level, tie, win)
    if not labels.met.any():
        raise NotEstimableError("no row has both a judge's label and a gold one")
    own = None if prompts is None else np.asarray(prompts)
    figures: dict[str, dict[str, Estimate]] = {}
    failed: dict[str, dict[str, str]] = {}
    for figure, name, found in labels.figures(own):
        try:
            figures.setdefault(figure, {})[name] = found()
        except NotEstimableError as error:
            failed.setdefault(figure, {})[name] = str(error)
    if not any(figures.values()):
        raise NotEstimableError("; ".join(f"{one}: {why}" for one, why in failed.items()))
    counts = {
        "judged": len(gold),
        "gold": int(np.isfinite(labels.gold).sum()),
        "compared": int(labels.met.sum()),
        "prompts": int(labels.met.sum() if own is None else np.unique(own[labels.met]).size),
        "gold_ties": int((labels.met & (labels.gold == labels.tie)).sum()),
        "unscored": {
            name: int(missing)
            for name, values in labels.judges.items()
            if name in judges and (missing := np.isnan(values).sum())
        },
    }
    rows = [
        {"key": keys[at], "gold": gold[at], "judges": {one: judges[one][at] for one in judges}}
        for at in labels.furthest([*judges], worst)
    ]
    known = {figure: by for figure, by in figures.items() if by}
    more = labels.to_label(known.get(CORRECTED, {}))
    return AgreementReport(labels.level, counts, known, failed, rows, more)
