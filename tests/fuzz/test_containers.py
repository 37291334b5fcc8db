"""Mutated files of every container are refused in a line, or no record of them is lost."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import pyarrow as pa
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.sources import plan
from tests.fuzz.containers import CONTAINERS, main, mutated, problem_of, whole, write


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_undamaged_file_is_read_whole(container, tmp_path):
    content = whole(container)
    assert problem_of(write(container, content, tmp_path), container, content) is None


@pytest.mark.parametrize("container", CONTAINERS)
def test_mutated_files_lose_no_record_in_silence(container, tmp_path):
    wrong = []
    for seed in range(60):
        content = mutated(whole(container), random.Random(f"{container}-{seed}"))
        problem = problem_of(write(container, content, tmp_path), container, content)
        wrong += [(seed, problem)] if problem else []
    assert wrong == []


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_record_that_is_lost_in_silence_is_found(container, tmp_path, monkeypatch):
    content = whole(container)
    path = write(container, content, tmp_path)
    monkeypatch.setattr("tests.fuzz.containers.plan", _LosesOne)
    assert problem_of(path, container, content) == "19 records of 20"


class _LosesOne:
    """A reader whose own sums agree, and which gives a record less than there are."""

    def __init__(self, paths, form, mapping):
        self.made = plan(paths, form, mapping)

    def batches(self):
        for batch in self.made.batches():
            yield replace(batch, records=batch.records - 1, taken=batch.taken - 1)


@pytest.mark.parametrize("inner", [False, True], ids=["column", "within a column"])
def test_a_name_in_an_arrow_stream_that_is_not_utf8_is_a_line(tmp_path, inner):
    rows = [{"prompt": "a", "completion": "b", "facts": {"abcde": 1}}]
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.Table.from_pylist(rows).schema) as stream:
        stream.write_table(pa.Table.from_pylist(rows))
    content = sink.getvalue().replace(b"abcde" if inner else b"facts", b"\xff\xff\xff\xff\xff")
    path = write("arrow", content, tmp_path)
    with pytest.raises(DataError, match="cannot be read as an Arrow stream, or is damaged"):
        list(plan([str(path)], None, None).batches())


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_ten_thousand_mutated_files_of_each_container(monkeypatch):
    monkeypatch.setattr("sys.argv", ["containers", "--count", "10000"])
    assert main() == 0
