"""An output is created, or replaces what its own command wrote; nothing else is removed."""

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.comparing.shingle_index import ShingleIndex
from siftune.curate.comparing.shingle_sets import Sets
from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import atomic_write, locked
from siftune.curate.files.output_marker import MARKER, Marker, generator_tag, marker_of, remove_own
from siftune.curate.files.outputs import (
    check_folder,
    check_place,
    overwriting,
    run_folder,
    whole_folder,
    whole_page,
)
from siftune.curate.files.source_spec import input_paths
from siftune.curate.native.numba_cache import _prune
from siftune.curate.vectors.vector_cache import VectorCache


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _made(path: Path, command: str = "make", *names: str) -> Path:
    with whole_folder(path, command) as part:
        for name in names or ("a.txt",):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(command)
    return path


def test_the_same_command_replaces_its_output_as_a_whole(tmp_path):
    _made(tmp_path / "out", "make", "a.txt", "deep/b.txt")
    _made(tmp_path / "out", "make", "c.txt")
    assert _names(tmp_path / "out") == [MARKER, "c.txt"]
    assert _names(tmp_path) == ["out"]


def test_a_marker_has_no_path_and_no_time(tmp_path):
    first = (_made(tmp_path / "one", "make", "b[1].txt", "a/b") / MARKER).read_bytes()
    assert first == (_made(tmp_path / "two", "make", "b[1].txt", "a/b") / MARKER).read_bytes()
    assert json.loads(first) == {"command": "make", "files": ["a/", "a/b", "b[1].txt"]}


@pytest.mark.parametrize("name", ["notes.md", "deep/notes.md", ".hidden", "deep/", "other/"])
def test_a_folder_with_anything_that_we_did_not_write_is_kept(name, tmp_path):
    out = _made(tmp_path / "out", "make", "a.txt", "b/c.txt")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    for allowed in (False, True):
        with (
            overwriting(allowed),
            pytest.raises(UsageError, match="was not written by `siftune make`"),
        ):
            _made(out)
    assert (out / name).exists()


def test_a_failure_keeps_the_old_output_and_leaves_no_rest(tmp_path):
    _made(tmp_path / "out")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out", "make") as part:
        (part / "half").write_text(str(1 / 0))
    assert marker_of(tmp_path / "out") == Marker("make", ("a.txt",))
    assert _names(tmp_path) == ["out"]


def test_what_appears_while_a_command_works_is_found_at_the_end(tmp_path):
    work = whole_folder(tmp_path / "out", "make")
    work.__enter__()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    with pytest.raises(UsageError, match="did not make"):
        work.__exit__(None, None, None)
    assert _names(tmp_path / "out") == ["precious"]


def test_overwrite_removes_a_run_folder_of_another_command_and_those_in_it(tmp_path):
    with run_folder(tmp_path / "out", "one", ("a.txt", "models/", "models/{output}/")):
        (tmp_path / "out/a.txt").touch()
        _made(tmp_path / "out/models/m", "train")
    with overwriting(True), run_folder(tmp_path / "out", "two", ("b",)):
        assert _names(tmp_path / "out") == [".lock", MARKER]
    assert marker_of(tmp_path / "out") == Marker("two", ("b",))


def test_a_foreign_file_deep_in_a_run_folder_stops_overwrite(tmp_path):
    with run_folder(tmp_path / "out", "one", ("models/", "models/{output}/")):
        _made(tmp_path / "out/models/m", "train")
    (tmp_path / "out/models/m/mine").touch()
    with (
        overwriting(True),
        pytest.raises(UsageError, match="m/mine was not written by"),
        run_folder(tmp_path / "out", "two", ()),
    ):
        pass


FORGED = (
    *(
        ["*"],
        ["**"],
        ["*/", "*"],
        ["?"],
        ["[*]"],
        "*",
        "ab",
        {"a": 1},
        {"*": 1},
        [["*"]],
        [1],
        None,
    ),
    *(["{name}"], ["{name}/", "{name}/{name}"], ["{hex16}{number}"], ["{any}a"], ["{a"]),
    *(["/precious"], ["../precious"], ["a/../precious"], ["./precious"], ["a//b"], [""], ["/"]),
)


@pytest.mark.parametrize("files", FORGED, ids=str)
def test_a_marker_that_we_cannot_have_written_makes_no_folder_ours(files, tmp_path):
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    for name in ("precious", "deep/precious"):
        (out / name).write_text("mine")
    (out / MARKER).write_text(json.dumps({"command": "make", "files": files}))
    remove_own(out)
    for allowed in (False, True):
        with overwriting(allowed):
            with pytest.raises(UsageError, match="did not make"):
                _made(out)
            with pytest.raises(UsageError, match="did not make"), run_folder(out, "make", ()):
                pass
    assert (out / "precious").exists()
    assert (out / "deep/precious").exists()


@pytest.mark.parametrize("command", ["", " ", "a\nb", 1, None, ["make"]])
def test_a_marker_names_a_command(command, tmp_path):
    (tmp_path / MARKER).write_text(json.dumps({"command": command, "files": []}))
    assert marker_of(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "1", '"make"', "null", "{}", "\xff", '{"files": []}'])
def test_a_damaged_marker_is_none(text, tmp_path):
    (tmp_path / MARKER).write_text(text, encoding="latin-1")
    assert marker_of(tmp_path) is None


def test_a_folder_is_refused_by_the_marker_that_it_lacks_or_that_is_damaged(tmp_path):
    (tmp_path / ".hidden.txt").write_text("theirs")
    with pytest.raises(UsageError, match=rf"\(it holds .hidden.txt and no {MARKER}\)"):
        check_folder(tmp_path, "curate run")
    (tmp_path / MARKER).write_text("cut o")
    with pytest.raises(UsageError, match=rf"\(it holds .hidden.txt and a damaged {MARKER}\)"):
        check_folder(tmp_path, "curate run")


@pytest.mark.parametrize("beside", [".lock", "manifest.json"])
def test_a_damaged_marker_is_named_whatever_lies_beside_it(beside, tmp_path):
    (tmp_path / MARKER).write_text("damaged")
    (tmp_path / beside).write_text("")
    with pytest.raises(UsageError, match=rf"damaged list .*\({MARKER}\): name another --out"):
        check_folder(tmp_path, "curate run")


def test_placeholders_match_their_shape_within_one_part():
    marker = Marker("make", ("a-{number}.b", "s/{name}-{hex16}.c", "{{x}}.d", "[e]*"))
    sixteen = "0123456789abcdef"
    for name in ("a-0.b", "a-12.b", f"s/x_1-{sixteen}.c", "{x}.d", "[e]*"):
        assert marker.covers(name), name
        assert marker.covers(f".{name}.{sixteen}.part") is ("/" not in name), name
    assert marker.covers(f"s/.x-{sixteen}.c.{sixteen}.part")
    for name in ("a-.b", "a-x.b", "a-1/2.b", f"s/{sixteen}.c", f"s/x/y-{sixteen}.c", "e", "axb"):
        assert not marker.covers(name), name
    for name in (f"s/x-{sixteen}0.c", f"s/x-{sixteen[1:]}.c", f"s/x-{sixteen.upper()}.c", "a-1.b "):
        assert not marker.covers(name), name
    for part in (f".a-1.b.{sixteen[1:]}.part", f".mine.{sixteen}.part", ".a-1.b.part", ".a-1.b"):
        assert not marker.covers(part), part


def test_a_new_run_removes_what_a_killed_one_left_and_no_other_hidden_file(tmp_path):
    sixteen = "0123456789abcdef"
    theirs = (
        ".movie.mkv.part",
        f".movie.mkv.{sixteen}.part",
        ".a.txt.part",
        "s/.x.part",
        "s/.b.part",
    )
    ours = (f".a.txt.{sixteen}.part", f"s/.b.{sixteen}.part", f".{MARKER}.{sixteen}.part")
    with run_folder(tmp_path / "new", "make", ("a.txt", "s/", "s/b")):
        (tmp_path / "new/s").mkdir()
    for name in (*theirs, *ours):
        (tmp_path / "new" / name).touch()
    with run_folder(tmp_path / "new", "make", ("a.txt", "s/", "s/b")):
        left = {str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*")}
    assert left == {*theirs, "s", ".lock", MARKER}


def test_a_file_that_the_marker_does_not_list_is_not_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MARKER).write_text('{"command": "make", "files": ["b"]}')
    for name in ("a.txt", "b"):
        (tmp_path / "out" / name).write_text("mine")
    with (
        pytest.raises(UsageError, match=r"a\.txt was not written by"),
        run_folder(tmp_path / "out", "make", ("a.txt", "b")),
    ):
        pass
    (tmp_path / "out/a.txt").unlink()
    with run_folder(tmp_path / "out", "make", ("a.txt", "b")):
        pass
    assert marker_of(tmp_path / "out") == Marker("make", ("a.txt", "b"))


@pytest.mark.parametrize(("facts", "ours"), [({"run": "x"}, True), ({"run": "x", "a": 1}, False)])
def test_a_folder_of_checkpoints_without_a_marker_is_known_by_all_its_facts(facts, ours, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(facts))
    refused = contextlib.nullcontext() if ours else pytest.raises(UsageError, match="did not make")
    with refused, run_folder(tmp_path, "finetune sft", ("run.json",)):
        pass
    assert (tmp_path / MARKER).exists() is ours


def test_a_page_in_a_run_folder_is_ours_by_its_tag_alone(tmp_path):
    with run_folder(tmp_path / "out", "one", ("report.html",)):
        (tmp_path / "out/report.html").write_text("my notes")
    with overwriting(True):
        with (
            pytest.raises(UsageError, match=r"report\.html was not written by"),
            run_folder(tmp_path / "out", "two", ()),
        ):
            pass
        (tmp_path / "out/report.html").write_text(generator_tag("report"))
        with run_folder(tmp_path / "out", "two", ()):
            assert not (tmp_path / "out/report.html").exists()


def test_removing_our_own_leaves_what_came_after_the_check(tmp_path):
    out = _made(tmp_path / "out", "make", "a.txt", "deep/b.txt")
    (out / "deep/mine").touch()
    remove_own(out)
    assert sorted(path.name for path in out.rglob("*")) == [MARKER, "deep", "mine"]


def test_a_page_replaces_pages_with_its_own_tag(tmp_path):
    page = tmp_path / "page.html"
    for text in ("one", "two"):
        whole_page(page, generator_tag("report") + text, "report")
    assert page.read_text().endswith("two")
    page.write_text('<meta name="generator" content="Hugo">')
    with overwriting(True), pytest.raises(UsageError, match="siftune did not write"):
        whole_page(page, "x", "report")


def test_a_page_takes_the_place_of_a_folder_of_ours_with_overwrite(tmp_path):
    out = _made(tmp_path / "out")
    with pytest.raises(UsageError, match="written by `siftune make`"):
        whole_page(out, "page", "report")
    with overwriting(True):
        whole_page(out, "page", "report")
    assert out.read_text() == "page"
    assert _names(tmp_path) == ["out"]


@pytest.mark.parametrize("given", ["data", "data/rows.jsonl", "link/rows.jsonl"])
def test_an_input_and_the_folders_above_it_are_no_output(given, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").touch()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(UsageError, match="input"):
        check_place(tmp_path / "data", [tmp_path / given])
    check_place(tmp_path / "data/new", [tmp_path / given])


def test_the_inputs_of_a_recipe_are_found_at_any_depth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl", "model", "demo"):
        Path(name).touch()
    recipe = {"name": "demo", "source": ["*.jsonl"], "stages": [{"options": {"model": "model"}}]}
    assert sorted(map(str, input_paths(recipe))) == ["a.jsonl", "b.jsonl", "model"]
    assert [*input_paths({"source": "x" * 5000, "model": "a\0b"})] == []


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_file_replaces_a_regular_file_alone(what, tmp_path):
    path = tmp_path / "out"
    make = {"link": lambda: path.symlink_to("x"), "pipe": lambda: os.mkfifo(path)}
    make.get(what, path.mkdir)()
    with pytest.raises(UsageError, match=f"is a {what}"), atomic_write(path):
        pass
    assert os.path.lexists(path)


def test_the_part_that_is_written_has_a_name_that_cannot_be_planted(tmp_path):
    names = set()
    for _ in range(3):
        with atomic_write(tmp_path / "out") as part:
            part.touch()
        names.add(part.name)
    assert len(names) == 3
    assert _names(tmp_path) == ["out"]


@pytest.mark.parametrize("content", ["a diary", "12 monkeys", "1" * 30])
def test_a_file_that_only_has_the_name_of_a_lock_is_not_emptied(content, tmp_path):
    (tmp_path / ".lock").write_text(content)
    with pytest.raises(UsageError, match="not a lock file"), locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == content


def test_a_cache_is_not_written_through_a_link(tmp_path):
    sqlite3.connect(tmp_path / "theirs").close()
    (tmp_path / "cache").symlink_to(tmp_path / "theirs")
    with pytest.raises(UsageError, match="is a link"):
        VectorCache(tmp_path / "cache", 1).put([(b"k" * 16, np.zeros(1, np.float32))])
    assert (tmp_path / "theirs").read_bytes() == b""


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file/x", tmp_path / "file/deep/x"):
        with pytest.raises(UsageError, match="cannot be made: a file is there"), atomic_write(path):
            pass
        with pytest.raises(UsageError, match="cannot be made: a file is there"):
            VectorCache(path, 1).get([b"k"])
    assert (tmp_path / "file").read_text() == "precious"


def test_an_index_is_not_made_among_files_of_others(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(UsageError, match="did not make"):
        ShingleIndex(tmp_path, {}).before("0")
    assert _names(tmp_path) == ["precious"]


@pytest.mark.parametrize("name", ["data.parquet", "a/b.parquet", f"{'0' * 31}.parquet", "c.json"])
def test_overwrite_keeps_files_of_others_in_an_index(name, tmp_path):
    index = tmp_path / "index"
    nothing = Sets(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    ShingleIndex(index, {}).add("0" * 32, pl.Series([], dtype=pl.String), nothing)
    (index / name).parent.mkdir(exist_ok=True)
    (index / name).write_text("mine")
    with overwriting(True):
        with pytest.raises(UsageError, match="was not written by"):
            _made(index)
        (index / name).unlink()
        (index / "a").rmdir() if name.startswith("a/") else None
        assert _names(_made(index)) == [MARKER, "a.txt"]


def test_loops_of_other_packages_stay_in_a_shared_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("siftune.curate.native.numba_cache._MAX_FILES", 0)
    for name in ("curate.a.nbi", "theirs.a.nbi"):
        (tmp_path / name).touch()
    _prune(tmp_path, "curate")
    assert _names(tmp_path) == ["theirs.a.nbi"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_path_through_a_folder_that_is_not_there_is_refused_before_anything_is_made(
    kind, tmp_path
):
    mine = tmp_path / "mine"
    mine.write_text("precious") if kind == "file" else mine.mkdir()
    out = tmp_path / "gone" / ".." / "mine"
    with pytest.raises(UsageError, match="gone is no folder"):
        whole_page(out, "page", "report")
    with pytest.raises(UsageError, match="gone is no folder"):
        _made(out)
    with pytest.raises(UsageError, match="gone is no folder"), run_folder(out, "make", ("a",)):
        pass
    assert _names(tmp_path) == ["mine"]
    assert kind == "folder" or mine.read_text() == "precious"


@pytest.mark.parametrize("inner", ["make", "other"])
def test_an_output_that_somebody_put_into_one_of_ours_is_kept(inner, tmp_path):
    out = _made(tmp_path / "out", "make", "a.txt", "data/b.txt")
    for place in ("model", "data/model"):
        _made(out / place, inner)
        for allowed in (False, True):
            with overwriting(allowed), pytest.raises(UsageError, match="was not written by"):
                _made(out, "make" if not allowed else "another")
        assert (out / place / "a.txt").read_text() == inner
        remove_own(out / place)


def test_an_output_that_a_command_makes_in_its_folder_goes_with_it(tmp_path):
    with run_folder(tmp_path / "out", "make", ("models/", "models/{output}/", "{name}-{number}/")):
        _made(tmp_path / "out" / "models" / "my model.work", "train")
        _made(tmp_path / "out" / "dpo-3", "train")
    with overwriting(True):
        _made(tmp_path / "out", "another")
    assert _names(tmp_path / "out") == [MARKER, "a.txt"]
