"""A right loss conforms; each classic mistake fails the check that is there for it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.comparison.conformance import (
    _OPTIMA,
    Conformance,
    given_to,
    loss_at,
    table_of,
)
from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.list_types import ListLogps, ListLoss
from siftune.finetune.losses.types import PairLoss
from siftune.finetune.oracles.bandit_optimum import OPTIMA, landing
from siftune.pipelines.cli import siftune
from tests.fuzz.commands import called


@dataclass(frozen=True)
class Mine:
    """DPO by another hand."""

    beta: float = 0.1

    needs_reference: ClassVar = True

    def logit(self, logps):
        return self.beta * logps.gap

    def reduce(self, loss):
        return loss

    def __call__(self, logps):
        loss = self.reduce(-F.logsigmoid(self.logit(logps)))
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())


class Flipped(Mine):
    def logit(self, logps):
        return -self.beta * logps.gap


class Reduced(Mine):
    def reduce(self, loss):
        return loss.mean()


class ShareOfBatch(Mine):
    def reduce(self, loss):
        return loss / len(loss)


class Centred(Mine):
    def logit(self, logps):
        return self.beta * (logps.gap - logps.gap.mean())


class Means(Mine):
    def logit(self, logps):
        chosen, rejected = logps.chosen, logps.rejected
        return self.beta * (chosen.ratio / chosen.length - rejected.ratio / rejected.length)


class Blind(Mine):
    def logit(self, logps):
        return self.beta * logps.gap.abs()


class Overflows(Mine):
    def __call__(self, logps):
        loss = (1 + (-self.logit(logps)).exp()).log()
        return PairLoss(loss, logps.chosen.ratio.detach(), logps.rejected.ratio.detach())


class Detached(Mine):
    def logit(self, logps):
        return self.beta * (logps.chosen.ratio.detach() - logps.rejected.ratio)


class Rewarded(Mine):
    def __call__(self, logps):
        return PairLoss(-F.logsigmoid(self.logit(logps)), logps.chosen.ratio, logps.rejected.ratio)


@dataclass(frozen=True)
class Silent(Mine):
    """It reads what it does not declare."""

    needs_reference: ClassVar = False


def fates(loss, **meant):
    return {one.check: one.fate for one in Conformance(**meant)(loss)}


def test_dpo_by_another_hand_conforms_and_is_known_for_dpo():
    findings = Conformance(optimum="boltzmann", like="dpo")(Mine(beta=0.3))
    assert {one.fate for one in findings} == {"ok"}
    told = table_of(findings)
    assert "b 0.3" in told
    assert "equals dpo" in told
    assert told.endswith("conforms")


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (Flipped, "direction"),
        (Reduced, "one_loss_a_pair"),
        (ShareOfBatch, "mean_of_singles"),
        (Centred, "neighbours"),
        (Blind, "swap"),
        (Overflows, "extremes"),
        (Rewarded, "one_loss_a_pair"),
        (Silent, "one_loss_a_pair"),
    ],
)
def test_a_classic_mistake_fails_the_check_that_is_there_for_it(wrong, check):
    assert fates(wrong())[check] == "failed"


def test_a_gradient_that_does_not_flow_is_told_apart_from_the_right_one():
    assert fates(Detached())["gradient"] == "failed"


def test_a_wrong_gradient_is_said_to_be_one():
    found = next(one for one in Conformance()(Detached()) if one.check == "gradient")
    assert found.detail == "Jacobian mismatch for output 0 with respect to input 0"


def test_means_for_sums_are_another_objective_with_another_optimum():
    found = fates(Means(), optimum="boltzmann", like="dpo")
    assert found["lands"] == found["nearest"] == "failed"
    assert fates(Means())["lands"] == "noted"  # by itself it is no mistake: ipo does so
    assert landing(Means()).to_boltzmann > 1e-3


def test_a_missing_beta_is_told_by_where_it_lands():
    class Forgot(Mine):
        def logit(self, logps):
            return logps.gap

    found = landing(Forgot(beta=0.1))
    assert found.form == "boltzmann"
    assert found.scale == pytest.approx(1.0, abs=1e-6)
    assert fates(Forgot(), optimum="boltzmann")["lands"] == "failed"


@pytest.mark.parametrize(
    ("name", "options", "form", "scale"),
    [
        ("dpo", {"beta": 0.5}, "boltzmann", 0.5),
        ("gpo", {"f": "exponential", "beta": 0.5}, "boltzmann", 1.0),
        ("ipo", {"ratios": "sum", "beta": 0.5}, "least_squares", 1.0),
        ("ipo", {"beta": 0.5}, "per_token", 1.0),
        ("r_dpo", {"beta": 0.5, "alpha": 0.1}, "length_priced", 0.5),
        ("cpo", {"beta": 0.5, "sft_weight": 0.0}, "no_reference", 0.5),
    ],
)
def test_the_form_of_an_optimum_is_found_from_the_policy_alone(name, options, form, scale):
    found = landing(registry.build("finetune.losses.pair", name, options))
    assert found.form == form
    assert found.scale == pytest.approx(scale, abs=1e-4)


def test_the_price_of_length_is_read_off():
    found = landing(registry.build("finetune.losses.pair", "r_dpo", {"beta": 0.5, "alpha": 0.1}))
    assert found.price == pytest.approx(0.1, abs=1e-4)


def test_the_optima_that_can_be_asked_for_are_those_that_can_be_found():
    assert tuple(OPTIMA) == _OPTIMA
    with pytest.raises(ValueError, match="expected one of reference, boltzmann"):
        Conformance(optimum="gibbs")


MINE = """
import torch.nn.functional as F
from siftune.finetune.losses.types import PairLoss

def right(logps):
    loss = -F.logsigmoid(0.1 * logps.gap)
    return PairLoss(loss, logps.chosen.ratio.detach(), logps.rejected.ratio.detach())

def wrong(logps):
    loss = -F.logsigmoid(-0.1 * logps.gap)
    return PairLoss(loss, logps.chosen.ratio.detach(), logps.rejected.ratio.detach())

right.needs_reference = wrong.needs_reference = True
number = 3
"""


# --- other families -------------------------------------------------------------------------


@dataclass(frozen=True)
class Rated:
    """APO-zero on single completions by another hand."""

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_label: ClassVar = True

    def sign(self, logps):
        return 1.0 - 2.0 * logps.good

    def reduce(self, loss):
        return loss

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        reward = self.beta * logps.answers.ratio
        loss = torch.sigmoid(self.sign(logps) * reward)
        return AnswerLoss(self.reduce(loss), reward.detach())


class RatedTheOtherWay(Rated):
    def sign(self, logps):
        return 2.0 * logps.good - 1.0


class RatedBlind(Rated):
    def sign(self, logps):
        return -1.0


class RatedDetached(Rated):
    def reduce(self, loss):
        return torch.cat([loss[:1].detach(), loss[1:]])


class RatedAsABatch(Rated):
    def reduce(self, loss):
        return loss.mean()


class RatedByNeighbours(Rated):
    def reduce(self, loss):
        return loss - loss.mean().detach() / 2


@dataclass(frozen=True)
class Listed:
    """Plackett-Luce DPO by another hand: the sum over ranks of a log-sum."""

    beta: float = 0.1

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("score",)

    def below(self, logps):
        return logps.better | torch.eye(logps.mask.shape[1], dtype=torch.bool)

    def __call__(self, logps: ListLogps) -> ListLoss:
        reward = self.beta * logps.answers.ratio
        rest = reward[:, None, :].masked_fill(~self.below(logps), -torch.inf).logsumexp(-1)
        return ListLoss((rest - reward).sum(-1), reward.detach())


class ListedUpsideDown(Listed):
    def below(self, logps):
        return logps.better.transpose(1, 2) | torch.eye(logps.mask.shape[1], dtype=torch.bool)


class ListedWithPadding(Listed):
    def below(self, logps):
        score = logps.column("score")
        return score[:, :, None] >= score[:, None, :]


def test_what_a_loss_is_given_is_told_by_its_type():
    assert given_to(Rated()) == "answers"
    assert given_to(Listed()) == "lists"
    assert given_to(Mine()) == "pairs"  # it says nothing
    for group, family in (
        ("pair", "pairs"), ("unpaired", "answers"), ("token", "answers"), ("listwise", "lists")
    ):  # fmt: skip
        for name in registry.names(f"finetune.losses.{group}"):
            assert given_to(registry.build(f"finetune.losses.{group}", name, {})) == family


@pytest.mark.parametrize(
    ("loss", "like"), [(Rated(beta=0.3), "apo_zero_unpaired"), (Listed(beta=0.3), "plackett_luce")]
)
def test_a_loss_of_another_family_conforms_and_is_known(loss, like):
    findings = Conformance(like=like)(loss)
    assert {one.fate for one in findings} <= {"ok", "skipped"}
    assert f"equals {like}" in table_of(findings)
    assert table_of(findings).endswith("conforms")


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (RatedTheOtherWay, "direction"),
        (RatedBlind, "labels"),
        (RatedAsABatch, "one_loss_an_answer"),
        (RatedByNeighbours, "mean_of_singles"),
        (ListedUpsideDown, "direction"),
        (ListedWithPadding, "padding"),
    ],
)
def test_a_mistake_in_another_family_fails_its_check(wrong, check):
    assert fates(wrong())[check] == "failed"


@pytest.mark.parametrize(
    ("wrong", "like"), [(Detached, "dpo"), (RatedDetached, "apo_zero_unpaired")]
)
def test_the_same_value_with_another_gradient_is_another_objective(wrong, like):
    told = next(one for one in Conformance()(wrong()) if one.check == "nearest")
    assert "equals" not in told.detail
    assert fates(wrong(), like=like)["nearest"] == "failed"


def test_the_command_takes_a_function_of_a_module_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "mine_at_work.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])  # as of a script
    ran = called("finetune", "conformance", "mine_at_work:wrong")
    assert ran.code == 1, ran.err
    assert ran.out.splitlines()[-1] == "1 failed"
    assert re.fullmatch(r"siftune: mine_at_work:wrong: 1 of \d+ checks failed\n", ran.err)


def test_the_command_takes_a_function_of_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    ran = CliRunner().invoke(siftune, ["finetune", "conformance", f"{tmp_path / 'mine.py'}:right"])
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines()[-1] == "conforms"


def test_what_is_no_loss_is_refused_in_a_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    assert loss_at(f"{path}:right", {}).needs_reference
    for target, text in (
        (f"{path}:left", "holds no 'left'"),
        (f"{path}:number", "cannot be called"),
        ("no_such_module_here:x", "cannot be imported"),
        ("dpoo", "did you mean"),
    ):
        with pytest.raises(UsageError, match=text):
            loss_at(target, {})
    with pytest.raises(UsageError, match="takes no options"):
        loss_at(f"{path}:right", {"beta": 1})
