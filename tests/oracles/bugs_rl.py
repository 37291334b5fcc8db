"""The classic bugs of RL: advantages, policy losses, KL, critic, reduction, rollouts."""

from __future__ import annotations

from tests.oracles.bugs import Mutation

__all__ = ["RL"]

ADVANTAGES = "tests/finetune/rl/test_rl_advantages.py"
OBJECTIVES = "tests/finetune/rl/test_rl_policy_losses.py"
ARITHMETIC = "tests/finetune/rl/test_rl_arithmetic.py tests/finetune/test_ppo_losses.py"
ROLLOUT = "tests/finetune/test_ppo.py"
EXACT = "tests/finetune/rl/test_rl_gradients.py"
EFFECTS = "tests/finetune/rl/test_rl_options.py"

_MASKED = "finetune/core/masked.py"
_TYPES = "finetune/advantages/types.py"
_GAE = "finetune/advantages/gae.py"
_PPO = "finetune/policy_losses/ppo_clip.py"
_HIGHER = "finetune/policy_losses/clip_higher.py"
_GSPO = "finetune/policy_losses/gspo.py"
_CISPO = "finetune/policy_losses/cispo.py"
_BATCH = "finetune/policy_losses/types.py"
_CORE = "finetune/rl/ppo_losses.py"
_KL = "finetune/rl/kl.py"

_OF_ADVANTAGES = (
    Mutation(
        "a group's mean over all answers",
        "finetune/advantages/grpo.py",
        "gap = returns - groups.mean(returns)",
        "gap = returns - returns.mean()",
        ADVANTAGES,
    ),
    Mutation(
        "a group's deviation over all answers",
        "finetune/advantages/grpo.py",
        "groups.deviation(returns) + self.eps",
        "returns.std() + self.eps",
        ADVANTAGES,
    ),
    Mutation(
        "GRPO ignores its eps",
        "finetune/advantages/grpo.py",
        "groups.deviation(returns) + self.eps",
        "groups.deviation(returns) + 1e-4",
        ADVANTAGES,
    ),
    Mutation(
        "GRPO's deviation squared",
        "finetune/advantages/grpo.py",
        "groups.deviation(returns) + self.eps",
        "groups.deviation(returns) ** 2 + self.eps",
        ADVANTAGES,
    ),
    Mutation(
        "biased deviation of a group",
        _MASKED,
        "(squares / (self.sizes - 1).clamp(min=1)).sqrt()",
        "(squares / self.sizes).sqrt()",
        ADVANTAGES,
    ),
    Mutation(
        "leave-one-out forgotten",
        "finetune/advantages/rloo.py",
        "gap * sizes / (sizes - 1).clamp(min=1)",
        "gap",
        ADVANTAGES,
    ),
    Mutation(
        "leave-one-out over the whole rollout",
        "finetune/advantages/rloo.py",
        "gap = returns - groups.mean(returns)",
        "gap = returns - returns.mean()",
        ADVANTAGES,
    ),
    Mutation(
        "Dr. GRPO's mean over all answers",
        "finetune/advantages/dr_grpo.py",
        "returns - rewarded.by_prompt.mean(returns)",
        "returns - returns.mean()",
        ADVANTAGES,
    ),
    Mutation(
        "Dr. GRPO divides by the deviation",
        "finetune/advantages/dr_grpo.py",
        "returns - rewarded.by_prompt.mean(returns)",
        "(returns - rewarded.by_prompt.mean(returns)) / "
        "(rewarded.by_prompt.deviation(returns) + 1e-4)",
        ADVANTAGES,
    ),
    Mutation(
        "OPO forgets lengths",
        "finetune/advantages/opo.py",
        "lengths = rewarded.mask.sum(1).double()",
        "lengths = rewarded.mask.any(1).double()",
        ADVANTAGES,
    ),
    Mutation(
        "OPO counts what a tool wrote",
        "finetune/advantages/opo.py",
        "lengths = rewarded.mask.sum(1).double()",
        "lengths = rewarded.mask.shape[1] - rewarded.mask.flip(1).int().argmax(1).double()",
        ADVANTAGES,
    ),
    Mutation(
        "padding in the returns of answers",
        _TYPES,
        "self.rewards.double().masked_fill(~self.mask, 0).sum(1)",
        "self.rewards.double().sum(1)",
        ADVANTAGES,
    ),
    Mutation(
        "the KL left out of the returns of answers",
        _TYPES,
        "self.rewards.double().masked_fill(~self.mask, 0).sum(1)",
        "self.scores.double()",
        ADVANTAGES,
    ),
    Mutation(
        "returns of answers are means of their tokens",
        _TYPES,
        "self.rewards.double().masked_fill(~self.mask, 0).sum(1)",
        "self.rewards.double().masked_fill(~self.mask, 0).sum(1) / self.mask.sum(1)",
        ADVANTAGES,
    ),
    Mutation(
        "an answer's advantage on its padding too",
        _TYPES,
        "return wide.masked_fill(~self.mask, 0)",
        "return wide",
        ADVANTAGES,
    ),
    Mutation(
        "REINFORCE++ gives each token the whole return",
        "finetune/advantages/reinforce_pp.py",
        "return whiten(to_go, mask)",
        "return whiten(to_go[:, :1].expand_as(to_go), mask)",
        ADVANTAGES,
    ),
    Mutation(
        "REINFORCE++ ignores its discount",
        "finetune/advantages/reinforce_pp.py",
        "rewards[:, t] + self.gamma * later, later)",
        "rewards[:, t] + later, later)",
        ADVANTAGES,
    ),
    Mutation(
        "REINFORCE++ not whitened",
        "finetune/advantages/reinforce_pp.py",
        "return whiten(to_go, mask)",
        "return to_go.masked_fill(~mask, 0)",
        ADVANTAGES,
    ),
    Mutation(
        "GAE sees values of padding",
        _GAE,
        "later_value = torch.where(chosen, values[:, t], later_value)",
        "later_value = values[:, t]",
        ADVANTAGES,
    ),
    Mutation(
        "GAE ignores λ",
        _GAE,
        "self.gamma * self.lam * later_advantage",
        "self.gamma * later_advantage",
        ADVANTAGES,
    ),
    Mutation(
        "GAE discounts by λ alone",
        _GAE,
        "self.gamma * self.lam * later_advantage",
        "self.lam * later_advantage",
        ADVANTAGES,
    ),
    Mutation(
        "GAE does not discount the next value",
        _GAE,
        "self.gamma * later_value - values[:, t]",
        "later_value - values[:, t]",
        ADVANTAGES,
    ),
    Mutation(
        "GAE forgets the value of the state",
        _GAE,
        "self.gamma * later_value - values[:, t]",
        "self.gamma * later_value",
        ADVANTAGES,
    ),
    Mutation("whitened by the biased variance", _MASKED, "/ (count - 1)", "/ count", ADVANTAGES),
    Mutation(
        "whitened about the mean of the padding too",
        _MASKED,
        "mean = masked_mean(values, mask)",
        "mean = values.mean()",
        ADVANTAGES,
    ),
    Mutation(
        "whitened by the variance of the padding too",
        _MASKED,
        "masked_sum((values - mean).square(), mask) / (count - 1)",
        "(values - mean).square().sum() / (count - 1)",
        ADVANTAGES,
    ),
    Mutation(
        "whitening without its shift", _MASKED, "if shift else", "if not shift else", ADVANTAGES
    ),
)

_OF_OBJECTIVES = (
    Mutation(
        "PPO takes the better of clipped and not",
        _PPO,
        "torch.maximum(-advantages * ratio",
        "torch.minimum(-advantages * ratio",
        OBJECTIVES,
    ),
    Mutation(
        "PPO does not clip",
        _PPO,
        "ratio.clamp(1 - self.cliprange, 1 + self.cliprange)",
        "ratio",
        OBJECTIVES,
    ),
    Mutation(
        "PPO ignores its range",
        _PPO,
        "ratio.clamp(1 - self.cliprange, 1 + self.cliprange)",
        "ratio.clamp(0.8, 1.2)",
        OBJECTIVES,
    ),
    Mutation(
        "the dual clip bounds good tokens too",
        _PPO,
        "torch.where(advantages < 0, torch.minimum(loss, -advantages * self.dual_clip), loss)",
        "torch.minimum(loss, -advantages * self.dual_clip)",
        OBJECTIVES,
    ),
    Mutation("the dual clip ignored", _PPO, "if self.dual_clip is None:", "if True:", OBJECTIVES),
    Mutation(
        "the dual clip raises the loss",
        _PPO,
        "torch.minimum(loss, -advantages * self.dual_clip), loss)",
        "torch.maximum(loss, -advantages * self.dual_clip), loss)",
        OBJECTIVES,
    ),
    Mutation(
        "DAPO's bounds exchanged",
        _HIGHER,
        "ratio.clamp(1 - self.clip_low, 1 + self.clip_high)",
        "ratio.clamp(1 - self.clip_high, 1 + self.clip_low)",
        OBJECTIVES,
    ),
    Mutation(
        "DAPO's dual clip ignored", _HIGHER, "if self.dual_clip is None:", "if True:", OBJECTIVES
    ),
    Mutation(
        "GSPO's ratio of sums",
        _GSPO,
        ".sum(1, keepdim=True) / count",
        ".sum(1, keepdim=True)",
        OBJECTIVES,
    ),
    Mutation(
        "GSPO's mean over the padding too",
        _GSPO,
        "batch.mask.sum(1, keepdim=True).clamp(min=1)",
        "batch.mask.shape[1]",
        OBJECTIVES,
    ),
    Mutation(
        "GSPO's gradient twice",
        _GSPO,
        "batch.log_ratios.detach().sum(1, keepdim=True)",
        "batch.log_ratios.sum(1, keepdim=True)",
        OBJECTIVES,
    ),
    Mutation(
        "GSPO's bounds exchanged",
        _GSPO,
        "ratio.clamp(1 - self.clip_low, 1 + self.clip_high)",
        "ratio.clamp(1 - self.clip_high, 1 + self.clip_low)",
        OBJECTIVES,
    ),
    Mutation(
        "CISPO's weight with gradient",
        _CISPO,
        "batch.ratios.detach().clamp",
        "batch.ratios.clamp",
        OBJECTIVES,
    ),
    Mutation(
        "CISPO without its weight",
        _CISPO,
        "-weight * batch.advantages",
        "-batch.advantages",
        OBJECTIVES,
    ),
    Mutation(
        "CISPO's bounds exchanged",
        _CISPO,
        "clamp(1 - self.clip_low, 1 + self.clip_high)",
        "clamp(1 - self.clip_high, 1 + self.clip_low)",
        OBJECTIVES,
    ),
    Mutation(
        "REINFORCE's sign",
        "finetune/policy_losses/reinforce.py",
        "return -batch.advantages",
        "return batch.advantages",
        OBJECTIVES,
    ),
    Mutation(
        "the ratio turned round",
        _BATCH,
        "(self.logps - self.old_logps)",
        "(self.old_logps - self.logps)",
        OBJECTIVES,
    ),
    Mutation(
        "padding in the ratio of an answer",
        _BATCH,
        "(self.logps - self.old_logps).masked_fill(~self.mask, 0)",
        "(self.logps - self.old_logps)",
        OBJECTIVES,
    ),
)

_OF_ARITHMETIC = (
    Mutation(
        "k1 turned round", _KL, "return logps - ref_logps", "return ref_logps - logps", ARITHMETIC
    ),
    Mutation("k2 not halved", _KL, ".square() / 2", ".square()", ARITHMETIC),
    Mutation(
        "k3 turned round", _KL, "back = ref_logps - logps", "back = logps - ref_logps", ARITHMETIC
    ),
    Mutation(
        "the KL in the reward is a bonus", _CORE, "(-kl_coef * kl)", "(kl_coef * kl)", ARITHMETIC
    ),
    Mutation(
        "the KL of an answer charged at each of its tokens",
        _CORE,
        "(-kl_coef * kl)",
        "(-kl_coef * kl.masked_fill(~mask, 0).sum(1, keepdim=True).expand_as(kl))",
        ARITHMETIC,
    ),
    Mutation("the KL's coefficient ignored", _CORE, "(-kl_coef * kl)", "(-0.05 * kl)", ARITHMETIC),
    Mutation(
        "the score on the padding",
        _MASKED,
        "return width - 1 - mask.flip(1).int().argmax(1)",
        "return (width - 1) * torch.ones_like(mask[:, 0], dtype=torch.int64)",
        ARITHMETIC,
    ),
    Mutation(
        "the score on the first token",
        _MASKED,
        "return width - 1 - mask.flip(1).int().argmax(1)",
        "return mask.int().argmax(1)",
        ARITHMETIC,
    ),
    Mutation(
        "the value loss takes the better of clipped and not",
        _CORE,
        "error = torch.maximum(error",
        "error = torch.minimum(error",
        ARITHMETIC,
    ),
    Mutation(
        "the value clipped around the returns",
        _CORE,
        "near = old_values + (values - old_values)",
        "near = returns + (values - returns)",
        ARITHMETIC,
    ),
    Mutation("the value loss not halved", _CORE, "return error / 2", "return error", ARITHMETIC),
    Mutation("the value clip ignored", _CORE, "if cliprange is not None:", "if False:", ARITHMETIC),
)

RL = (*_OF_ADVANTAGES, *_OF_OBJECTIVES, *_OF_ARITHMETIC)
