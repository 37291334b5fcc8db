"""Log-probs in tiles are those of the plain way: values, gradients, families, masks."""

from __future__ import annotations

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.models.lora import with_adapter
from siftune.finetune.scoring.chunked_logps import label_logps
from siftune.finetune.scoring.lm_head import STATISTICS, Head, Hidden, measure
from siftune.finetune.scoring.logps import (
    answer_with_scores,
    check_head,
    read_answers,
    score_answers,
)

TOKENS, WIDTH, VOCABULARY = 37, 8, 50


def linear(seed=0, bias=False):
    torch.manual_seed(seed)
    return torch.nn.Linear(WIDTH, VOCABULARY, bias=bias, dtype=torch.float64)


def states(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator)


LABELS = torch.arange(TOKENS) * 7 % VOCABULARY


@pytest.mark.parametrize("bias", [True, False])  # with one, it is not the backward pass by hand
@pytest.mark.parametrize("tile", [1, 5, TOKENS, 128])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_a_plain_log_softmax(tile, temperature, bias):
    head, hidden = linear(bias=bias), states().requires_grad_()
    weights = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)

    plain = torch.log_softmax(head(hidden) / temperature, -1).gather(1, LABELS[:, None])[:, 0]
    expected = torch.autograd.grad((weights * plain).sum(), (hidden, *head.parameters()))

    policy = Hidden(hidden, Head(head, temperature=temperature))
    tiled = measure(policy, LABELS, tile=tile)["policy"]
    found = torch.autograd.grad((weights * tiled).sum(), (hidden, *head.parameters()))

    torch.testing.assert_close(tiled, plain)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


ROW = VOCABULARY * 8  # bytes of a token's probabilities


@pytest.mark.parametrize(
    "kept",
    [
        0,
        15 * ROW,  # three tiles of seven
        17 * ROW,  # three, and what the last one, of two tokens, would need
        2 * ROW,  # not one tile, but what the last one would need
        1 << 20,
    ],
)
@pytest.mark.parametrize("trained", [("states", "weight"), ("states",), ("weight",)])
def test_the_backward_pass_by_hand_is_that_of_autograd(kept, trained):
    """Nothing kept, a part, all; and the head, the trunk or both trained."""
    inputs = {"states": states(), "weight": linear().weight.detach()}
    for name in trained:
        inputs[name].requires_grad_()
    weights = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)
    plain = torch.log_softmax(1.7 * inputs["states"] @ inputs["weight"].T, -1)
    plain = plain.gather(1, LABELS[:, None])[:, 0]
    found = label_logps(**inputs, labels=LABELS, factor=1.7, tile=5, kept=kept)
    torch.testing.assert_close(found, plain)
    asked = [inputs[name] for name in trained]
    expected = torch.autograd.grad((weights * plain).sum(), asked)
    for ours, theirs in zip(
        torch.autograd.grad((weights * found).sum(), asked), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_halves_are_summed_in_whole_numbers():
    """bfloat16 in, log-probs and sums in float32: nearer to the truth than bfloat16 could say."""
    hidden, head = states(), linear().weight.detach()
    exact = torch.log_softmax(hidden.bfloat16().double() @ head.bfloat16().double().T, -1)
    half = head.bfloat16().requires_grad_()
    found = label_logps(hidden.bfloat16(), half, LABELS, 1.0, tile=5)
    assert found.dtype == torch.float32
    assert float((found.detach() - exact.gather(1, LABELS[:, None])[:, 0]).abs().max()) < 0.02
    found.sum().backward()
    assert half.grad.dtype == torch.bfloat16


def test_statistics_are_those_of_the_whole_distribution():
    head, ref_head, hidden, ref_hidden = linear(), linear(5), states(), states(6)
    p, q = torch.softmax(head(hidden), -1), torch.softmax(ref_head(ref_hidden), -1)
    found = measure(
        Hidden(hidden, Head(head)),
        LABELS,
        tuple(STATISTICS),
        Hidden(ref_hidden, Head(ref_head)),
        tile=10,
    )
    at = LABELS[:, None]
    torch.testing.assert_close(found["reference"], q.log().gather(1, at)[:, 0])
    torch.testing.assert_close(found["entropy"], -(p * p.log()).sum(-1))
    torch.testing.assert_close(found["log_sum_squares"], (p * p).sum(-1).log())
    torch.testing.assert_close(found["kl"], (p * (p / q).log()).sum(-1))
    torch.testing.assert_close(found["ref_kl"], (q * (q / p).log()).sum(-1))
    torch.testing.assert_close(found["top1"], (p.argmax(-1) == LABELS).double())


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Granite"])
def test_mean_logits_are_those_of_the_model_and_of_trl(family):
    from trl.trainer.utils import add_fused_lm_head

    model = tiny(family)
    ids = torch.tensor([[5, 6, 7, 8, 2], [9, 3, 4, 11, 12]])
    answered = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "answer_mask": answered}
    with torch.no_grad():
        found = score_answers(model, batch, watched=("logits", "entropy"))["logits"]
        means = model(ids).logits[:, :-1].mean(-1)
        add_fused_lm_head(model, outputs=("log_probs", "mean_logits"))
        labels = ids.masked_fill(answered == 0, -100)
        theirs = model(ids, labels=labels, fused_lm_head=True).mean_logits
    for row, count in enumerate((3, 4)):
        torch.testing.assert_close(found[row, :count], means[row, -count:], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found[row, :count], theirs[row, -count:], atol=1e-6, rtol=1e-5)


def test_mean_logits_know_a_bias_and_are_left_out_where_logits_are_no_matrix():
    head = torch.nn.Linear(8, 20).double()
    hidden = torch.randn(5, 8, dtype=torch.float64)
    one = Head(head, scale=0.5, temperature=2.0)
    expected = one.logits(hidden).mean(-1)
    torch.testing.assert_close(one.mean_logits(hidden).double(), expected, atol=1e-6, rtol=1e-5)
    capped = Hidden(hidden, Head(head, softcap=3.0))
    assert capped.head.mean_logits(hidden) is None
    assert "logits" not in measure(capped, torch.arange(5), watched=("logits",))


def test_what_is_only_watched_is_the_same_without_gradient():
    policy = Hidden(states().requires_grad_(), Head(linear()))
    reference, names = Hidden(states(6), Head(linear(5))), tuple(STATISTICS)
    wanted = measure(policy, LABELS, names, reference, tile=10)
    watched = measure(policy, LABELS, (), reference, names, tile=10)
    assert list(watched) == ["policy", "reference", *names]
    for name in names:
        assert not watched[name].requires_grad
        torch.testing.assert_close(watched[name], wanted[name].detach())
    watched["policy"].sum().backward()


@pytest.mark.parametrize("statistic", sorted(set(STATISTICS) - {"top1"}))
def test_statistics_carry_gradients_through_tiles(statistic):
    head, reference = linear(), Hidden(states(6)[:4], Head(linear(5)))

    def value(hidden):
        policy = Hidden(hidden, Head(head))
        return measure(policy, LABELS[:4], (statistic,), reference, tile=3)[statistic]

    assert torch.autograd.gradcheck(value, states()[:4].requires_grad_())


def test_the_reference_gets_no_gradient():
    ref_head, ref_hidden = linear(5), states(6).requires_grad_()
    policy = Hidden(states().requires_grad_(), Head(linear()))
    found = measure(policy, LABELS, ("kl",), Hidden(ref_hidden, Head(ref_head)), tile=10)
    found["kl"].sum().backward()
    assert not found["reference"].requires_grad
    assert ref_hidden.grad is None
    assert ref_head.weight.grad is None


def tiny(family):
    import transformers

    torch.manual_seed(0)
    shape = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if family == "GPT2":
        shape = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
    more = {
        "Granite": {"logits_scaling": 3.0},
        "Gemma2": {"final_logit_softcapping": 1.5},
        "Cohere": {"logit_scale": 0.25},
        "GPT2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    }.get(family, {})
    config = getattr(transformers, f"{family}Config")(**shape, **special, **more)
    model_class = getattr(transformers, f"{family}LMHeadModel", None) or getattr(
        transformers, f"{family}ForCausalLM"
    )
    return model_class(config).eval()


BATCH = {
    # two prompts of 3 and 2 tokens; answers of 2 and 4; the first row is padded by one
    "input_ids": torch.tensor([[5, 6, 7, 8, 2, 0], [9, 10, 11, 12, 13, 2]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]),
    "answer_mask": torch.tensor([[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1]]),
}


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "GPT2", "Granite", "Gemma2", "Cohere"])
def test_answers_are_scored_as_the_models_own_logits_score_them(family):
    model = tiny(family)
    check_head(model, BATCH["input_ids"][1:])
    found = score_answers(model, BATCH)["policy"]
    logps = torch.log_softmax(
        model(input_ids=BATCH["input_ids"], attention_mask=BATCH["attention_mask"]).logits, -1
    )
    by_hand = [
        [logps[0, 2, 8], logps[0, 3, 2], torch.tensor(0.0), torch.tensor(0.0)],
        [logps[1, 1, 11], logps[1, 2, 12], logps[1, 3, 13], logps[1, 4, 2]],
    ]
    expected = torch.stack([torch.stack(row) for row in by_hand])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_head_that_does_more_than_is_known_is_refused():
    model = tiny("Llama")
    own = model.forward

    def louder(*args, **kwargs):
        output = own(*args, **kwargs)
        output.logits = output.logits + torch.linspace(0, 1, 40)
        return output

    model.forward = louder
    with pytest.raises(UsageError, match="LlamaForCausalLM: its logits differ by 1 from those"):
        check_head(model, BATCH["input_ids"])


def test_a_model_whose_logits_are_not_finite_is_refused():
    model = tiny("Llama")
    with torch.no_grad():
        model.lm_head.weight[3] = 1e38
        model.model.norm.weight.fill_(1e20)
    with pytest.raises(UsageError, match="logits on the first row are NaN or infinite"):
        check_head(model, BATCH["input_ids"])


def test_scores_come_through_forward_and_the_rest_is_as_before():
    model = tiny("Llama")
    before = model(input_ids=BATCH["input_ids"]).logits
    direct = score_answers(model, BATCH, ("entropy",))
    answer_with_scores(model)
    through = model(answers=BATCH, how={"statistics": ("entropy",)})
    assert through.keys() == direct.keys() == {"policy", "entropy"}
    torch.testing.assert_close(through["entropy"], direct["entropy"])
    torch.testing.assert_close(model(input_ids=BATCH["input_ids"]).logits, before)


def test_a_model_against_itself_has_no_kl():
    model = tiny("Llama")
    with torch.no_grad():
        found = score_answers(model, BATCH, ("kl", "ref_kl"), read_answers(model, BATCH))
    torch.testing.assert_close(found["policy"], found["reference"])
    torch.testing.assert_close(found["kl"], torch.zeros_like(found["kl"]), atol=1e-6, rtol=0)


def test_an_adapter_on_the_head_is_off_in_the_reference():
    model = tiny("Llama")
    with torch.no_grad():
        before = score_answers(model, BATCH)["policy"]
    wrapped = with_adapter(model, 2, 16, modules=("q_proj", "lm_head"))
    torch.nn.init.normal_(model.lm_head.lora_B["default"].weight)
    with torch.no_grad():
        with wrapped.disable_adapter():
            reference = read_answers(wrapped.get_base_model(), BATCH, adapter=False)
        found = score_answers(wrapped.get_base_model(), BATCH, (), reference)
    torch.testing.assert_close(found["reference"], before)
    assert (found["policy"] - before).abs().max() > 0.01
