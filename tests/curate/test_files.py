"""A final name holds a whole file or none; a folder belongs to one run at a time."""

import multiprocessing
import os
from pathlib import Path

import pytest

from siftune.curate.core.errors import LockedError, UsageError
from siftune.curate.files.atomic import (
    atomic_write,
    digest_of,
    hash_tree,
    locked,
    read_json,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(IsADirectoryError), atomic_write(path) as part:
        part.write_text("half") and tmp_path.open()
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]


def test_a_folder_is_made_whole_and_never_replaced(tmp_path):
    path = tmp_path / "model"
    with atomic_write(path) as part:
        part.mkdir()
        (part / "first").touch()
    with pytest.raises(UsageError, match="is a folder: expected a file"), atomic_write(path):
        pass
    assert [item.name for item in path.iterdir()] == ["first"]


def test_a_link_at_the_final_name_is_not_written_through(tmp_path):
    target = tmp_path / "precious"
    target.write_text("keep me")
    (tmp_path / "out").symlink_to(target)
    with pytest.raises(UsageError, match="is a link"), atomic_write(tmp_path / "out"):
        pass
    assert target.read_text() == "keep me"


def test_the_order_of_keys_does_not_change_a_digest():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1})


def test_a_tree_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    before = hash_tree(tmp_path)
    (tmp_path / ".hidden").write_text("not counted")
    assert hash_tree(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert hash_tree(tmp_path) != before


def test_damaged_json_is_named(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    assert read_json(tmp_path / "x.json") == {"a": 1}
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(UsageError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")


def _hold(folder: Path, ready, done) -> None:
    with locked(folder):
        ready.set()
        done.wait(30)


def test_a_second_process_is_refused_by_name_and_let_in_afterwards(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    assert ready.wait(30)
    with pytest.raises(LockedError, match=str(other.pid)), locked(tmp_path):
        pass
    done.set()
    other.join(30)
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
