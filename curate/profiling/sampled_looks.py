"""Looks that cost more: pairs and their labels, quality, toxicity, and clusters of a sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from siftune.curate.core.progress import run_context
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.judge_stats.intervals import NotEstimableError, share
from siftune.curate.profiling.looks import Facts
from siftune.curate.profiling.scoring import (
    Asked,
    Count,
    NotLookedError,
    excerpts,
    prompt_texts,
    sample_of,
    sample_of_prompts,
    scored,
    shown,
    summary,
)
from siftune.curate.rows.chat import turn
from siftune.curate.rows.table import ROW, Table

__all__ = ["clusters", "pairs", "quality", "toxicity"]

_MOST_CLUSTERS: Final = 20
_NEAREST: Final = 3  # rows that are shown of each cluster
_ALIKE: Final = 80  # characters that they do not share: threads of one tree begin alike
_WORDS: Final = 6
_LEAST: Final = 3  # rows that have a word which describes a cluster
_LIFT: Final = 2.0
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_TOXIC: Final = 0.5


def pairs(table: Table, asked: Asked, count: Count) -> Facts:
    """Length bias, contradictions and label noise of pairs; what compares texts on a sample."""
    if table.kind != "preference":
        raise NotLookedError("for preference pairs only")
    prompt = prompt_texts(table).rank("dense").fill_null(0).to_numpy()
    words = {
        side: one["length_words"].cast(pl.Int64)
        for side, one in scored(table, "length", {}, count, ["length_words"]).items()
    }
    gap = (words["chosen"] - words["rejected"]).to_numpy()
    conflicts = scored(table, "label_conflicts", {}, count)["answer"]
    facts: Facts = {
        "pairs": len(gap),
        "prompts": len(np.unique(prompt)),
        "equal_lengths": int((gap == 0).sum()),
        "longer_wins": _share(gap[gap != 0] > 0, prompt[gap != 0]),
        "gap_words": summary(pl.Series(gap)),
        **{
            name.removeprefix("label_conflicts").strip("_") or "contradicted": int(
                conflicts[name].sum()
            )
            for name in conflicts.columns
            if conflicts[name].dtype == pl.Boolean
        },
    }
    return facts | _given(table) | _of_sample(table, asked, count)


def _given(table: Table) -> Facts:
    """Margins and probabilities that the rows came with."""
    given = table.gather(["margin", "win_probability"])
    return {name: summary(given[name]) for name in ("margin", "win_probability")}


def _of_sample(table: Table, asked: Asked, count: Count) -> Facts:
    some = sample_of_prompts(table, asked.sample, asked.seed)
    text = scored(some, "pair_text", {}, count)["answer"]
    with run_context() as context:
        noise = scored(some, "label_noise", {"seed": asked.seed}, count)["answer"]
    named = ("equal", "both_refuse", "prompt_in_chosen", "prompt_in_rejected")
    suspect = noise["label_noise_issue"].drop_nulls()
    return {
        "sample": {
            "pairs": len(text),
            **{name: int(text[f"pair_text_{name}"].sum()) for name in named},
            "edit": summary(text["pair_text_edit"]),
            "overlap": summary(text["pair_text_overlap"]),
            "labels_judged": len(suspect),
            "labels_suspect": int(suspect.sum()),
            "labels_not_judged": context.metrics.get("too_few"),
        }
    }


def _share(values: np.ndarray, prompts: np.ndarray) -> dict[str, float] | None:
    """A share with its 95 % interval by prompts; without one where it cannot be estimated."""
    if not len(values):
        return None
    try:
        found = share(values.astype(float), prompts)
    except NotEstimableError:
        return {"value": float(values.mean())}
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: round(one, 4) for name, one in ends.items()}


def quality(table: Table, asked: Asked, count: Count) -> Facts:
    """Scores of a fitted head on a sample; of pairs also how often the chosen answer has more."""
    if asked.quality is None:
        raise NotLookedError(
            "no head is named (quality); `siftune curate fit-quality` fits one to labelled rows"
        )
    some = sample_of(table, asked.sample, asked.seed)
    found = scored(some, "fitted_quality", {"model": asked.quality}, count)
    facts: Facts = {side: summary(one["fitted_quality"]) for side, one in found.items()}
    if table.kind == "preference":
        chosen, rejected = (found[side]["fitted_quality"] for side in ("chosen", "rejected"))
        differ = (chosen - rejected).drop_nulls().to_numpy()
        known = differ[differ != 0]
        facts["chosen_is_better"] = float((known > 0).mean()) if len(known) else None
    return {"rows": len(some.alive), "by_side": facts}


def toxicity(table: Table, asked: Asked, count: Count) -> Facts:
    """Toxicity of answers of a sample, by the user's classifier or head."""
    if asked.toxicity is None:
        raise NotLookedError("no classifier or head is named (toxicity); docs/hygiene.md has both")
    some = sample_of(table, asked.sample, asked.seed)
    options = {"model": asked.toxicity, **({} if asked.label is None else {"label": asked.label})}
    found = scored(some, "toxicity", options, count)
    values = {side: one["toxicity"] for side, one in found.items()}
    return {
        "rows": len(some.alive),
        "by_side": {
            side: {"toxic": int((one >= _TOXIC).sum()), "scores": summary(one)}
            for side, one in values.items()
        },
    }


def clusters(table: Table, asked: Asked, count: Count) -> Facts:
    """Clusters of the prompts of a sample (of plain texts of these): words and nearest rows."""
    if asked.clusters == 0:
        raise NotLookedError("no clusters are wanted (clusters 0)")
    some = sample_of(table, asked.sample, asked.seed)
    texts = prompt_texts(some)
    scorer = build(
        "curate.scorers", "embedding", {} if asked.model is None else {"model": asked.model}
    )
    messages = [[] if text is None else [turn("user", text)] for text in texts.to_list()]
    turns = pl.Series("messages", messages, dtype=TURNS).to_frame()
    vectors = []
    for start in range(0, len(texts), _BATCH):
        vectors.append(scorer(turns[start : start + _BATCH])["embedding"])
        count(min(start + _BATCH, len(texts)))
    rows = some.gather([]).drop(ROW).with_columns(embedding=pl.concat(vectors))
    known = rows.height - rows["embedding"].null_count()
    number = asked.clusters or max(1, min(_MOST_CLUSTERS, round((known / 2) ** 0.5)))
    options = {"clusters": number, "seed": asked.seed}
    found = build("curate.scorers", "clusters", options)(rows)
    plain = excerpts(texts.to_list())
    named = found.with_columns(id=rows["id"], text=pl.Series(plain))
    return {"rows": known, "of": "texts" if table.kind == "text" else "prompts"} | {
        "clusters": _described(named.drop_nulls("clusters"))
    }


_BATCH: Final = 256


def _described(rows: pl.DataFrame) -> list[Facts]:
    """Size, words and nearest rows of each cluster, the largest first."""
    words = [set(_WORD.findall(text.lower())) for text in rows["text"]]
    every = Counter(word for one in words for word in one)
    numbers = rows["clusters"].to_list()
    found = []
    for cluster in sorted(set(numbers)):
        own = rows.filter(pl.col("clusters") == cluster)
        inside = [one for one, at in zip(words, numbers, strict=True) if at == cluster]
        nearest = own.sort("clusters_distance", "id")
        nearest = nearest.unique(pl.col("text").str.head(_ALIKE), keep="first", maintain_order=True)
        found.append(
            {
                "rows": own.height,
                "words": _typical(inside, every, rows.height),
                "nearest": [
                    {"id": row, "text": shown(text)}
                    for row, text in nearest.select("id", "text").head(_NEAREST).rows()
                ],
            }
        )
    return found


def _typical(inside: Sequence[set[str]], every: Counter[str], rows: int) -> list[str]:
    """Words of most weight ``p log(p / q)``: p of the cluster's rows have it, q of all rows.

    Words that are not twice as frequent in the cluster are left out: *the* and its like.
    """
    own = Counter(word for one in inside for word in one)
    lift = {word: n / len(inside) / (every[word] / rows) for word, n in own.items() if n >= _LEAST}
    weights = {word: own[word] * np.log(one) for word, one in lift.items() if one >= _LIFT}
    return sorted(weights, key=lambda word: (-weights[word], word))[:_WORDS]
