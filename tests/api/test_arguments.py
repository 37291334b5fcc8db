"""What users give to the Python API that is nearly right: it is taken, or one line says what is."""

import logging
import re
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import siftune as sf
from siftune.finetune.core import distributed
from siftune.session import python_errors

ROWS = [{"prompt": f"Say {word}", "response": word * 3} for word in ("aa", "bb", "cc", "aa")]


def test_rows_are_taken_wherever_a_run_or_a_frame_is():
    rows = sf.read(ROWS)
    assert sf.explain(rows, "rows:1").decision == "kept"
    assert sf.scorer("length")(rows)["length_chars"].to_list() == [6, 6, 6, 6]
    assert rows.select("top_k", by="row", rows=np.int64(2)).counts["kept"] == 2
    assert rows.to_datasets(columns="id").column_names[-1] == "id"
    assert rows.dedup(lambda response: response != "aaaaaa").counts["kept"] == 2


@pytest.mark.parametrize("against", [ROWS[:1], pl.DataFrame(ROWS[:1])])
def test_rows_are_deduplicated_against_what_read_takes(against):
    rows = sf.read(ROWS).dedup("exact", against=against)
    assert rows.counts["dropped"] == 2


def test_a_tokenizer_in_memory_is_refused_with_what_to_do():
    tokenizer = SimpleNamespace(save_pretrained=print)
    with pytest.raises(sf.UsageError, match=r"^length: tokenizer: expected a name .* in memory"):
        sf.read(ROWS).score("length", tokenizer=tokenizer)


def test_a_scorer_of_no_rows_gives_its_columns():
    empty = pl.DataFrame(ROWS).clear()
    assert sf.scorer("length")(empty).schema == sf.scorer("length")(pl.DataFrame(ROWS)).schema


def test_another_run_is_not_replaced_unsaid(tmp_path):
    first = sf.read(ROWS).save(tmp_path / "run")
    second = sf.read(ROWS).select("random", rows=2)
    with pytest.raises(sf.UsageError, match="has another run: name another, or add overwrite=True"):
        second.save(tmp_path / "run")
    assert len(first.kept) == 4
    assert len(second.save(tmp_path / "run", overwrite=True).kept) == 2
    assert len(second.save(tmp_path / "run").kept) == 2  # the same again


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sf.read(ROWS).explain(3), "an id is a text, such as 'rows:3', got 3"),
        (lambda: sf.read(ROWS, limit=0), "limit: expected a whole number of at least 1, got 0"),
        (lambda: sf.read(ROWS, limit=1.5), "limit: expected a whole number"),
        (lambda: sf.read(ROWS, limit="5"), "limit: expected a whole number"),
        (lambda: sf.read(ROWS, seed=-1), "seed: "),
        (lambda: sf.read(ROWS, seed="x"), "seed: expected a whole number, got 'x'"),
        (lambda: sf.read(ROWS, format=3), "format: expected the name of a layout, got 3"),
        (lambda: sf.read(ROWS, map=["a"]), "map: expected new names"),
        (lambda: sf.read(ROWS).select(pl.col("row") > 2), "an expression of polars has no name"),
        (lambda: sf.read(row for row in ROWS), "make a list of it: list(...)"),
        (
            lambda: sf.score(pl.DataFrame(ROWS), lambda r: len(r)),
            "got int: it was given the frame; name the parameter prompt, response or messages",
        ),
        (lambda: sf.loss(lambda chosen, rejected: chosen), "it takes one PairLogps"),
        (lambda: sf.loss("sigmoid"), "'sigmoid'; sigmoid is TRL's name of dpo"),
        (lambda: sf.loss("grpo"), "'grpo'; grpo is no objective: train with `siftune finetune"),
        (lambda: sf.loss(5), "expected the name of an objective or a function, got 5"),
    ],
)
def test_a_wrong_argument_is_one_line(call, words):
    with pytest.raises(sf.UsageError, match=re.escape(words)) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_deduplicators_have_short_names_everywhere():
    rows, frame = sf.read(ROWS), pl.DataFrame(ROWS)
    assert rows.select("exact").recipe == rows.dedup("exact").recipe
    assert sf.selector("exact")(frame)["keep"].sum() == 3


@pytest.mark.parametrize("name", ["exact_dedup", "minhash_dedup"])
def test_ids_of_a_frame_may_be_numbers(name):
    frame = pl.DataFrame(ROWS).with_columns(id=pl.Series([7, 8, 9, 10]))
    found = sf.selector(name)(frame)
    assert found["keep"].to_list().count(False) == 1
    assert found["detail"].drop_nulls()[0].count('"survivor":"7"') == (not found["keep"][3])


def test_the_id_of_a_frame_is_where_the_docstring_has_it():
    rows = sf.from_polars(pl.DataFrame(ROWS).with_columns(id=pl.Series([7, 8, 9, 10])))
    assert rows.kept["id"][0] == "rows:1"
    read = 'pl.col("extra").str.json_path_match("$.id")'
    assert read in sf.from_polars.__doc__
    own = rows.kept.select(pl.col("extra").str.json_path_match("$.id")).to_series()
    assert own.to_list() == ["7", "8", "9", "10"]


def test_the_note_of_a_library_on_its_kernels_is_not_logged():
    name = "bitsandbytes.backends.cpu.ops"
    note = logging.LogRecord(name, 30, "", 0, "Failed to load CPU gemm_4bit_forward", (), None)
    assert not logging.getLogger(name).filter(note)


def test_progress_of_trainings_is_printed_where_it_was_asked_for(capsys):
    line = python_errors()(lambda: distributed.progress("rollout 1 of 2"))
    line()
    python_errors()(lambda: distributed.notify("warning: a row"))()
    assert capsys.readouterr().err == "warning: a row\n"
    sf.show_progress()
    try:
        line()
    finally:
        sf.show_progress(False)
    assert capsys.readouterr().err == "rollout 1 of 2\n"


def test_parts_of_a_dataset_are_named():
    import datasets

    parts = datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))
    with pytest.raises(sf.UsageError, match=r"take one of its parts, such as dataset\['train'\]"):
        sf.read(parts)
