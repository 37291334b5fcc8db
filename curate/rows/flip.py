"""Preference pairs with their sides exchanged: content, scores of sides, facts, digest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.files.json_text import dump
from siftune.curate.rows.convert import content_digest

__all__ = ["flip_pairs"]

_SIDES: Final = ("chosen", "rejected")
_RESPONSES: Final = {1: 2, 2: 1}


def flip_pairs(table: pl.DataFrame, mask: pl.Series) -> pl.DataFrame:
    """The columns that change, for all rows; in those of ``mask`` both sides are exchanged.

    These are ``chosen`` and ``rejected``, ``score_chosen`` and ``score_rejected``, all columns
    ``chosen_NAME`` and ``rejected_NAME``, the sign of ``margin``, ``1 - win_probability``, the
    ``digest``, and in ``extra`` the fields of the sides and the number of the chosen response.
    Scores of a pair as a whole stay: a scorer that reads the order has to run again.
    """
    flip = mask.alias("_flip")
    frame = table.with_columns(flip)
    changed = [
        pl.when("_flip").then(other).otherwise(name).alias(name)
        for pair in _pairs_of_columns(table)
        for name, other in (pair, pair[::-1])
    ]
    if "margin" in table.columns:
        changed.append(pl.when("_flip").then(-pl.col("margin")).otherwise("margin").alias("margin"))
    if "win_probability" in table.columns:
        other = 1 - pl.col("win_probability")
        name = "win_probability"
        changed.append(pl.when("_flip").then(other).otherwise(name).alias(name))
    flipped = frame.select(changed)
    digests = table["digest"].to_list()
    for at in mask.arg_true().to_list():
        content = {"prompt": table["prompt"][at].to_list()}
        sides = {side: flipped[side][at].to_list() for side in _SIDES}
        digests[at] = content_digest("preference", content | sides)
    return flipped.with_columns(
        pl.Series("digest", digests, dtype=pl.String), *_extras(table, mask)
    )


def _pairs_of_columns(table: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """Columns of the two sides."""
    for name in table.columns:
        for first, second in (("chosen_", "rejected_"), ("score_chosen", "score_rejected")):
            other = second + name.removeprefix(first)
            if name.startswith(first) and other in table.columns:
                yield name, other
    yield _SIDES


def _extras(table: pl.DataFrame, mask: pl.Series) -> Iterator[pl.Series]:
    if "extra" not in table.columns:
        return
    extras = table["extra"].to_list()
    for at in mask.arg_true().to_list():
        if extras[at] is not None:
            extras[at] = dump(_flipped_extra(orjson.loads(extras[at])))
    yield pl.Series("extra", extras, dtype=pl.String)


def _flipped_extra(extra: dict[str, Any]) -> dict[str, Any]:
    names = {f"{one}.fields": f"{other}.fields" for one, other in (_SIDES, _SIDES[::-1])}
    flipped = {names.get(key, key): value for key, value in extra.items()}
    response = flipped.get("chosen_response")
    if type(response) is int:
        flipped["chosen_response"] = _RESPONSES.get(response, response)
    return flipped
