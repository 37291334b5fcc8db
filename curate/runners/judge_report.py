"""What the verdicts of a run show of their judge: biases, and the agreement of a panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siftune.curate.judge_stats.agreement import krippendorff_alpha, numbered, spearman
from siftune.curate.judge_stats.intervals import Estimate, NotEstimableError
from siftune.curate.judge_stats.pair_biases import PairBiases, pair_biases
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.rows.chat import contents, split_turns
from siftune.curate.runs.recipe import Recipe, component
from siftune.curate.runs.stage_store import StageStore

if TYPE_CHECKING:
    from siftune.curate.runners.run import Result

__all__ = ["judge_report"]


def judge_report(result: Result, recipe: Recipe) -> PairBiases:
    """Figures with 95 % intervals on the first stage of a run, which has judged rows.

    Of pairs the win rates of the chosen answer and the biases, as `pair_biases` has them; of
    ratings of conversations ``length_correlation``,
    Spearman's correlation with the characters of the answer; of a panel ``panel_alpha``,
    Krippendorff's alpha of its votes. All rows of a prompt are one draw.
    """
    scorer: JudgeColumns = component(recipe.stages[0], recipe.seed)
    stages = StageStore(result.out / "stages")
    ingest, judged = result.manifest["stages"][:2]
    rows = pl.read_parquet(stages.path("ingest", ingest["key"]), glob=False)
    scores = pl.read_parquet(stages.path(scorer.name, judged["key"]), glob=False)
    figures, failed = dict[str, Estimate](), dict[str, str]()
    if f"{scorer.prefix}_first_position" in scores.columns:
        found = _biases(scorer.prefix, rows, scores)
        figures, failed = dict(found.figures), dict(found.not_estimable)
    for name, measure in _measures(scorer.prefix, rows, scores).items():
        try:
            figures[name] = measure()
        except NotEstimableError as error:
            failed[name] = str(error)
    return PairBiases(figures, failed)


def _measures(
    prefix: str, rows: pl.DataFrame, scores: pl.DataFrame
) -> dict[str, Callable[[], Estimate]]:
    """Figures of ratings and of panels, by name."""
    found: dict[str, Callable[[], Estimate]] = {}
    votes = scores.get_column(f"{prefix}_votes", default=None)
    if votes is not None:
        found["panel_alpha"] = lambda: _alpha(votes, _prompts(rows))
    rated = scores.get_column(prefix, default=None)
    if rated is not None and rated.dtype == pl.Float64 and "messages" in rows.columns:
        answers = split_turns(rows["messages"])[1]
        found["length_correlation"] = lambda: spearman(
            _numbers(rated), _numbers(answers.str.len_chars()), _prompts(rows)
        )
    return found


def _alpha(votes: pl.Series, prompts: list[str]) -> Estimate:
    listed = [one or () for one in votes.to_list()]
    most = max(map(len, listed), default=0)
    raters = [[one[at] if len(one) > at else None for one in listed] for at in range(most)]
    if votes.dtype == pl.List(pl.Float64):
        return krippendorff_alpha(np.array(raters, float), prompts, level="interval")
    if votes.dtype != pl.List(pl.String):
        raise NotEstimableError("votes are neither numbers nor words")
    return krippendorff_alpha(np.array(numbered(*raters)[0]), prompts)


def _biases(prefix: str, rows: pl.DataFrame, scores: pl.DataFrame) -> PairBiases:
    winner = pl.col(f"{prefix}_winner")
    wins = winner.replace_strict({"first": 1.0, "second": 0.0, "tie": 0.5}, default=None)
    lengths = [contents(rows[side]).str.len_chars() for side in ("chosen", "rejected")]
    return pair_biases(
        _numbers(scores.select(wins).to_series()),
        first_position=_numbers(scores[f"{prefix}_first_position"]),
        consistent=_numbers(scores[f"{prefix}_consistent"]),
        lengths=_numbers(lengths[0]),
        other_lengths=_numbers(lengths[1]),
        prompts=_prompts(rows),
        rates=True,
    )


def _numbers(column: pl.Series) -> Any:
    """Numbers, NaN where there is none."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _prompts(rows: pl.DataFrame) -> list[str]:
    if "messages" in rows.columns:
        return contents(split_turns(rows["messages"])[0]).fill_null("").to_list()
    return contents(rows["prompt"]).fill_null("").to_list()
