"""DFT: its gradient is that of the tokens' probabilities, and where it lands."""

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.types import Answers
from tests.oracles.claims import holds

BUGS = [
    ("tokens.detach().exp() * tokens", "tokens.exp() * tokens"),
    ("tokens.detach().exp() * tokens", "tokens"),
    ("tokens.detach().exp() * tokens", "(1 - tokens.detach().exp()) * tokens"),
]


def dft(**options):
    return registry.build("finetune.losses.token", "dft", options)


@holds("dft")
def test_the_gradient_is_minus_that_of_the_sum_of_probabilities():
    """∇(-sg(p) log p) = -∇p: arXiv:2508.05629, section 3; ragged answers."""
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    logits.requires_grad_()
    chosen, mask = torch.tensor([[1, 4, 0], [2, 3, 0]]), torch.tensor([[1, 1, 0], [1, 1, 1]])

    def tokens():
        return torch.log_softmax(logits, -1).gather(2, chosen[..., None])[..., 0]

    batch = AnswerLogps.of(policy=tokens(), mask=mask)
    (found,) = torch.autograd.grad(dft()(batch).loss.mean(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(tokens().exp() * mask).sum() / mask.sum(), logits)
    torch.testing.assert_close(found, expected)
    rows = dft(mean="row")(batch).loss
    (found,) = torch.autograd.grad(rows.sum(), logits)
    by_row = (tokens().exp() * mask).sum(1) / mask.sum(1)
    (expected,) = torch.autograd.grad(-by_row.sum(), logits)
    torch.testing.assert_close(found, expected)


@holds("dft")
def test_it_lands_on_the_most_frequent_completion_not_on_the_law_of_the_data():
    """Gradient descent: the loss' value means nothing, so no line search could follow it."""
    law = torch.tensor([0.2, 0.5, 0.3]).double()
    logits = torch.zeros(3).double().requires_grad_()
    for _ in range(200):
        tokens = torch.log_softmax(logits, 0)[:, None]
        ones = torch.ones(3, dtype=torch.float64)
        loss = dft()(AnswerLogps(Answers(tokens[:, 0], ones, None, {"policy": tokens}))).loss
        (slope,) = torch.autograd.grad((law * loss).sum(), logits)
        logits = (logits - 5 * slope).detach().requires_grad_()
    assert float(torch.softmax(logits.detach(), 0)[1]) > 0.98


@holds("dft")
def test_the_value_is_that_of_trl_on_tokens():
    """TRL's ``dft_loss``: ``-(p.detach() * log p).sum() / tokens``."""
    tokens = torch.tensor([[-0.1, -2.0], [-3.0, 0.0]]).double()
    batch = AnswerLogps.of(policy=tokens, mask=[[1, 1], [1, 0]])
    kept = torch.tensor([-0.1, -2.0, -3.0]).double()
    expected = -(kept.exp() * kept).sum() / 3
    assert float(dft()(batch).loss.mean()) == pytest.approx(float(expected))
