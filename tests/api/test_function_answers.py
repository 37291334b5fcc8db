"""What a user's function answers: its order, its types, and names of parameters that no row has."""

from __future__ import annotations

import polars as pl
import pytest

import siftune as sf

RECORDS = [{"prompt": f"Say {n}", "response": " ".join("abcdef"[:n])} for n in (1, 4, 2, 6, 3)]


@pytest.fixture(scope="module")
def rows() -> sf.Rows:
    return sf.read(RECORDS)


def longest(frame: pl.DataFrame) -> pl.DataFrame:
    """The two longest answers, first."""
    best = frame.sort(pl.col("response").str.len_chars(), descending=True)
    return best.with_columns(keep=pl.Series([True] * 2 + [False] * 3))


def test_a_frame_in_another_order_decides_by_its_ids(rows):
    assert rows.select(longest).kept["id"].to_list() == ["rows:2", "rows:4"]
    with pytest.raises(sf.UsageError, match=r"lambda: the frame .* has other ids"):
        rows.select(lambda frame: longest(frame).with_columns(id=pl.lit("rows:1")))


def size(frame):
    return longest(frame).with_columns(size=pl.col("response").str.len_chars())


def test_a_frame_without_ids_in_another_order_is_refused(rows):
    for columns in (["messages", "size"], ["response", "size"]):

        def short(frame, columns=tuple(columns)):
            return size(frame).select(columns)

        short.adds = {"size": int}
        with pytest.raises(sf.UsageError, match=rf"another order \('{columns[0]}' shows it\)"):
            rows.score(short)
    size.adds, size.needs = {"size": int}, ("id", "messages")
    assert rows.score(size).kept["size"].to_list() == [1, 7, 3, 11, 5]


def test_a_selector_that_answers_nothing_at_all_is_named(rows):
    def forgot(response):
        len(response) > 3  # noqa: B015

    with pytest.warns(UserWarning, match=r"forgot: it returns null \(None\) for all 5 rows"):
        assert len(rows.select(forgot)) == 0


def test_a_selector_of_one_row_is_not_given_two_answers_as_one():
    pair = {"prompt": "Say", "chosen": "red sky", "rejected": "no"}
    pairs = sf.read([pair])
    alone = sf.selector(lambda response: len(response) < 9)
    for call in (lambda: pairs.select(lambda response: len(response) < 9), lambda: alone([pair])):
        with pytest.raises(sf.UsageError, match="several responses, in chosen and rejected: score"):
            call()

    def size(response: str) -> int:
        return len(response)

    scored = pairs.score(size)
    assert scored.kept.select("chosen_size", "rejected_size").row(0) == (7, 2)
    assert len(scored.select(lambda frame: frame["rejected_size"] < 9)) == 1
    asked = [{"prompt": "Say", "completion": "red sky", "label": True}]
    assert len(sf.read(asked).select(lambda response: response == "red sky")) == 1


def test_a_function_is_given_both_sides_of_a_pair():
    pairs = sf.read([{"prompt": "Say", "chosen": "red sky", "rejected": "no"}])

    def longer(chosen: str, rejected: str) -> int:
        return len(chosen) - len(rejected)

    def alike(prompt, chosen, rejected):
        return prompt[0] == chosen[0] or rejected == "no"

    scored = pairs.score(longer)
    assert scored.kept["longer"].to_list() == [5]
    assert len(scored.select(alike)) == 1
    assert sf.scorer(longer)([{"prompt": "?", "chosen": "abc", "rejected": ""}])["longer"][0] == 3
    with pytest.raises(sf.UsageError, match="no messages: take the parameters prompt, chosen and"):
        pairs.select(lambda messages: True)
    with pytest.raises(sf.UsageError, match="no chosen: take the parameters prompt, response or"):
        sf.read([{"prompt": "a", "response": "b"}]).select(lambda chosen: True)


def test_a_row_is_never_dropped_without_a_reason(rows):
    def shown(frame):
        reasons = ["good", None, "", None, "long"]
        return frame.select("id", keep=pl.Series([True, True, False, False, False])).with_columns(
            reason=pl.Series(reasons)
        )

    found = rows.select(shown)
    assert found.dropped["reason"].to_list() == ["not_shown", "not_shown", "long"]
    assert found.decisions["reason"].to_list()[:2] == ["good", "passed"]


def rank(frame: pl.DataFrame) -> pl.Series:
    return frame["response"].str.len_chars().rank()


def test_a_function_of_a_frame_is_given_all_rows(rows, monkeypatch):
    monkeypatch.setattr("siftune.curate.rows.table.BATCH", 2)
    assert rows.score(rank).kept["rank"].to_list() == sf.scorer(rank)(rows.kept)["rank"].to_list()

    class Heights:
        """Rows that it is called with."""

        def __init__(self, plus: int = 0) -> None:
            self.plus = plus

        def __call__(self, frame: pl.DataFrame):
            return [frame.height + self.plus] * frame.height

    assert rows.score(Heights, plus=1).kept["Heights"].to_list() == [6] * 5
    Heights.whole = rank.whole = False
    assert rows.score(Heights).kept["Heights"].to_list() == [2, 2, 2, 2, 1]
    assert rows.score(rank).kept["rank"].to_list() == [1, 2, 1, 2, 1]


def test_lists_of_numbers_are_annotated_or_added(rows):
    def vector(response: str) -> list[float]:
        return [len(response), 0.5]

    assert rows.score(vector).kept["vector"].to_list()[0] == [1.0, 0.5]
    vector.adds = {"vector": list}
    with pytest.raises(sf.UsageError, match=r"list of nothing .*such as \{'vector': list\[float\]"):
        rows.score(vector)
    vector.adds = {"vector": list[float]}
    assert rows.score(vector).kept["vector"].to_list()[0] == [1.0, 0.5]


def test_a_lazy_frame_is_an_answer(rows):
    def letters(frame):
        return frame.lazy().select(letters=pl.col("response").str.len_chars())

    assert rows.score(letters).kept["letters"].to_list() == [1, 7, 3, 11, 5]


@pytest.mark.parametrize("function", [lambda completion: 1, lambda text: 1])
def test_a_parameter_that_no_row_has_is_not_given_the_frame(function, rows):
    for step in (rows.score, rows.select):
        with pytest.raises(sf.UsageError, match=r"(no '\w+'|is its response): name the param"):
            step(function)
