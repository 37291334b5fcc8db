"""One cache of finished stages for a project: what a run in another folder finds in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from siftune.curate.files.atomic import hash_file, read_json
from siftune.curate.runners import project_cache as module
from siftune.curate.runners.preview import preview
from siftune.curate.runners.project_cache import StageCache, project_cache
from siftune.curate.runners.run import OUTPUTS, run
from siftune.curate.runs.recipe import parse
from siftune.curate.selectors.top_k import TopK

STAGES = [{"score": "length"}, {"select": "top_k", "by": "length_words", "rows": 2}]


def recipe(folder: Path, *more: dict[str, object]):
    rows = folder / "rows.jsonl"
    lines = [json.dumps({"prompt": f"q{at}", "completion": "a " * at}) for at in range(5)]
    rows.write_text("\n".join([*lines, "{broken"]))
    return parse({"name": "t", "source": str(rows), "stages": [*STAGES, *more]})


def hashes(out: Path) -> dict[str, str]:
    return {name: hash_file(out / name) for name in OUTPUTS}


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache")


@pytest.mark.parametrize("how", ["linked", "copied"])
def test_a_run_in_another_folder_finds_finished_stages_and_writes_the_same_bytes(
    tmp_path: Path, cache: StageCache, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "copied":  # as between two disks

        def refuse(*_: object) -> None:
            raise OSError("cross-device link")

        monkeypatch.setattr(module.os, "link", refuse)
    without = run(recipe(tmp_path), tmp_path / "without")
    first = run(recipe(tmp_path), tmp_path / "a", cache=cache)
    assert first.worked == without.worked == ["ingest", "1:length", "2:top_k"]
    again = run(recipe(tmp_path), tmp_path / "deep" / "b", cache=cache)
    assert again.worked == []
    assert hashes(tmp_path / "without") == hashes(tmp_path / "a") == hashes(again.out)
    one, other = (read_json(out / "manifest.json") for out in (first.out, again.out))
    assert {**one, "clock": None} == {**other, "clock": None}
    more = run(recipe(tmp_path, {"score": "heuristics"}), tmp_path / "c", cache=cache)
    assert more.worked == ["3:heuristics"]


def test_a_dry_run_knows_what_is_in_the_cache_and_writes_nothing(
    tmp_path: Path, cache: StageCache
) -> None:
    run(recipe(tmp_path), tmp_path / "a", cache=cache)
    planned, _ = preview(recipe(tmp_path), tmp_path / "b", cache)
    assert planned.ingested
    assert [step.done for step in planned.steps] == [True, True]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("ending", ["parquet", "json", "quarantine.jsonl"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, cache: StageCache, ending: str) -> None:
    first = run(recipe(tmp_path), tmp_path / "a", cache=cache)
    before = hashes(first.out)
    [entry] = (cache.folder / "stages").glob(f"ingest-*.{ending}")
    entry.unlink()
    entry.write_bytes(b"{}")
    again = run(recipe(tmp_path), tmp_path / "b", cache=cache)
    assert again.worked == ["ingest"]
    assert hashes(again.out) == before
    assert run(recipe(tmp_path), tmp_path / "c", cache=cache).worked == []


def test_the_entries_used_longest_ago_go_first(tmp_path: Path) -> None:
    small = StageCache(tmp_path / "cache", most_bytes=1)
    run(recipe(tmp_path), tmp_path / "a", cache=small)
    left = {path.name.partition("-")[0] for path in (small.folder / "stages").iterdir()}
    assert left == {"top_k"}  # the newest stays, whatever its size


def test_a_stage_that_writes_more_than_its_answer_is_not_taken_from_the_cache(
    tmp_path: Path, cache: StageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index").touch()
    monkeypatch.setattr(TopK, "writes", (str(tmp_path / "index"),), raising=False)
    run(recipe(tmp_path), tmp_path / "a", cache=cache)
    assert not [*(cache.folder / "stages").glob("top_k-*")]
    assert run(recipe(tmp_path), tmp_path / "b", cache=cache).worked == ["2:top_k"]


def test_a_folder_of_others_or_a_link_is_no_cache(tmp_path: Path) -> None:
    run(recipe(tmp_path), tmp_path / "a", cache=StageCache(tmp_path / "cache"))
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    run(recipe(tmp_path), tmp_path / "b", cache=StageCache(tmp_path / "link"))
    (tmp_path / "cache").chmod(0o777)  # anybody may have put it there
    worked = run(recipe(tmp_path), tmp_path / "c", cache=StageCache(tmp_path / "cache")).worked
    assert worked == ["ingest", "1:length", "2:top_k"]
    assert run(recipe(tmp_path), tmp_path / "d", cache=StageCache(tmp_path / "rows.jsonl")).worked


def test_the_cache_is_left_out_of_git_and_of_backups_and_can_be_named_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe(tmp_path), tmp_path / "a", cache=StageCache(tmp_path / "cache"))
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"
    assert (tmp_path / "cache" / "CACHEDIR.TAG").is_file()
    assert project_cache() is None
    monkeypatch.setenv("SIFTUNE_STAGE_CACHE", os.fspath(tmp_path / "named"))
    assert project_cache() == StageCache(tmp_path / "named")
    monkeypatch.delenv("SIFTUNE_STAGE_CACHE")
    assert project_cache() == StageCache(Path(".siftune_cache"))


def test_a_folder_of_somebody_else_is_no_cache_and_stays_as_it_is(tmp_path: Path) -> None:
    mine, link = tmp_path / "mine", tmp_path / "link"
    (mine / "stages").mkdir(parents=True)
    (mine / "stages" / "notes-0123456789abcdef.json").write_text("{}")
    (tmp_path / "outside").mkdir()
    link.symlink_to(tmp_path / "outside")
    for at, folder in enumerate((mine, link)):
        done = run(recipe(tmp_path), tmp_path / f"out{at}", cache=StageCache(folder, most_bytes=0))
        assert done.worked
    assert [path.name for path in mine.rglob("*.*")] == ["notes-0123456789abcdef.json"]
    assert not any((tmp_path / "outside").iterdir())


def test_only_files_of_stages_leave_a_cache_that_is_full(tmp_path: Path) -> None:
    small = StageCache(tmp_path / "cache", most_bytes=0)
    run(recipe(tmp_path), tmp_path / "a", cache=small)
    others = [tmp_path / "cache" / "stages" / name for name in ("mine.json", "mine.parquet")]
    for path in others:
        path.write_text("{}")
    run(recipe(tmp_path, {"score": "heuristics"}), tmp_path / "b", cache=small)
    assert all(path.is_file() for path in others)


def test_an_empty_folder_becomes_a_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    run(recipe(tmp_path), tmp_path / "a", cache=StageCache(tmp_path / "cache"))
    assert (tmp_path / "cache" / "CACHEDIR.TAG").is_file()
    assert run(recipe(tmp_path), tmp_path / "b", cache=StageCache(tmp_path / "cache")).worked == []
