"""A prompt that is run once for all its answers gives what it gives when it is run for each."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.collator import AnswerCollator, parts_of
from siftune.finetune.data.packing import _rows, pack, run_packed, share_prefixes, shares_prefixes
from siftune.finetune.scoring.logps import read_answers, score_answers
from tests.finetune.test_logps import tiny

PAIRS = [
    AnswerRow("a", [5, 6, 7], [[8, 2], [9, 10, 11, 2]], columns={"margin": [1.0]}),
    AnswerRow("b", [5, 6, 7, 8, 12], [[8, 2, 3], [2]], columns={"margin": [2.0]}),
    AnswerRow("c", [5, 6, 7], [[13, 2], [14, 15, 2]], columns={"margin": [3.0]}),
]
BATCH = AnswerCollator(0)(PAIRS)
FAMILIES = ["Llama", "Qwen2", "Qwen3", "GPT2", "Granite", "OPT"]


def scored(model):
    """Log-probs, and the gradients of their weighted sum."""
    model.zero_grad()
    found = score_answers(model, BATCH, ("entropy",))
    weights = torch.linspace(-1, 2, found["policy"].numel()).view_as(found["policy"])
    (weights * found["policy"] + found["entropy"]).sum().backward()
    return found, {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_the_plain_way(family):
    model = tiny(family)
    plain, plain_grads = scored(model)
    assert share_prefixes(model) is None
    shared, shared_grads = scored(model)
    assert shares_prefixes(model)
    for name, value in plain.items():
        torch.testing.assert_close(shared[name], value, atol=1e-5, rtol=1e-5)
    for name, grad in plain_grads.items():
        torch.testing.assert_close(shared_grads[name], grad, atol=1e-5, rtol=1e-4, msg=name)


def by_flex_attention(query, key, value, groups, scale):
    """The same by FlexAttention: one mask of the whole sequence, in blocks."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    total = query.shape[2]
    seen, start = torch.zeros(total, total, dtype=torch.bool), 0
    for group in groups:
        answers, end = start + group.prompt, start + group.prompt + sum(group.answers)
        seen[start:answers, start:answers] = torch.ones(group.prompt, group.prompt).tril().bool()
        for length in group.answers:
            seen[answers : answers + length, start : start + group.prompt] = True
            own = slice(answers, answers + length)
            seen[own, own] = torch.ones(length, length).tril().bool()
            answers += length
        start = end
    blocks = create_block_mask(
        lambda b, h, q, kv: seen[q, kv], None, None, total, total, device="cpu", BLOCK_SIZE=16
    )
    return flex_attention(query, key, value, block_mask=blocks, scale=scale)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "GPT2"])
def test_flex_attention_over_one_block_mask_says_the_same(family, monkeypatch):
    """Forward only: it has no backward pass on a CPU."""
    import siftune.finetune.data.packing as packing

    model = tiny(family)
    assert share_prefixes(model) is None
    called = []
    with torch.no_grad():
        by_group = score_answers(model, BATCH)["policy"]
        monkeypatch.setattr(
            packing, "_by_group", lambda *given: called.append(1) or by_flex_attention(*given)
        )
        by_flex = score_answers(model, BATCH)["policy"]
    assert called
    torch.testing.assert_close(by_flex, by_group, atol=1e-5, rtol=1e-5)


def test_equal_prompts_are_run_once_and_padding_never():
    packed = pack(BATCH)
    # [5 6 7] once for the four answers of a and c, [5 6 7 8 12] once for the two of b
    assert packed.input_ids.shape == (1, 3 + (2 + 2 + 4 + 3) + 5 + (3 + 1))
    assert [(group.prompt, group.answers) for group in packed.groups] == [
        (3, (2, 2, 4, 3)),
        (5, (3, 1)),
    ]
    assert packed.input_ids[0, :5].tolist() == [5, 6, 7, 8, 2]
    assert packed.position_ids[0, :14].tolist() == [0, 1, 2, 3, 4, 3, 4, 3, 4, 5, 6, 3, 4, 5]
    # the first tokens of answers come from the end of their prompt, the others from the one before
    assert packed.predicts[:5].tolist() == [2, 3, 18, 19, 20]


def test_an_answer_does_not_see_the_others():
    model = tiny("Llama")
    share_prefixes(model)
    with torch.no_grad():
        before = score_answers(model, BATCH)["policy"]
        other = AnswerRow("a", [5, 6, 7], [[20, 21], [9, 10, 11, 2]], columns={"margin": [1.0]})
        after = score_answers(model, AnswerCollator(0)([other, *PAIRS[1:]]))["policy"]
    torch.testing.assert_close(after[1:], before[1:])
    assert (after[0] - before[0]).abs().max() > 1e-3


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.integers(3, 30), min_size=1, max_size=6)] * 3), min_size=1))
def test_any_batch_is_scored_as_it_is_plainly(made):
    plain, shared = tiny("Llama"), tiny("Llama")
    share_prefixes(shared)
    batch = AnswerCollator(0)(
        [AnswerRow(str(at), row[0], list(row[1:])) for at, row in enumerate(made[:5])]
    )
    with torch.no_grad():
        expected, found = (score_answers(model, batch)["policy"] for model in (plain, shared))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_family_that_cannot_is_left_as_it_was_and_says_why():
    windowed, capped = tiny("Mistral"), tiny("Gemma2")
    assert "sliding_window" in share_prefixes(windowed)
    assert share_prefixes(capped) == "its attention is eager, not sdpa"
    assert not shares_prefixes(windowed)
    assert windowed.config._attn_implementation == "sdpa"
    score_answers(windowed, BATCH)


def test_a_model_that_does_not_pass_the_layout_on_is_found_out():
    model = tiny("Llama")
    own = model.model.forward
    model.model.forward = lambda *args, packed=None, **more: own(*args, **more)
    assert "differ by" in share_prefixes(model)


def test_other_calls_are_as_before():
    model = tiny("Llama")
    inputs = {"input_ids": BATCH["input_ids"], "attention_mask": BATCH["attention_mask"]}
    before = model(**inputs).logits
    share_prefixes(model)
    there = BATCH["attention_mask"].bool()
    torch.testing.assert_close(model(**inputs).logits[there], before[there])
    assert "siftune" not in model.config.to_json_string()


def test_recomputed_layers_see_the_same_layout():
    plain, recomputed = tiny("Llama"), tiny("Llama")
    share_prefixes(plain)
    share_prefixes(recomputed)
    recomputed.activation_checkpointing_enable()
    recomputed.train()
    for (name, one), other in zip(
        scored(plain)[1].items(), scored(recomputed)[1].values(), strict=True
    ):
        torch.testing.assert_close(one, other, msg=name)


def test_hidden_states_are_those_of_the_packed_run():
    model = tiny("GPT2")
    share_prefixes(model)
    packed = pack(BATCH)
    with torch.no_grad():
        torch.testing.assert_close(
            read_answers(model, BATCH).states, run_packed(model, packed)[packed.predicts]
        )


def test_a_batch_falls_in_parts_of_so_many_tokens():
    # the pairs have 12, 14 and 11 tokens
    assert [len(part["input_ids"]) for part in parts_of(BATCH, 100)] == [6]
    assert [len(part["input_ids"]) for part in parts_of(BATCH, 26)] == [4, 2]
    one, two, three = parts_of(BATCH, 1)
    for part, pair in zip((one, two, three), PAIRS, strict=True):
        alone = AnswerCollator(0)([pair])
        assert part.keys() == alone.keys()
        for name, value in alone.items():
            assert torch.equal(part[name], value), name


def test_the_first_token_has_nothing_before_it_and_is_no_scored_one() -> None:
    batch = {name: torch.ones(1, 4, dtype=torch.long) for name in ("attention_mask", "answer_mask")}
    batch["input_ids"] = torch.tensor([[5, 6, 7, 8]])
    assert _rows(batch) == [([5], [6, 7, 8], [0, 1, 2])]


def test_the_attention_of_answers_does_not_grow_with_the_square_of_their_number(monkeypatch):
    seen = []
    own = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "siftune.finetune.data.packing.F.scaled_dot_product_attention",
        lambda q, k, v, **more: seen.append(q.shape[2] * k.shape[2]) or own(q, k, v, **more),
    )
    model = tiny("Llama")
    share_prefixes(model)
    rows = [AnswerRow("a", [5, 6, 7], [[8] * 10] * answers) for answers in (2, 16)]
    work = []
    for row in rows:
        seen.clear()
        with torch.no_grad():
            score_answers(model, AnswerCollator(0)([row]))
        work.append(sum(seen) / model.config.num_hidden_layers)
    assert work == [3 * 3 + 2 * 10 * 13, 3 * 3 + 16 * 10 * 13]
