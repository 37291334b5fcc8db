"""The classic bugs of the loop of RL: rollouts, the loss of an update, its divisor, the critic."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["RL_LOOP"]

EXACT = "tests/finetune/rl/test_rl_gradients.py"
LAGRANGIAN = "tests/finetune/rl/test_rl_lagrangian.py"
EFFECTS = "tests/finetune/rl/test_rl_options.py"

_COLLECTOR = "finetune/rl/collector.py"
_UPDATE = "finetune/rl/update.py"
_PARTS = "finetune/rl/parts.py"
_LOOP = "finetune/rl/loop.py"
_ROLLOUT = "finetune/rl/rollout.py"
_CORE = "finetune/rl/ppo_losses.py"
_MODEL = "finetune/rl/model.py"
_COSTS = "finetune/rl/lagrangian.py"
_SETTINGS = "finetune/rl/settings.py"

_OF_ROLLOUTS = (
    Mutation(
        "rewards are told that every answer is finished",
        _COLLECTOR,
        '"finished": answer.finished}',
        '"finished": True}',
        EXACT,
    ),
    Mutation(
        "cut answers taken for ended ones",
        _COLLECTOR,
        "ended = torch.tensor([answer.finished for answer in kept])",
        "ended = torch.tensor([True for answer in kept])",
        EFFECTS,
    ),
    Mutation(
        "the penalty of cut answers on ended ones",
        _COLLECTOR,
        "options.missing_eos_penalty * (~ended)",
        "options.missing_eos_penalty * ended",
        EFFECTS,
    ),
    Mutation(
        "the penalty of cut answers ignored",
        _COLLECTOR,
        "options.missing_eos_penalty * (~ended)",
        "0.0 * (~ended)",
        EFFECTS,
    ),
    Mutation(
        "the punishment of length ignored", _COLLECTOR, "if options.overlong:", "if False:", EFFECTS
    ),
    Mutation(
        "the punishment of length is a bonus",
        _COLLECTOR,
        "penalised = penalised - ppo_losses",
        "penalised = penalised + ppo_losses",
        EFFECTS,
    ),
    Mutation(
        "the punishment of length begins at the limit",
        _CORE,
        "(lengths - (max_new_tokens - cache)) / cache",
        "(lengths - max_new_tokens) / cache",
        EFFECTS,
    ),
    Mutation(
        "the punishment of length not held at 1",
        _CORE,
        "/ cache).clamp(0, 1)",
        "/ cache).clamp(max=1)",
        EFFECTS,
    ),
    Mutation(
        "each answer a group of its own",
        _COLLECTOR,
        "groups = torch.tensor([answer.group for answer in kept])",
        "groups = torch.arange(len(kept))",
        EXACT,
    ),
    Mutation(
        "all answers one group",
        _COLLECTOR,
        "groups = torch.tensor([answer.group for answer in kept])",
        "groups = torch.zeros(len(kept), dtype=torch.int64)",
        EXACT,
    ),
    Mutation(
        "the KL in the reward and in the loss",
        _COLLECTOR,
        "coef = 0.0 if options.kl_is_loss else kl_coef",
        "coef = kl_coef",
        EFFECTS,
    ),
    Mutation(
        "the estimate of the KL in the reward ignored",
        _COLLECTOR,
        "KL[options.estimator](old.logps, ref_logps)",
        'KL["k1"](old.logps, ref_logps)',
        EFFECTS,
    ),
    Mutation(
        "the KL from the reference to the policy",
        _COLLECTOR,
        "KL[options.estimator](old.logps, ref_logps)",
        "KL[options.estimator](ref_logps, old.logps)",
        EXACT,
    ),
    Mutation("always whitened", _COLLECTOR, "if self.settings.whiten:", "if True:", EFFECTS),
    Mutation("never whitened", _COLLECTOR, "if self.settings.whiten:", "if False:", EFFECTS),
    Mutation(
        "whitened with the answers that are left out",
        _COLLECTOR,
        "whiten(advantages, learned)",
        "whiten(advantages, tokens.mask)",
        EFFECTS,
    ),
    Mutation(
        "the critic learns whitened returns",
        _COLLECTOR,
        "None if old.values is None else advantages + old.values",
        "None if old.values is None else whiten(advantages, learned) + old.values",
        EXACT,
    ),
    Mutation(
        "the critic learns advantages",
        _COLLECTOR,
        "None if old.values is None else advantages + old.values",
        "None if old.values is None else advantages",
        EXACT,
    ),
    Mutation(
        "ended answers left out for cut ones",
        _COLLECTOR,
        "learned = learned & ended.unsqueeze(1)",
        "learned = learned & ~ended.unsqueeze(1)",
        EFFECTS,
    ),
    Mutation(
        "cut answers always left out",
        _COLLECTOR,
        'if self.settings.truncated == "leave_out":',
        "if True:",
        EFFECTS,
    ),
    Mutation(
        "prompts without signal stay",
        _COLLECTOR,
        'scored if self.settings.dynamic_sampling == "off" else _telling(scored)',
        "scored",
        EFFECTS,
    ),
    Mutation(
        "prompts with signal left out",
        _COLLECTOR,
        "zip(scored, flat.tolist(), strict=True) if not same]",
        "zip(scored, flat.tolist(), strict=True) if same]",
        EFFECTS,
    ),
    Mutation(
        "no temperature in the old log-probs",
        _COLLECTOR,
        "self.model(batch, temperature, entropy=True)",
        "self.model(batch, 1.0, entropy=True)",
        EFFECTS,
    ),
    Mutation(
        "no temperature in the reference",
        _COLLECTOR,
        "policy_scores(reference, batch, temperature)",
        "policy_scores(reference, batch, 1.0)",
        EFFECTS,
    ),
    Mutation(
        "the policy for its reference",
        _COLLECTOR,
        "policy_scores(reference, batch, temperature)",
        "policy_scores(self.model.policy, batch, temperature)",
        EXACT,
    ),
    Mutation(
        "KL a token in the metrics",
        _ROLLOUT,
        "self.tokens.mask) / len(self.scores))",
        "self.tokens.mask) / self.tokens.mask.sum())",
        EFFECTS,
    ),
    Mutation(
        "the penalised mean adds the KL",
        _ROLLOUT,
        "score - self.kl_coef * self.kl",
        "score + self.kl_coef * self.kl",
        EFFECTS,
    ),
    Mutation(
        "ended answers counted as cut",
        _COLLECTOR,
        "sum(not answer.finished for answer in drawn)",
        "sum(answer.finished for answer in drawn)",
        EFFECTS,
    ),
)

_OF_UPDATES = (
    Mutation(
        "normalised by micro-batch in RL",
        _LOOP,
        "divisor = Divisor.of(options.reduction, rollout.learned, rows, options.max_new_tokens)\n"
        "        loss, moved = torch.zeros((), device=device), 0.0\n"
        "        for part in parts_for(rows, options.micro_batch):\n",
        "loss, moved = torch.zeros((), device=device), 0.0\n"
        "        for part in parts_for(rows, options.micro_batch):\n"
        "            divisor = Divisor.of(\n"
        "                options.reduction, rollout.learned, part, options.max_new_tokens\n"
        "            )\n",
        EXACT,
    ),
    Mutation(
        "the mean over tokens counts padding",
        _PARTS,
        "return cls(max(int(lengths[rows].sum()), 1))",
        "return cls(len(rows) * learned.shape[1])",
        EXACT,
    ),
    Mutation(
        "a fixed length that is the longest of the rollout",
        _PARTS,
        "cls(answers * max_new_tokens)",
        "cls(answers * int(lengths.max()))",
        EFFECTS,
    ),
    Mutation(
        "answers divided by the longest",
        _PARTS,
        "self.lengths[rows].to(losses).unsqueeze(1)",
        "self.lengths.max().to(losses)",
        EXACT,
    ),
    Mutation(
        "answers divided by the lengths of others",
        _PARTS,
        "self.lengths[rows].to(losses)",
        "self.lengths[: len(rows)].to(losses)",
        EXACT,
    ),
    Mutation(
        "the KL in the loss unweighted",
        _UPDATE,
        '"loss/kl": rollout.kl_coef',
        '"loss/kl": 1.0',
        EXACT,
    ),
    Mutation(
        "the KL in the loss is a bonus",
        _UPDATE,
        '"loss/kl": rollout.kl_coef',
        '"loss/kl": -rollout.kl_coef',
        EXACT,
    ),
    Mutation(
        "the estimate of the KL in the loss ignored",
        _UPDATE,
        "KL[settings.estimator](new.logps, reference)",
        'KL["k3"](new.logps, reference)',
        EFFECTS,
    ),
    Mutation(
        "the KL in the loss to the old policy",
        _UPDATE,
        "KL[settings.estimator](new.logps, reference)",
        "KL[settings.estimator](new.logps, old)",
        EXACT,
    ),
    Mutation(
        "the value clipped by the policy's range",
        _UPDATE,
        "returns, settings.value_clip)",
        "returns, settings.cliprange)",
        EFFECTS,
    ),
    Mutation(
        "the weight of the value loss ignored",
        _UPDATE,
        "_VF_COEF if settings.vf_coef is None else settings.vf_coef",
        "_VF_COEF",
        EFFECTS,
    ),
    Mutation(
        "the value clipped around itself",
        _UPDATE,
        "ppo_losses.value_loss(new.values, before,",
        "ppo_losses.value_loss(new.values, new.values,",
        EFFECTS,
    ),
    Mutation(
        "no temperature in the update",
        _UPDATE,
        "new = model(tokens, settings.temperature)",
        "new = model(tokens, 1.0)",
        EFFECTS,
    ),
    Mutation(
        "the ratio to the policy itself",
        _UPDATE,
        "PolicyBatch(new.logps, old, advantages, learned)",
        "PolicyBatch(new.logps, new.logps.detach(), advantages, learned)",
        EFFECTS,
    ),
    Mutation(
        "a critic that sees the token it evaluates",
        _MODEL,
        "            states = _states(self.critic, tokens)\n",
        "            t = tokens\n"
        "            read = self.critic(t.input_ids, t.attention_mask, t.positions)\n"
        "            states = read.last_hidden_state[:, -tokens.mask.shape[1] :][tokens.mask]\n",
        EXACT,
    ),
    Mutation(
        "the critic at the policy's rate",
        _LOOP,
        "self.settings.critic_lr or _CRITIC_LR",
        "self.settings.lr",
        EFFECTS,
    ),
    Mutation(
        "the course of the learning rate ignored",
        _LOOP,
        "lr_scheduler_type=settings.schedule",
        'lr_scheduler_type="constant"',
        EFFECTS,
    ),
    Mutation(
        "gradients clipped to 1 whatever is set",
        _LOOP,
        "max_grad_norm=settings.max_grad_norm",
        "max_grad_norm=1.0",
        EFFECTS,
    ),
    Mutation(
        "options of the policy loss ignored",
        _PARTS,
        "registry.build(POLICY_LOSSES, settings.policy_loss, options)",
        "registry.build(POLICY_LOSSES, settings.policy_loss, {})",
        EFFECTS,
    ),
    Mutation(
        "options of the advantage ignored",
        _PARTS,
        "registry.build(ADVANTAGES, settings.advantage, options)",
        "registry.build(ADVANTAGES, settings.advantage, {})",
        EFFECTS,
    ),
    Mutation(
        "k1 in the loss by default",
        _SETTINGS,
        '("k3" if self.kl_is_loss else "k1")',
        '"k1"',
        EXACT,
    ),
)

_OF_COSTS = (
    Mutation(
        "the weight of a cost falls above the limit",
        _COSTS,
        "multiplier * (cost - self.limit)",
        "multiplier * (self.limit - cost)",
        LAGRANGIAN,
    ),
    Mutation(
        "the limit of the cost ignored",
        _COSTS,
        "multiplier * (cost - self.limit)",
        "multiplier * cost",
        LAGRANGIAN,
    ),
    Mutation(
        "a score with cost not divided",
        _COSTS,
        "(rewards - multiplier * costs) / (1 + multiplier)",
        "rewards - multiplier * costs",
        LAGRANGIAN,
    ),
    Mutation(
        "a cost is a reward",
        _COSTS,
        "(rewards - multiplier * costs)",
        "(rewards + multiplier * costs)",
        LAGRANGIAN,
    ),
    Mutation(
        "the weight of the cost stays",
        _LOOP,
        "self.cost_multiplier = self.settings.limiter(self.cost_multiplier, cost)",
        "pass",
        LAGRANGIAN,
    ),
    Mutation(
        "the weight of the cost lost with a checkpoint",
        _LOOP,
        'self.kl_coef, self.cost_multiplier = state["kl_coef"], state["cost_multiplier"]',
        'self.kl_coef = state["kl_coef"]',
        LAGRANGIAN,
    ),
)

RL_LOOP = (*_OF_ROLLOUTS, *_OF_UPDATES, *_OF_COSTS)
