"""`siftune curate judge`: rows judged and labelled; a panel; the list of what there is."""

import base64
import json

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.pipelines.cli import siftune
from tests.judge_commands import JUDGE, asked, rows, siftune_curate, write
from tests.judge_server import JudgeServer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(JUDGE)
    return tmp_path


def test_rows_are_rated(folder):
    write(folder, rows(3))
    out = siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:rate", "--out", "run")
    assert "3 rows = 3 kept" in out
    assert pl.read_parquet("run/kept.parquet")["judge_rating"].to_list() == [4.0] * 3
    again = siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:rate", "--out", "run")
    assert "every stage was done before" in again
    assert asked(folder) == 3


def test_pairs_are_compared_by_default(folder):
    write(folder, [{"prompt": "q", "chosen": "long", "rejected": "short"}])
    siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:longer", "--out", "run")
    assert pl.read_parquet("run/kept.parquet")["judge_pairwise_winner"].to_list() == ["first"]


def test_answers_to_a_prompt_become_labelled_pairs(folder):
    answers = [
        ("a", "short"),
        ("b", "torn 1"),
        ("a", "long"),
        ("b", "torn 2"),
        ("c", "x"),
        ("c", "y"),
    ]
    write(folder, [{"prompt": p, "response": r} for p, r in [*answers, ("d", "alone")]])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    siftune_curate(*words)
    kept = pl.read_parquet("run/kept.parquet")
    sides = [kept[side].list.first().struct.field("content")[0] for side in ("chosen", "rejected")]
    assert (kept.height, sides) == (1, ["long", "short"])
    assert kept["judge_pairwise_winner"].to_list() == ["first"]
    ledger = pl.read_parquet("run/ledger.parquet")
    assert dict(ledger.select("id", "reason").iter_rows()) == {
        "rows:1": "confirmed",
        "rows:2": "inconsistent",
        "rows:5": "tie",
        "rows:7": "too_few_answers",
    }
    assert "every stage was done before" in siftune_curate(*words)


def test_rows_and_answers_that_make_no_pair_have_a_decision(folder):
    answers = ["short", "long", "long 3"], ["alone"], ["same", "same"]
    records = [
        {"prompt": p, "response": r} for p, said in zip("abc", answers, strict=True) for r in said
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + "{no\n")
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    out = siftune_curate(*words, code=PARTIAL)
    assert "6 rows = 1 kept, 4 dropped, 1 quarantined" in out
    assert "dropped/equal_answers                    2" in out
    ledger = pl.read_parquet("run/ledger.parquet").select("id", "decision", "reason", "detail")
    assert ledger.rows()[:-1] == [
        ("rows:1", "kept", "confirmed", '{"winner":"first"}'),
        ("rows:3", "dropped", "odd_answer", '{"answers":3}'),
        ("rows:4", "dropped", "too_few_answers", '{"answers":1}'),
        ("rows:5", "dropped", "equal_answers", '{"answers":2}'),
        ("rows:6", "dropped", "equal_answers", '{"answers":2}'),
    ]
    assert ledger["decision"][-1] == "quarantined"
    assert "odd_answer" in siftune_curate("explain", "run", "rows:3")
    assert "rows:1" in siftune_curate("explain", "run", "rows:2")  # the pair that it is in
    assert "every stage was done before" in siftune_curate(*words, code=PARTIAL)


def test_a_call_that_succeeds_once_pairs_are_made_labels_its_pair(folder):
    """The first call fails, so the pair is made as it came; then the judge prefers its second."""
    (folder / "moody.py").write_text(MOODY)
    write(folder, [{"prompt": "a", "response": r} for r in ("short", "long")])
    words = ("judge", "rows.jsonl", "--judge", "moody.py:longer", "--label", "--out", "run")
    assert "1 rows = 1 kept" in siftune_curate(*words, "--tries", "1")
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["chosen"].list.first().struct.field("content").to_list() == ["long"]


MOODY = """
from pathlib import Path

from siftune.curate.judge_calls.types import BackendError

FAILED = Path(__file__).with_name("failed")


def longer(messages):
    if not FAILED.exists():
        FAILED.touch()
        return BackendError("timeout")
    text = messages[1]["content"]
    return "A" if text.find("long") < text.find("short") else "B"
"""


def test_any_two_answers_to_a_prompt_are_compared_where_all_pairs_are_asked_for(folder):
    write(folder, [{"prompt": "a", "response": r} for r in ("short", "long 1", "short")])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    siftune_curate(*words, "--pairs", "all")
    kept = pl.read_parquet("run/kept.parquet")  # the first and the third answer are equal
    assert kept["id"].to_list() == ["rows:1#1-2", "rows:1#2-3"]
    assert {row[0]["content"] for row in kept["chosen"]} == {"long 1"}


def test_pairs_are_labelled_anew(folder):
    write(folder, [{"prompt": "q", "chosen": "short", "rejected": "long"}])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    siftune_curate(*words)
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["chosen"].list.first().struct.field("content").to_list() == ["long"]


def test_a_quorum_of_one_judge_is_refused_and_no_label_at_all_is_said(folder):
    write(folder, [{"prompt": "q", "chosen": "x", "rejected": "y"}])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    done = CliRunner().invoke(siftune, ["curate", *words, "--quorum", "2"])
    assert "quorum: there is one judge" in str(done.exception)
    assert "no pair was labelled" in siftune_curate(*words)


def test_labels_need_two_answers_and_a_task_that_compares(folder):
    write(folder, [{"prompt": "q", "response": "alone"}])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    done = CliRunner().invoke(siftune, ["curate", *words])
    assert "no prompt has two different answers" in str(done.exception)
    done = CliRunner().invoke(siftune, ["curate", *words, "--task", "alpagasus"])
    assert "compares no two answers" in str(done.exception)
    assert not (folder / "run").exists()


def test_ranked_answers_are_paired_in_order(folder):
    answers = ["short 1", "long 1", "long 2", "short 2", "left over"]
    record = {"prompt": "q", "completions": answers, "scores": [1, 2, 3, 4, 5]}
    write(folder, [record, {**record, "prompt": "r"}])
    siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["id"].to_list() == ["rows:1#1", "rows:1#2", "rows:2#1", "rows:2#2"]
    chosen = kept["chosen"].list.first().struct.field("content").to_list()
    assert chosen == ["long 1", "long 2"] * 2
    ledger = pl.read_parquet("run/ledger.parquet")
    dropped = ledger.filter(decision="dropped").select("id", "reason").rows()
    assert dropped == [("rows:1#3", "odd_answer"), ("rows:2#3", "odd_answer")]
    assert "rows:2#1" in siftune_curate("explain", "run", "rows:2")


def test_a_classifier_scores_both_sides_of_pairs(folder, tiny_reward_dir):
    write(folder, [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    siftune_curate(
        "judge", "rows.jsonl", "--judge", f"classifier:{tiny_reward_dir}", "--out", "run"
    )
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["chosen_judge_rating"][0] != kept["rejected_judge_rating"][0]
    assert kept["chosen_judge_rating_error"].null_count() == 1


def test_a_panel_is_several_judges(folder):
    write(folder, [{"prompt": "q", "chosen": "long", "rejected": "short"}])
    (folder / "other.py").write_text("def first(messages):\n    return 'A'\n")
    words = ("--judge", "judge.py:longer", "--judge", "other.py:first", "--out", "run")
    siftune_curate("judge", "rows.jsonl", *words)
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["judge_pairwise_votes"].to_list() == [["first", "tie"]]
    assert kept["judge_pairwise_agreement"].to_list() == [0.5]


def test_biases_are_reported_with_intervals(folder):
    write(
        folder,
        [{"prompt": f"q{n}", "chosen": f"long {n}", "rejected": f"short {n}"} for n in range(40)]
        + [{"prompt": f"t{n}", "chosen": f"torn {n}", "rejected": f"torn, {n}"} for n in range(40)],
    )
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--out", "run", "--report")
    found = json.loads(siftune_curate(*words, "--json").splitlines()[-1])["report"]["figures"]
    assert found["position_bias"]["value"] == pytest.approx(0.5)
    assert found["inconsistent"]["value"] == pytest.approx(0.5)
    assert found["win_rate"]["value"] == pytest.approx(0.75)
    shown = siftune_curate(*words)
    assert "position_bias  " in shown
    assert "length_controlled" in shown


def test_ratings_are_reported_by_length_and_panels_by_their_agreement(folder):
    (folder / "judge.py").write_text(
        "def longer(messages):\n    return str(min(5, len(messages[1]['content']) // 300))\n"
        "def same(messages):\n    return longer(messages)\n"
    )
    write(folder, rows(60))
    words = ("--judge", "judge.py:longer", "--judge", "judge.py:same", "--out", "run", "--report")
    found = json.loads(siftune_curate("judge", "rows.jsonl", *words, "--json"))["report"]["figures"]
    assert found["length_correlation"]["value"] > 0.9
    assert found["panel_alpha"]["value"] == pytest.approx(1)


def test_a_password_in_the_url_of_a_judge_is_in_no_file_and_no_line(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    write(folder, rows(2))
    with JudgeServer() as server:
        judge = server.url.replace("//", "//me:hunter2222@") + "#m"
        recipe = {"source": "rows.jsonl", "stages": [{"score": "judge_rating", "judge": judge}]}
        (folder / "recipe.json").write_text(json.dumps(recipe))
        words = ("run", "recipe.json", "--out", "run", "--json")
        shown = [CliRunner().invoke(siftune, ["curate", *words]) for _ in range(2)]
    assert [done.exit_code for done in shown] == [0, 0]
    assert len(server.bodies) == 2
    assert server.headers[0]["authorization"].startswith("Basic ")
    (folder / "recipe.json").unlink()
    texts = [done.output.encode() for done in shown]
    texts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    secrets = [b"hunter2222", b"sk-0123456789", base64.b64encode(b"me:hunter2222")]
    assert not [text for text in texts for secret in secrets if secret in text]


def test_a_run_that_broke_off_asks_no_answered_question_again(folder):
    write(folder, rows(150))
    (folder / "judge.py").write_text(BREAKS)
    words = ("curate", "judge", "rows.jsonl", "--judge", "judge.py:rate", "--out", "run")
    assert "RuntimeError: power" in str(CliRunner().invoke(siftune, words).exception)
    before = asked(folder)
    assert before == 2 * 64  # batches of questions, each of them answered and kept
    (folder / "up").touch()
    siftune_curate(*words[1:])
    assert asked(folder) == 150


BREAKS = """
from pathlib import Path

HERE = Path(__file__).parent


def rate(questions):
    with (HERE / "asked").open("a") as file:
        if file.tell() >= 2 * 128 and not (HERE / "up").exists():
            raise RuntimeError("power")
        file.write("1\\n" * len(questions))
    return ["4"] * len(questions)
"""


def test_what_there_is_is_listed(folder):
    out = siftune_curate("judges")
    assert "local_model" in out
    assert "deita_quality" in out
    assert "listwise (judge_ranking)" in out
    found = json.loads(siftune_curate("judges", "--json"))
    assert found["tasks"]["pairwise"].endswith(".")
    assert found["tasks"].keys() == found["scorers"].keys()
    assert found["scorers"]["ultrafeedback"] == "judge_rating"


def test_a_run_needs_a_folder_and_unscored_rows_end_partial(folder):
    write(folder, [{"prompt": "q", "response": "torn"}])
    done = CliRunner().invoke(
        siftune, ["curate", "judge", "rows.jsonl", "--judge", "judge.py:longer"]
    )
    assert "--out FOLDER" in str(done.exception)
    words = ("--judge", "judge.py:longer", "--ask-again", 0, "--out", "run")
    assert "not scored: unparsed 1" in siftune_curate("judge", "rows.jsonl", *words, "--pilot", 1)
    done = CliRunner().invoke(siftune, ["curate", "judge", "rows.jsonl", *map(str, words)])
    assert done.exit_code == PARTIAL
    assert "1:judge_rating: scored 1 rows, 1 not scored (unparsed 1)" in done.stderr
    assert "1:judge_rating: unparsed: expected a line 'Score: k'" in done.stderr


def test_a_key_of_a_server_is_in_no_file_and_no_line_wherever_it_was_written(folder):
    write(folder, rows(1))
    words = ("curate", "judge", "rows.jsonl", "--out", "run", "--tries", "1")
    url = "http://127.0.0.1:1/v1"
    shown = []
    for judge, options, text in (
        (f"{url}#m", ("--judge-options", "key_variable=sk-canary-0009"), "key_variable: expected"),
        (f"{url}#m", ("--judge-options", "extra_body={api_key: canary-0009}"), "like a key"),
        (f"{url}/sk-canary-0009#m", (), "4"),
    ):
        done = CliRunner().invoke(siftune, [*words, "--judge", judge, *options])
        assert text in str(done.exception)
        shown += [done.output.encode(), str(done.exception).encode()]
    shown += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not [text for text in shown if b"canary" in text]


def test_standard_input_needs_the_name_of_the_task(folder):
    line = json.dumps({"prompt": "q", "chosen": "long", "rejected": "short"})
    words = ["curate", "judge", "-", "--judge", "judge.py:longer", "--out", "run"]
    done = CliRunner().invoke(siftune, words, input=line)
    assert isinstance(done.exception, UsageError)
    assert "name what is judged, --task pairwise for pairs" in str(done.exception)
