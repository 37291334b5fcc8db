"""The day's work on the command line, on made-up rows and on real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.days_work import __main__ as days_work
from examples.days_work.rows import make
from siftune.curate.runs.recipe import load

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


def day(out: Path, *words: object) -> str:
    """What a day's work prints; it has to end well."""
    line = [sys.executable, "-m", "examples.days_work", "--out", out, *words]
    # The day is to find its finished stages again; tests find none (conftest).
    env = {name: value for name, value in os.environ.items() if name != "SIFTUNE_STAGE_CACHE"}
    done = subprocess.run(list(map(str, line)), cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_a_day_on_made_up_rows_goes_from_raw_files_to_dpo_and_every_check_holds(
    tmp_path: Path,
) -> None:
    told = day(tmp_path / "day")
    assert {"sft", "dpo"} <= set(re.findall(r"^(\w+): loss on held-out answers", told, re.M))
    exported = (tmp_path / "day" / "rows-trl" / "train.jsonl").read_text()
    assert '"tool_calls"' in exported  # they came in as ShareGPT's function_call turns
    trained = json.loads((tmp_path / "day" / "sft" / "siftune.json").read_text())["data"]
    assert not trained["dropped"]


@pytest.mark.slow
def test_a_day_on_real_rows_and_a_real_model(tmp_path: Path) -> None:
    data, model = SHARED / "data", SHARED / "models" / "base-4m"
    files = {
        "--instructions": data / "sft_selfinstruct_seed_175.jsonl.zst",
        "--chats": data / "chat_oasst_en_100_trees.jsonl.zst",
        "--pairs": data / "pref_alpacaeval1_dev.jsonl.zst",
        "--held-out": data / "math_svamp_700.jsonl.zst",
        "--model": model,
    }
    missing = [str(path) for path in files.values() if not path.exists()]
    if missing:
        pytest.skip(f"the real data is not there: {', '.join(missing)}")
    words = [word for pair in files.items() for word in pair]
    assert "dpo: loss on held-out answers" in day(
        tmp_path / "day", *words, "--chats-format", "oasst", "--keep", 40
    )


def test_a_folder_with_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    assert days_work.main(["--out", str(tmp_path)]) == 2
    assert "is not empty: give another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_keys_that_the_script_sets_are_those_of_the_recipes(tmp_path: Path) -> None:
    raw = make(tmp_path, rows=200)
    given = [
        f"source={raw.chats}",
        f"{days_work.AGAINST}={raw.held_out}",
        f"{days_work.MODEL}={tmp_path}",
        f"{days_work.QUOTA}=7",
    ]
    rows = load(days_work.ROWS, given).stages
    assert (rows[4].options["against"], rows[10].options["model"], rows[12].options["rows"]) == (
        str(raw.held_out),
        str(tmp_path),
        7,
    )
    assert days_work.SCORES.startswith(f"11:{rows[10].name}")
    pairs = load(days_work.PAIRS, [f"source={raw.pairs[0]}", f"{days_work.RANDOM}=5"]).stages
    assert (pairs[7].name, pairs[7].options["rows"]) == ("random", 5)


def test_a_lost_row_is_found(tmp_path: Path) -> None:
    counts = {"rows": 3, "kept": 2, "dropped": 0, "quarantined": 0}
    stages = [{"stage": "ingest", "rows_in": 3, "kept": 3}]
    (tmp_path / "manifest.json").write_text(json.dumps({"counts": counts, "stages": stages}))
    with pytest.raises(days_work.Wrong, match="lost no row"):
        days_work._whole(tmp_path)
