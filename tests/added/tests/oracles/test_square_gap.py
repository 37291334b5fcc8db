"""The loss is least at its target."""

from siftune.curate.core.registry import build
from siftune.finetune.losses.types import PairLogps
from tests.oracles.claims import holds

BUGS = [("- self.target", "+ self.target")]


@holds("square_gap")
def test_it_is_zero_at_its_target():
    loss = build("finetune.losses.pair", "square_gap", {"target": 2})
    assert loss(PairLogps.of(policy=(-6, -9), ref=(-5, -6))).loss.item() == 0
