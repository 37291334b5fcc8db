"""Options of on-policy training, the parts that they name, and refusal of those without effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, Literal, TypeAlias

from siftune.curate.core import registry
from siftune.curate.core.ranges import (
    Count,
    NonNegative,
    Positive,
    PositiveShare,
    Seed,
    Share,
    check_ranges,
)
from siftune.finetune.core.types import DualClip
from siftune.finetune.models.precision import Precision
from siftune.finetune.rl.draw_options import DrawOptions
from siftune.finetune.rl.kl import AdaptiveKL, FixedKL, KLController
from siftune.finetune.rl.lagrangian import CostOptions

__all__ = [
    "ADVANTAGES",
    "POLICY_LOSSES",
    "Critic",
    "DynamicSampling",
    "KLEstimator",
    "KLPlace",
    "Reduction",
    "Schedule",
    "Settings",
    "Truncated",
]

Critic: TypeAlias = Literal["separate", "shared", "adapter"]
Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
Reduction: TypeAlias = Literal["token_mean", "answer_mean", "fixed_length"]
KLPlace: TypeAlias = Literal["reward", "loss"]
KLEstimator: TypeAlias = Literal["k1", "k2", "k3"]
Truncated: TypeAlias = Literal["score", "leave_out"]
DynamicSampling: TypeAlias = Literal["off", "leave_out", "redraw"]

ADVANTAGES: Final = "finetune.advantages"
POLICY_LOSSES: Final = "finetune.policy_losses"

_OF_ADVANTAGE: Final = ("gamma", "lam")
_OF_LOSS: Final = ("cliprange", "clip_low", "clip_high", "dual_clip")
_OF_CRITIC: Final = ("vf_coef", "value_clip", "critic_lr", "critic", "critic_model")
_OF_KL: Final = ("kl_in", "kl_estimator", "kl_target", "kl_horizon")


@dataclass(frozen=True, kw_only=True)
class Settings(DrawOptions, CostOptions):
    """Options of the algorithm; `training.on_policy.OnPolicy` has those of its models and data.

    Options that belong to a part, such as ``lam`` to ``gae``, are None unless they are set: the
    part then has its own default. One that no chosen part reads is refused.

    Options:
        rollouts: Number of rounds of sampling, each followed by training on the samples.
        batch_size: Number of prompts of a rollout, each answered group_size times.
        group_size: Number of answers to each prompt, which advantages such as grpo compare.
        minibatches: Number of parts of a rollout; each is one optimizer step.
        micro_batch: Number of answers computed at once: fewer take less memory, and change no
            result but for rounding.
        epochs: Passes over the answers of a rollout.
        temperature: Temperature at which answers are sampled.
        advantage: How much better a token was than expected: gae (with a value model), grpo, rloo,
            reinforce_pp, dr_grpo, opo, or a function of yours, FILE.py:NAME.
        advantage_options: Options of the advantage by name, such as eps=0.001 for grpo.
        policy_loss: What an update minimises: ppo_clip, clip_higher, gspo, cispo, reinforce, or a
            function of yours, FILE.py:NAME.
        policy_loss_options: Options of the policy loss by name, where they have no option here.
        reduction: Divisor of the summed token losses of an optimizer step: its tokens (token_mean),
            each answer's tokens and then the answers (answer_mean), or the answers times
            max_new_tokens (fixed_length).
        gamma: Discount of later rewards for each token, 1 (none) by default; for gae and
            reinforce_pp.
        lam: λ of gae: 0 trusts the value model, 1 the sampled return; 0.95 by default.
        cliprange: Largest change of a token's probability ratio from 1 that ppo_clip rewards; 0.2
            by default.
        clip_low: Largest fall of a ratio below 1 that clip_higher and gspo reward, or the room
            below 1 of the weights of cispo.
        clip_high: Largest rise of a ratio above 1 that clip_higher and gspo reward, or the room
            above 1 of the weights of cispo.
        dual_clip: Bound, above 1, of the loss of tokens with a negative advantage; none leaves it
            open.
        value_clip: Largest change of a value that its loss rewards within an update; none leaves it
            open.
        vf_coef: Weight of the value loss beside the policy loss; 0.1 by default.
        whiten: Scale the advantages of a rollout to mean 0 and variance 1.
        truncated: Whether an answer that was cut at max_new_tokens is learned from like any other
            (score), or left out of the loss while its score still counts for the others of its
            group (leave_out).
        missing_eos_penalty: Number subtracted from the reward of an answer that was cut at
            max_new_tokens.
        overlong: Share of max_new_tokens, at its end, over which a punishment of length rises from
            0 to 1; 0 for none.
        dynamic_sampling: What becomes of prompts whose answers all have the same score, which teach
            nothing: they stay (off), leave the loss and its divisor (leave_out), or are replaced by
            further prompts, and left out where none is left (redraw).
        max_redraws: Number of times that further prompts are drawn for one rollout; 3 by default.
        kl_in: Place of the KL to the reference: subtracted from the reward, or added to the loss.
        kl_estimator: Estimate of the KL of a token: k1 (the log-ratio), k2 (half its square) or k3;
            by default k1 in the reward and k3 in the loss.
        kl_coef: Weight of the KL to the reference, in nats a token.
        kl_target: KL, in nats an answer, that kl_coef is adapted to; none keeps it fixed.
        kl_horizon: Number of answers over which kl_coef adapts to kl_target; 10,000 by default.
        kl_stop: KL to the reference, in nats an answer, above which the run ends with the last
            policy below it; none never ends it.
        ptx_coef: Weight of the negative log-likelihood of ptx_rows, in nats a token (γ of
            InstructGPT).
        critic_lr: Learning rate of the value model; 3e-5 by default.
        schedule: Course of all learning rates over the run: constant, or falling to 0 linearly or
            as a cosine.
        max_grad_norm: Norm that gradients are clipped to.
    """

    rollouts: Count = 100
    batch_size: Count = 64
    group_size: Count = 1
    minibatches: Count = 4
    micro_batch: Count = 16
    epochs: Count = 4
    max_new_tokens: Count = 64
    temperature: Positive = 0.7
    advantage: str = "gae"
    advantage_options: dict[str, Any] | None = None
    policy_loss: str = "ppo_clip"
    policy_loss_options: dict[str, Any] | None = None
    reduction: Reduction = "token_mean"
    gamma: Share | None = None
    lam: Share | None = None
    cliprange: Positive | None = None
    clip_low: PositiveShare | None = None
    clip_high: Positive | None = None
    dual_clip: DualClip | None = None
    value_clip: Positive | None = None
    vf_coef: NonNegative | None = None
    whiten: bool = False
    truncated: Truncated = "score"
    missing_eos_penalty: NonNegative = 0.0
    overlong: Share = 0.0
    dynamic_sampling: DynamicSampling = "off"
    max_redraws: Count | None = None
    kl_in: KLPlace | None = None
    kl_estimator: KLEstimator | None = None
    kl_coef: NonNegative = 0.05
    kl_target: Positive | None = None
    kl_horizon: Positive | None = None
    kl_stop: Positive | None = 50.0
    ptx_coef: NonNegative = 0.0
    lr: Positive = 3e-6
    critic_lr: Positive | None = None
    schedule: Schedule = "linear"
    max_grad_norm: Positive = 1.0
    seed: Seed = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and options that the chosen parts do not read.

        Raises:
            ValueError: one is; the text names the option and what was expected.
        """
        check_ranges(self)
        self.check_draws()
        self.check_costs()
        if self.minibatches > self.answers:
            product = "" if self.group_size == 1 else f" · group_size={self.group_size}"
            raise ValueError(
                f"minibatches: expected at most batch_size={self.batch_size}{product}, "
                f"got {self.minibatches}"
            )
        for problem in self._without_effect():
            raise ValueError(problem)

    @property
    def answers(self) -> int:
        """Answers of a rollout."""
        return self.batch_size * self.group_size

    @property
    def steps_a_rollout(self) -> int:
        """Optimiser steps between two rollouts."""
        return self.epochs * self.minibatches

    @property
    def controller(self) -> KLController:
        """Sets the KL coefficient after each rollout."""
        if self.kl_target is None:
            return FixedKL()
        return AdaptiveKL(self.kl_target, self.kl_horizon or 10_000)

    @property
    def kl_is_loss(self) -> bool:
        """Whether the KL is a term of the loss; else it is one of the reward."""
        return self.kl_in == "loss"

    @property
    def estimator(self) -> KLEstimator:
        """The estimate of the KL that is used: k1 in the reward and k3 in the loss by default."""
        return self.kl_estimator or ("k3" if self.kl_is_loss else "k1")

    @property
    def has_critic(self) -> bool:
        """Whether the advantage needs one."""
        return bool(self._part(ADVANTAGES, self.advantage, "needs_critic"))

    def part_options(self, group: str) -> dict[str, Any]:
        """The options of the chosen advantage or policy loss that are not its own defaults."""
        name, own, listed = self._of_part(group)
        known = registry.options(registry.described(group, name))
        # a default of a preset is that of its own part, and does not go with another one
        kept = name == _default(self, "advantage" if group == ADVANTAGES else "policy_loss")
        set_here = {
            key: getattr(self, key)
            for key in listed
            if key in known and (self.given(key) or (kept and getattr(self, key) is not None))
        }
        return {**set_here, **own}

    def given(self, option: str) -> bool:
        """Whether an option was set to another value than the default of the command."""
        return bool(getattr(self, option) != _default(self, option))

    def _of_part(self, group: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
        """Name of the chosen part, its options by name, and those that are options here."""
        if group == ADVANTAGES:
            return self.advantage, self.advantage_options or {}, _OF_ADVANTAGE
        return self.policy_loss, self.policy_loss_options or {}, _OF_LOSS

    def _part(self, group: str, name: str, attribute: str) -> Any:
        return getattr(registry.described(group, name), attribute, False)

    def _without_effect(self) -> Iterator[str]:
        """What is wrong with options that the chosen parts do not read, or need."""
        for group, word in ((ADVANTAGES, "advantage"), (POLICY_LOSSES, "policy loss")):
            yield from self._unread(group, word)
        yield from self._step_problems()
        yield from self._critic_problems()
        yield from self._group_problems()
        yield from self._kl_problems()

    def _unread(self, group: str, word: str) -> Iterator[str]:
        name, own, listed = self._of_part(group)
        known = registry.options(registry.described(group, name))
        for key in listed:
            if self.given(key) and key not in known:
                yield f"{key}: the {word} {name} has no such option; leave {key} out"
            if key in own and self.given(key):
                yield f"{key}: it is set twice, here and in {word.replace(' ', '_')}_options"
        for key in own:
            if key not in known:
                option = f"{word.replace(' ', '_')}_options"
                yield f"{option}: {name} has no option {key!r}; {registry.closest(key, known)}"

    def _step_problems(self) -> Iterator[str]:
        if self.steps_a_rollout > 1 and self._part(POLICY_LOSSES, self.policy_loss, "one_step"):
            yield (
                f"policy_loss: {self.policy_loss} has no ratio to correct for a policy that has "
                "changed since it sampled: set epochs and minibatches to 1, or policy_loss to "
                "ppo_clip"
            )

    def _critic_problems(self) -> Iterator[str]:
        if self.has_critic:
            return
        for key in _OF_CRITIC:
            if hasattr(self, key) and self.given(key):
                yield (
                    f"{key}: the advantage {self.advantage} has no critic; leave {key} out, or set "
                    "advantage to gae"
                )

    def _group_problems(self) -> Iterator[str]:
        alone = self.group_size == 1
        if alone and self._part(ADVANTAGES, self.advantage, "needs_groups"):
            yield (
                f"group_size: the advantage {self.advantage} compares the answers to a prompt: "
                "expected at least 2, got 1"
            )
        if alone and self.dynamic_sampling != "off":
            yield (
                "dynamic_sampling: with one answer to each prompt all scores of a prompt are the "
                "same; set group_size to 2 or more, or leave it out"
            )
        if self.max_redraws is not None and self.dynamic_sampling != "redraw":
            yield "max_redraws: it is read with dynamic_sampling: redraw alone; leave it out"

    def _kl_problems(self) -> Iterator[str]:
        for key in _OF_KL:
            if self.kl_coef == 0 and self.given(key):
                yield f"{key}: with kl_coef 0 there is no KL to place or adapt; set kl_coef too"
        if self.kl_coef and self.kl_is_loss and self.kl_estimator == "k1":
            yield (
                "kl_estimator: k1 as a loss has a gradient whose mean is 0; expected k2 or k3, or "
                "set kl_in to reward"
            )
        if self.kl_horizon is not None and self.kl_target is None:
            yield "kl_horizon: it is read with kl_target alone; leave it out, or set kl_target"


def _default(settings: Any, option: str) -> Any:
    """The default of an option of the class of ``settings``."""
    found = next(one for one in fields(settings) if one.name == option)
    return None if found.default is MISSING else found.default
