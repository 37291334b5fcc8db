"""Online merging: worked steps of OnDARE and OnTIES, rate 0, resume, and a training with it."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from siftune.curate.core.errors import UsageError
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.training.online_merging import OnlineMerging, OnlineMergingCallback


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_dare_adds_what_is_left_of_both_changes_by_their_weights():
    merging = OnlineMerging("b", rate=0.25, density=1)
    change, past = tensor(1, -2, 4), tensor(8, 8, -4)
    found = change + merging.correction(change, past, ("k",))
    assert found.tolist() == [0.75 + 2, -1.5 + 2, 3 - 1]
    half = OnlineMerging("b", rate=0.25, density=0.5)
    ones = torch.ones(10_000).double()
    moved = ones + half.correction(ones, 0 * ones, ("k",))
    assert sorted({*moved.tolist()}) == [0, 1.5]  # .75 / .5
    assert abs(float(moved.mean()) - 0.75) < 0.05


def test_ties_keeps_the_largest_entries_of_the_sign_of_the_sum():
    merging = OnlineMerging("b", method="ties", rate=0.25, density=0.75)
    past = merging.thinned(tensor(3, -3, 3, 0.1), ("k",))
    assert past.tolist() == [3, -3, 3, 0]
    change = tensor(1, 1, -4, 0.5)
    found = change + merging.correction(change, past, ("k",))
    # kept of the step: 1, 1, -4, 0; sums 4, -2, -1, 0
    assert found.tolist() == [0.75 + 0.75, -0.75, -3, 0]


@pytest.mark.parametrize("density", [1.0, 0.3])
def test_adamw_at_rate_0_is_untouched_and_else_a_function_of_seed_and_step(density):
    """The callback around an optimizer; at density 1 rate 0 is AdamW bit for bit."""

    def trained(merging, seed=0, steps=4, start=0, weight=None, optimizer_state=None):
        model = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.constant_(model.weight, 0.5)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        if weight is not None:
            model.load_state_dict(weight)
            optimizer.load_state_dict(optimizer_state)
        past = {"weight": torch.full((3, 3), 0.7)}
        callback = merging and OnlineMergingCallback(merging, past, seed)
        for step in range(start, steps):
            state = SimpleNamespace(global_step=step)
            optimizer.zero_grad()
            model(torch.tensor([[1.0, -2.0, 0.5]])).sin().sum().backward()
            if callback:
                callback.on_pre_optimizer_step(None, state, None, model=model)
            optimizer.step()
            if callback:
                callback.on_optimizer_step(None, state, None, model=model)
        return model, optimizer

    plain = trained(None)[0].weight
    assert trained(OnlineMerging("b", rate=0, density=1))[0].weight.equal(plain)
    merging = OnlineMerging("b", rate=0.2, density=density)
    whole = trained(merging)[0].weight
    assert not whole.equal(plain)
    model, optimizer = trained(merging, steps=2)
    rest = trained(merging, 0, 4, 2, model.state_dict(), optimizer.state_dict())[0].weight
    assert rest.equal(whole)
    assert trained(merging, seed=1)[0].weight.equal(whole) == (density == 1)


def test_what_does_not_fit_is_refused():
    for given, message in (
        ({"online_merge": {"rate": 0.1}}, "needs the option 'base'"),
        ({"online_merge": {"base": "b", "rate": 2}}, "rate: expected at least 0, at most 1"),
        ({"online_merge": {"base": "b", "method": "slerp"}}, "dare"),
    ):
        with pytest.raises(UsageError, match=message):
            Preference(model="m", **given).objective()
    with pytest.raises(ValueError, match="lora trains an adapter alone"):
        Preference(model="m", lora=2, online_merge={"base": "b"})


@pytest.mark.slow
def test_dpo_at_rate_0_is_dpo_and_else_moves_along_the_earlier_change(tiny_model_dir, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_model_dir, base)
    weights = load_file(base / "model.safetensors")
    moved = {name: one - 0.5 for name, one in weights.items()}
    save_file(moved, base / "model.safetensors", metadata={"format": "pt"})
    rows = tmp_path / "pairs.jsonl"
    rows.write_text(
        "\n".join(
            f'{{"prompt": "Say {word}", "chosen": "{word}", "rejected": "no"}}' for word in "abcd"
        )
    )

    def trained(name, **options):
        given = {"lr": 1e-3, "batch_size": 2, "held_out": 0.0, **options}
        return Preference(model=str(tiny_model_dir), **given)(rows, tmp_path / name).model

    plain = load_file(trained("plain") / "model.safetensors")
    off = trained("off", online_merge={"base": str(base), "rate": 0, "density": 0.1})
    assert all(plain[name].equal(one) for name, one in load_file(off / "model.safetensors").items())
    along = trained("along", online_merge={"base": str(base), "rate": 0.1, "density": 1})
    found = load_file(along / "model.safetensors")
    # two steps of .9 δ + .1 · .5 each
    mean = torch.cat([(found[name] - plain[name]).flatten() for name in plain]).mean()
    assert float(mean) == pytest.approx(0.1, abs=0.01)
