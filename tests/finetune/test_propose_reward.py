"""The search for a reward function: what is tried, kept, shown to the model, and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.finetune.code_execution.probe import missing_limits
from siftune.finetune.code_execution.run import ProgramError
from siftune.finetune.evaluation import reward_proposals
from siftune.finetune.evaluation.reward_proposals import Labelled, Proposal, reflection
from siftune.finetune.rewards.code_reward import CodeReward
from siftune.finetune.tools import propose_reward
from siftune.finetune.tools.propose_reward import ProposeReward

NO_PATHS = ("task",)

JUDGE = '''
import json
from pathlib import Path

FILE = Path(__file__).with_name("asked.jsonl")
LENGTH = """```python
def components(prompt, completion, row):
    return {"length": len(completion), "odd": "no number"}

def reward(prompt, completion, row):
    if "chosen" in row or "rejected" in row or row.get("reference"):
        raise AssertionError("the label is in the row")
    if completion == "no":
        raise ValueError("no \\ud800 number")
    return -sum(components(prompt, completion, row)[name] for name in ["length"])
```"""
RIGHT = """Better:
```python
def reward(prompt, completion, row):
    return float(completion.endswith("."))
```"""
BROKEN = "```python\\ndef reward(prompt completion):\\n```"

def answer(question):
    system, user = (text for _, text in question.messages)
    with FILE.open("a") as file:
        file.write(json.dumps([question.version, system, user]) + "\\n")
    number = int(question.version.rpartition(".")[2])
    if "its results" in user:
        return RIGHT if number == 1 else "I will not."
    return [BROKEN, LENGTH, "```python\\ndef reward(p, c, row):\\n    return [0]\\n```"][number]
'''
ANSWERS = ["Yes indeed.", "Red.", "Blue is fine.", "It is.", "Ten.", "Go on."]


def write_pairs(folder: Path) -> Path:
    lines = [
        {"prompt": f"Say {at}", "chosen": good, "rejected": "no" if at == 1 else "perhaps so"}
        for at, good in enumerate(ANSWERS)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def search(folder: Path, **more: Any) -> ProposeReward:
    (folder / "judge.py").write_text(JUDGE)
    given: dict[str, Any] = {"task": "Answers are sentences.", "count": 3, "rounds": 4}
    given |= {"judge": f"scripted:{folder / 'judge.py'}:answer", "held_out": 0.3, "examples": 1}
    return ProposeReward(**given | {"cache": str(folder / "judge.sqlite")} | more)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_search(folder: Path, pairs: Path) -> None:
    """Two rounds, of which the second is right on all; all that failed is there with a reason."""
    out = folder / "out"
    result = search(folder)(pairs, out)
    made = read(out / "proposals.jsonl")
    assert [(one["round"], one["number"]) for one in made] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip
    assert "SyntaxError" in made[0]["error"]
    assert made[0]["accuracy"] is None
    assert 0 < made[1]["accuracy"] < 1
    assert "length" in made[1]["parts"]
    assert made[2]["error"] == "expected a finite number, got [0]"
    assert made[2]["unscored"] == 8
    assert "NameError" in made[3]["error"] or "SyntaxError" in made[3]["error"]
    assert made[4]["accuracy"] == 1
    assert made[4]["parts"] == {}
    assert result.metrics["accuracy"] == 1
    assert result.metrics["held_out_accuracy"] == 1
    assert result.metrics["failed"] == 4
    facts = json.loads((out / "search.json").read_text())
    assert facts["best"] == {"round": 1, "number": 1}
    assert (out / "reward.py").read_text() == made[4]["code"] + "\n"
    asked = read(folder / "asked.jsonl")
    assert len(asked) == 6 == len({version for version, *_ in asked})
    assert "Answers are sentences." in asked[0][1]
    assert "better answer" in asked[0][2]
    assert f"right on {made[1]['accuracy']:.3f} of 4 comparisons" in asked[3][2]
    assert "SyntaxError" in asked[3][2]
    assert "component length: mean" in asked[3][2]
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    search(folder, replay=True)(pairs, out)  # a search that was stopped asks nothing again
    assert len(read(folder / "asked.jsonl")) == 6
    first.pop("search.json")  # its options differ
    assert first.items() <= {path.name: path.read_bytes() for path in out.iterdir()}.items()


def in_this_process(
    program: str, name: str, prompts: Sequence[str], completions: Sequence[str], rows: Any, _: Any
) -> list[tuple[bool, Any]]:
    names: dict[str, Any] = {}
    try:
        exec(program, names)
        function = names[name]
    except Exception as error:
        raise ProgramError(f"{type(error).__name__}: {error}") from None
    found: list[tuple[bool, Any]] = []
    for given in zip(prompts, completions, rows, strict=True):
        try:
            found.append((True, function(*given)))
        except Exception as error:
            found.append((False, f"{type(error).__name__}: {error}"))
    return found


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own functions of these tests, run without a process of their own."""
    for module in (propose_reward, reward_proposals):
        monkeypatch.setattr(module, "called", in_this_process)
    monkeypatch.setattr(propose_reward, "check_limits", lambda allow: None)


@pytest.mark.usefixtures("unlimited")
def test_the_best_function_goes_back_and_what_fails_is_kept(tmp_path: Path) -> None:
    check_search(tmp_path, write_pairs(tmp_path))


@pytest.mark.slow
def test_functions_run_within_limits_and_the_file_is_a_reward(tmp_path: Path) -> None:
    if lacks := missing_limits():
        pytest.skip(f"programs cannot be limited here: {lacks}")
    check_search(tmp_path, write_pairs(tmp_path))
    reward = CodeReward(str(tmp_path / "out" / "reward.py"))
    assert reward(["?", "?"], ["Yes.", "no"], [{}, {}]) == [1.0, 0.0]


@pytest.mark.usefixtures("unlimited")
def test_where_nothing_can_be_used_the_reasons_are_kept(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path)
    own = tmp_path / "own.py"
    own.write_text("def answer(question):\n    return 'def reward(p, c, r):\\n    return None'")
    made = search(tmp_path, judge=f"scripted:{own}:answer", rounds=2, count=2)
    with pytest.raises(DataError, match=r"none of 4 proposed functions could be used; .*got None"):
        made(pairs, tmp_path / "out")
    assert len(read(tmp_path / "out" / "proposals.jsonl")) == 4
    assert not (tmp_path / "out" / "reward.py").exists()
    with pytest.raises(UsageError, match="task: expected a description"):
        search(tmp_path, task=" ")


@pytest.mark.usefixtures("unlimited")
def test_labels_of_single_answers_are_compared_each_good_with_each_bad(tmp_path: Path) -> None:
    rows = [("a.", True), ("b", False), ("c.", True), ("d", False), ("e", True)]
    lines = [
        {"prompt": f"Say {at}", "completion": text, "label": label, "hint": "h"}
        for at, (text, label) in enumerate(rows)
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    own = tmp_path / "own.py"
    code = "def reward(p, c, row):\\n    return c.endswith('.') + 0 * len(row['hint'])"
    own.write_text(f'def answer(question):\n    return "{code}"')
    made = search(
        tmp_path, judge=f"scripted:{own}:answer", rounds=1, count=1, held_out=0.0, fields=("hint",)
    )
    found = made(path, tmp_path / "out").metrics
    assert found["accuracy"] == pytest.approx((4 + 2 * 0.5) / 6)  # e. ties with both bad ones
    misspelt = search(tmp_path, fields=("hnt",))
    with pytest.raises(UsageError, match=r"has a field 'hnt'; did you mean hint\?"):
        misspelt(path, tmp_path / "other")


@pytest.mark.usefixtures("unlimited")
def test_the_interval_of_labelled_answers_is_of_both_sides(tmp_path: Path) -> None:
    crossed = [(good, bad) for good in range(4) for bad in range(4, 8)]
    held = Labelled(["?"] * 8, "55559900", [{}] * 8, "abcdefgh", crossed)
    best = Proposal(0, 0, "def reward(p, c, row):\n    return float(c)", 1.0)
    found = search(tmp_path)._held_out(best, held)
    assert found["held_out_accuracy"] == 0.5  # every good answer is above the same two bad ones
    assert found["held_out_accuracy_low"] < 0.1
    assert found["held_out_accuracy_high"] > 0.9
    pairs = Labelled(["?"] * 4, "5950", [{}] * 4, "aabb", [(0, 1), (2, 3)])
    found = search(tmp_path)._held_out(best, pairs)
    assert list(found.values()) == [0.5, 0.0, 1.0]


def test_a_report_has_errors_alone_where_no_function_works() -> None:
    labelled = Labelled(["?"] * 2, ["a", "b"], [{}] * 2, ["x"] * 2, [(0, 1)])
    failed = [Proposal(0, at, "", error="SyntaxError: here") for at in (0, 1)]
    assert reflection(None, labelled, []) == []
    assert reflection(None, labelled, failed) == [("errors of others", "SyntaxError: here")]
    assert labelled.right([float("-inf"), 0.0]) == [0.0]
