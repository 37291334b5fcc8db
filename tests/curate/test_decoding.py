"""Decoding with a reserved cache: the completions of `transformers`, for less work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from siftune.curate.text import sampling as module
from siftune.curate.text.decoding import cache_name, decode
from siftune.curate.text.sampling import Sampling, generate, inverse_cdf, sample

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ENDS = frozenset({2, 3, 4, 9})
PROMPTS = [
    [5 + (7 * at + 3 * n) % 90 for n in range(size)] for at, size in enumerate((5, 5, 11, 3))
]
ROWS = [prompt for prompt in PROMPTS for _ in range(3)]
SEEDS = [[7, at] for at in range(len(ROWS))]


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    options = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=97, **options)).eval()


def windowed() -> Any:
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)).eval()


def by_transformers(model: Any, how: Sampling, rows: Any = ROWS) -> list[list[int]]:
    with torch.no_grad():
        return generate(model, rows, how, SEEDS[: len(rows)], max(map(len, rows)), {})


@pytest.mark.parametrize(("make", "temperature"), [(llama, 0.8), (llama, 0.0), (gpt2, 0.8)])
def test_completions_are_those_of_transformers(
    make: Any, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, how = make(), Sampling(temperature, 16, ENDS, 0)
    expected = by_transformers(model, how)
    alike = by_transformers(model, how, ROWS[:6])  # without padding
    monkeypatch.setattr(module, "generate", None)
    assert sample(model, ROWS, how, SEEDS) == expected
    assert sample(model, ROWS[:6], how, SEEDS[:6]) == alike
    assert temperature == 0 or len({len(one) for one in expected}) > 4  # rows end one by one


def test_each_prompt_is_read_once_and_rows_that_have_ended_are_not_read_on() -> None:
    model, how, seen = llama(), Sampling(1.0, 16, ENDS, 0), []
    hook = model.register_forward_pre_hook(
        lambda _, args, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    lengths = sorted(map(len, sample(model, ROWS, how, SEEDS)))
    hook.remove()
    assert seen[0] == (len(PROMPTS), 11)
    assert [width for _, width in seen[1:]] == [1] * (lengths[-1] - 1)
    for step, (rows, _) in enumerate(seen[1:], 1):
        left = sum(length > step for length in lengths)
        assert left <= rows
        assert left > 0.75 * rows
    assert seen[-1][0] < len(ROWS)


def test_memory_is_reserved_once_for_all_tokens() -> None:
    """No step copies the keys of the steps before it."""
    model, starts = llama(), []

    def noted(_: Any, given: Any, made: Any) -> None:
        starts.append(made[cache_name(model)].layers[0].keys.data_ptr())

    hook = model.register_forward_hook(noted)
    written = sample(model, ROWS[:2], Sampling(1.0, 9, frozenset({-1}), 0), SEEDS[:2])
    hook.remove()
    assert list(map(len, written)) == [9, 9]
    assert len(starts) == 9
    assert len(set(starts[1:])) == 1


def test_a_cache_with_windows_is_left_to_transformers() -> None:
    model, how = windowed(), Sampling(1.0, 12, ENDS, 0)
    assert decode(model, ROWS, 12, ENDS, 0, lambda *_: pytest.fail("it was read")) is None
    assert sample(model, ROWS, how, SEEDS) == by_transformers(model, how)


def test_draws_are_where_the_summed_probabilities_pass_the_random_number() -> None:
    draw = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(40, 11, generator=draw)
    logits[:, 4] = -torch.inf
    uniform = torch.rand(40, generator=draw, dtype=torch.float64)
    for temperature in (1.0, 0.5):
        expected = []
        for row, number in zip(logits.double() / temperature, uniform.tolist(), strict=True):
            summed, chosen = 0.0, 0
            for token, p in enumerate(torch.softmax(row, 0).tolist()):
                summed += p
                chosen = token
                if summed > number:
                    break
            expected.append(chosen)
        assert inverse_cdf(logits, uniform, temperature).tolist() == expected
        assert 4 not in expected


@pytest.mark.parametrize("how", [sample, by_transformers])
def test_the_head_reads_states_without_gaps(how: Any) -> None:
    model, seen = llama(), list[bool]()
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _, given, __: seen.append(given[0].is_contiguous()))
    sampling = Sampling(1.0, 3, ENDS, 0)
    if how is sample:
        sample(model, ROWS, sampling, SEEDS)
    else:
        by_transformers(model, sampling)
    assert len(seen) >= 2
    assert all(seen)
    assert not head._forward_pre_hooks
