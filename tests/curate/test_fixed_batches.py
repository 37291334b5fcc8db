"""Completions of fixed batches: those of prompts one by one, whatever else is asked."""

import pytest
import torch

from siftune.curate.text import fixed_batches
from siftune.curate.text.fixed_batches import sample_each
from siftune.curate.text.language_model import CausalLM
from siftune.curate.text.sampling import Sampling, sample

LENGTHS = (2, 9, 40, 7, 33, 12, 5, 21, 3, 18, 40)
PROMPTS = [[5 + (7 * at + 3 * n) % 90 for n in range(length)] for at, length in enumerate(LENGTHS)]
SEEDS = [[at] for at in range(len(PROMPTS))]


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(fixed_batches, "_WIDTH", 16)
    monkeypatch.setattr(fixed_batches, "_MOST", 4)


def settings(temperature=1.0):
    return Sampling(temperature, 6, frozenset({3}), 0)


@pytest.fixture(scope="module")
def models(tiny_model_dir):
    return {kind: CausalLM(str(tiny_model_dir), None, kind).loaded for kind in ("fp32", "bf16")}


def one_by_one(model, sampling):
    return [sample(model, [p], sampling, [s])[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_are_those_of_prompts_one_by_one(models, temperature):
    sampling = settings(temperature)
    together = sample_each(models["fp32"], PROMPTS, sampling, SEEDS, 10_000)
    assert together == one_by_one(models["fp32"], sampling)


def test_in_bf16_a_completion_depends_on_no_other(models):
    model, sampling = models["bf16"], settings()
    together = sample_each(model, PROMPTS, sampling, SEEDS, 10_000)
    backward = sample_each(model, PROMPTS[::-1], sampling, SEEDS[::-1], 10_000)
    assert together == backward[::-1]
    for prompt, seed, completion in zip(PROMPTS, SEEDS, together, strict=True):
        assert sample_each(model, [prompt], sampling, [seed], 10_000) == [completion]


def shapes_of(model, tokens):
    seen = []
    hook = model.register_forward_pre_hook(
        lambda _, args, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    sample_each(model, PROMPTS, settings(), SEEDS, tokens)
    hook.remove()
    return seen


def test_each_step_has_as_many_rows_as_its_width_allows(models):
    steps = {rows for rows, width in shapes_of(models["fp32"], 10_000) if width == 1}
    assert steps == {4, 1}  # 1: the prompt of two tokens is read but for its last
    rows = {rows for rows, _ in shapes_of(models["fp32"], 2 * (48 + 6))}
    assert rows == {4, 2, 1}  # four of width 16, two of 32 and 48
    assert {rows for rows, _ in shapes_of(models["fp32"], 0)} == {1}


def test_a_model_of_another_cache_writes_one_after_another(models, monkeypatch):
    monkeypatch.setattr(fixed_batches, "_read", lambda *_: None)
    together = sample_each(models["fp32"], PROMPTS, settings(), SEEDS, 10_000)
    assert together == one_by_one(models["fp32"], settings())


def test_a_sliding_window_is_another_cache():
    from transformers import AutoModelForCausalLM, MistralConfig

    config = MistralConfig(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=8,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert fixed_batches._read(model, PROMPTS[2]) is None
    together = sample_each(model, PROMPTS, settings(), SEEDS, 10_000)
    assert together == one_by_one(model, settings())
