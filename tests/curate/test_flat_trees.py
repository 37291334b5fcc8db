"""Messages of Open Assistant that lie one by one are put together to trees, and none is lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.ingest import ingest, read_rows

Row = dict[str, Any]


def message(own: str, above: str | None, role: str, text: str, tree: str, **more: Any) -> Row:
    """A message as OpenAssistant/oasst1 and oasst2 have them; its card."""
    ids = {"message_id": own, "parent_id": above, "message_tree_id": tree}
    return ids | {"text": text, "role": role, "tree_state": "ready_for_export"} | more


TREE = [
    message("a", None, "prompter", "How far?", "a", lang="en"),
    message("b", "a", "assistant", "Far.", "a", rank=1),
    message("c", "a", "assistant", "384,400 km.", "a", rank=0),
    message("d", "c", "prompter", "In miles?", "a"),
    message("e", "d", "assistant", "238,900.", "a", deleted=False),
]
OTHER = [
    message("p", None, "prompter", "Hi", "p"),
    message("q", "p", "assistant", "Hello", "p"),
]


def lines(tmp_path: Path, *records: Row) -> Path:
    path = tmp_path / "messages.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def threads(path: Path) -> tuple[list[list[str]], list[Row]]:
    table, bad = read_rows(path, format="oasst")
    return [[turn["content"] for turn in turns] for turns in table["messages"].to_list()], bad


WAYS = [["How far?", "Far."], ["How far?", "384,400 km.", "In miles?", "238,900."], ["Hi", "Hello"]]


def test_the_threads_of_a_tree_are_read_from_its_messages(tmp_path: Path) -> None:
    path = lines(tmp_path, *TREE, *OTHER)
    assert threads(path) == (WAYS, [])
    table, _ = read_rows(path, format="oasst")
    assert table["id"].to_list() == ["messages:1.1", "messages:1.2", "messages:6.1"]
    extra = json.loads(table["extra"][0])
    assert extra["message_tree_id"] == "a"
    assert extra["messages.fields"][0] == {"message_id": "a", "parent_id": None, "lang": "en"}


def test_a_parent_may_come_after_its_replies(tmp_path: Path) -> None:
    ways, bad = threads(lines(tmp_path, *reversed(TREE), *OTHER))
    assert (sorted(ways), bad) == (sorted(WAYS), [])


def test_csv_has_no_parent_as_an_empty_text(tmp_path: Path) -> None:
    with (tmp_path / "messages.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*OTHER[0]])
        writer.writeheader()
        writer.writerows(OTHER)
    assert threads(tmp_path / "messages.csv") == ([["Hi", "Hello"]], [])


def test_ranked_replies_are_read_from_messages(tmp_path: Path) -> None:
    table, _ = read_rows(lines(tmp_path, *TREE, *OTHER), format="oasst_ranked")
    assert [turns[0]["content"] for turns in table["completions"][0].to_list()] == [
        "Far.",
        "384,400 km.",
    ]
    assert table["scores"][0].to_list() == [-1, 0]


def test_without_a_format_both_readings_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--format oasst or --format oasst_ranked"):
        read_rows(lines(tmp_path, *TREE))


def test_a_message_without_its_tree_is_set_aside(tmp_path: Path) -> None:
    stray = message("x", "gone", "assistant", "?", "p")
    twice = message("q", "p", "assistant", "Hello again", "p")
    late = message("f", "a", "assistant", "Very far.", "a")
    path = lines(tmp_path, *TREE, *OTHER, stray, twice, late)
    ways, bad = threads(path)
    assert ways == WAYS
    assert [(line["line"], line["reason"]) for line in bad] == [
        (8, "no_parent"),
        (9, "no_parent"),
        (10, "no_parent"),
    ]
    assert "sort by 'message_tree_id'" in bad[2]["detail"]
    done = ingest([str(path)], tmp_path / "out", format="oasst")
    assert (done.rows_in, done.taken, done.quarantined) == (5, 2, 3)


def test_replies_without_a_beginning_and_endless_ones_are_no_trees(tmp_path: Path) -> None:
    circle = [message("a", "b", "prompter", "Q", "a"), message("b", "a", "assistant", "A", "a")]
    with pytest.raises(DataError, match="no message begins a tree"):
        threads(lines(tmp_path, *circle))
    roles = ["prompter", "assistant"] * 1000
    deep = [message("0", None, "prompter", "Q", "t")] + [
        message(f"{at}", f"{at - 1}", roles[at], "x", "t") for at in range(1, 2000)
    ]
    ways, bad = threads(lines(tmp_path, *deep))
    assert (len(ways), len(bad)) == (1, 1899)


def test_single_turns_are_no_documents(tmp_path: Path) -> None:
    turns = [{"text": "How far?", "role": "user"}, {"text": "Far.", "role": "assistant"}]
    with pytest.raises(DataError, match="each is one turn; put the turns of a conversation"):
        read_rows(lines(tmp_path, *turns))
    assert len(read_rows(lines(tmp_path, *turns), format="text")[0]) == 2
