"""`siftune curate redact`: spans replaced, digests renewed, places recorded, nothing left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from siftune.curate.cli import curate
from siftune.curate.core.schema import content_columns
from siftune.curate.io.ingest import read_rows
from siftune.curate.rows.convert import content_digest


def redacted(folder: Path, rows: list[dict[str, Any]], *words: str) -> Result:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["redact", str(folder / "rows.jsonl"), "--out", str(folder / "out"), *words]
    return CliRunner().invoke(curate, given)


CHAT = {
    "instruction": "Who is it?",
    "input": "Mail zoe@b.org or ring 030 901820.",
    "output": "It is Zoë, zoe@b.org.",
}
CALLS = [
    {
        "id": "c1",
        "function": {"name": "pay", "arguments": '{"card": 4111111111111111, "note": "a@b.org"}'},
    }
]


def test_pieces_are_replaced_wherever_the_row_has_them(tmp_path: Path) -> None:
    done = redacted(tmp_path, [CHAT, {"instruction": "2+2?", "output": "4"}])
    assert done.exit_code == 0, done.output
    assert "2 rows, 1 changed: 3 email, 2 phone" in done.output
    rows = pl.read_parquet(tmp_path / "out/rows.parquet")
    texts = [turn["content"] for turn in rows["messages"][0]]
    assert texts == ["Who is it?\n\nMail [EMAIL] or ring [PHONE].", "It is Zoë, [EMAIL]."]
    assert "zoe@b.org" not in str(rows.to_dicts())
    assert "901820" not in str(rows.to_dicts())
    assert rows["messages"][1][1]["content"] == "4"


def test_a_row_that_changed_has_the_digest_of_its_new_text_and_a_record(tmp_path: Path) -> None:
    redacted(tmp_path, [CHAT, {"instruction": "2+2?", "output": "4"}])
    before, _ = read_rows(tmp_path / "rows.jsonl")
    after, _ = read_rows(tmp_path / "out/rows.parquet")
    assert after["id"].to_list() == before["id"].to_list()
    assert after["digest"][1] == before["digest"][1]
    row = after.row(0, named=True)
    assert row["digest"] == content_digest("conversation", row) != before["digest"][0]
    (record,) = map(json.loads, (tmp_path / "out/redactions.jsonl").read_text().splitlines())
    assert record["digest_before"] == before["digest"][0]
    assert record["digest_after"] == row["digest"]
    text = before["messages"][0][1]["content"]
    (span,) = [one for one in record["spans"] if one["field"] == "messages.1.content"]
    assert (text[span["start"] : span["end"]], span["kind"]) == ("zoe@b.org", "email")
    assert "zoe" not in json.dumps(record)


def test_tool_calls_stay_json(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Pay."},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "content": "Paid.", "tool_call_id": "c1"},
    ]
    done = redacted(tmp_path, [{"messages": turns}])
    assert done.exit_code == 0, done.output
    rows = pl.read_parquet(tmp_path / "out/rows.parquet")
    (call,) = json.loads(rows["messages"][0][1]["tool_calls"])
    assert json.loads(call["function"]["arguments"]) == {"card": "[CARD]", "note": "[EMAIL]"}


def test_only_the_kinds_named_are_replaced_and_both_sides_of_a_pair(tmp_path: Path) -> None:
    pair = {"prompt": "Whom?", "chosen": "a@b.org, 202-555-0134", "rejected": "c@d.org"}
    redacted(tmp_path, [pair], "--kinds", "email")
    row = pl.read_parquet(tmp_path / "out/rows.parquet").row(0, named=True)
    answers = [row[side][0]["content"] for side in content_columns("preference")[1:]]
    assert answers == ["[EMAIL], 202-555-0134", "[EMAIL]"]


def test_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    done = redacted(tmp_path, [CHAT], "--kinds", "mail")
    assert done.exit_code != 0
    assert "'mail' is no kind; did you mean email?" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_score_columns_of_the_old_text_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(CHAT) + "\n")
    run = CliRunner()
    scored = run.invoke(
        curate, ["score", str(tmp_path / "rows.jsonl"), "length", "--out", str(tmp_path / "s")]
    )
    assert scored.exit_code == 0, scored.output
    done = run.invoke(
        curate, ["redact", str(tmp_path / "s"), "--out", str(tmp_path / "out"), "--json"]
    )
    assert json.loads(done.output)["score_columns_left_out"] == ["length_chars", "length_words"]


@pytest.mark.parametrize("again", [False, True])
def test_rows_without_a_piece_are_unchanged(tmp_path: Path, again: bool) -> None:
    row = {"instruction": "Who?", "output": "[EMAIL] and [PHONE]" if again else "Nobody."}
    redacted(tmp_path, [row])
    before, _ = read_rows(tmp_path / "rows.jsonl")
    after, _ = read_rows(tmp_path / "out/rows.parquet")
    assert after.equals(before)
    assert (tmp_path / "out/redactions.jsonl").read_text() == ""
