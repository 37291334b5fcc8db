"""A user's own loss and reward: a function or class in a file, checked and named in errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from siftune.curate.commands.option_types import value_of
from siftune.curate.core import registry
from siftune.curate.core.custom import component
from siftune.curate.core.errors import UsageError
from siftune.finetune.core.methods import family_of
from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.pair.dpo import DPO
from siftune.finetune.losses.types import PairLogps, needs_of
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.training.build_loss import built, group_of
from siftune.pipelines.cli import siftune
from siftune.pipelines.recipe import load
from siftune.pipelines.schema import pipeline_schema
from siftune.pipelines.steps import code_used, trainer_of
from tests.json_schema import problems

PAIRS = PairLogps.of(policy=((-6, -4), (-9, -5)), ref=((-5, -4), (-7, -6)))
TEXTS = (["a", "b", "c"], ["one", "two words", ""], [{"id": "x:1"}] * 3)


def mine(logps: PairLogps, beta: float = 0.1) -> torch.Tensor:
    return -torch.nn.functional.logsigmoid(beta * logps.gap)


def test_a_function_is_a_loss_with_options() -> None:
    loss, ours = component("finetune.losses.pair", mine, {"beta": 0.3}), DPO(beta=0.3)
    answer = loss(PAIRS)
    assert torch.equal(answer.loss, ours(PAIRS).loss)
    assert torch.equal(answer.chosen_reward, PAIRS.chosen.ratio)
    assert needs_of(loss).reference
    assert loss.beta == 0.3


def test_what_a_function_declares_is_what_it_needs() -> None:
    def plain(logps: PairLogps) -> torch.Tensor:
        return -logps.policy_chosen * logps.column("weight")

    plain.needs_reference, plain.needs_columns = False, ("weight",)  # type: ignore[attr-defined]
    made = component("finetune.losses.pair", plain)
    assert needs_of(made) == needs_of(type(made))
    assert (needs_of(made).reference, needs_of(made).columns) == (False, ("weight",))


def test_a_class_of_a_file_is_a_loss(tmp_path: Path) -> None:
    path = tmp_path / "losses.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss\n"
        "@dataclass(frozen=True)\n"
        "class Pull:\n"
        "    weight: float = 2.0\n"
        "    needs_label: ClassVar = True\n"
        "    def __call__(self, logps: AnswerLogps) -> AnswerLoss:\n"
        "        loss = -self.weight * logps.answers.policy\n"
        "        return AnswerLoss(loss, loss.detach())\n"
    )
    loss = registry.build("finetune.losses.unpaired", f"{path}:Pull", {"weight": 3})
    answer = loss(AnswerLogps.of(policy=[-1, -2]))
    assert isinstance(answer, AnswerLoss)
    assert answer.loss.tolist() == [3, 6]
    assert needs_of(loss).label
    assert not needs_of(loss).reference


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda logps: logps.gap.mean(), r"one loss for each of the 2 rows, got the shape \(\)"),
        (lambda logps: [1.0, 2.0], "expected a tensor of losses, one a row, or a PairLoss, got li"),
        (lambda logps: logps.column("w"), "line .*: MissingInputError: no column 'w' was given"),
    ],
)
def test_a_wrong_answer_of_a_loss_is_one_line(loss: Any, told: str) -> None:
    with pytest.raises(UsageError, match=rf"test_custom\.py:lambda.*{told}"):
        component("finetune.losses.pair", loss)(PAIRS)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda logps: logps.gap.detach(), "the loss has no gradient, so nothing would be learned"),
        (lambda logps: logps.gap.round().long(), "expected losses of floats, got torch.int64"),
    ],
)
def test_a_loss_that_nothing_can_be_learned_by_is_refused(loss: Any, told: str) -> None:
    policy = tuple(torch.tensor(one, requires_grad=True) for one in ((-6.0, -4.0), (-9.0, -5.0)))
    learned = PairLogps.of(policy=policy, ref=((-5, -4), (-7, -6)))
    with pytest.raises(UsageError, match=told):
        component("finetune.losses.pair", loss)(learned)


def test_a_class_of_a_loss_is_what_its_objects_are() -> None:
    class Gap:
        def __init__(self, scale: float = 1.0) -> None:
            self.scale = scale

        def __call__(self, logps: PairLogps) -> torch.Tensor:
            return -self.scale * logps.gap

    for made in (Gap(2.0), component("finetune.losses.pair", Gap, {"scale": 2.0})):
        loss = component("finetune.losses.pair", made)
        assert loss(PAIRS).loss.tolist() == (-2 * PAIRS.gap).tolist()
        assert needs_of(loss).reference


def test_a_class_of_a_reward_is_what_its_objects_are() -> None:
    class Longest:
        def __init__(self, most: int = 10) -> None:
            self.most = most

        def __call__(self, completion: str) -> float:
            return len(completion) / self.most

    for made in (Longest(3), component("finetune.rewards", Longest, {"most": 3})):
        assert component("finetune.rewards", made)(*TEXTS) == [1, 3, 0]


def test_a_reward_may_change_what_it_is_given() -> None:
    def clearing(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
        found = [float(len(one)) for one in completions]
        rows[0].clear()
        for listed in (prompts, completions, rows):
            listed.clear()
        return found

    given = (["a"], ["bc"], [{"id": "x:1"}])
    assert component("finetune.rewards", clearing)(*given) == [2]
    assert given == (["a"], ["bc"], [{"id": "x:1"}])


def test_a_function_is_a_reward() -> None:
    def share(completion: str, row: dict[str, str], most: int = 10) -> float | None:
        return len(completion) / most if completion and row["id"] else None

    rewards = {
        "named": lambda completions: torch.tensor([1.0, 2.0, float("nan")]),
        "listed": lambda a, b: [len(text) for text in b],
        "every": lambda rows, prompts: [True, False, None],
    }
    found = {name: component("finetune.rewards", one)(*TEXTS) for name, one in rewards.items()}
    assert found == {"named": [1, 2, None], "listed": [3, 9, 0], "every": [1, 0, None]}
    assert component("finetune.rewards", share, {"most": 3})(*TEXTS) == [1, 3, None]


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        (lambda completions: [1.0], "a number for each of the 3 completions, got 1"),
        (lambda completions: 1.0, "a number for each of the 3 completions, got float"),
        (lambda completions: ["1"] * 3, "expected a finite number, or None, got '1'"),
        (lambda completions: [float("inf")] * 3, "expected a finite number, or None, got inf"),
        (lambda completions: [1][5], "IndexError: list index out of range"),
    ],
)
def test_a_wrong_answer_of_a_reward_is_one_line(reward: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        component("finetune.rewards", reward)(*TEXTS)


LOSSES = '''import torch
from siftune.finetune.losses.answer_types import AnswerLogps

def mine(logps, margin: float = 1.0):
    """A hinge on the gap."""
    return torch.relu(margin - logps.gap)

def pull(logps: AnswerLogps):
    return -logps.answers.policy

def short(completion: str, words: int = 3):
    return -abs(len(completion.split()) - words)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(LOSSES)
    pair = {"prompt": "Say.", "chosen": "A good one.", "rejected": "No."}
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(pair)}\n" * 2)
    (tmp_path / "asked.jsonl").write_text('{"prompt": "Say."}\n{"prompt": "Name one."}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str) -> Any:
    return CliRunner().invoke(siftune, ["finetune", *words], catch_exceptions=False)


def test_a_loss_of_a_file_is_a_command_like_ours(project: Path, tiny_model_dir: Path) -> None:
    given = ["--model", str(tiny_model_dir), "--epochs", "1", "--out", "out"]
    words = ["mine.py:mine", "pairs.jsonl", *given, "--margin", "2.5"]
    assert command(*words).exit_code == 0
    facts = json.loads(Path("out/siftune.json").read_text())
    assert facts["method"] == "mine.py:mine"
    assert "--margin 2.5" in facts["command"]
    assert command(*words).exit_code == 0  # which is done
    (project / "mine.py").write_text(LOSSES.replace("margin - logps.gap", "margin - 2 * logps.gap"))
    with pytest.raises(UsageError, match="out"):  # another model: it needs --overwrite
        command(*words)


def test_the_type_of_its_first_parameter_tells_the_family(project: Path) -> None:
    found = [family_of(f"mine.py:{name}") for name in ("mine", "pull")]
    assert found == ["finetune.losses.pair", "finetune.losses.unpaired"]
    assert "A hinge on the gap." in command("mine.py:mine", "--help").output
    with pytest.raises(UsageError, match=r"mine\.py:pull is a loss of the family unpaired"):
        group_of("mine.py:pull", ["finetune.losses.pair"])
    with pytest.raises(UsageError, match=r"mine\.py has no 'nine'; did you mean mine\?"):
        command("mine.py:nine", "pairs.jsonl", "--model", "m", "--out", "out")


def test_ppo_takes_a_reward_of_a_file(project: Path, tiny_model_dir: Path) -> None:
    small = {
        "rollouts": 1,
        "batch_size": 2,
        "minibatches": 1,
        "micro_batch": 2,
        "max_new_tokens": 4,
    }
    given = {"model": str(tiny_model_dir), "reward": "mine.py:short", **small}
    trainer = PPO(**given, reward_options={"words": 2})
    PPO.check_options(trainer)
    result = trainer(Path("asked.jsonl"), Path("out"))
    assert result.metrics["objective/score"] <= 0
    with pytest.raises(UsageError, match=r"has no option 'word'; did you mean words"):
        replace(trainer, reward_options={"word": 2})(Path("asked.jsonl"), Path("other"))


def test_a_pipeline_names_a_loss_of_a_file(project: Path) -> None:
    raw = {"base": "m", "pairs": {"source": "pairs.jsonl"}, "train": [{"mine.py:mine": None}]}
    Path("recipe.yaml").write_text(json.dumps(raw))
    [step] = load(Path("recipe.yaml")).train
    assert (step.label, step.data) == ("mine", "pairs")
    trainer = trainer_of(replace(step, options={"margin": 3}), {"model": "m"})
    assert trainer.loss_options == {"margin": 3}
    before = code_used(trainer)
    (project / "mine.py").write_text(LOSSES.replace("margin: float = 1.0", "margin: float = 9.0"))
    assert code_used(trainer) != before


def test_a_loss_of_a_file_is_added_by_an_option_and_fits_the_schema(project: Path) -> None:
    assert value_of("--also", Mapping[str, Any], ("mine.py:mine=0.2",)) == {"mine.py:mine": 0.2}
    loss = built("dpo", {}, {"mine.py:mine": {"weight": 0.5, "margin": 2.0}})
    own = component("finetune.losses.pair", "mine.py:mine", {"margin": 2.0})
    both = DPO()(PAIRS).loss + 0.5 * own(PAIRS).loss
    assert torch.allclose(loss(PAIRS).loss, both)
    schema = pipeline_schema()
    for name, fits in (("mine.py:mine", True), ("mine", False)):
        raw = {"base": "m", "train": [{name: {"margin": 3}}]}
        assert (not list(problems(raw, schema))) == fits
