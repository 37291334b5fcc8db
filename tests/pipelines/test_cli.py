"""The command line: quick to help, one line and an exit code for a mistake, data on stdout."""

import json
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import names
from siftune.curate.models.model_files import loading
from siftune.pipelines.cli import siftune as siftune_group
from tests.fuzz.commands import called
from tests.tiny_models import quality_head

GROUPS = [
    *([], ["curate"], ["finetune"], ["pipelines"], ["report"], ["doctor"]),
    *(["curate", "score", "x"], ["curate", "select", "x"]),
]


def siftune(*words: object, stdin: str = "") -> subprocess.CompletedProcess:
    """The command in a process of its own, which costs a second of imports; else `called`."""
    return subprocess.run(
        [sys.executable, "-m", "siftune", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"q{i}", "completion": "w " * i}) + "\n" for i in range(9))
    )
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    lines = (json.dumps({"prompt": f"q{i}", "completion": "w " * i}) for i in range(9))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    words = ("score", folder / "rows.jsonl", "length", "--out", folder / "run")
    assert _called("curate", *words).exit_code == 0
    return folder / "run"


def test_help_comes_without_torch_polars_or_any_other_heavy_import():
    probe = "import sys; from click.testing import CliRunner\n"
    probe += "from siftune.pipelines.cli import siftune\n"
    probe += f"for words in {GROUPS}:\n"
    probe += "    r = CliRunner().invoke(siftune, [*words, '--help'], catch_exceptions=False)\n"
    probe += "    assert 'Usage' in r.output, (words, r.output)\n"
    probe += "print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    heavy = {
        "torch",
        "transformers",
        "trl",
        "datasets",
        "polars",
        "numpy",
        "pydantic",
        "faiss",
        "numba",
    }
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--foo", "1"], "No such option '--foo'"),
        ([], "Missing argument 'SOURCES...'"),
        (["a.jsonl", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range 1<=x"),
    ],
    ids=["unknown", "missing", "out of range"],
)
def test_a_word_that_click_refuses_is_one_line_that_names_the_help(words, expected):
    done = called("curate", "ingest", *words)
    assert done.code == 2
    assert done.err.startswith("siftune: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert done.err.endswith(" curate ingest --help\n")


def test_every_command_has_a_help_text():
    from click.testing import CliRunner

    from siftune.pipelines.cli import siftune as command

    for words in (
        ["curate", "run"],
        ["curate", "explain"],
        ["curate", "export"],
        ["report"],
        ["doctor"],
    ):
        shown = CliRunner().invoke(command, [*words, "--help"], catch_exceptions=False)
        assert shown.exit_code == 0
        assert "Usage" in shown.output


@pytest.mark.parametrize(
    ("group", "name", "flag"),
    [
        ("score", "length", "--tokenizer"),
        ("select", "quota", "--group-by"),
        ("dedup", "exact_dedup", "--normalise"),
    ],
)
def test_a_component_has_its_help_wherever_the_rows_are(group, name, flag):
    asked = (
        [name, "--help"],
        ["rows.jsonl", name, "--help"],
        [name, "rows.jsonl", "--help"],
        ["--help", name],
        [name, "-h"],
        [name, "--out", "run", "--help"],
        [name, name, "--help"],
    )
    shown = {_called("curate", group, *words).output for words in asked}
    assert len(shown) == 1
    assert flag in shown.pop()
    assert "Commands" in _called("curate", group, "--help").output


def test_rows_after_the_component_are_answered_with_the_line_that_works(rows, tmp_path):
    words = (
        "top_k",
        str(rows),
        "--by",
        "length_words",
        "--rows",
        "2",
        "--out",
        str(tmp_path / "run"),
    )
    done = called("curate", "select", *words)
    assert done.code == 2
    assert done.message.endswith(f" curate select {rows} top_k")
    assert "the rows come first: " in done.message


def test_every_command_of_a_group_is_listed_with_its_summary():
    groups = (["finetune"], *(["curate", one] for one in ("score", "select", "dedup")))
    for words in groups:
        shown = _called(*words, "--help")
        assert shown.exit_code == 0, shown.exception
    sections = _called("finetune", "--help", env={"COLUMNS": "200"}).output
    titles = [line.strip("╭─╮ ") for line in sections.splitlines() if line.startswith("╭")]
    assert titles == [
        "Options",
        "Trainers",
        "Preference losses on pairs",
        "Preference losses on single labelled answers",
        "Losses on the tokens of answers",
        "Preference losses on ranked lists of answers",
        "Tools",
    ]
    for name in ("dpo", "kto", "nll", "rrhf", "sample", "conformance"):
        assert sections.count(f"│ {name} ") == 1
    assert sections.count("│ sft ") == 1


def test_ingest_score_select_explain_export_from_the_command_line(rows, tmp_path):
    assert called("curate", "ingest", rows, "--out", tmp_path / "in").code == 0
    scored = called("curate", "score", tmp_path / "in", "length", "--out", tmp_path / "scored")
    assert scored.code == 0, scored.err
    done = called(
        *("curate", "select", tmp_path / "scored", "top_k"),
        *("--by", "length_words", "--rows", "2", "--out", tmp_path / "top"),
    )
    assert done.code == 0, done.err
    assert pl.read_parquet(tmp_path / "top" / "kept.parquet")["id"].to_list() == [
        "rows:8",
        "rows:9",
    ]
    story = json.loads(called("curate", "explain", tmp_path / "top", "rows:3", "--json").out)
    assert story["final"]["decision"] == "dropped"
    out = tmp_path / "trl"
    assert called("curate", "export", tmp_path / "top", "--out", out).code == 0
    assert len((out / "train.jsonl").read_text().splitlines()) == 2
    assert "rows in the layout TRL messages" in (out / "README.md").read_text()


def test_json_output_is_one_object_and_nothing_else(rows, tmp_path):
    done = called("curate", "ingest", rows, "--out", tmp_path / "in", "--json")
    assert json.loads(done.out)["counts"] == {
        "rows": 9,
        "kept": 9,
        "dropped": 0,
        "quarantined": 0,
    }
    assert "prompt_completion" in done.err


_REQUIRED = {
    **dict.fromkeys(("fitted_quality", "toxicity"), ("--model", "HEAD")),
    "contamination": ("--against", "ROWS"), "ifd": ("--model", "MODEL"),
    **dict.fromkeys(("perplexity", "rds"), ("--model", "MODEL")),
    "deita_filter": ("--by", "length_chars", "--rows", 3),
    "mmr": ("--by", "length_chars", "--rows", 3), "split": ("--part", "train"),
    "quota": ("--group-by", "length_chars", "--rows", 3),
    "threshold": ("--by", "length_chars", "--min", 3),
    "top_fraction": ("--by", "length_chars", "--fraction", 0.5),
    "top_k": ("--by", "length_chars", "--rows", 3), "balanced": ("--first", "length_chars"),
    "cluster_balanced": ("--rows", 3), "facility_location": ("--rows", 3),
    **dict.fromkeys(("judge_rating", "judgement", "tags"), ("--judge", "MODEL")),
    **dict.fromkeys(("judge_pairwise", "judge_ranking"), ("--judge", "MODEL")),
    **dict.fromkeys(("classifier", "reward_score"), ("--model", "CLASSIFIER")),
    "tss": ("--against", "ROWS"),
    **dict.fromkeys(("dsir", "target_similarity"), ("--against", "ROWS")),
    **dict.fromkeys(
        ("nuggets", "less", "gist", "loss_drop"), ("--against", "ROWS", "--model", "MODEL")
    ),
    **dict.fromkeys(("gradient_norm", "held_out_loss"), ("--model", "MODEL")),
    "rds_round_robin": ("--against", "ROWS", "--rows", 3),
    **dict.fromkeys(("instag", "mig", "novel_select"), ("--rows", 3)),
    "car": ("--by", "length_chars"),
    "mixture": ("--rows", 3), "pareto": ("--by", "length_chars", "--rows", 3),
    "stratified": ("--value", "length_chars", "--rows", 3),
    "pass_rate": ("--samples", "RATES"), "lim": ("--samples", "RATES,RATES"),
    "annotator_agreement": ("--votes", "votes"), "margin": ("--min", 0),
    "reward_spread": ("--margins", "length_chars,length_words"),
    "best_per_prompt": ("--by", "length_chars"), "selective": ("--by", "length_chars"),
    **dict.fromkeys(("bees", "difficulty"), ("--rows", 3)),
    "k_center": ("--rows", 3), "longest": ("--rows", 3), "random": ("--rows", 3),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("score", name) for name in names("curate.scorers")),
        *(("select", n) for n in names("curate.selectors") if not n.endswith("_dedup")),
        *(("dedup", n) for n in names("curate.selectors") if n.endswith("_dedup")),
    ],
)
def test_every_component_is_a_command_that_plans_its_stage(
    scored, tmp_path, command, name, tiny_model_dir, tiny_reward_dir
):
    head = quality_head(tmp_path / "head")
    given = {"ROWS": scored, "MODEL": tiny_model_dir, "HEAD": head, "CLASSIFIER": tiny_reward_dir}
    (tmp_path / "rates.jsonl").write_text('{"id": "rows:1", "pass_rate": 0.5}\n')
    words = [given.get(word, word) for word in _REQUIRED.get(name, ())]
    words = [str(word).replace("RATES", str(tmp_path / "rates.jsonl")) for word in words]
    done = _called("curate", command, scored, name, *words, "--out", tmp_path / "x", "--dry-run")
    if isinstance(done.exception, UsageError):  # the plan looked for columns
        told = str(done.exception)
        assert "no column" in told or (
            "it reads " in told and "these rows are conversations" in told
        )
    else:
        assert done.exit_code == 0, done.output
        assert f"1:{name}" in done.output


def test_the_seed_of_a_single_stage_is_what_its_component_draws_with(rows, tmp_path):
    kept = []
    for seed in (0, 3, 3):
        out = tmp_path / f"run-{len(kept)}"
        words = ("select", rows, "random", "--rows", 4, "--seed", seed)
        assert _called("curate", *words, "--out", out).exit_code == 0
        kept.append(set(pl.read_parquet(out / "kept.parquet")["id"]))
        assert json.loads((out / "manifest.json").read_bytes())["recipe"]["seed"] == seed
    assert kept[1] == kept[2] != kept[0]


def _called(*words: object, **given: Any) -> Result:
    return CliRunner().invoke(siftune_group, [str(word) for word in words], **given)


def test_rows_come_from_stdin_too(tmp_path):
    lines = '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'
    done = siftune("curate", "ingest", "-", "--out", tmp_path / "in", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(tmp_path / "in" / "kept.parquet")["id"].to_list() == [
        "stdin:1",
        "stdin:2",
    ]


def test_quarantined_rows_are_told_by_exit_code_four(rows, tmp_path):
    with rows.open("a") as stream:
        stream.write("not json\n")
    done = called("curate", "ingest", rows, "--out", tmp_path / "in")
    assert done.code == 4
    assert '"line":10' in (tmp_path / "in" / "quarantine.jsonl").read_text().replace(" ", "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["curate", "ingest", "nowhere.jsonl", "--out", "OUT"], 3, "nowhere.jsonl"),
        (["curate", "run", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["curate", "explain", "OUT", "x:1"], 2, "no such run folder"),
        (["curate", "export", "OUT", "--out", "OUT/x"], 2, "no such run folder"),
        (["curate", "score", "ROWS", "lenght", "--out", "OUT"], 2, "lenght"),
        (["curate", "score", "ROWS", "length", "--of", "nothing", "--out", "OUT"], 2, "nothing"),
        (
            ["curate", "select", "ROWS", "top_k", "--by", "x", "--rows", "1", "--out", "OUT"],
            2,
            "'x'",
        ),
        (
            ["curate", "select", "ROWS", "top_k", "--by", "x", "--rows", "few", "--out", "OUT"],
            2,
            "few",
        ),
        (
            ["curate", "ingest", "ROWS", "--out", "OUT", "--format", "alpacca"],
            2,
            "did you mean alpaca?",
        ),
        (["curate", "ingest", "ROWS", "--out", "OUT", "--map", "a"], 2, "KEY=NAME"),
        (["report", "OUT"], 2, "finished run"),
        (["pipelines", "run", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["frobnicate"], 2, "frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_named_with_the_documented_exit_code(rows, tmp_path, words, code, said):
    given = [{"ROWS": str(rows), "OUT": str(tmp_path / "out")}.get(word, word) for word in words]
    given = [word.replace("OUT/", f"{tmp_path}/out/") for word in given]
    done = called(*given)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_mistake_ends_the_process_with_its_exit_code_and_one_line():
    done = siftune("frobnicate")
    assert done.returncode == 2
    assert done.stderr.startswith("siftune: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_control_characters_of_the_data_do_not_reach_the_terminal(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "\u001b[2J\u202e", "completion": "\u0007"}) + "\n")
    called("curate", "ingest", rows, "--out", tmp_path / "in")
    shown = called("curate", "explain", tmp_path / "in", "rows:1").out
    assert "\ufffd[2J" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


@pytest.mark.parametrize("name", ["curate", "finetune"])
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_a_part_of_the_command_line_run_as_a_module_says_how_to_call_it(name, capsys):
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"siftune.{name}.cli", run_name="__main__")
    assert ended.value.code == 2
    assert f"call `siftune {name}`" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_the_command_line_runs_as_a_module_too(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["siftune", "--version"])
    monkeypatch.setattr("signal.signal", lambda number, action: None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("siftune.pipelines.cli", run_name="__main__")
    assert ended.value.code == 0
    assert "siftune, version" in capsys.readouterr().out


def test_a_model_is_loaded_without_the_note_on_a_kernel_that_it_does_not_use(monkeypatch):
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    monkeypatch.setattr(logger, "filters", [])
    with loading("model"):
        pass
    taken = [
        bool(logger.filter(logging.makeLogRecord({"msg": text})))
        for text in ("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "other")
    ]
    assert taken == [False, True]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("curate", "dedup", "rows.jsonl", "--out", "d"), "name a deduplicator after the rows"),
        (("curate", "list"), "`siftune curate methods` lists presets, scorers"),
        (("finetune", "grpa", "rows.jsonl"), "did you mean grpo?"),
        (("finetune", "sigmoid", "rows.jsonl"), "sigmoid is TRL's name of dpo"),
        (
            ("finetune", "sft", "rows.jsonl", "--packing", "--out", "x"),
            "--packing needs true or false, and --out follows it",
        ),
    ],
)
def test_a_command_that_is_nearly_right_is_answered_with_what_is(words, expected):
    done = _called(*words)
    assert isinstance(done.exception, UsageError)
    assert expected in str(done.exception)


def test_a_deduplicator_has_a_short_name(rows, tmp_path):
    done = _called("curate", "dedup", rows, "exact", "--out", tmp_path / "x", "--dry-run")
    assert "1:exact_dedup" in done.output


@pytest.mark.parametrize("words", [("dedup", "exact_dedup"), ("select", "random")])
def test_only_scorers_read_sides_and_turns(words):
    group, name = words
    texts = [
        _called("curate", group, name, "--help").output,
        _called("curate", "score", "length", "--help").output,
    ]
    assert [("--sides" in text, "--turns" in text) for text in texts] == [(False,) * 2, (True,) * 2]
