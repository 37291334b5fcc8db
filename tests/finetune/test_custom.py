"""A user's own loss and reward: a function or class in a file, checked and named in errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from siftune.curate.core import registry
from siftune.curate.core.custom import component
from siftune.curate.core.errors import UsageError
from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.pair.dpo import DPO
from siftune.finetune.losses.types import PairLogps, needs_of

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
        (lambda logps: logps.column("w"), "line .*: TypeError: no column 'w' was given: list it"),
    ],
)
def test_a_wrong_answer_of_a_loss_is_one_line(loss: Any, told: str) -> None:
    with pytest.raises(UsageError, match=rf"test_custom\.py:lambda.*{told}"):
        component("finetune.losses.pair", loss)(PAIRS)


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
