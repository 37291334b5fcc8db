"""MinHash signatures: what they estimate, their bands, the scorer, the selector that uses it."""

from __future__ import annotations

from random import Random
from time import process_time
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from siftune.curate.comparing.shingles import shingle
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.dedup import minhash
from siftune.curate.dedup.minhash import band_keys, signatures
from siftune.curate.rows.chat import turn


def chats(answers: list[str | None]) -> pl.DataFrame:
    height = len(answers)
    messages = [[turn("user", "Q?"), turn("assistant", answer)] for answer in answers]
    return pl.DataFrame(
        {
            "id": [f"f:{i:04}" for i in range(height)],
            "kind": ["conversation"] * height,
            "digest": [f"{i:05}" for i in range(height)],
            "messages": pl.Series(messages, dtype=TURNS),
        }
    )


def sign(texts: list[str], permutations: int, seed: int = 0, ngram: int = 1) -> np.ndarray:
    return signatures(*shingle(pl.Series(texts), ngram), permutations, seed)


def edited(count: int) -> list[str | None]:
    random = Random(3)
    bases = [[random.randrange(5_000) for _ in range(40)] for _ in range(count // 4)]
    texts = []
    for _ in range(count):
        words = list(random.choice(bases))
        for _ in range(random.randrange(4)):
            words[random.randrange(40)] = random.randrange(5_000)
        texts.append(" ".join(map(str, words)))
    return [*texts, None, "!"]


@pytest.mark.parametrize("shared", [20, 50, 80])
def test_the_share_of_equal_positions_estimates_the_similarity(shared: int) -> None:
    """100 - ``shared`` words of their own each; 4 standard errors of 4,000 positions are 0.03."""
    common = [f"c{i}" for i in range(shared)]
    x, y = ([*common, *(f"{name}{i}" for i in range(100 - shared))] for name in "xy")
    first, second = sign([" ".join(x), " ".join(y)], 4_000)
    assert (first == second).mean() == pytest.approx(shared / (200 - shared), abs=0.032)


def test_order_and_repeats_do_not_change_a_signature_and_the_seed_does() -> None:
    first, second = sign(["a b c", "c b a b"], 16)
    assert (first == second).all()
    assert (sign(["a b c"], 16, seed=1)[0] != first).any()


def test_a_longer_signature_begins_with_the_shorter() -> None:
    assert (sign(["a b c d"], 32)[:, :16] == sign(["a b c d"], 16)).all()


def test_signatures_stay_what_they_were() -> None:
    """A saved column is only of use while this holds."""
    assert sign(["a b c"], 3, seed=7).tolist() == [[1156161715, 486705654, 1184413016]]


@pytest.mark.parametrize("cells", [1 << 22, 40])
def test_torch_makes_the_same_signatures(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minhash, "_CPU_CELLS", cells)
    values, offsets = shingle(pl.Series([*edited(50), "one", None]), 2)
    made = minhash.signatures_on("cpu", values, offsets, 17, seed=3)
    assert made.dtype == np.uint32
    assert np.array_equal(made, signatures(values, offsets, 17, seed=3))


def test_a_gpu_that_is_not_there_is_refused_and_one_that_is_would_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    rows, scorer = chats(edited(20)), build("curate.scorers", "minhash", {"device": "cuda"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no GPU"):
        scorer(rows)
    asked, on = [], minhash.signatures_on

    def noted(device: str, *given: Any) -> np.ndarray:
        asked.append(device)
        return on("cpu", *given)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("siftune.curate.scorers.minhash.signatures_on", noted)
    assert_frame_equal(scorer(rows), build("curate.scorers", "minhash", {"device": "cpu"})(rows))
    assert asked == ["cuda"]


def test_texts_meet_under_the_bands_they_agree_in() -> None:
    found = np.array([[1, 2, 3, 4], [1, 2, 4, 3], [3, 4, 1, 2]], np.uint32)
    keys = band_keys(found, bands=2, rows=2)
    first, second, third = keys.values.reshape(3, 2)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert not {*first, *second} & {*third}


# the scorer


def test_shingles_are_of_five_words_without_an_option() -> None:
    rows = chats(["one two three four five six", "one two three four five seven"])
    plain, five = (build("curate.scorers", "minhash", one) for one in ({}, {"ngram": 5}))
    assert_frame_equal(plain(rows), five(rows))


def test_the_scorer_gives_an_array_a_row_and_null_without_a_word() -> None:
    scores = build("curate.scorers", "minhash", {"permutations": 8, "of": "response"})(
        chats(["some words here", None, "!!", "some words here"])
    )
    assert scores.schema == {"minhash": pl.Array(pl.UInt32, 8)}
    assert scores["minhash"].is_null().to_list() == [False, True, True, False]
    assert scores["minhash"][0].to_list() == scores["minhash"][3].to_list()


def test_batches_do_not_matter_to_the_scorer() -> None:
    rows = chats(edited(40))
    scorer = build("curate.scorers", "minhash", {})
    assert_frame_equal(scorer(rows), pl.concat(scorer(row) for row in rows.iter_slices(1)))
    assert scorer(rows[:0]).schema == scorer(rows).schema


@pytest.mark.parametrize("options", [{"permutations": 0}, {"ngram": 0}])
def test_a_scorer_of_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected at least 1"):
        build("curate.scorers", "minhash", options)


# the selector by bands

OPTIONS = {"of": "response", "ngram": 2, "candidates": "minhash"}


def dedup(table: pl.DataFrame, **options: Any) -> pl.DataFrame:
    answer: pl.DataFrame = build("curate.selectors", "minhash_dedup", OPTIONS | options)(table)
    return answer


def test_bands_find_what_the_join_finds() -> None:
    """Pairs at 0.8 are missed with a chance of (1 - 0.8^4)^40 = 6e-10."""
    rows = chats(edited(300))
    by_bands = dedup(rows, threshold=0.8, bands=40, rows_per_band=4)
    assert_frame_equal(by_bands, dedup(rows, threshold=0.8, candidates="exact"))
    assert by_bands["keep"].sum() < 250


def test_character_shingles_find_a_misspelling() -> None:
    rows = chats(["an unforgettable journey", "an unforgetable journey", "a forgettable story"])
    for candidates in ("exact", "minhash"):
        answer = dedup(rows, unit="char", ngram=3, threshold=0.75, candidates=candidates)
        assert answer["keep"].to_list() == [True, False, True]


@pytest.mark.parametrize("candidates", ["exact", "minhash"])
def test_rows_of_one_template_do_not_cost_their_square(candidates: str) -> None:
    """6,000 rows share most shingles and most bands: comparing all with all takes about 10 s."""
    random = Random(2)
    rows: list[str | None] = [
        " ".join(f"v{random.randrange(1000)}" if i % 15 == 9 else f"t{i}" for i in range(60))
        for _ in range(6_000)
    ]
    table = chats(rows)
    dedup(chats(edited(200)), ngram=5, candidates=candidates)  # compiled
    start = process_time()
    answer = dedup(table, ngram=5, candidates=candidates)
    assert process_time() - start < 5
    assert answer["keep"].sum() > 5_000


def test_a_crowd_in_one_band_is_covered_as_by_all_pairs() -> None:
    """Held against all kept rows, none is missed though bands alone would miss some."""
    random = Random(4)
    rows: list[str | None] = [
        " ".join(random.choice("abcde") if random.random() < 0.06 else f"t{i}" for i in range(60))
        for _ in range(400)
    ]
    crowded = dedup(chats(rows), threshold=0.5, candidates="minhash", bands=50, rows_per_band=1)
    assert_frame_equal(crowded, dedup(chats(rows), threshold=0.5, candidates="exact"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of texts that the selector signs itself."""
    from siftune.curate.selectors import minhash_dedup

    signed = []

    def count(values: Any, offsets: Any, permutations: int, seed: int) -> np.ndarray:
        signed.append(len(offsets) - 1)
        return signatures(values, offsets, permutations, seed)

    monkeypatch.setattr(minhash_dedup, "signatures", count)
    return signed


@pytest.mark.parametrize(("seed", "used"), [(0, True), (1, False)])
def test_a_column_of_the_same_settings_is_used_and_any_other_is_not(
    monkeypatch: pytest.MonkeyPatch, seed: int, used: bool
) -> None:
    rows = chats(edited(200))
    made = {"of": "response", "ngram": 2, "seed": seed}
    column = build("curate.scorers", "minhash", made)(rows)
    signed = counted(monkeypatch)
    answer = dedup(rows.hstack(column))
    assert signed == ([64] if used else [64, 202])
    assert_frame_equal(answer, dedup(rows))
    assert dedup(rows)["reason"].to_list()[-2:] == ["not_comparable"] * 2
