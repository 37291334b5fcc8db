from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.cli import curate
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import KINDS, schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.data.bad_rows import OnBad
from siftune.finetune.data.training_rows import (
    bad_rows,
    chat,
    data_hash,
    drop_bad,
    dropped_of,
    held_out,
    load,
    prompt_keys,
    to_conversations,
    to_pairs,
    to_prompts,
)


def conversations(*chats: list[dict[str, Any]]) -> pl.DataFrame:
    rows = [
        {"id": f"t:{at}", "source": "t", "row": at, "kind": "conversation", "messages": messages}
        for at, messages in enumerate(chats, 1)
    ]
    return pl.DataFrame(rows, schema_overrides=schema_of("conversation"))


def asked(question: str | None, answer: str | None) -> list[dict[str, Any]]:
    return [turn("user", question), turn("assistant", answer)]


def pairs(*sides: tuple[str, str | None, str | None]) -> pl.DataFrame:
    rows = [
        {
            "id": f"p:{at}",
            "kind": "preference",
            "prompt": [turn("user", prompt)],
            "chosen": [turn("assistant", chosen)],
            "rejected": [turn("assistant", rejected)],
            "margin": 0.5 * at,
        }
        for at, (prompt, chosen, rejected) in enumerate(sides, 1)
    ]
    schema = {name: dtype for name, dtype in schema_of("preference").items() if name in rows[0]}
    return pl.DataFrame(rows, schema=schema)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (asked("Hi", "Hello"), None),
        (asked("Hi", ""), "empty_answer"),
        (asked("Hi", " \n\t"), "empty_answer"),
        (asked("Hi", "\u200b\u2060\ufeff"), "empty_answer"),
        (asked("Hi", None), "null_answer"),
        (asked("", "Hello"), "empty_prompt"),
        ([turn("user", "Hi")], "no_answer"),
        ([], "no_answer"),
        ([*asked("Hi", "Hello"), turn("user", "And?")], "answer_ends_unanswered"),
        ([turn("assistant", "Hello")], "no_prompt"),
        ([turn("user", "Hi"), turn("assistant", None, tool_calls="[]")], None),
        ([*asked("a", ""), *asked("b", "c")], "empty_answer"),
    ],
)
def test_a_conversation_that_cannot_be_trained_on_is_named(
    messages: list[dict[str, Any]], reason: str | None
) -> None:
    found = bad_rows(conversations(asked("x", "y"), messages))
    assert found.rows() == ([("t:2", reason)] if reason else [])


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        (("q", "a", "b"), None),
        (("q", "a", "a"), "chosen_is_rejected"),
        (("q", "a", ""), "empty_rejected"),
        (("q", None, "b"), "null_chosen"),
        (("\u200b", "a", "b"), "empty_prompt"),
    ],
)
def test_a_pair_that_cannot_be_trained_on_is_named(
    sides: tuple[str, str | None, str | None], reason: str | None
) -> None:
    assert bad_rows(pairs(sides)).rows() == ([("p:1", reason)] if reason else [])


def test_bad_rows_are_refused_with_counts_and_ids() -> None:
    table = conversations(asked("a", "b"), asked("a", ""), asked("c", ""), [turn("user", "d")])
    with pytest.raises(DataError, match=r"3 rows .* 2 empty_answer \(t:2, t:3\); 1 no_answer"):
        drop_bad(table, bad_rows(table), "refuse")


def test_bad_rows_are_dropped_and_counted() -> None:
    table = conversations(asked("a", "b"), asked("a", ""), [turn("user", "d")])
    bad = bad_rows(table)
    assert drop_bad(table, bad, "drop")["id"].to_list() == ["t:1"]
    assert dropped_of(bad).counts() == {"empty_answer": 1, "no_answer": 1}


def test_dropping_every_row_is_refused() -> None:
    table = conversations(asked("a", ""))
    with pytest.raises(DataError, match="no row is left"):
        drop_bad(table, bad_rows(table), "drop")


def test_a_run_folder_is_read_by_its_kept_rows(tmp_path: Path) -> None:
    conversations(asked("a", "b")).write_parquet(tmp_path / "kept.parquet")
    assert load(tmp_path, ["conversation"])["id"].to_list() == ["t:1"]


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    pairs(("q", "a", "b")).write_parquet(tmp_path / "kept.parquet")
    with pytest.raises(UsageError, match="expected conversation rows, these are preference"):
        load(tmp_path, ["conversation"])


def test_a_folder_without_rows_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no kept\.parquet"):
        load(tmp_path, ["conversation"])
    torn = tmp_path / "rows.parquet"
    torn.write_bytes(b"PAR1 not much")
    with pytest.raises(DataError, match=r"rows\.parquet: not a readable parquet"):
        load(torn, ["conversation"])


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    row = conversations(asked("a", "b"))
    pl.concat([row, row]).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="'t:1' is there more than once"):
        load(tmp_path / "rows.parquet", ["conversation"])


def test_turns_keep_only_the_fields_that_are_set() -> None:
    calls = turn("assistant", None, tool_calls='[{"name":"f"}]')
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    assert chat([turn("user", "Hi"), calls]) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]


def test_pairs_carry_their_margin_and_leave_out_facts_that_are_always_null() -> None:
    row = to_pairs(pairs(("q", "a", "b")))[0]
    assert row == {
        "id": "p:1",
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
        "margin": 0.5,
        "tools": None,
    }
    silent = pairs(("q", "a", "b")).with_columns(margin=pl.lit(None, pl.Float64))
    assert "margin" not in to_pairs(silent)[0]


def test_a_prompt_ends_before_the_last_answer() -> None:
    table = conversations([*asked("a", "b"), *asked("c", "d")])
    (row,) = to_prompts(table)
    assert [said["content"] for said in row["prompt"]] == ["a", "b", "c"]
    assert row["reference"] == "d"
    assert to_prompts(pairs(("q", "a", "b")))[0]["reference"] == "a"
    assert len(to_conversations(pairs(("q", "a", "b")))[0]["messages"]) == 2


def test_a_checkable_answer_is_the_reference(tmp_path: Path) -> None:
    raw = tmp_path / "sums.jsonl"
    raw.write_text('{"question": "6*2?", "answer": "Six, twice.\\n#### 12"}\n')
    table = load(raw, ["conversation"])
    (row,) = to_prompts(table)
    assert [(said["role"], said["content"]) for said in row["prompt"]] == [("user", "6*2?")]
    assert (row["reference"], row["answer"]) == ("12", None)
    assert data_hash(table) != data_hash(table.with_columns(answer=pl.lit("13")))


def test_the_data_hash_sees_content_margins_and_order() -> None:
    first = pairs(("q", "a", "b"), ("r", "c", "d"))
    assert data_hash(first) == data_hash(first.clone())
    assert data_hash(first) != data_hash(first.reverse())
    assert data_hash(first) != data_hash(first.with_columns(margin=pl.lit(9.0)))
    assert data_hash(first) != data_hash(pairs(("q", "a", "b"), ("r", "c", "e")))


def test_the_split_keeps_a_prompt_on_one_side_whatever_the_order() -> None:
    table = pairs(*[(f"q{at % 7}", f"a{at}", "b") for at in range(70)])
    train, test = held_out(table, 0.3, seed=1)
    assert test.height == 20  # two of seven prompts, ten rows each
    assert set(prompt_keys(train)).isdisjoint(prompt_keys(test))
    backwards = held_out(table.reverse(), 0.3, seed=1)[1]
    assert set(backwards["id"]) == set(test["id"])
    assert set(held_out(table, 0.3, seed=2)[1]["id"]) != set(test["id"])


def test_nothing_is_held_out_at_fraction_zero_and_never_everything() -> None:
    table = pairs(("q", "a", "b"), ("q", "c", "d"))
    assert held_out(table, 0.0, seed=0)[1].is_empty()
    assert held_out(table, 0.9, seed=0)[1].is_empty()  # one prompt: it is trained on


def test_a_raw_file_is_read_as_ingest_reads_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    line = '{"instruction": "Name a colour.", "input": "", "output": "Blue"}\n'
    raw.write_text(line * 2)
    table = load(raw, ["conversation"])
    assert [row["reference"] for row in to_prompts(table)] == ["Blue", "Blue"]
    raw.write_text(line + '{"instruction": \n' + line)
    with pytest.raises(DataError, match=r"raw\.jsonl: 1 records cannot be read, .*line 2"):
        load(raw, ["conversation"])


@pytest.mark.parametrize("on_bad", ["refuse", "drop"])
def test_prompts_with_a_checkable_answer_name_the_way_to_learn_it(
    on_bad: OnBad, tmp_path: Path
) -> None:
    path = tmp_path / "gsm.jsonl"
    lines = [{"question": f"{at} and 1?", "answer": f"It is\n#### {at + 1}"} for at in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = load(path, KINDS)
    with pytest.raises(DataError) as raised:
        drop_bad(table, bad_rows(table), on_bad, path)
    way = "siftune curate ingest FILE --map QUESTION=prompt --map answer=completion --out RUN"
    assert way in str(raised.value)
    assert "--on-bad drop" not in str(raised.value)  # which would leave nothing
    flags = way.replace("FILE", str(path)).replace("QUESTION", "question").split()[2:]
    flags[-1] = str(tmp_path / "run")
    assert CliRunner().invoke(curate, flags).exit_code == 0
    assert bad_rows(load(tmp_path / "run", KINDS)).is_empty()
