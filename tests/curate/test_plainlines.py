"""Reading in blocks gives what reading line by line gives: rows, quarantine and bytes."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import CONTENT
from siftune.curate.io.detect import named
from siftune.curate.io.ingest import ingest, read_rows
from siftune.curate.io.reading import _many
from siftune.curate.native.blake2b import DIGEST, LANES, WORK, hash_lanes
from siftune.curate.records.layout import Layout
from siftune.curate.rows.convert import content_digest
from tests.curate.bad_input_cases import CASES


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


U, A, B = turn("user", "q"), turn("assistant", "a"), turn("gpt", "b\n\u00e9")
HH = "\n\nHuman: Why?\n\nAssistant: "

RECORDS: dict[str, list[dict[str, Any]]] = {
    "alpaca": [
        {"id": 7, "instruction": "Add.", "input": "1\n2", "output": "3"},
        {"instruction": "é😀", "input": "", "output": '\t"quoted" \\ / \u2028\x7f', "at": "x\n"},
        {"output": "b", "system": "", "history": [], "instruction": "a", "at": {"k": [1, 2.50]}},
        {"instruction": "a", "output": "b", "system": "Be kind.", "n": 1.0, "m": None, "t": True},
        {"instruction": "a", "output": "b", "input": None, "n": 2**63, "z": -0.0, "e": 1e-7},
        {"instruction": "a", "output": "b", "source_document": "A long story."},
        {"instruction": "q?", "output": "b", "text": "Answer q? with b", "contexts": []},
        {"instruction": "a", "output": "b", "photo_path": "a.png"},
    ],
    "prompt_completion": [
        {"prompt": "a", "completion": "b", "é": "ключ"},
        {"prompt": [{"role": "user", "content": "a"}], "completion": "b"},
        {"prompt": "a", "completion": [turn("gpt", "b"), turn("user", "c"), turn("model", "d")]},
        {"prompt": [turn("user", "a")], "completion": [turn("assistant", "\t")], "n": [1.50]},
        {"prompt": [turn("user", "a")], "completion": []},
        {"prompt": [turn("user", "a")], "completion": None},
        {"prompt": "a", "completion": "b", "system": "s", "images": []},
        {"prompt": "[1]", "completion": "b", "system_prompt": ""},
        {"prompt": HH, "completion": "b"},
        {"prompt": "Human: a\n\nAssistant: b\n\nHuman: c", "completion": "d"},
        {"prompt": "Human nature", "completion": "Human: b"},
        {"prompt": "\nNo dialogue", "completion": "\n"},
        {"prompt": "a", "completion": '[{"role": "assistant", "content": "b"}]'},
        {"prompt": "a", "completion": "b", "images": ["a.png"]},
        {"prompt": "q?", "completion": "b", "context": "A story.", "at": {"n": 1}},
        {"prompt": "q?", "completion": "b", "context": "", "imageUrl": "http://x.org/a"},
        {"prompt": "Of a story: q?", "completion": "b", "Context": "a story", "image_count": 1},
    ],
    "prompt_only": [
        {"prompt": "a\n", "id": 7, "source": "web"},
        {"prompt": [turn("system", "s"), U], "n": 1.50},
        {"prompt": [{**U, "name": "Bo"}]},
        {"prompt": ""},
        {"prompt": []},
        {"prompt": None},
    ],
    "text": [
        {"text": "t", "system": "s"},
        {"text": "t", "image": "a.png"},
        {"text": "A book.\r\nTwo lines."},
        {"text": "", "meta": {"a": {"b": "\\u0041"}}},
    ],
    "messages": [
        {"messages": [{"role": "system", "content": "s"}, {"content": "q\n", "role": "human"}]},
        {"messages": [{"role": "user", "content": "a", "name": "Bo"}], "conversations": "?"},
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "p"}]}]},
        {"messages": [U, {"role": "assistant", "content": None, "function_call": {"name": "f"}}]},
        {"messages": [U, {"role": "function_call", "content": '{"name": "f", "arguments": {}}'}]},
        {"messages": [U, {**A, "weight": 0}], "tools": [{"name": "f", "x": None}]},
        {"messages": [U, {"role": "tool_response", "content": "4"}], "functions": []},
        {"messages": [U, {**A, "weight": 0}], "system": "s", "audios": None},
        {"messages": [turn("USER", "q"), A], "video": False},
        {"messages": {"role": ["user"], "content": ["q"]}},
        {"messages": '[{"role": "user", "content": "q"}]', "system": ""},
        {"conversation": [{"human": "q", "assistant": "a"}]},
        {"messages": [A], "question": "What is it?", "n": 1},
        {"messages": [turn("system", "s"), A], "question": "What is it?"},
        {"messages": [U], "response": "It is this."},
        {"messages": [U, A], "question": "What is it?", "response": "It is this.", "score": 2},
        {"messages": [U, A], "question": "What is it?", "img": "a.png"},
        {"messages": [turn("system", "s"), U, A], "system": "t"},
        {"messages": [turn("system", ""), U, A], "system": "t"},
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"conversations": [{"from": "human", "value": "q", "w": 1}], "system": "s"},
        {"conversations": [{"from": "function_call", "value": '{"name": "f"}'}], "messages": 1},
    ],
    "preference": [
        {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 4, "margin": 1.5},
        {"prompt": "q", "chosen": "a", "rejected": "b", "win_probability": 0.75, "weight": 2},
        {"prompt": "q", "chosen": "a\n", "rejected": "a\u000a", "score_rejected": "2"},
        {"chosen": "q a", "rejected": "q b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 4, "score_rejected": 0.1},
        {"chosen": "q a", "rejected": "q b", "score_chosen": 1e308, "score_rejected": -1e308},
        {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 12345678901234567890},
        {"chosen": [U, A], "rejected": [U, B], "messages": [U, A], "score_chosen": 8.5},
        {"chosen": [U, {**A, "weight": 0}, U, A], "rejected": [U, A, U, B], "tools": []},
        {"prompt": "q", "chosen": [U, A], "rejected": [U, B], "prompt_id": "x"},
        {"prompt": [U], "chosen": [A], "rejected": [B, U, A]},
        {"prompt": [U, A, U], "chosen": [A], "rejected": [A, B]},
        {"chosen": [U, A, U, A], "rejected": [U, A, U, B]},
        {"chosen": [U, A, U, A], "rejected": [U, B]},
        {"chosen": [U, A], "rejected": [U, A, U, B], "prompt": None},
        {"chosen": [A], "rejected": [B]},
        {"chosen": [U], "rejected": [turn("user", "other")], "prompt": "q"},
        {"chosen": [U, A], "rejected": [U, A]},
        {"chosen": [U, A], "rejected": [U, turn("user", "a")]},
        {"chosen": [A], "rejected": [A], "prompt": [U]},
        {"prompt": "not q", "chosen": [U, A], "rejected": [U, B]},
        {"prompt": [U, A], "chosen": [U, A, B], "rejected": [U, A, A]},
        {"prompt": [A, U], "chosen": [U, A, B], "rejected": [U, A, A]},
        {"prompt": "", "chosen": [U, A], "rejected": [B]},
        {"prompt": [], "chosen": [U, A], "rejected": [U, B]},
        {"chosen": [turn("system", "s"), U, A], "rejected": [turn("system", "s"), U, B]},
        {"chosen": [turn("system", "q"), A], "rejected": [turn("user", "q"), B]},
        {"prompt": "q", "chosen": [turn("system", "s"), A], "rejected": [turn("system", "s"), B]},
        {"prompt": "q", "chosen": [A], "rejected": "b"},
        {"prompt": "q", "chosen": [], "rejected": [B]},
        {"prompt": None, "chosen": "a b", "rejected": "a c"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"},
        {"prompt": "q", "chosen": "[a", "rejected": "b", "images": None},
        {"question": "q", "chosen": "a", "rejected": "b", "system": "s"},
        {"prompt": "", "question": "q", "chosen": [A], "rejected": [B]},
        {"prompt": "", "chosen": [A], "rejected": [B], "messages": [U]},
        {"prompt": "p q", "question": "q", "chosen": [A], "rejected": [B]},
        {"prompt": "p", "input": "q", "chosen": "a", "rejected": "b"},
        {"messages": [U], "chosen": [A], "rejected": [B]},
        {"messages": [U], "chosen": "a", "rejected": "b"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": [A], "rejected": [B]},
        {"chosen": [U, A], "rejected": [turn("user", "r"), B]},
        {"chosen": [U, A, turn("user", "r"), A], "rejected": [U, B, turn("user", "s"), A]},
        {"prompt": [U], "chosen": [A, turn("user", "r"), A], "rejected": [B, U, A]},
        {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_rating": 4, "rejected_rating": 2.5},
        {"prompt": "q", "chosen": "a", "rejected": "b", "reward-chosen": 4, "reward-rejected": "?"},
        {"prompt": "q?", "chosen": "a", "rejected": "b", "passage": "A story.", "score": 1},
        {"chosen": [U, A], "rejected": [U, B], "query_context": ["A story."]},
        {"question": ["q"], "chosen": "a b", "rejected": "a c"},
        {"prompt": HH, "chosen": " a", "rejected": " b"},
        {"prompt": "", "chosen": "a", "rejected": "b", "remark": "Of a fox."},
        {"prompt": "q", "chosen": "a", "rejected": "b", "chat_history": [["a", "b"]]},
        {"prompt": HH, "chosen": HH + "a", "rejected": HH + "b"},
        {"prompt": "Why?", "chosen": HH + "a", "rejected": HH + "b"},
        {"prompt": "How?", "chosen": HH + "a", "rejected": HH + "b"},
        {"chosen": [U, A, U, A], "rejected": [U, A, turn("user", "r"), B]},
        {"prompt": "q", "chosen": [A, U, A], "rejected": [A, turn("user", "r"), B]},
        {"prompt": "q", "chosen": [A, U], "rejected": [B]},
        {"chosen": [turn("system", "s"), A], "rejected": [turn("system", "s"), B], "ask": "q?"},
        {"chosen": [A], "rejected": [B], "ask": "q?"},
        {"chosen": [U, A, A], "rejected": [U, A, B], "ask": "q?"},
    ],
    "pairwise": [
        {"prompt": "q", "response_1": "a\n", "response_2": "b", "preference": 1},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 2, "at": "x"},
        {"prompt": [U, A, U], "response_1": "a", "response_2": "b", "preference": 1.7},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 1.1, "n": [1.50]},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 1.5},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 0},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 2.5},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": None},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": "2"},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 1e308},
        {"prompt": "q", "response_1": "\t", "response_2": "\u0009", "preference": 1},
        {"prompt": "q", "response_1": [A], "response_2": "b", "preference": 1},
        {"prompt": "q", "response_1": "a", "preference": 1},
        {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 1}
        | {"chosen_response": 2, "z": 1},
    ],
    "hh_rlhf": [
        {"chosen": HH + "a", "rejected": HH + "b"},
        {"chosen": HH + "a", "rejected": HH + "b", "prompt": "p", "at": 1},
        {"chosen": HH + "a", "rejected": HH + "b" + HH + "c\n\nHumane: d\n"},
        {"chosen": HH + HH + "a", "rejected": HH + HH},
        {"chosen": HH + HH + "é\n\n\nHuman:\n\nAssistant:", "rejected": HH + HH + "x"},
        {"chosen": HH + "a", "rejected": HH + "a"},
        {"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": HH + "b"},
        {"chosen": HH + "a\n\nHuman: b", "rejected": HH + "a"},
        {"chosen": "\n\nAssistant: a", "rejected": "\n\nAssistant: b"},
        {"chosen": "\n\nHuman:a\n\nAssistant: a", "rejected": HH + "b"},
        {"chosen": "\n\nHuman:", "rejected": HH},
        {"chosen": "Human: a\n\nAssistant: b", "rejected": "\nHuman: a\n\nAssistant: c"},
        {"chosen": "\n\nHuman:\na\n\nAssistant:b\n\nAssistant:\nc", "rejected": HH + "b"},
        {"chosen": "\n\nHum", "rejected": ""},
        {"chosen": [U, A], "rejected": HH},
    ],
    "unpaired": [
        {"prompt": "q", "completion": "a", "label": True},
        {"prompt": "q", "completion": "a", "label": False, "at": 1},
        {"prompt": [U], "completion": [A], "label": 1},
        {"label": 0, "prompt": "q", "completion": [A, U, B]},
        {"prompt": "q", "completion": "a", "label": "true"},
        {"prompt": "q", "completion": "a", "label": 2},
        {"prompt": "q", "completion": "a", "label": 1.0},
        {"prompt": "q", "completion": "a", "label": None},
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "completion": None, "label": True},
        {"prompt": "", "completion": "a", "label": True, "question": "q"},
        {"prompt": "p", "completion": "a", "label": True, "messages": [U, A]},
        {"messages": [U, A], "label": True},
        {"conversations": [U, A], "kto_tag": False, "system": "s"},
        {"prompt": "p", "completion": "a", "label": True, "kto_tag": False},
        {"prompt": "p", "completion": "a", "label": True, "output": "b"},
    ],
}
"""Usual and unusual records of each format that has a layout."""


def both(
    path: Path, monkeypatch: pytest.MonkeyPatch, size: int = 1 << 20, **options: Any
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The rows and quarantine of a file, which are the same either way."""
    monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", 1 << 60)
    # So that the loops are tested as plain Python as well (`test_native_off`).
    monkeypatch.setattr("siftune.curate.io.reading._has_compiled_reader", lambda: True)
    careful = outcome(path, **options)
    monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", 0)
    monkeypatch.setattr("siftune.curate.native.jsonl.blocks.BLOCK", size)
    fast = outcome(path, **options)
    if isinstance(careful, str) or isinstance(fast, str):
        assert careful == fast
        return pl.DataFrame(), []
    assert_frame_equal(careful[0], fast[0], check_exact=True)
    assert careful[1] == fast[1]
    return fast


def outcome(path: Path, **options: Any) -> tuple[pl.DataFrame, list[dict[str, Any]]] | str:
    try:
        return read_rows(path, **options)
    except DataError as error:
        return str(error)


def spelled(record: Any, draw: random.Random) -> str:
    """JSON text of a record, in one of many spellings."""
    pads = ["", " ", "\t", " \r"]
    text = json.dumps(record, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.3:
        text = text.replace("/", "\\/")
    return draw.choice(pads) + text + draw.choice(pads)


@pytest.mark.parametrize("size", [300, pytest.param(1 << 20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_odd_input_ends_the_same(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CASES[name].make(tmp_path)
    both(tmp_path / CASES[name].source, monkeypatch, size)


@pytest.mark.parametrize("format", RECORDS)
def test_each_layout_reads_what_its_format_reads(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    lines = [spelled(record, draw) for record in RECORDS[format] * 20]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    table, bad = both(path, monkeypatch, 500, format=format)
    assert table.height + len(bad) == len(lines)
    for row in table.head(len(RECORDS[format])).to_dicts():
        assert row["digest"] == content_digest(row["kind"], row)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([100, 1000, 1 << 16]))
@pytest.mark.parametrize("format", RECORDS)
def test_a_damaged_file_reads_the_same(
    format: str, seed: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = random.Random(seed)
    good = [spelled(draw.choice(RECORDS[format]), draw) for _ in range(12)]
    content = bytearray("\n".join(good).encode())
    for _ in range(draw.randint(0, 6)):
        at = draw.randrange(len(content))
        cut = content[at : at + draw.randint(0, 9)]
        content[at : at + draw.randint(0, 3)] = draw.choice(
            [b"", cut, draw.randbytes(2), b'"', b"\\", b"\n", b",", b"\\ud800", b"{", b"\0"]
        )
    path = tmp_path_factory.mktemp("damaged") / "d.jsonl"
    path.write_bytes(bytes(content))
    with pytest.MonkeyPatch.context() as patch:
        both(path, patch, size, format=format, limit=draw.choice([None, None, 5]))


def test_plain_lines_are_taken_without_being_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", 0)
    monkeypatch.setattr("siftune.curate.io.reading.parse", None)
    monkeypatch.setattr("siftune.curate.native.jsonl.extra.parse", None)
    path = tmp_path / "d.jsonl"
    path.write_text('{"instruction": "a\\n\\u00e9", "output": "b", "n": 1, "x": "y"}\n' * 100)
    table, bad = read_rows(path)
    assert (table.height, bad) == (100, [])
    assert table["messages"][0].to_list()[0]["content"] == "a\né"
    assert table["extra"].unique().to_list() == ['{"n":1,"x":"y"}']


def test_plain_pairs_of_turns_are_taken_without_being_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"chosen": [U, A], "rejected": [U, B], "messages": [U, A], "score_chosen": 8.5}
    path = tmp_path / "d.jsonl"
    path.write_text((json.dumps(record) + "\n") * 60)
    monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", 0)
    monkeypatch.setattr("siftune.curate.io.reading.parse", None)
    table, bad = read_rows(path)  # as in UltraFeedback binarized
    assert (table["kind"].unique().to_list(), table.height, bad) == (["preference"], 60, [])


@pytest.mark.parametrize(
    ("record", "mapping"),
    [
        ({"chosen": [U, A], "rejected": [U, B]}, {}),
        ({"chosen": [U, A], "rejected": [U, B], "prompt": "q"}, {}),
        ({"chosen": [A], "rejected": [B], "prompt": [U]}, {}),
        ({"prompt": "q", "completion": [A], "label": True}, {}),
        ({"prompt": "q", "completion": "a", "label": 0}, {}),
        ({"prompt": "q", "response_1": "a", "response_2": "b", "preference": 1.25}, {}),
        ({"chosen": HH + "a", "rejected": HH + "b"}, {}),
        ({"question": "q", "answer": "a"}, {"question": "prompt", "answer": "completion"}),
        (
            {"instruction": "q", "context": "c", "response": "a"},
            {"context": "input", "response": "output"},
        ),
    ],
)
def test_each_usual_record_is_taken_without_being_parsed(
    record: dict[str, Any],
    mapping: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text((json.dumps(record) + "\n") * 100)
    monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", 0)
    monkeypatch.setattr("siftune.curate.io.reading.parse", None)
    monkeypatch.setattr("siftune.curate.native.jsonl.extra.parse", None)
    table, bad = read_rows(path, mapping=mapping)
    assert (table.height, bad) == (100, [])


@pytest.mark.parametrize(
    "mapping",
    [
        {"question": "instruction", "answer": "output", "context": "input"},
        {"question": "instruction", "answer": "output", "context": "meta_topic"},
        {"instruction": "output", "output": "instruction"},
        {"input": "context", "instruction": "question", "question": "instruction"},
        {"question": "instruction", "about": "instruction"},
        {"context": "history", "question": "output", "answer": "instruction"},
    ],
)
def test_renamed_fields_read_the_same(
    mapping: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    keys = [
        "question",
        "answer",
        "context",
        "about",
        "instruction",
        "output",
        "input",
        "meta_topic",
    ]
    records = [{key: key + " é" for key in draw.sample(keys, k)} for k in (2, 3, 4, 5) * 60]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(spelled(record, draw) for record in records))
    table, bad = both(path, monkeypatch, 900, format="alpaca", mapping=mapping)
    assert table.height
    assert bad


def test_the_bytes_that_are_written_do_not_tell_how_a_file_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.jsonl"
    draw = random.Random(1)
    path.write_text("\n".join(spelled(r, draw) for r in RECORDS["alpaca"] * 40))
    monkeypatch.setattr("siftune.curate.io.ingest._ROWS", 17)
    for out, size in (("careful", 1 << 60), ("fast", 0)):
        monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", size)
        monkeypatch.setattr("siftune.curate.native.jsonl.blocks.BLOCK", 700)
        ingest([str(path)], tmp_path / out)
    for name in ("rows.parquet", "quarantine.jsonl"):
        assert (tmp_path / "careful" / name).read_bytes() == (tmp_path / "fast" / name).read_bytes()


def test_escapes_are_resolved_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    escapes = ["\\n", "\\\\", '\\"', "\\u00e9", "\\ud83d\\ude00", "\\\\\\n\\t", "\\n" * 40]
    texts = ["x" * n + escape + "y" * m for escape in escapes for n in range(140) for m in (0, 70)]
    path = tmp_path / "d.jsonl"
    lines = [f'{{"instruction": "q", "output": "{text}"}}' for text in texts]
    path.write_text("\n".join(lines))
    table, bad = both(path, monkeypatch)
    assert not bad
    answers = table["messages"].list.get(1).struct.field("content").to_list()
    assert answers == [json.loads(line)["output"] for line in lines]


@pytest.mark.parametrize(
    ("megabytes", "line", "alone", "loaded"),
    [
        (1, 50, False, True),  # 41 MiB to be read, a line counted as 2,000 bytes more
        (2, 50, True, True),
        (3, 400, False, True),
        (10, 400, True, True),
        (9, 20_000, False, False),
        (40, 20_000, False, True),
        (60, 20_000, True, True),
    ],
)
def test_blocks_are_worth_it_sooner_for_short_lines_and_where_numba_is_loaded(
    megabytes: int, line: int, alone: bool, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = (b"x" * (line - 1) + b"\n") * 10
    monkeypatch.setitem(sys.modules, "numba", numba)
    assert _many(megabytes << 20, head) is loaded
    monkeypatch.delitem(sys.modules, "numba")
    assert _many(megabytes << 20, head) is alone


def test_sides_that_say_the_same_are_so_however_they_are_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spelled_alike = ["Because it", "\\u0042ecause it", "Becaus\\u0065 it", "Because\\u0020it"]
    others = ["Because iT", "because it", "Because it ", "Because", "", "Because\\u0020i"]
    lines = [
        '{{"prompt": "q", "chosen": "{}", "rejected": "{}"}}'.format(*pair)
        for pair in itertools.product(spelled_alike, spelled_alike + others)
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(lines))
    table, bad = both(path, monkeypatch)
    assert (table.height, len(bad)) == (4 * len(others), 4 * 4)


def test_a_line_beyond_the_limit_is_too_long_however_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftune.curate.records.json_lines.MAX_LINE", 300)
    lines = ['{"instruction": "a", "output": "%s"}' % ("x" * n) for n in (1, 900, 2, 265, 266, 3)]
    for end in ("", "\n"):
        for size in (64, 350, 1 << 16):
            path = tmp_path / "d.jsonl"
            path.write_text("\n".join(lines) + "\n" + lines[1] + end)
            _, bad = both(path, monkeypatch, size)
            assert [line["reason"] for line in bad] == ["line_too_long"] * 3


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_digests_are_those_of_hashlib(texts: list[bytes]) -> None:
    expected = [hashlib.blake2b(text, digest_size=16).hexdigest() for text in texts]
    work, out = np.empty(WORK, np.int64), np.empty(DIGEST * LANES, np.uint8)
    places = np.arange(LANES) * DIGEST
    for begin in range(0, len(texts), LANES):
        some = texts[begin : begin + LANES]
        data = np.frombuffer(b"".join(some) + b"\0", np.uint8).copy()
        ends = np.cumsum([0, *map(len, some)], dtype=np.int64)
        hash_lanes(data.ctypes.data, ends, len(some), work.ctypes.data, out.ctypes.data, places)
        found = out[: DIGEST * len(some)].tobytes().decode()
        assert found == "".join(expected[begin : begin + LANES])


@pytest.mark.parametrize("format", RECORDS)
def test_a_layout_names_content_of_its_kind(format: str) -> None:
    form = named(format)
    layout: Layout = form.layout  # type: ignore[attr-defined]
    assert {*layout.columns, *layout.truths} == {*CONTENT[form.kind]}
