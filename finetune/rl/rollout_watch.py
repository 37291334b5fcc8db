"""What the watch is given of a rollout: answers, rewards, KL, entropy and which ones were cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from siftune.curate.text.refusals import refusals
from siftune.finetune.watch.observe import Answered

if TYPE_CHECKING:
    from siftune.finetune.rl.rollout import Rollout

__all__ = ["answered", "means_of"]

_CLIPPED: Final = "policy/clipfrac"


def answered(rollout: Rollout, prompts: Mapping[str, str], gold: str | None = None) -> Answered:
    """The answers of a rollout with what was measured of each; ``prompts`` are texts by row.

    ``gold`` is the name of the reward that is not trained on, if one is.
    """
    mask = rollout.tokens.mask
    count = mask.sum(1).clamp(min=1)
    asked = [prompts[key] for key in rollout.ids]
    refused = refusals(pl.Series(asked), pl.Series(rollout.completions, dtype=pl.String))
    kl = _over_tokens(rollout.token_kl, mask)
    columns: dict[str, Any] = {
        "kl": kl.tolist(),
        "entropy": (_over_tokens(rollout.entropy, mask) / count).tolist(),
        "cut": (~rollout.ended).double().tolist(),
        "refused": [None if one is None else float(one) for one in refused],
        **{f"reward/{name}": scores for name, scores in rollout.parts.items()},
        **{_series(name): values for name, values in rollout.facts.items()},
    }
    if gold is not None:
        columns["gold"] = columns.pop(f"reward/{gold}")
    return Answered(asked, rollout.completions, rollout.scores.tolist(), columns)


def _series(fact: str) -> str:
    """The series of a fact.

    >>> _series("runs/helpful/spread")
    'spread/runs/helpful'
    """
    reward, _, name = fact.rpartition("/")
    return f"{name}/{reward}"


def _over_tokens(values: Any, mask: Any) -> Any:
    """The sum over each row's tokens of the mask."""
    return (values.double() * mask).sum(1)


def means_of(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """The series in the metrics of a rollout that are no numbers of single answers."""
    return {"clip_share": metrics.get(_CLIPPED)}
