"""Judge win rate against the arm `random`, asked in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.pipelines.arena.measures.types import Asked, Better, Values

__all__ = ["JudgeWinRate"]


@dataclass(frozen=True)
class JudgeWinRate:
    """1 where an LLM judge prefers the arm's answer to that of `random`, 0.5 for a tie, else 0.

    Both answers are to the same prompt, of arms with the same seed and budget. Each pair is asked
    in both orders; verdicts that disagree are a tie, so a judge that prefers a position counts for
    nothing (scorer `judge_pairwise`). Equal answers are a tie without a question. The arm `random`
    is 0.5 by definition, so a difference from it is a win rate less one half.

    With ``gold``, pairs that people labelled, the same judge is asked about these, and the win rate
    of each arm is also given corrected for the judge's errors: Rogan and Gladen's estimate with
    Lang and Reiczigel's interval (`judge_stats.win_rates`).

    Not for a judge of the family of one of the arms, nor without a look at the lengths: judges
    prefer long answers.

    Options:
        judge: LLM judge: a model, or URL#MODEL.
        options: Other options of the scorer judge_pairwise, such as task or max_cost.
        gold: Pairs with labels by people, by which the win rate is corrected.
    """

    judge: str
    options: Mapping[str, Any] = field(default_factory=dict)
    gold: str | None = None

    better: ClassVar[Better] = "higher"
    kinds: ClassVar = ("conversation", "preference", "text")

    def __call__(self, asked: Asked) -> Values:
        """1, 0.5, 0 or None for each row."""
        own, other = asked.answers, asked.baseline_answers
        if len(other) != len(own):
            raise UsageError("judge_win_rate: the arm random has no answers to compare with")
        found: list[float | None] = [None] * len(own)
        ask = []
        for at, (one, two) in enumerate(zip(own, other, strict=True)):
            if one["completion"] is None or two["completion"] is None:
                continue
            if one["completion"] == two["completion"]:
                found[at] = 0.5
            else:
                ask.append(at)
        pairs = [(own[at], own[at]["completion"], other[at]["completion"]) for at in ask]
        for at, verdict in zip(ask, self.verdicts(pairs), strict=True):
            found[at] = verdict
        return Values(found)

    def verdicts(self, pairs: Sequence[tuple[Mapping[str, Any], str, str]]) -> list[float | None]:
        """1, 0.5, 0 or None: which of two answers to a question the judge prefers."""
        from siftune.curate.scorers.judge_pairwise import JudgePairwise

        if not pairs:
            return []
        table = pl.DataFrame(
            {
                "prompt": [one["question"] for one, _, _ in pairs],
                "chosen": [first for _, first, _ in pairs],
                "rejected": [second for _, _, second in pairs],
            }
        )
        judge = JudgePairwise(**{"judge": self.judge, **self.options})
        preferred = judge(table)["judge_pairwise_preference"].to_list()
        return [
            None if one is None else 0.5 if one == 0.5 else float(one > 0.5) for one in preferred
        ]

    def corrected(self, verdicts: list[float | None]) -> dict[str, float] | str:
        """The win rate corrected by the gold pairs with its interval, or why there is none."""
        import numpy as np

        from siftune.curate.judge_stats.intervals import NotEstimableError
        from siftune.curate.judge_stats.win_rates import rogan_gladen
        from siftune.finetune.data import training_rows

        if self.gold is None:
            return "no gold pairs are given"
        table = training_rows.load(self.gold, ("preference",))
        rows = training_rows.to_pairs(table)
        asked = [
            ({"id": row["id"], "question": row["prompt"][-1]["content"]}, *_sides(row))
            for row in rows
        ]
        # every second pair is shown the other way round: the judge needs wins and losses
        asked = [one if at % 2 else (one[0], one[2], one[1]) for at, one in enumerate(asked)]
        labels = [float(at % 2) for at in range(len(asked))]
        known = [one for one in verdicts if one is not None]
        judged = [*known, *(np.nan if v is None else v for v in self.verdicts(asked))]
        gold = [*[np.nan] * len(known), *labels]
        try:
            found = rogan_gladen(judged, gold)
        except NotEstimableError as error:
            return str(error)
        return {"win_rate": found.value, "low": found.low, "high": found.high}


def _sides(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["chosen"][-1]["content"], row["rejected"][-1]["content"]
