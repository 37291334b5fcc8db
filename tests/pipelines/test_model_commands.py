from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import UsageError
from siftune.curate.models import cache
from siftune.pipelines.cli import siftune

LENGTH = ["--reward", "length", "--reward-options", "{target: 5}"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIFTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "package_folder", lambda model: None)
    monkeypatch.chdir(tmp_path)


def called(*arguments: str) -> str:
    return CliRunner().invoke(siftune, arguments, catch_exceptions=False).stdout


def test_the_list_gives_name_summary_licence_size_and_state() -> None:
    lines = called("models", "list").splitlines()
    assert lines[0].startswith("smollm2: SmolLM2-135M-Instruct")
    assert "(Apache-2.0; 93 MB to download, 542 MB on disk); absent" in lines[0]
    rows = json.loads(called("models", "list", "--json"))
    assert [(row["name"], row["state"]) for row in rows] == [
        ("smollm2", "absent"),
        ("minilm", "absent"),
    ]


@pytest.mark.parametrize("command", ["path", "get"])
def test_an_unknown_model_gets_a_hint(command: str) -> None:
    with pytest.raises(UsageError, match=r"no model is called 'SmolLM'; did you mean smollm2\?"):
        called("models", command, "SmolLM")


def test_the_path_of_an_absent_model_names_the_command_that_gets_it() -> None:
    with pytest.raises(UsageError, match=r"^smollm2 is not in the cache: siftune models get smoll"):
        called("models", "path", "smollm2")


@pytest.mark.parametrize(
    "arguments",
    [
        ["finetune", "sft", "rows.jsonl", "--model", "smollm2", "--out", "out"],
        ["finetune", "dpo", "pairs.jsonl", "--model", "smollm2", "--out", "out"],
        ["finetune", "reward", "pairs.jsonl", "--model", "smollm2", "--out", "out"],
        [
            "finetune",
            "sample",
            "rows.jsonl",
            *LENGTH,
            "--model",
            "smollm2",
            "--out",
            "out",
        ],
        ["finetune", "evaluate", "rows.jsonl", "--model", "smollm2", "--out", "out"],
        ["curate", "score", "rows.jsonl", "ifd", "--model", "smollm2", "--out", "out"],
        ["curate", "score", "rows.jsonl", "perplexity", "--model", "smollm2", "--out", "out"],
        ["curate", "score", "rows.jsonl", "length", "--tokenizer", "smollm2", "--out", "out"],
        ["curate", "score", "rows.jsonl", "embedding", "--model", "smollm2", "--out", "out"],
    ],
)
def test_every_command_that_takes_a_model_knows_the_catalogue(arguments: list[str]) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    Path("rows.jsonl").write_text(json.dumps({"messages": chat}) + "\n")
    Path("pairs.jsonl").write_text((json.dumps(pair) + "\n") * 4)
    with pytest.raises(UsageError, match=r"smollm2 is not in the cache: siftune models get smollm"):
        called(*arguments)


def test_help_and_list_import_no_model_library() -> None:
    script = (
        "import sys; from click.testing import CliRunner; "
        "from siftune.pipelines.cli import siftune; "
        "r = [CliRunner().invoke(siftune, ['models', *a]).exit_code for a in "
        "(['--help'], ['get', '--help'], ['list'])]; assert r == [0, 0, 0], r; "
        "assert not {'torch', 'transformers', 'polars'} & set(sys.modules)"
    )
    tree = Path(__file__).parents[2]
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
