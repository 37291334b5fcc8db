"""GKD: closed forms of its divergences, their limits, their gradients, and where they land."""

import math

import pytest
import torch

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.types import Answers
from siftune.finetune.oracles.bandit import minimise
from siftune.finetune.scoring.lm_head import Head, Hidden, measure
from siftune.finetune.trainers.preference import Preference
from tests.oracles.claims import holds
from tests.oracles.language import SENTENCES, _score, language, log_probs

OPTIONS = [{}, {"divergence": "reverse"}, {"divergence": "forward", "mean": "row"}]
BUGS = [
    ('{"reverse": "kl", "forward": "ref_kl"}', '{"reverse": "ref_kl", "forward": "kl"}'),
    ('f"jsd:{self.beta}"', 'f"jsd:{1 - self.beta}"'),
    ("total / length", "total"),
]
WORDS = 7


def gkd(**options):
    return registry.build("finetune.losses.token", "gkd", options)


def head(seed):
    made = torch.nn.Linear(4, WORDS, bias=False).double()
    with torch.no_grad():
        made.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return made


def states(seed, count=5):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)).double()


def value(loss, student, teacher, tile=2, count=5):
    """The loss of one answer of ``count`` tokens, from hidden states, in tiles."""
    labels = torch.arange(count) % WORDS
    (name,) = loss.needs_tokens
    found = measure(
        Hidden(student, Head(head(1))), labels, (name,), Hidden(teacher, Head(head(2))), tile=tile
    )
    tokens = {key: one[None] for key, one in found.items()}
    answers = Answers(
        tokens["policy"].sum(1), torch.tensor([float(count)]), tokens["reference"].sum(1), tokens
    )
    return loss(AnswerLogps(answers)).loss.sum()


def laws(student, teacher):
    return torch.softmax(head(1)(student), -1), torch.softmax(head(2)(teacher), -1)


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


@holds("gkd")
def test_the_divergences_are_those_of_the_whole_vocabulary():
    student, teacher = states(3), states(4)
    p, q = laws(student, teacher)  # student, teacher
    expected = {"reverse": kl(p, q), "forward": kl(q, p)}
    for divergence, each in expected.items():
        found = value(gkd(divergence=divergence), student, teacher)
        torch.testing.assert_close(found, each.mean())
    for beta in (0.1, 0.5, 0.8):
        mixed = beta * q + (1 - beta) * p
        each = beta * kl(q, mixed) + (1 - beta) * kl(p, mixed)
        torch.testing.assert_close(value(gkd(beta=beta), student, teacher), each.mean())
    assert value(gkd(), 40 * student, 40 * teacher) <= math.log(2) + 1e-12
    for options in OPTIONS:
        same = measure(
            Hidden(student, Head(head(1))), torch.arange(5), gkd(**options).needs_tokens,
            Hidden(student, Head(head(1))), tile=3,
        )  # fmt: skip
        assert float(same[gkd(**options).needs_tokens[0]].detach().abs().max()) < 1e-12


@holds("gkd")
def test_jsd_goes_to_both_kls_at_its_ends():
    student, teacher = states(3), states(4)
    near = 1e-6
    p, q = laws(student, teacher)
    forward = value(gkd(beta=near), student, teacher) / near
    reverse = value(gkd(beta=1 - near), student, teacher) / near
    torch.testing.assert_close(forward, kl(q, p).mean(), rtol=1e-3, atol=0)
    torch.testing.assert_close(reverse, kl(p, q).mean(), rtol=1e-3, atol=0)


@holds("gkd")
def test_the_gradient_of_the_reverse_kl_is_a_policy_gradient():
    """Of every token enumerated: -E_S[(log p_T - log p_S) ∇ log p_S], the reward held fixed."""
    student, teacher = states(3).requires_grad_(), states(4)
    (found,) = torch.autograd.grad(value(gkd(divergence="reverse"), student, teacher), student)
    p, q = laws(student, teacher)
    reward = (q.log() - p.log()).detach()
    surrogate = -(p.detach() * reward * p.log()).sum(-1).mean()
    (expected,) = torch.autograd.grad(surrogate, student)
    torch.testing.assert_close(found, expected)


@holds("gkd")
def test_gradients_pass_through_the_tiles_and_not_to_the_teacher():
    teacher = states(4, 3).requires_grad_()
    for options in OPTIONS:
        loss = gkd(**options)
        given = states(3, 3).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda one, loss=loss: value(loss, one, teacher.detach(), count=3), given
        )
        value(loss, given, teacher, count=3).backward()
        assert teacher.grad is None


@pytest.mark.parametrize(
    "options", [OPTIONS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in OPTIONS[1:])]
)
@holds("gkd")
def test_on_all_sentences_the_student_becomes_the_teacher(options):
    student, teacher = language(1), language(2)
    loss = gkd(**options)

    def mean():
        answers = _score(student, teacher, loss)
        return loss(AnswerLogps(answers)).loss.mean()

    minimise(mean, list(student.parameters()), rounds=2)
    gap = log_probs(student) - log_probs(teacher)
    assert float((log_probs(teacher).exp() * gap).sum().abs()) < 1e-4
    assert float(gap.abs().max()) < 0.05
    assert len(gap) == len(SENTENCES)


def test_a_teacher_is_needed_and_stays():
    for given, message in (
        ({}, "gkd learns from a teacher: set ref_model"),
        ({"ref_model": "t", "ref_sync_steps": 2}, "its teacher, and stays"),
        ({"ref_model": "t", "precompute_reference": True}, "whole distributions"),
        ({"ref_model": "t", "loss": "dpo", "lora": 4}, "its adapter off"),
        ({"loss": "nll", "also": {"gkd": 0.5}}, "learns from a teacher"),
        ({"ref_model": "t", "max_kl": 0.1}, "max_kl: the reference of gkd is its teacher"),
        ({"loss": "kto", "also": {"gkd": 0.1}, "ref_model": "t"}, "can be only one of the two"),
    ):
        with pytest.raises(UsageError, match=message):
            Preference(**{"model": "m", "loss": "gkd", **given}).objective()
    Preference(model="m", loss="gkd", ref_model="t", lora=4).objective()
    Preference(model="m", loss="nll", also={"gkd": 0.5}, ref_model="t").objective()
