"""Logits of the next token in families of models, with and without a shared beginning."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from siftune.curate.text.next_token import NextToken, PromptIds

USUAL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
}
GROUPED = {**USUAL, "num_key_value_heads": 1}
SIZED = {key: USUAL[key] for key in ("vocab_size", "hidden_size")}
FAMILIES: dict[str, tuple[dict[str, Any], bool]] = {
    "LlamaForCausalLM": (USUAL, True),
    "CohereForCausalLM": (USUAL, True),
    "GPTNeoXForCausalLM": (USUAL, True),
    "MixtralForCausalLM": ({**GROUPED, "num_local_experts": 4}, True),
    "OPTForCausalLM": ({**USUAL, "ffn_dim": 64, "word_embed_proj_dim": 32}, True),
    "GPT2LMHeadModel": ({"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 2}, True),
    "BloomForCausalLM": ({**SIZED, "n_layer": 2, "n_head": 2}, True),
    "FalconForCausalLM": (USUAL, True),
    "Gemma2ForCausalLM": ({**GROUPED, "head_dim": 16, "sliding_window": 16}, False),
    "MistralForCausalLM": ({**GROUPED, "sliding_window": 16}, False),
    "MambaForCausalLM": ({**SIZED, "num_hidden_layers": 2, "state_size": 8}, False),
}
"""Options of a configuration, and whether a beginning is shared: not with windows or states."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_each_prompt_alone(family: str) -> None:
    options, shared = FAMILIES[family]
    kind = getattr(transformers, family)
    torch.manual_seed(0)
    model = kind(kind.config_class(**options, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    read = NextToken(SimpleNamespace(loaded=model.eval(), number_format="fp32"))
    start = torch.randint(5, 100, (40,)).tolist()
    rows = [[*start, *torch.randint(5, 100, (size,)).tolist()] for size in (7, 20, 3, 11, 7)]
    rows.append(rows[0][9:])
    prompts = [PromptIds(row, 40 if row[:40] == start else 0) for row in rows]
    with torch.no_grad():
        wanted = [model(input_ids=torch.tensor([row])).logits[0, -1].double() for row in rows]
    wanted = [one.log_softmax(-1)[3:9] for one in wanted]
    found = read.log_probabilities(prompts, [range(3, 9)] * len(rows))
    again = read.log_probabilities(prompts[1:2], [range(3, 9)])
    for one, other in zip([*found, *again], [*wanted, wanted[1]], strict=True):
        assert one.tolist() == pytest.approx(other.tolist(), abs=1e-5)
    assert any(past is not None for past in read._starts.values()) == shared
