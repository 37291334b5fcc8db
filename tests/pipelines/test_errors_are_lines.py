"""A user's mistake, or a damaged file, ends in one line that names it, and never in a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from siftune.curate.core.errors import UsageError, failure_of, name_in_errors, reading
from siftune.curate.files.atomic import unused_name, write_text
from siftune.curate.files.byte_streams import open_pipe
from siftune.curate.files.yaml_text import parse_yaml
from siftune.curate.models.model_files import check_settings
from tests.fuzz.commands import called

ROWS = "".join(json.dumps({"prompt": f"Say {i}.", "completion": f"{i}"}) + "\n" for i in range(9))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a file of rows."""
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text(ROWS)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; a test that damages a file of it works on a copy."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "d.jsonl").write_text(ROWS)
    assert (
        called("curate", "score", folder / "d.jsonl", "length", "--out", folder / "run").code == 0
    )
    return folder


YAML = {
    "a list as a key": ("? [a]\n: b", "a key is a list"),
    "a tag": ("seed: !!int abc", "the YAML tag !!int"),
    "an integer of 5,000 digits": ("seed: " + "9" * 5000, "beyond 64 bits"),
    "an integer beyond 64 bits": ("seed: 9223372036854775808", "beyond 64 bits"),
    "an octal integer": ("source: d.jsonl\nseed: 010", "write 10, or '010' in quotes"),
    "an integer to the base 60": ("source: d.jsonl\nseed: 1:30", "base 60"),
    "a number to the base 60": ("source: d.jsonl\nseed: 1:30.5", "base 60"),
    "nothing": ("", "found nothing"),
    "a comment": ("# later", "found nothing"),
    "a list": ("- source: d.jsonl", "found a list"),
    "a truth value for a number": (
        "source: d.jsonl\nstages: [{select: random, rows: yes}]",
        "rows: expected int or Mapping, got True",
    ),
    "an option that is a number": (
        "source: d.jsonl\nstages: [{select: random, rows: 2, 3: 4}]",
        "random has no option 3; there are: ",
    ),
    "a key that is a number": ("source: d.jsonl\n3: 4", "unknown key '3'"),
    "a hexadecimal integer": ("seed: 0x" + "f" * 99, "beyond 64 bits"),
    "5,000 brackets": ("[" * 5000, "nested deeper than 32"),
    "3,000 maps": ("{a: " * 3000, "nested deeper than 32"),
    "an alias of itself": ("a: &a [*a]", "contains itself"),
    "a merge key": ("<<: {a: 1}", "merge keys"),
    "many aliases": ("a: &a 1\nb: [" + "*a, " * 30 + "]", "more than 20 YAML aliases"),
    "NUL": ("name: \0", "not valid YAML"),
    "two megabytes": ("# " + "x" * (2 << 20), "at most"),
    "a seed below 0": ("source: d.jsonl\nseed: -1", "seed: expected at least 0"),
    "a date for a number": ("source: d.jsonl\nseed: 2020-99-99", "expected int"),
}


@pytest.mark.parametrize("name", YAML)
def test_a_recipe_that_is_refused_is_named_in_one_line(here, name):
    text, said = YAML[name]
    Path("r.yaml").write_text(text)
    for words in (["curate", "run"], ["pipelines", "run"]):
        done = called(*words, "r.yaml", "--out", "out")
        assert done.code == 2, done
        if words[0] == "curate" or said.startswith(("a key", "beyond", "nested", "contains")):
            assert done.message.startswith("siftune: r.yaml: ")
            assert said in done.message
        assert not Path("out").exists()


@pytest.mark.parametrize("value", ["!!int abc", "? [a]: b", "9" * 5000, "[" * 5000, "&a [*a]"])
def test_an_override_of_the_same_kind_is_named_by_its_key(here, value):
    Path("r.yaml").write_text("source: d.jsonl\n")
    done = called("curate", "run", "r.yaml", "--out", "out", "-o", f"seed={value}")
    assert done.code == 2
    assert "-o seed: " in done.message
    assert len(done.message) < 300


def test_a_date_is_text_and_what_is_not_yaml_is_the_text_itself(here):
    assert parse_yaml("2020-01-01") == "2020-01-01"
    Path("r.yaml").write_text("source: none\n")
    Path("[a]*.jsonl").write_text(ROWS)
    assert called("curate", "run", "r.yaml", "--out", "out", "-o", "source=[a]*.jsonl").code == 0


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["finetune", "sft", "d.jsonl", "--model", "m", "--max-length", "0"], "max_length"),
        (["finetune", "sft", "d.jsonl", "--model", "m", "--lora", "1000000"], "lora"),
        (["finetune", "sft", "d.jsonl", "--model", "m", "--max-tokens", "-1"], "max_tokens"),
        (["finetune", "sft", "d.jsonl", "--model", "m", "--seed", "-1"], "seed"),
        (["finetune", "reward", "d.jsonl", "--model", "m", "--max-length", "0"], "max_length"),
        (["finetune", "dpo", "d.jsonl", "--model", "m", "--max-kl", "-1"], "max_kl"),
        (["finetune", "init", "d.jsonl", "--layers", "-1"], "layers"),
        (["finetune", "init", "d.jsonl", "--steps", "-1"], "steps"),
        (["finetune", "evaluate", "d.jsonl", "--model", "m", "--temperature", "-1"], "temperature"),
        (["finetune", "evaluate", "d.jsonl", "--model", "m", "--limit", "-1"], "limit"),
        (["finetune", "compare", "d.jsonl", "--model", "m", "--seeds", "0,-1"], "seeds"),
        (["curate", "score", "d.jsonl", "minhash", "--permutations", "0"], "permutations"),
        (
            ["curate", "select", "d.jsonl", "quota", "--group-by", "source", "--rows", "a=-1"],
            "rows",
        ),
        (["curate", "select", "d.jsonl", "top_k", "--by", "x", "--rows", "9" * 25], "--rows"),
        (["curate", "ingest", "d.jsonl", "--limit", "9" * 25], "--limit"),
        (["curate", "select", "d.jsonl", "random", "--rows", "3", "--seed", "-1"], "--seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_number_that_means_nothing_is_refused_by_the_name_of_its_option(here, words, option):
    done = called(*words, "--out", "out")
    assert done.code == 2
    assert option in done.message
    assert any(word in done.message for word in ("at least", "above", "range", "64 bits"))
    assert not Path("out").exists()


@pytest.mark.parametrize("out", ["", " ", ".", "a\nb", "a\0b", "\udcff", "d.jsonl/x", "x" * 256])
def test_an_output_that_cannot_be_is_refused_before_anything_is_written(here, out):
    for words in (["ingest", "d.jsonl"], ["select", "d.jsonl", "random", "--rows", "3"]):
        done = called("curate", *words, "--out", out)
        assert done.code == 2
        assert done.problem() is None
    assert [path.name for path in here.iterdir()] == ["d.jsonl"]


@pytest.mark.parametrize("source", ["", " ", "a\0b", "\udcff.jsonl", "x" * 300])
def test_a_source_that_cannot_be_is_refused(here, source):
    done = called("curate", "ingest", source, "--out", "out")
    assert done.code in (2, 3)
    assert done.problem() is None


def test_a_folder_with_a_name_that_is_not_utf8_is_refused_by_that_name(here):
    Path("in").mkdir()
    Path(os.fsdecode(b"in/\xff.jsonl")).write_text(ROWS)
    done = called("curate", "ingest", "in", "--out", "out")
    assert done.code == 3
    assert "rename it" in done.message


def test_glob_characters_and_255_bytes_are_names_like_others(here):
    assert called("curate", "ingest", "d.jsonl", "--out", "g[1]*?").code == 0
    assert called("curate", "ingest", "g[1]*?", "--out", "again").code == 0
    assert called("curate", "export", "again", "--out", "x" * 255).code == 0
    assert called("report", "again", "--out", "y" * 255).code == 0
    assert len(os.fsencode(unused_name(Path("é" * 127)).name)) <= 255


@pytest.mark.parametrize(
    "url",
    [
        "https://me:S3cret@host/d.jsonl?token=S3cret&part=1",
        "https://host/d.jsonl?X-Amz-Signature=S3cret&part=1&X-Amz-Security-Token=S3cret",
        "https://host/d.jsonl?part=1&X-Goog-Credential=S3cret&client_secret=S3cret",
        "https://host/d.jsonl?auth=S3cret;pwd=S3cret&part=1#access_token=S3cret",
        "https://host/d.jsonl?part=1&to=https%3A%2F%2Fh%2F%3Fsig%3DS3cret",
        "https://me:S3cret/S3cret@S3cret@host/d.jsonl?part=1",
    ],
)
def test_what_is_secret_in_a_url_is_not_printed(here, url):
    for words in (["curate", "ingest", url], ["finetune", "sft", "d.jsonl", "--model", url]):
        done = called(*words, "--out", "out")
        assert done.code in (2, 3), done
        assert "S3cret" not in done.err + done.out
        assert "host/d.jsonl" in done.message
        assert "part=1" in done.message


def test_keys_of_the_data_reach_the_terminal_without_their_escapes(here):
    Path("d.jsonl").write_text(json.dumps({"\x1b[31mred": "x", "b\x9b2J": "y"}))
    done = called("curate", "ingest", "d.jsonl", "--out", "out")
    assert done.code == 3
    assert not set(done.err) & {"\x1b", "\x9b"}


def test_json_on_stdout_keeps_its_values_and_drives_no_terminal(here):
    row = {"prompt": "a", "completion": "\x9b2J\u202e https://me@host/"}
    Path("d.jsonl").write_text(json.dumps(row))
    assert called("curate", "ingest", "d.jsonl", "--out", "out").code == 0
    told = called("curate", "explain", "out", "d:1", "--json")
    assert not set(told.out) & {"\x9b", "\u202e"}
    assert json.loads(told.out)["content"]["messages"][1]["content"] == row["completion"]


DAMAGES = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a list": lambda path: path.write_text("[1, 2]"),
    "an object": lambda path: path.write_text("{}"),
    "gone": lambda path: path.unlink(),
}
FILES = ("manifest.json", "ledger.parquet", "kept.parquet", "stages/length-*.parquet")


DAMAGED = (*FILES, "stages/ingest-*.parquet", "stages/length-*.json")


@pytest.mark.parametrize(
    ("damage", "file"),
    [  # in the quick tests, each kind of damage and each file twice
        pytest.param(damage, file, marks=pytest.mark.slow if (i + j) % 3 else ())
        for i, damage in enumerate(DAMAGES)
        for j, file in enumerate(DAMAGED)
    ],
)
def test_a_damaged_file_of_a_run_is_a_line_and_is_made_again(finished, tmp_path, file, damage):
    run = shutil.copytree(finished / "run", tmp_path / "run")
    whole = {path.name: path.read_bytes() for path in run.rglob("*.parquet")}
    (path,) = run.glob(file)
    DAMAGES[damage](path)
    for words in (["explain", run, "d:3"], ["export", run, "--out", tmp_path / f"e{damage}"]):
        done = called("curate", *words)
        assert done.problem() is None, done
        assert done.code == 0 or str(run) in done.message
    done = called("report", run, "--out", tmp_path / "report.html")
    assert done.problem() is None, done
    again = called("curate", "score", finished / "d.jsonl", "length", "--out", run)
    assert again.code == 0, again
    assert {path.name: path.read_bytes() for path in run.rglob("*.parquet")} == whole
    assert json.loads((run / "manifest.json").read_bytes())["counts"]["kept"] == 9


def test_a_pipe_that_nobody_writes_to_is_an_error_after_a_while(here):
    os.mkfifo("pipe")
    with pytest.raises(Exception, match="nobody wrote to"):
        open_pipe(Path("pipe"), wait=0.2).read()


def test_a_recipe_may_come_through_a_pipe_that_is_not_waited_for_without_end(here, monkeypatch):
    os.mkfifo("pipe")
    monkeypatch.setattr("siftune.curate.files.yaml_text.open_pipe", partial(open_pipe, wait=0.1))
    for group in ("curate", "pipelines"):
        done = called(group, "run", "pipe", "--out", "out")
        assert done.code == 2
        assert "nobody wrote to" in done.message
    writer = threading.Thread(target=lambda: Path("pipe").write_text("source: d.jsonl"))
    writer.start()
    assert called("curate", "run", "pipe", "--out", "out").code == 0
    writer.join()


def test_a_model_folder_with_a_pipe_is_refused(here):
    Path("m").mkdir()
    os.mkfifo("m/tokenizer_config.json")
    with pytest.raises(UsageError, match=r"m/tokenizer_config.json is not a file"):
        check_settings(Path("m"))


def test_a_slow_writer_of_a_pipe_is_waited_for(here):
    os.mkfifo("pipe")
    begun = threading.Event()

    def write() -> None:
        with Path("pipe").open("w") as stream:
            begun.wait(5)
            stream.write(ROWS)

    writer = threading.Thread(target=write)
    with open_pipe(Path("pipe"), wait=5) as stream:
        writer.start()
        begun.set()
        assert stream.read().decode() == ROWS
    writer.join()


def test_a_device_is_no_source(here):
    done = called("curate", "ingest", "/dev/zero", "--out", "out")
    assert done.code == 3
    assert "is a device" in done.message


def test_a_bomb_of_line_ends_is_refused_by_its_growth(here):
    Path("d.jsonl.zst").write_bytes(zstandard.compress(b"\n" * (1 << 28)))
    done = called("curate", "ingest", "d.jsonl.zst", "--out", "out")
    assert done.code == 3
    assert "more than 500 times" in done.message


@pytest.mark.parametrize("decoded", [False, True])
def test_a_small_parquet_of_long_repeated_texts_is_refused_by_its_growth(
    here, monkeypatch, decoded
):
    monkeypatch.setattr("siftune.curate.io.expansion_limits._FREE", 1 << 20)
    texts = pa.array(["x" * 10**5])
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), texts)
    column = text.dictionary_decode() if decoded else text
    pq.write_table(pa.table({"text": column}), "d.parquet")
    assert Path("d.parquet").stat().st_size < 1 << 17
    done = called("curate", "ingest", "d.parquet", "--out", "out")
    assert done.code == 3
    assert "more than 100 times" in done.message
    assert not list(here.rglob("*.part"))


@pytest.mark.parametrize("name", ["No space left on device", "Disk quota exceeded"])
def test_an_error_of_the_disk_names_the_file_that_was_written(tmp_path, name):
    number = {"No space left on device": errno.ENOSPC, "Disk quota exceeded": errno.EDQUOT}[name]
    for error in (OSError(number, name), pl.exceptions.ComputeError(f"{name} (os error {number})")):
        with pytest.raises(OSError, match=name) as found, name_in_errors(tmp_path / "kept.parquet"):
            raise error
        failure = failure_of(found.value)
        assert failure.code == 1
        assert f"{name}: {tmp_path / 'kept.parquet'}" in failure.text


def test_a_disk_that_is_full_while_a_file_is_written_names_that_file(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        write_text(tmp_path / "x.json", "{}")
    assert error.value.filename == str(tmp_path / "x.json")


def _caused(error: Exception, reason: str) -> Exception:
    error.__cause__ = ImportError(reason)
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "out of memory"),
        (ImportError("libx.so: failed to map segment from shared object"), 1, "out of memory"),
        (_caused(ImportError("read this"), "failed to map segment"), 1, "out of memory"),
        (OSError("Unknown error: Failed to launch worker thread: later"), 1, "out of memory"),
        (RuntimeError('Os { code: 24, kind: TooManyOpenFiles, message: "" }'), 1, "too many open"),
        (OSError(errno.EMFILE, "Failed to open. Detail: [errno 24] Too many open files"), 1, "too"),
        (OSError(errno.EIO, "Input/output error"), 1, "Input/output error: standard output"),
        (
            OSError(errno.EPERM, "Failed to open 'x'. Detail: [errno 1]"),
            1,
            "Operation not permitted",
        ),
        (RecursionError("maximum recursion depth"), 3, "nested too deeply"),
        (pa.ArrowInvalid("Parquet magic bytes not found"), 3, "may be damaged"),
        (pl.exceptions.ComputeError("bad page"), 3, "may be damaged"),
        (UsageError("no"), 2, "no"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), 2, "File name too long: x"),
        (KeyError("stage"), 1, "unexpected KeyError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_a_line_and_a_code(error, code, said):
    failure = failure_of(error)
    assert failure.code == code
    assert said in failure.text
    assert failure.known == ("unexpected" not in said)
    assert "\n" not in failure.text


@pytest.mark.parametrize(("limit", "code_is_known"), [(1 << 20, True), (1 << 50, False)])
def test_any_error_near_the_limit_of_memory_is_put_down_to_it(monkeypatch, limit, code_is_known):
    monkeypatch.setattr("resource.getrlimit", lambda kind: (limit, -1))
    failure = failure_of(NameError("name 'PyLazyFrame' is not defined"))
    assert failure.known == code_is_known
    assert ("out of memory" in failure.text) == code_is_known


@pytest.mark.parametrize(
    "error", [NameError("PyLazyFrame"), ImportError("x"), RuntimeError("Too many open files")]
)
def test_what_stops_the_program_is_not_put_down_to_a_file(tmp_path, error):
    with pytest.raises(type(error)), reading(tmp_path / "ledger.parquet"):
        raise error


def test_the_file_that_could_not_be_opened_is_named_not_the_one_written(tmp_path):
    error = OSError(errno.EACCES, "Failed to open local file 'stages/a.parquet'. Detail: no")
    with pytest.raises(OSError, match="Failed") as found, name_in_errors(tmp_path / "kept.parquet"):
        raise error
    assert failure_of(found.value).text == "Permission denied: stages/a.parquet"


def test_a_current_folder_that_was_removed_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    done = called("curate", "ingest", "d.jsonl", "--out", "out")
    assert done.code == 1
    assert "the current folder was removed" in done.message
