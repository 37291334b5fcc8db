"""Bugs of the gate over attributes and of the search for reward functions, in our code."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["REWARD_SEARCH"]

GATE = "tests/finetune/test_gate.py"
SEARCH = "tests/finetune/test_propose_reward.py"

REWARD_SEARCH = (
    Mutation(
        "length added to each attribute",
        "finetune/reward_models/gate.py",
        "return ratings - self.penalties * long[..., None]",
        "return ratings + self.penalties * long[..., None]",
        GATE,
    ),
    Mutation(
        "what length explains left in the scores",
        "finetune/reward_models/gate.py",
        "return (self.weights(prompts) * self.adjusted(ratings, chars)).sum(-1)",
        "return (self.weights(prompts) * ratings).sum(-1)",
        GATE,
    ),
    Mutation(
        "length taken out of length alone",
        "finetune/reward_models/gate.py",
        "if name == length",
        "if name != length",
        GATE,
    ),
    Mutation(
        "weights over prompts in place of attributes",
        "finetune/reward_models/gate.py",
        "return (states / temperature).softmax(-1)",
        "return (states / temperature).softmax(0)",
        GATE,
    ),
    Mutation(
        "temperature multiplied",
        "finetune/reward_models/gate.py",
        "return (states / temperature).softmax(-1)",
        "return (states * temperature).softmax(-1)",
        GATE,
    ),
    Mutation(
        "the rejected answer learned",
        "finetune/reward_models/gate.py",
        "loss = -F.logsigmoid(margin).mean()",
        "loss = -F.logsigmoid(-margin).mean()",
        GATE,
    ),
    Mutation(
        "no scale of the log-odds",
        "finetune/reward_models/gate.py",
        "margin = log_scale.exp() * (weights",
        "margin = (0 * log_scale).exp() * (weights",
        GATE,
    ),
    Mutation(
        "states of prompts as they are",
        "finetune/reward_models/gate.py",
        "_weights(self.layers, (prompts - self.mean) / self.deviation, self.temperature)",
        "_weights(self.layers, prompts, self.temperature)",
        GATE,
    ),
    Mutation(
        "a gate that reads the answer",
        "finetune/rewards/gated_attributes.py",
        "tuple(one) for one in prompt_ids(tokenizer, [rows[at] for at in fits], self._limit)",
        "tuple(one) for one in texts",
        GATE,
    ),
    Mutation(
        "the state of the first token",
        "finetune/reward_models/head_inputs.py",
        "state = state[torch.arange(len(part), device=state.device), last]",
        "state = state[:, 0]",
        GATE,
    ),
    Mutation(
        "an answer without a number counts as a tie",
        "finetune/evaluation/reward_proposals.py",
        "found.append(0.0 if one is None or two is None",
        "found.append(0.5 if one is None or two is None",
        SEARCH,
    ),
    Mutation(
        "a tie counts as right",
        "finetune/evaluation/reward_proposals.py",
        "0.5 * ((one > two) + (one >= two))",
        "float(one >= two)",
        SEARCH,
    ),
    Mutation(
        "the worst function kept",
        "finetune/tools/propose_reward.py",
        "best = max(usable",
        "best = min(usable",
        SEARCH,
    ),
    Mutation(
        "the label in the row",
        "finetune/tools/propose_reward.py",
        '"prompt": row["prompt"]}',
        '"prompt": row["prompt"], "chosen": row.get("chosen")}',
        SEARCH,
    ),
    Mutation(
        "the best function not shown",
        "finetune/evaluation/reward_proposals.py",
        "fenced([*self.examples, *self.report]",
        "fenced([*self.examples]",
        SEARCH,
    ),
    Mutation(
        "one answer taken for all of a round",
        "finetune/evaluation/reward_proposals.py",
        "#{self.round}.{item.extra['number']}",
        "#{self.round}.0",
        SEARCH,
    ),
)
