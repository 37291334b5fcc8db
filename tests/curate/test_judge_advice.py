"""`siftune curate judge`: what it refuses says what to do instead, and what costs nobody knows."""

import json

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import UsageError
from siftune.pipelines.cli import siftune

RATE = """
def rate(messages):
    return "4"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(RATE)
    return tmp_path


def write(folder, records):
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def siftune_curate(*words, code=0):
    done = CliRunner().invoke(siftune, ["curate", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def rows(number):
    return [{"prompt": f"q{n}", "response": f"word {n}"} for n in range(number)]


UNPRICED = """
from siftune.curate.judge_calls.types import Answer

def unpriced(question):
    return Answer("4", input_tokens=10, output_tokens=2)
"""


def test_a_cost_without_a_price_is_not_known_and_not_zero(folder):
    (folder / "own.py").write_text(UNPRICED)
    write(folder, rows(12))
    words = ("judge", "rows.jsonl", "--judge", "own.py:unpriced")
    unknown = "cost: not known (give --price-input and --price-output)"
    assert unknown in siftune_curate(*words, "--pilot", 11)
    sums = json.loads(siftune_curate(*words, "--out", "run", "--json"))["stages"][1]["sums"]
    assert (sums["input_tokens"], "cost" in sums) == (120, False)
    assert pl.read_parquet("run/kept.parquet")["judge_rating_cost"].null_count() == 12
    assert unknown not in siftune_curate(*words, "--pilot", 11, "--price-input", 1)


CHAT = {"prompt": "q", "response": "a"}
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("record", "words", "said"),
    [
        (CHAT, ("--judge", "nofile.py:x"), "judge: nofile.py:x: there is no file nofile.py"),
        (
            CHAT,
            ("--task", "propositions"),
            "needs the option 'propositions': --task-options '{propositions: [...]}'",
        ),
        (
            CHAT,
            ("--task", "propositions", "--task-options", "{propositions: [Is it short?]}"),
            'a text with ? needs quotes, as ["Is it short?"]',
        ),
        (
            CHAT,
            ("--task", "pairwise"),
            "pairwise compares pairs; these rows are conversations: take --label or --task "
            "alpagasus",
        ),
        (
            PAIR,
            ("--task", "listwise"),
            "listwise ranks lists of answers; these rows are pairs: take --task pairwise",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(folder, record, words, said):
    write(folder, [record])
    judge = () if "--judge" in words else ("--judge", "judge.py:rate")
    words = ("rows.jsonl", *judge, *words, "--out", "run")
    done = CliRunner().invoke(siftune, ["curate", "judge", *words])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_keys_are_renamed(folder):
    write(folder, [{"ask": "q", "told": "a"}])
    words = ("--map", "ask=prompt", "--map", "told=completion", "--out", "run")
    out = siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:rate", *words)
    assert "1 rows = 1 kept" in out
