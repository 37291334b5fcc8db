"""Influence by gradients: each part beside an independent reference, and `less` as a whole."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.progress import run_context
from siftune.curate.core.registry import build, code_of, described, find, names, source_of
from siftune.curate.text.language_model import TokenRow
from siftune.finetune.influence.adam import AdamState
from siftune.finetune.influence.adapted_model import AdaptedModel, flat_gradient, row_key
from siftune.finetune.influence.projection import Projection
from siftune.finetune.scorers.less import LESS
from tests.curate.lm_reference import table
from tests.finetune.influence_rows import CHATS, PAIRS, TARGETS, jsonl, pairs_table

NO_PATHS = ("subtask",)
SLOW_CONTRACTS = True
OPTIONS = [
    {
        "model": "LM",
        "against": "HELD_OUT",
        "template": "none",
        "precision": "fp32",
        "warmup": 0.2,
        "epochs": 1,
        "rank": 1,
        "dimension": 32,
    }
]


def made(model: Path, target: Path, **options: Any) -> LESS:
    given = {"precision": "fp32", "warmup": 0.5, "epochs": 2, "batch_size": 2, "rank": 2}
    return LESS(
        **{"model": str(model), "against": str(target), "dimension": None, **given, **options}
    )


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> AdaptedModel:
    found = AdaptedModel.load(str(tiny_model_dir), "float32", rank=2, alpha=4, seed=1)
    found.weights = 0.1 * torch.randn(found.size, generator=torch.Generator().manual_seed(3))
    return found


def nll(model: Any, row: TokenRow) -> torch.Tensor:
    """Losses of the scored tokens from the whole logits."""
    logits = model(torch.tensor([row.ids])).logits[0, :-1]
    losses = F.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
    return losses[torch.tensor(row.scored[1:])]


def by_autograd(model: AdaptedModel, loss: torch.Tensor) -> torch.Tensor:
    for weight in model.parameters:
        weight.grad = None
    loss.backward()  # type: ignore[no-untyped-call]
    found = torch.cat([weight.grad.flatten() for weight in model.parameters])  # type: ignore[union-attr]
    for weight in model.parameters:
        weight.grad = None
    return found


ROWS = [TokenRow.of([1, 7, 9], [4, 6, 2]), TokenRow.of([1, 30], [8, 9, 11, 12, 2])]


def test_the_gradient_of_an_answer_is_that_of_its_mean_loss(model: AdaptedModel) -> None:
    for row in ROWS:
        expected = by_autograd(model, nll(model.model, row).mean())
        torch.testing.assert_close(model.gradient((row,)), expected, rtol=1e-4, atol=1e-7)


def test_the_gradient_of_a_pair_is_that_of_its_dpo_loss(model: AdaptedModel) -> None:
    chosen, rejected = (nll(model.model, row).sum() for row in ROWS)
    with torch.no_grad(), model.model.disable_adapter():
        of_reference = [nll(model.model, row).sum() for row in ROWS]
    gap = (of_reference[0] - chosen) - (of_reference[1] - rejected)
    expected = by_autograd(model, -F.logsigmoid(0.1 * gap))
    torch.testing.assert_close(model.gradient((ROWS[0], ROWS[1])), expected, rtol=1e-4, atol=1e-7)
    assert model.losses([(ROWS[0], ROWS[1])])[0] != pytest.approx(math.log(2))
    weights = model.weights
    model.weights = torch.zeros_like(weights)  # the model is its own reference
    assert model.losses([(ROWS[0], ROWS[1])])[0] == pytest.approx(math.log(2))
    model.weights = weights


def test_an_adam_direction_is_the_step_of_torch() -> None:
    draws = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(6, requires_grad=True)
    adam, state = torch.optim.Adam([weight], lr=0.01), AdamState.start(torch.zeros(6))
    for gradient in draws:
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        adam.step()
        step = (before - weight.detach()) / 0.01
        torch.testing.assert_close(state.direction(gradient), step, rtol=1e-3, atol=1e-4)
        both = state.direction(torch.stack([gradient, -gradient]))
        torch.testing.assert_close(both[0], state.direction(gradient))
        state = state.step(gradient, 0.01)
    torch.testing.assert_close(state.weights, weight.detach())


def test_a_projection_by_blocks_is_one_product_with_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siftune.finetune.influence.projection._SIGNS", 70 * 16)
    project = Projection(size=200, dimension=16, seed=4)  # blocks of 70, 70 and 60 rows
    signs = 4 * project(torch.eye(200))  # times the root of 16
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.1
    assert not torch.equal(signs[:60], signs[70:130])
    vectors = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(project(vectors), vectors @ signs / 4, rtol=1e-4, atol=1e-5)
    assert torch.equal(Projection(200, None)(vectors), vectors)
    assert not torch.equal(Projection(200, 16, 5)(vectors), project(vectors))


def test_products_survive_a_projection_in_the_mean() -> None:
    first, second = torch.randn(2, 300, generator=torch.Generator().manual_seed(1))
    found = [
        float(torch.dot(*Projection(300, 64, seed)(torch.stack([first, second]))))
        for seed in range(60)
    ]
    spread = float(first.norm() * second.norm()) / math.sqrt(64 * 60)
    assert np.mean(found) == pytest.approx(float(first @ second), abs=4 * spread)


def test_influence_on_a_convex_head_is_leave_one_out() -> None:
    """Logistic regression on frozen features: Newton's step is the refit but for the next order."""
    rng = np.random.default_rng(5)
    features = torch.tensor(rng.normal(size=(60, 6)))
    labels = (features @ torch.tensor(rng.normal(size=6)) + torch.tensor(rng.normal(size=60))) > 0
    held = torch.tensor(rng.normal(size=(20, 6)))
    of_held = (held[:, 0] > 0).double()

    def loss(weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(x @ weight, y.double(), reduction="sum")

    def fitted(kept: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        for _ in range(12):  # Newton's method, to the minimum
            rate = torch.sigmoid(features[kept] @ weight)
            slope = features[kept].T @ (rate - labels[kept].double()) + weight
            weight = weight - torch.linalg.solve(hessian(features[kept], rate), slope)
        return weight

    def hessian(x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        return x.T @ (x * (rate * (1 - rate))[:, None]) + torch.eye(6, dtype=torch.float64)

    every = torch.ones(60, dtype=torch.bool)
    weight = fitted(every, torch.zeros(6, dtype=torch.float64)).requires_grad_()
    gradients = torch.stack(
        [flat_gradient(loss(weight, features[at], labels[at]), [weight]) for at in range(60)]
    ).double()
    target = flat_gradient(loss(weight, held, of_held), [weight]).double()
    rate = torch.sigmoid(features @ weight.detach())
    steps = torch.linalg.solve(hessian(features, rate), gradients.T).T
    leverage = (features * torch.linalg.solve(hessian(features, rate), features.T).T).sum(1)
    exact = steps / (1 - rate * (1 - rate) * leverage)[:, None]  # the Hessian without the row
    truth = []
    for at in range(60):
        kept = every.clone()
        kept[at] = False
        refit = fitted(kept, weight.detach())
        truth.append(float(loss(refit, held, of_held) - loss(weight.detach(), held, of_held)))
    for influence in (steps @ target, exact @ target):
        ranks = [pl.Series(one).rank().to_numpy() for one in (influence.numpy(), truth)]
        assert np.corrcoef(*ranks)[0, 1] >= 0.99
    error = [float((one @ target - torch.tensor(truth)).abs().sum()) for one in (steps, exact)]
    assert error[1] < error[0]


def test_a_product_is_the_effect_of_one_small_step(tiny_model_dir: Path, tmp_path: Path) -> None:
    target = jsonl(tmp_path / "target.jsonl", TARGETS)
    less = made(tiny_model_dir, target, similarity="product", optimizer="sgd", epochs=1)
    scores = less(table(*CHATS))["less"].to_list()
    model, targets = less.adapted(), less._targets()[0]
    rows: list[Any] = less._each(table(*CHATS))
    start = less.train(model, less.drawn(sorted(rows, key=row_key)), None)[0].state.weights
    effects = []
    for row in rows:
        model.weights = start
        step = 1e-3 * model.gradient(row)
        after_and_before = []
        for way in (-1, 1):  # the same step back takes off the second order
            model.weights = start + way * step
            after_and_before.append(np.mean(model.losses(targets)))
        effects.append((after_and_before[1] - after_and_before[0]) / 2e-3)
    assert scores == pytest.approx(effects, rel=0.02, abs=2e-3)


def test_the_warm_up_has_its_share_of_the_rows_in_any_order() -> None:
    rows = [(SimpleNamespace(key=bytes([at])),) for at in range(100)]
    for share, size in ((0.05, 5), (0.25, 25), (0.001, 1), (1.0, 100)):
        less = LESS(model="none", against="none.jsonl", warmup=share)
        some = less.drawn(rows)
        assert len(some) == len({row[0].key for row in some}) == size
        assert less.drawn(rows[::-1]) == some
    one, other = (
        LESS(model="none", against="none.jsonl", warmup=0.25, seed=seed).drawn(rows)
        for seed in (0, 1)
    )
    assert one != other


def slow_less(less: LESS, rows: pl.DataFrame, tasks: list[list[int]]) -> np.ndarray:
    """The definition, in loops: one checkpoint, one row and one target after another."""
    model = less.adapted(less.beta)
    each: list[Any] = [row for row in less._each(rows) if row]
    targets = less._targets()[0]
    some = less.drawn(each)
    checkpoints = less.train(model, some, None)
    total = sum(one.rate for one in checkpoints)
    found = np.zeros((len(each), len(tasks)))
    for one in checkpoints:
        model.weights = one.state.weights
        for at, row in enumerate(each):
            gradient = model.gradient(row)
            step = one.state.direction(gradient) if less.optimizer == "adam" else gradient
            for task, members in enumerate(tasks):
                for member in members:
                    other = model.gradient(targets[member])
                    value = float(step @ other)
                    if less.similarity == "cosine":
                        value /= float(step.norm() * other.norm())
                    found[at, task] += one.rate / total * value / len(members)
    return found.max(axis=1)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(
            {"similarity": "product", "optimizer": "sgd", "subtask": "extra.task"},
            marks=pytest.mark.slow,
        ),
        {"subtask": "extra.task", "seed": 3},
    ],
)
def test_it_equals_its_definition(
    tiny_model_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    less = made(tiny_model_dir, jsonl(tmp_path / "target.jsonl", TARGETS), **options)
    found = less(table(*CHATS))["less"].to_numpy()
    task_of = less._targets()[1]
    tasks = [[at for at, one in enumerate(task_of) if one == task] for task in set(task_of)]
    assert sorted(map(len, tasks)) == ([1, 2] if less.subtask else [3])
    np.testing.assert_allclose(found, slow_less(less, table(*CHATS), tasks), rtol=5e-3, atol=1e-5)
    assert len(set(found.tolist())) == len(CHATS)


def test_pairs_are_compared_under_the_dpo_loss(tiny_model_dir: Path, tmp_path: Path) -> None:
    target = jsonl(tmp_path / "target.jsonl", PAIRS[:2])
    less = made(tiny_model_dir, target, loss="dpo", beta=0.5, warmup=1.0)
    assert less.needs == ("prompt", "chosen", "rejected")
    rows = pairs_table([*PAIRS, {**PAIRS[0], "chosen": "No.", "rejected": "The cat."}])
    found = less(rows)["less"].to_list()
    np.testing.assert_allclose(found, slow_less(less, rows, [[0, 1]]), rtol=5e-3, atol=1e-5)
    assert found[0] > 0 > found[3]  # the same pair, turned round
    empty = pairs_table([{**PAIRS[0], "chosen": ""}, {**PAIRS[0], "rejected": PAIRS[0]["chosen"]}])
    assert less(empty)["less"].to_list() == [None, None]  # no answer; a gradient of zero


def test_a_run_that_was_stopped_goes_on(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = made(tiny_model_dir, jsonl(tmp_path / "target.jsonl", TARGETS), dimension=64)
    expected = less(table(*CHATS))
    stored = replace(less, cache=str(tmp_path / "cache"))
    plain, calls = AdaptedModel.gradient, [0]

    def counted(self: AdaptedModel, row: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == stop:
            raise KeyboardInterrupt
        return plain(self, row)

    monkeypatch.setattr(AdaptedModel, "gradient", counted)
    for stop in (4, 10, 10**6):  # in the second epoch, then among the rows
        if stop < 10**6:
            calls[0] = 0
            with pytest.raises(KeyboardInterrupt):
                stored(table(*CHATS))
    calls[0], seen = 0, []
    with run_context(lambda done, total, unit: seen.append(done / total)):
        assert stored(table(*CHATS)).equals(expected)
    assert sorted(seen) == seen
    assert seen[-1] == 1.0
    first, calls[0] = calls[0], 0
    assert stored(table(*CHATS[::-1])).equals(expected.reverse())
    assert calls[0] == 0 < first < 2 * 2 + 2 * (len(CHATS) + len(TARGETS))
    assert not replace(stored, seed=1)(table(*CHATS)).equals(expected)
    file = next((tmp_path / "cache").rglob("epoch-1.safetensors"))
    for broken in (tmp_path / "cache").rglob("epoch-1.safetensors"):
        broken.write_bytes(b"{}")
    with pytest.raises(UsageError, match=f"{file.name} cannot be used: delete it"):
        stored(table(*CHATS))


def test_targets_that_cannot_be_scored_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    conversations = jsonl(tmp_path / "target.jsonl", TARGETS)
    with pytest.raises(DataError, match="loss dpo expects preference pairs, found conversation"):
        made(tiny_model_dir, conversations, loss="dpo")(pairs_table(PAIRS))
    long = jsonl(tmp_path / "long.jsonl", [{"prompt": "a", "completion": "the cat " * 200}])
    with pytest.raises(DataError, match="no row has a prompt and an answer that fit"):
        made(tiny_model_dir, long)(table(*CHATS))
    with pytest.raises(UsageError, match="no column 'group'"):
        made(tiny_model_dir, conversations, subtask="group")(table(*CHATS))


def test_the_group_of_scorers_has_those_that_train() -> None:
    assert "less" in names("curate.scorers")
    assert find("curate.scorers", "less") is LESS
    assert find("curate.scorers", "length").__module__ == "siftune.curate.scorers.length"
    assert source_of("curate.scorers", "less").parts[-3:] == ("finetune", "scorers", "less.py")
    assert described("curate.scorers", "less") is not LESS  # for help, without torch
    assert code_of("curate.scorers", "less") != code_of("curate.scorers", "length")
    with pytest.raises(UsageError, match="no scorer is called 'lesss'; did you mean less"):
        build("curate.scorers", "lesss", {})


def test_it_is_a_command_and_a_stage_of_a_recipe(tiny_model_dir: Path, tmp_path: Path) -> None:
    from siftune.pipelines.cli import siftune

    rows = jsonl(tmp_path / "pairs.jsonl", PAIRS)
    words = ["curate", "score", str(rows), "less", "--out", str(tmp_path / "run")]
    words += ["--model", str(tiny_model_dir), "--against", str(rows), "--loss", "dpo"]
    words += ["--epochs", "1", "--rank", "1", "--dimension", "16"]
    for _ in range(2):  # the run folder with its cache is known as ours
        done = CliRunner().invoke(siftune, [*words, "--overwrite"])
        assert done.exit_code == 0, done.output
    scored = pl.read_parquet(tmp_path / "run" / "kept.parquet")
    assert scored["less"].null_count() == 0
    caches = {path.name.partition("-")[0] for path in (tmp_path / "run" / "cache").iterdir()}
    assert caches == {"adapter", "gradients"}
