"""Exact, fuzzy and semantic deduplication as selectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.selectors.exact_dedup import _normalised


def chats(answers: Sequence[str | None], prompt: str = "Question?", **columns: Any) -> pl.DataFrame:
    """Conversations f:1, f:2, ... with digests in order."""
    height = len(answers)
    messages = [[turn("user", prompt), turn("assistant", answer)] for answer in answers]
    base = {
        "id": [f"f:{i + 1}" for i in range(height)],
        "kind": ["conversation"] * height,
        "digest": [f"{i:05}" for i in range(height)],
        "messages": pl.Series(messages, dtype=TURNS),
    }
    return pl.DataFrame(
        {**base, **columns}, schema_overrides={"id": pl.String, "digest": pl.String}
    )


def told(name: str, table: pl.DataFrame, /, **options: Any) -> dict[str, tuple[str, Any]]:
    """Reason and detail by id; the mask agrees with the reason."""
    answer = build("curate.selectors", name, options)(table)
    assert answer.columns == ["keep", "reason", "detail"]
    assert answer.height == table.height
    dropped = answer["reason"].str.contains("duplicate")
    assert answer["keep"].to_list() == (~dropped).to_list()
    details = [text and json.loads(text) for text in answer["detail"]]
    return dict(zip(table["id"], zip(answer["reason"], details, strict=True), strict=True))


UNIQUE = ("unique", None)


def survivor(rows: int) -> tuple[str, Any]:
    return ("survivor", {"group": rows})


# exact


def equal(to: str) -> tuple[str, Any]:
    return ("exact_duplicate", {"survivor": to, "similarity": 1.0})


def test_equal_answers_go_and_name_the_one_that_stays() -> None:
    rows = chats(["yes", "no", "yes", "Yes", None, None, ""])
    assert told("exact_dedup", rows, of="response") == {
        "f:1": survivor(2),
        "f:2": UNIQUE,
        "f:3": equal("f:1"),
        "f:4": UNIQUE,
        "f:5": ("not_comparable", None),
        "f:6": ("not_comparable", None),
        "f:7": UNIQUE,
    }


def test_the_best_scored_copy_stays_whichever_way_is_good() -> None:
    rows = chats(["yes"] * 4, ifd=[0.5, 0.9, 0.1, None])
    assert told("exact_dedup", rows, of="both", by="ifd")["f:2"] == survivor(4)
    best_is_low = told("exact_dedup", rows, of="both", by="ifd", descending=False)
    assert best_is_low["f:3"] == survivor(4)


@pytest.mark.parametrize(
    ("normalise", "dropped"),
    [("none", []), ("whitespace", ["f:2"]), ("text", ["f:2", "f:3", "f:4"])],
)
def test_normalising_says_what_counts_as_equal(normalise: str, dropped: list[str]) -> None:
    rows = chats(["A fine day", " A  fine\nday ", "a FINE day", "Ａ ﬁne day"])
    answer = told("exact_dedup", rows, of="response", normalise=normalise)
    assert [row for row, (reason, _) in answer.items() if reason == "exact_duplicate"] == dropped


def test_words_are_equal_whatever_the_case_and_punctuation() -> None:
    rows = chats(["It's 3.5 m, isn't it?", "its 3.5 M isnt it", "Its 35 m, isn't it?", "!", "?"])
    answer = told("exact_dedup", rows, of="response", normalise="words")
    reasons = ["survivor", "exact_duplicate", "unique", "not_comparable", "not_comparable"]
    assert [reason for reason, _ in answer.values()] == reasons


def test_the_prompt_alone_can_be_compared() -> None:
    rows = chats(["one", "two"])
    assert told("exact_dedup", rows, of="prompt")["f:2"] == equal("f:1")
    assert told("exact_dedup", rows, of="both")["f:2"] == UNIQUE


@pytest.mark.parametrize("options", [{"of": "both"}, {"of": "both", "normalise": "text"}, {}])
def test_rows_of_equal_hash_are_still_told_apart(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "siftune.curate.comparing.equality.Turns.keys", lambda rows: rows.mask() * np.uint64(7)
    )
    monkeypatch.setattr(
        "siftune.curate.comparing.equality.TextColumn.keys", lambda rows: rows.mask() * np.uint64(7)
    )
    rows = chats(["yes", "no", "yes"]).with_columns(digest=pl.Series(["a", "b", "a"]))
    answer = told("exact_dedup", rows, **options)
    assert answer["f:2"] == UNIQUE
    assert answer["f:3"] == equal("f:1")


def test_turns_are_compared_one_by_one_and_not_as_they_read_when_joined() -> None:
    messages = [
        [turn("user", "a\n\nb"), turn("assistant", "c")],
        [turn("user", "a"), turn("user", "b"), turn("assistant", "c")],
        [turn("user", "b"), turn("user", "a"), turn("assistant", "c")],
        [turn("system", "a"), turn("user", "b"), turn("assistant", "c")],
        [turn("user", "a"), turn("user", "b"), turn("assistant", "c"), turn("user", "d")],
        [turn("user", "a"), turn("user", "b")],
        [turn("user", "a"), turn("user", "b"), turn("assistant", None, tool_calls="[]")],
    ]
    rows = chats([""] * 7).with_columns(messages=pl.Series(messages, dtype=TURNS))
    both = told("exact_dedup", rows, of="both")
    assert {name for name, told in both.items() if told != UNIQUE} == {"f:2", "f:4", "f:6", "f:7"}
    assert both["f:4"] == equal("f:2")
    assert both["f:7"] == equal("f:6")
    prompt = told("exact_dedup", rows, of="prompt")
    assert [prompt[f"f:{at}"] for at in (4, 5, 7)] == [equal("f:2")] * 3
    assert prompt["f:6"] == ("not_comparable", None)
    assert told("exact_dedup", rows, of="response")["f:7"] == ("not_comparable", None)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_rows_in_any_chunks_are_grouped_as_their_texts_are(data: st.DataObject) -> None:
    text = st.sampled_from(["", "a", "b", None])
    said = st.builds(turn, st.sampled_from(["user", "assistant"]), text)
    messages = data.draw(st.lists(st.lists(said, max_size=3), min_size=1, max_size=12))
    cuts = data.draw(st.integers(0, len(messages)))
    rows = chats([""] * len(messages)).with_columns(messages=pl.Series(messages, dtype=TURNS))
    rows = pl.concat([rows[:cuts], rows[cuts:]], rechunk=False)
    for of in ("prompt", "response", "both"):
        turns = [_texts(row, of) for row in messages]
        expected = [
            "not_comparable" if not one else "exact_duplicate" if one in turns[:at] else "kept"
            for at, one in enumerate(turns)
        ]
        reasons = [reason for reason, _ in told("exact_dedup", rows, of=of).values()]
        assert [{"unique": "kept", "survivor": "kept"}.get(r, r) for r in reasons] == expected


def _texts(turns: list[dict[str, Any]], of: str) -> list[str]:
    """What is said before the last answer, in it, or at all."""
    last = max((at for at, one in enumerate(turns) if one["role"] == "assistant"), default=-1)
    chosen = {"prompt": turns[: max(last, 0)], "response": turns[last : last + 1], "both": turns}
    if last < 0 and of != "both":
        return []
    return [one["content"] for one in chosen[of] if one["content"] is not None]


def test_content_is_told_by_its_digest_and_no_text_is_read() -> None:
    rows = chats(["yes", "yes", "no"]).with_columns(digest=pl.Series(["b", "a", "b"]))
    whole = build("curate.selectors", "exact_dedup", {})
    assert whole.needs == ()
    assert told("exact_dedup", rows.drop("messages")) == {
        "f:1": survivor(2),
        "f:2": UNIQUE,
        "f:3": equal("f:1"),
    }


def test_normalised_content_is_the_text_of_both() -> None:
    rows = chats(["A fine day", "A  fine day"])
    assert told("exact_dedup", rows)["f:2"] == UNIQUE
    assert told("exact_dedup", rows, normalise="whitespace")["f:2"] == equal("f:1")


# fuzzy

BASE = "the quick brown fox jumps over the lazy dog and runs far away from here"


def test_a_near_copy_goes_and_names_its_survivor_and_similarity() -> None:
    """15 words, 13 trigrams; a word more at the end adds one: 13 of 14 shared."""
    rows = chats([BASE, BASE + " today", "something else altogether, said in other words", "!!"])
    assert told("minhash_dedup", rows, of="response", ngram=3) == {
        "f:1": survivor(2),
        "f:2": ("near_duplicate", {"survivor": "f:1", "similarity": 13 / 14}),
        "f:3": UNIQUE,
        "f:4": ("not_comparable", None),
    }


def test_the_best_scored_of_near_copies_stays() -> None:
    rows = chats([BASE, BASE + " today"], ifd=[0.1, 0.9])
    assert told("minhash_dedup", rows, by="ifd")["f:2"] == survivor(2)
    assert told("minhash_dedup", rows, by="ifd", descending=False)["f:1"] == survivor(2)


def test_texts_shorter_than_a_shingle_are_compared_too() -> None:
    rows = chats(["Yes, sure", "yes sure!", "No, never"])
    answer = told("minhash_dedup", rows, of="response")
    assert [reason for reason, _ in answer.values()] == ["survivor", "near_duplicate", "unique"]


def near_copies(count: int) -> pl.DataFrame:
    random = Random(7)
    bases = [[random.randrange(400) for _ in range(30)] for _ in range(count // 6)]
    answers = []
    for _ in range(count):
        words = list(random.choice(bases))
        for _ in range(random.randrange(3)):
            words[random.randrange(30)] = random.randrange(400)
        answers.append(" ".join(map(str, words)))
    return chats(answers, ifd=[random.randrange(5) / 4 for _ in range(count)])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("exact_dedup", {"of": "response"}),
        ("minhash_dedup", {"of": "response", "ngram": 2, "by": "ifd"}),
    ],
)
def test_twenty_orders_of_the_rows_give_one_answer(name: str, options: dict[str, Any]) -> None:
    rows = near_copies(240)
    expected = told(name, rows, **options)
    assert len({reason for reason, _ in expected.values()}) == 3
    for seed in range(20):
        assert told(name, rows.sample(fraction=1, shuffle=True, seed=seed), **options) == expected


def saved(table: pl.DataFrame, path: Path) -> str:
    """A rows table on disk, with ids ref:1, ref:2, ..."""
    number = pl.int_range(1, table.height + 1)
    whole = table.with_columns(
        id=pl.format("ref:{}", number),
        source=pl.lit("ref"),
        row=number,
        extra=pl.lit(None, pl.String),
    )
    whole.write_parquet(path)
    return str(path)


def test_rows_are_held_against_a_reference(tmp_path: Path) -> None:
    reference = chats([BASE, BASE, "unrelated words that nobody else would use"])
    against = saved(reference, tmp_path / "held_out.parquet")
    rows = chats([BASE + " today", "another answer entirely", "another answer entirely", "!"])
    assert told("minhash_dedup", rows, of="response", ngram=3, against=against) == {
        "f:1": (
            "near_duplicate_of_reference",
            {"survivor": "ref:1", "similarity": 13 / 14, "reference": against},
        ),
        "f:2": survivor(2),
        "f:3": ("near_duplicate", {"survivor": "f:2", "similarity": 1.0}),
        "f:4": ("not_comparable", None),
    }


def test_a_text_that_the_reference_has_is_an_exact_duplicate_of_it(tmp_path: Path) -> None:
    against = saved(chats(["yes", "yes", "perhaps"]), tmp_path / "held_out.parquet")
    rows = chats(["yes", "no", "no", None])
    assert told("exact_dedup", rows, of="response", against=against) == {
        "f:1": (
            "exact_duplicate_of_reference",
            {"survivor": "ref:1", "similarity": 1.0, "reference": against},
        ),
        "f:2": survivor(2),
        "f:3": equal("f:2"),
        "f:4": ("not_comparable", None),
    }


def test_a_reference_is_compared_as_the_rows_are(tmp_path: Path) -> None:
    against = saved(chats(["Yes  please"]), tmp_path / "held_out.parquet")
    rows, same = chats(["yes please", "Yes please", "no"]), "exact_duplicate_of_reference"
    for normalise, reasons in (
        ("text", [same, same, "unique"]),
        ("whitespace", ["unique", same, "unique"]),
        ("none", ["unique"] * 3),
    ):
        found = told("exact_dedup", rows, of="response", against=against, normalise=normalise)
        assert [reason for reason, _ in found.values()] == reasons
    assert _normalised(rows["id"] + "  \n", "none").to_list() == [f"f:{at}  \n" for at in (1, 2, 3)]


def kept(answer: dict[str, tuple[str, Any]]) -> set[str]:
    return {row for row, (reason, _) in answer.items() if "duplicate" not in reason}


# semantic


def placed(*vectors: list[float] | None, **columns: Any) -> pl.DataFrame:
    embedding = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, 2))
    return chats(["x"] * len(vectors), embedding=embedding, **columns)


def test_a_row_of_near_meaning_goes_and_one_without_an_embedding_stays() -> None:
    rows = placed([1, 0], [3, 4], [4, 3], None, [0, 0])
    assert told("semantic_dedup", rows, threshold=0.95) == {
        "f:1": UNIQUE,
        "f:2": survivor(2),
        "f:3": ("semantic_duplicate", {"survivor": "f:2", "similarity": pytest.approx(0.96)}),
        "f:4": ("not_scored", None),
        "f:5": ("not_scored", None),
    }


def test_the_best_ranked_of_near_meaning_stays() -> None:
    rows = placed([3, 4], [4, 3], ifd=[0.1, 0.9])
    assert told("semantic_dedup", rows, by="ifd")["f:2"] == survivor(2)
    assert told("semantic_dedup", rows, by="ifd", descending=False)["f:1"] == survivor(2)


@pytest.mark.parametrize("exact_to", [200_000, 100])
def test_twenty_orders_of_the_embeddings_give_one_answer(exact_to: int) -> None:
    random = Random(1)
    vectors = [[random.gauss(0, 1), random.gauss(0, 1)] for _ in range(150)]
    rows = placed(*vectors, ifd=[random.randrange(4) / 4 for _ in range(150)])
    options = {"threshold": 0.9999, "by": "ifd", "exact_to": exact_to}
    expected = told("semantic_dedup", rows, **options)
    assert len({reason for reason, _ in expected.values()}) == 3
    for seed in range(20):
        shuffled = rows.sample(fraction=1, shuffle=True, seed=seed)
        assert told("semantic_dedup", shuffled, **options) == expected


@pytest.mark.parametrize("exact_to", [200_000, 1])
def test_a_row_of_near_meaning_to_the_reference_goes(tmp_path: Path, exact_to: int) -> None:
    against = saved(placed([3, 4], [3, 4], None), tmp_path / "held_out.parquet")
    rows = placed([4, 3], [-1, 0], None)
    near = {"survivor": "ref:1", "similarity": pytest.approx(0.96), "reference": against}
    answer = told("semantic_dedup", rows, threshold=0.95, against=against, exact_to=exact_to)
    assert answer == {
        "f:1": ("semantic_duplicate_of_reference", near),
        "f:2": UNIQUE,
        "f:3": ("not_scored", None),
    }


def test_no_embeddings_no_decisions() -> None:
    assert told("semantic_dedup", placed(None)) == {"f:1": ("not_scored", None)}
    assert told("semantic_dedup", placed()) == {}


@pytest.mark.parametrize("name", ["exact_dedup", "minhash_dedup"])
def test_no_rows_no_decisions(name: str) -> None:
    assert told(name, chats([])) == {}


@pytest.mark.parametrize("option", [{"threshold": 0.0}, {"threshold": 1.1}, {"ngram": 0}])
def test_an_option_out_of_range_is_refused_in_words(option: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))}: expected"):
        build("curate.selectors", "minhash_dedup", option)


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("name", ["exact_dedup", "minhash_dedup", "semantic_dedup"])
def test_rows_of_a_preferred_source_survive_whatever_their_score(
    name: str, descending: bool
) -> None:
    rows = chats(
        ["the same answer to it"] * 4,
        source=["web", "books", "wiki", "books"],
        ifd=[0.9, 0.1, 0.8, 0.2],
        embedding=[[1.0, 0.0]] * 4,
    )
    ranks = {"by": "ifd", "descending": descending}
    ranks |= {"of": "response"} if name == "exact_dedup" else {}
    best = "f:4" if descending else "f:2"
    for prefer, expected in (
        ([], "f:1" if descending else "f:2"),
        (["books"], best),
        (["wiki", "books"], "f:3"),
        (["none of these"], "f:1" if descending else "f:2"),
    ):
        answer = told(name, rows, prefer_source=prefer, **ranks)
        assert [row for row, (why, _) in answer.items() if why == "survivor"] == [expected]
    chosen = build("curate.selectors", name, {"prefer_source": ["books"]})
    assert "source" in chosen.needs
