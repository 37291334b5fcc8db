"""Every command that writes leaves alone what it did not write, and says so in one line.

The commands are found in the click tree. One that has no ``--out`` is listed here with the reason,
so a new command is either tried or explained.
"""

import contextlib
import functools
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import click
import pytest

from siftune.curate.commands.click_commands import Components
from siftune.curate.commands.output_commands import OutOption, WritingCommand
from siftune.curate.core.registry import find, names, options
from siftune.curate.files.output_marker import MARKER, Marker
from siftune.curate.files.output_marker import generator_tag as tag
from siftune.curate.files.outputs import overwriting, whole_folder, whole_page
from siftune.curate.files.source_spec import INPUTS
from siftune.curate.runners.run_folder import RUN_FILES
from siftune.finetune.cli import finetune
from siftune.finetune.core.methods import TRAINERS
from siftune.finetune.training.build_loss import ANSWERS, LISTS, LOSSES
from siftune.pipelines.cli import _run, siftune
from tests.own_tests import no_paths_of

WITHOUT_OUT = {
    "curate explain": "prints",
    "curate fit-weights": "prints",
    "curate judges": "prints",
    "curate measure": "prints",
    "curate methods": "prints",
    "curate schema": "prints",
    "finetune conformance": "prints",
    "finetune losses": "prints",
    "finetune tasks": "prints",
    "pipelines recipes": "prints",
    "pipelines schema": "prints",
    "doctor": "prints",
    "models list": "prints",
    "models path": "prints",
    "models get": "writes a folder of the user's cache, by the same rule (`whole_folder`)",
}
"""Commands that have no ``--out``, and why."""

GROUPS = ("curate.scorers", "curate.selectors", "finetune.trainers")
NO_PATHS = {
    *("account", "between", "by", "cache", "chosen", "column", "device", "embedding", "first"),
    *(
        "advantage",
        "cost",
        "domain",
        "gap",
        "group_by",
        "length",
        "loss",
        "method",
        "pass_rate",
        "policy_loss",
        "prefix",
        "rejected",
        "second",
        "task",
        "tokens_by",
    ),
}
"""Options with text values that name no file which is read."""


def _leaves(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield ctx.command_path, command
        return
    for name in command.list_commands(ctx):
        _, found, _ = command.resolve_command(ctx, [name])
        assert found is not None
        yield from _leaves(found, click.Context(found, info_name=name, parent=ctx))


COMMANDS = {
    path.removeprefix("siftune ").replace(" ROWS", ""): command
    for path, command in _leaves(siftune, click.Context(siftune, info_name="siftune"))
}
WRITING = {name: one for name, one in COMMANDS.items() if name not in WITHOUT_OUT}


def _option(command: click.Command) -> OutOption:
    return next(option for option in command.params if isinstance(option, OutOption))


def _called(*words: object) -> tuple[int, str]:
    """Exit code and stderr of a command, run in this process."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["siftune", *map(str, words)]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = _run()
    finally:
        sys.argv = before
    slow = "checking "  # a note of a machine that is busy, not a refusal
    return code, "".join(x for x in said.getvalue().splitlines(True) if not x.startswith(slow))


def _words(name: str, command: click.Command, run: Path) -> list[str]:
    """The command with every argument and every option that it must have, reading ``run``."""
    first, second, *rest = [*name.split(), ""]
    words = [first, second, *([str(run)] if second in ("score", "select", "dedup") else []), *rest]
    for param in command.params:
        if isinstance(param, click.Argument):
            words.append(str(run.parent / "recipe.yaml" if param.name == "recipe" else run))
        elif param.required and not isinstance(param, OutOption):
            choices = getattr(param.type, "choices", ("1",))
            words += [param.opts[0], str(choices[0])]
    return [word for word in words if word]


def _snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Name, inode, type, link target and bytes of everything in a folder."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        known = path.lstat()
        target = str(path.readlink()) if path.is_symlink() else ""
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (known.st_ino, known.st_mode, target, data)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    """A folder to work in: ``run``, a finished run, and what its owner would not like to lose."""
    home = tmp_path_factory.mktemp("home").resolve()
    (home / "work").mkdir()
    (home / "outside").mkdir()
    (home / "outside/precious.txt").write_text("precious")
    here = home / "work"
    (here / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    before = Path.cwd()
    os.chdir(here)
    patch = pytest.MonkeyPatch()
    for group in (Components, type(finetune)):  # a command is made once, and called many times
        patch.setattr(group, "make", functools.cache(group.make))
    assert _called("curate", "ingest", "rows.jsonl", "--out", "data/run")[0] == 0
    (here / "data/recipe.yaml").write_text("name: r\nsource: data/run\n")
    _sentinels(here)
    yield home
    patch.undo()
    os.chdir(before)


def _sentinels(here: Path) -> None:
    outside = here.parent / "outside"
    (here / "file").write_text("precious")
    (here / "page.html").write_text("<html><head><title>mine</title></head></html>")
    for name in ("folder", "folder/kept.parquet", "locked", "staged", "hidden"):
        (here / name).mkdir()
    (here / "folder/kept.parquet/precious").write_text("precious")
    (here / "hidden/.git").write_text("precious")
    (here / "link").symlink_to(outside)
    (here / "file-link").symlink_to(outside / "precious.txt")
    (here / "dangling").symlink_to(here.parent / "nowhere")
    (here / "locked/.lock").symlink_to(outside / "precious.txt")
    (here / "staged/stages").symlink_to(outside)
    (here / "model.work").mkdir()
    (here / "model.work/precious.txt").write_text("precious")
    (here / "link-model.work").symlink_to(outside)
    os.mkfifo(here / "pipe")
    with whole_folder(here / "other", "curate other") as part:
        (part / "ours.txt").write_text("ours")
    with whole_folder(here / "mixed", "curate other") as part:
        (part / "ours.txt").write_text("ours")
    (here / "mixed/theirs.txt").write_text("precious")
    with whole_folder(here / "linked", "curate other") as part:
        (part / "ours.txt").write_text("ours")
    (here / "linked/ours.txt").unlink()
    (here / "linked/ours.txt").symlink_to(outside / "precious.txt")
    whole_page(here / "other.html", f"<head>{tag('other')}</head>", "other")


REFUSED = (
    *("file", "folder", "hidden", "locked", "staged", "page.html"),
    *("link", "file-link", "dangling", "link/", "pipe", "/dev/null", "/dev/full/x"),
    *("", ".", "..", "/", "~", "~/x", "data/..", "data", "data/run", "file/x", "dangling/x"),
    *("other", "mixed", "linked", "other.html"),
)
OVERWRITE_REFUSED = (
    *("folder", "staged", "page.html", "link", "..", "data/run", "mixed", "linked"),
)
"""With ``--overwrite`` a whole output of another command of ours gives way, and nothing else."""


def test_every_command_is_tried_or_listed_as_writing_nothing():
    assert len(WRITING) >= 88
    assert set(ALIKE) < set(WRITING)
    assert set(WITHOUT_OUT) <= set(COMMANDS)
    for name, command in WRITING.items():
        assert isinstance(command, WritingCommand), f"{name} has no --out: add it or list it"
        assert _option(command).opts == ["--out"], name


@pytest.mark.parametrize(
    "component",
    [
        *(find(group, name) for group in GROUPS for name in names(group)),
        *(find("finetune.tools", name) for name in names("finetune.tools")),
        find("finetune.comparison", "compare"),
    ],
    ids=lambda component: component.__name__,
)
def test_every_option_that_may_name_a_file_is_known_as_an_input(component):
    """An input that is not known as one could be overwritten by the output."""
    hints = get_type_hints(component)
    known = INPUTS | NO_PATHS | no_paths_of(component.__module__.rpartition(".")[2])
    for name in options(component):
        hint = hints[name]
        if hint is str or hint == str | None:
            assert name in known, f"{name}: add it to one of the two"


ON_POLICY = {
    name
    for name in names("finetune.trainers")
    if "policy_loss" in options(find("finetune.trainers", name))
}
ALIKE = sorted(
    (
        {f"finetune {loss}" for group in {LOSSES, *ANSWERS, *LISTS} for loss in names(group)}
        | {name for name in WRITING if name.startswith(("curate score ", "curate select "))}
        | {f"finetune {name}" for name in TRAINERS if TRAINERS[name] in ON_POLICY}
    )
    - {"finetune dpo", "finetune kto", "finetune plackett_luce", "finetune ppo"}
    - {"curate score contamination", "curate score embedding", "curate select threshold"}
)
"""Commands that one function makes: each tries a share of the places, those above all of them."""
SHARES = 5


@pytest.mark.parametrize("name", WRITING)
def test_what_siftune_did_not_write_is_refused_in_one_line_and_stays(name, home):
    here, command = home / "work", WRITING[name]
    words = _words(name, command, here / "data/run")
    before = _snapshot(home)
    extra = ("model", "link-model") if name.startswith("finetune") and _has_work(command) else ()
    tries = [(out, ()) for out in (*REFUSED, *extra)]
    tries += [(out, ("--overwrite",)) for out in (*OVERWRITE_REFUSED, *extra)]
    if name in ALIKE:
        tries = tries[ALIKE.index(name) % SHARES :: SHARES]
    for out, flag in tries:
        code, said = _called(*words, "--out", out, *flag)
        several = re.search(r"data/recipe\.yaml: (\d+) problems:", said)  # all are named
        lines = int(several[1]) + 1 if several else 1
        assert (code, said.count("\n")) == (2, lines), (out, flag, said)
        refused = "Invalid value for '--out'" in said or "see siftune" not in said
        assert refused, f"{out}: the command line itself was refused: {said}"
    assert _snapshot(home) == before


def _has_work(command: click.Command) -> bool:
    return _option(command).check.__name__ == "check_model"


@pytest.mark.parametrize("name", WRITING)
def test_new_and_empty_places_are_free_and_overwrite_frees_those_of_other_commands(name, tmp_path):
    check, empty = _option(WRITING[name]).check, tmp_path / "empty"
    empty.mkdir()
    page = name == "report"
    for out in (tmp_path / "new", tmp_path / "deep/new", *(() if page else (empty,))):
        check(out, name, [tmp_path / "rows.jsonl"])
    with whole_folder(tmp_path / "ours", "curate other") as part:
        (part / "one").touch()
    with overwriting(True):
        check(tmp_path / "ours", name, [])
        (tmp_path / "ours/theirs").touch()
        with pytest.raises(Exception, match="theirs was not written by"):
            check(tmp_path / "ours", name, [])


# Places that only some commands would write through: stages, a lock, files of a run.


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A run folder of ours, and the rows it was made from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert _called("curate", "ingest", "rows.jsonl", "--out", "run")[0] == 0
    return tmp_path / "run"


def _link_stages(run: Path, outside: Path) -> None:
    (run / "stages").rename(run.parent / "moved")
    (run / "stages").symlink_to(outside)


def _link_lock(run: Path, outside: Path) -> None:
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(outside / "precious.txt")


def _foreign_lock(run: Path, outside: Path) -> None:
    (run / ".lock").write_text("a diary")


def _pipe_as_lock(run: Path, outside: Path) -> None:
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")


def _folder_for_file(run: Path, outside: Path) -> None:
    (run / "kept.parquet").unlink()
    (run / "kept.parquet").mkdir()
    (run / "kept.parquet/precious").write_text("precious")


def _file_for_folder(run: Path, outside: Path) -> None:
    (run / "cache").write_text("precious")


def _link_for_file(run: Path, outside: Path) -> None:
    (run / "ledger.parquet").unlink()
    (run / "ledger.parquet").symlink_to(outside / "precious.txt")


def _link_in_stages(run: Path, outside: Path) -> None:
    (run / "stages/.ingest").symlink_to(outside)


PLANTED = (
    *(_link_stages, _link_lock, _foreign_lock, _pipe_as_lock),
    *(_folder_for_file, _file_for_folder, _link_for_file, _link_in_stages),
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.strip("_"))
def test_a_run_writes_through_nothing_that_lies_in_its_folder(plant, mine):
    outside = mine.parent / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    plant(mine, outside)
    before = _snapshot(mine.parent)
    code, said = _called("curate", "ingest", "rows.jsonl", "--limit", "1", "--out", "run")
    assert (code, said.count("\n")) == (2, 1), said
    assert _snapshot(mine.parent) == before


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "/x", "a/b", ".x", "~", "a\nb", "a\\b"])
@pytest.mark.parametrize("group", ["curate", "pipelines"])
def test_a_recipe_has_a_plain_name(group, name, tmp_path, monkeypatch):
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    recipe = {"name": name, "source": "rows.jsonl"}
    if group == "pipelines":
        recipe = {"name": name, "base": "model"}
    Path("recipe.yaml").write_text(json.dumps(recipe))
    before = _snapshot(tmp_path)
    code, said = _called(group, "run", "recipe.yaml")
    lines = [line for line in said.splitlines() if "expected a plain name" in line]
    assert (code, len(lines)) == (2, 1), said  # a pipeline names its other problems too
    assert _snapshot(tmp_path) == before


def test_a_step_of_a_pipeline_has_a_plain_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = {"base": "m", "rows": {"source": "r"}, "train": [{"sft": {"label": "../../x"}}]}
    Path("recipe.yaml").write_text(json.dumps(recipe))
    code, said = _called("pipelines", "run", "recipe.yaml")
    assert code == 2
    assert "train 1: label: it names a folder too" in said


# What does work: the same command again, another one with --overwrite.


def test_the_same_command_writes_again_and_another_only_with_overwrite(mine):
    out = ("--out", "out")
    assert _called("curate", "export", "run", *out)[0] == 0
    first = json.loads((mine.parent / "out" / MARKER).read_bytes())
    assert first == {"command": "curate export", "files": ["README.md", "train.jsonl"]}
    assert _called("curate", "export", "run", "--to", "parquet", *out)[0] == 0
    assert _files("out") == [MARKER, "README.md", "train.parquet"]
    code, said = _called("curate", "score", "run", "length", *out)
    assert code == 2
    assert "written by `siftune curate export`" in said
    assert "add --overwrite" in said
    assert _called("curate", "score", "run", "length", *out, "--overwrite")[0] == 0
    assert "train.parquet" not in _files("out")
    assert _called("curate", "score", "run", "length", *out)[0] == 0
    assert _called("curate", "score", "run", "heuristics", *out)[0] == 2
    assert _called("curate", "export", "run", *out, "--overwrite")[0] == 0
    assert _files("out") == [MARKER, "README.md", "train.jsonl"]


def _files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_report_replaces_reports_only(mine):
    pytest.importorskip("plotly")
    assert _called("report", "run")[0] == 0
    assert _called("report", "run")[0] == 0
    (mine / "report.html").write_text("<html>my own notes</html>")
    code, said = _called("report", "run")
    assert (code, said.count("\n")) == (2, 1)
    assert (mine / "report.html").read_text() == "<html>my own notes</html>"


def test_overwrite_that_cannot_run_removes_nothing(mine):
    assert _called("curate", "export", "run", "--out", "out")[0] == 0
    before = _snapshot(mine.parent / "out")
    words = ("select", "run", "threshold", "--by", "no_such_column", "--at-least", "1")
    assert _called("curate", *words, "--out", "out", "--overwrite")[0] == 2
    assert _called("curate", "ingest", "no-such-file", "--out", "out", "--overwrite")[0] == 3
    assert _snapshot(mine.parent / "out") == before


NOT_OURS = (
    *(".movie.mkv.part", "stages/.x.part", f"stages/.x.{'0' * 16}.part", "stages/.ingest/x.txt"),
    *("stages/notes-1.json", "stages/notes-mine.parquet", "stages/a/length-0123456789abcdef.json"),
    *("pipe-notes.jsonl", "a/pipe-1.jsonl", "cache/embedding-mine.sqlite.bak", "cache/x.txt"),
    *(f"cache/embedding-{'0' * 32}.sqlite.bak", "cache/a/embedding-x.sqlite"),
)


def test_a_name_like_those_we_write_makes_no_file_ours(mine):
    for name in NOT_OURS:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("precious")
    assert _called("curate", "ingest", "rows.jsonl", "--out", "run")[0] == 0
    assert _called("curate", "ingest", "rows.jsonl", "--limit", "1", "--out", "run")[0] == 0
    for name in NOT_OURS:
        assert not Marker("curate ingest", RUN_FILES).covers(name), name
        assert (mine / name).read_text() == "precious"
    code, said = _called("curate", "export", "run", "--out", "out")
    assert code == 0, said
    code, said = _called("curate", "export", "out/train.jsonl", "--out", "run", "--overwrite")
    assert (code, said.count("\n")) == (2, 1)
    assert "was not written by" in said
    assert all((mine / name).read_text() == "precious" for name in NOT_OURS)


def test_a_forged_marker_frees_no_folder(mine):
    out = mine.parent / "theirs"
    (out / "sub").mkdir(parents=True)
    (out / "sub/deep").write_text("precious")
    (out / MARKER).write_text('{"command": "curate export", "files": ["*", "**", "*/"]}')
    for flag in ((), ("--overwrite",)):
        code, said = _called("curate", "export", "run", "--out", "theirs", *flag)
        assert (code, said.count("\n")) == (2, 1)
    assert (out / "sub/deep").read_text() == "precious"


def test_a_run_folder_of_an_earlier_version_is_gone_on_with(mine):
    (mine / MARKER).unlink()
    assert _called("curate", "ingest", "rows.jsonl", "--out", "run")[0] == 0
    marker = json.loads((mine / MARKER).read_bytes())
    assert marker == {"command": "curate ingest", "files": [*RUN_FILES]}


@pytest.mark.parametrize("text", ["", "[1, 2", '{"command": 1, "files": []}'])
def test_a_damaged_list_of_files_of_a_run_is_made_anew(mine, text):
    whole = (mine / MARKER).read_bytes()
    (mine / MARKER).write_text(text)
    assert _called("curate", "ingest", "rows.jsonl", "--out", "run")[0] == 0
    assert (mine / MARKER).read_bytes() == whole


def test_another_output_whose_list_of_files_is_damaged_is_refused_by_its_name(mine):
    out = mine.parent / "model"
    out.mkdir()
    (out / "siftune.json").write_text("{}")
    (out / MARKER).write_text("{")
    code, said = _called("curate", "export", "run", "--out", "model")
    assert (code, said.count("\n")) == (2, 1)
    assert f"model has a damaged list of the files that siftune wrote ({MARKER}): name an" in said
