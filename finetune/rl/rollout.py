"""PPO rollouts: sampled completions with rewards, old and reference log-probs, advantages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siftune.curate.core.errors import SiftuneError
from siftune.curate.text.sampling import Sampling
from siftune.finetune.advantages.gae import GAE
from siftune.finetune.advantages.types import Rewarded
from siftune.finetune.core.masked import masked_mean, masked_sum, whiten
from siftune.finetune.rewards.types import Reward
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.curriculum import PromptOrder
from siftune.finetune.rl.importance import importance_metrics, truncated_weights
from siftune.finetune.rl.kl import kl_k1, kl_k3
from siftune.finetune.rl.model import ActorCritic, Scores, Tokens, policy_scores, reference_of
from siftune.finetune.rl.rollouts.in_process import InProcess
from siftune.finetune.rl.rollouts.types import Draw, Sampled, Sampler
from siftune.finetune.rl.settings import Settings

__all__ = ["Collector", "Prompt", "Rollout", "stream"]

_DRAW, _SHUFFLE = 1, 2  # purposes of random numbers, part of their seeds; 0 is the order


@dataclass(frozen=True)
class Prompt:
    """A row's prompt, as text and as the policy's tokens."""

    row: Mapping[str, Any]
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Rollout:
    """B scored completions of at most T tokens, sampled in one round.

    ``scores`` (B,) are the reward's; ``ended`` (B,) is true where a completion has its end token.
    ``old``, ``entropy`` and ``ref_logps`` (B, T) were computed at the sampling temperature before
    any update, ``advantages`` and ``returns`` (B, T) from them. ``unscored`` completions were left
    out. ``weights`` (B, T) are the importance weights of tokens that something else than the policy
    has sampled, with their statistics in ``importance``; None where the policy has.
    """

    index: int
    ids: list[str]
    completions: list[str]
    tokens: Tokens
    scores: Tensor
    ended: Tensor
    old: Scores
    entropy: Tensor
    ref_logps: Tensor
    advantages: Tensor
    returns: Tensor
    kl_coef: float
    unscored: int
    weights: Tensor | None = None
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def kl(self) -> float:
        """Mean KL a completion to the reference, in nats (k1)."""
        return self._a_completion(kl_k1(self.old.logps, self.ref_logps))

    def broken(self) -> list[str]:
        """Ids of the rows with a log-probability or value that is not finite."""
        parts = (self.old.logps, self.old.values, self.ref_logps)
        wrong = torch.stack([~part.isfinite() & self.tokens.mask for part in parts])
        rows = wrong.any(0).any(1)
        return [key for key, bad in zip(self.ids, rows.tolist(), strict=True) if bad]

    def metrics(self) -> dict[str, float | None]:
        """Means over the round, of its completions or its chosen tokens; padding counts in none."""
        mask = self.tokens.mask
        score = float(self.scores.mean())
        return {
            "objective/score": score,
            "objective/kl": self.kl,
            "objective/kl_k3": self._a_completion(kl_k3(self.old.logps, self.ref_logps)),
            "objective/rlhf_reward": score - self.kl_coef * self.kl,
            "objective/entropy": float(masked_mean(self.entropy, mask)),
            "value/explained_variance": ppo_losses.explained_variance(
                self.old.values, self.returns, mask
            ),
            "rollout/length": float(mask.sum(1).double().mean()),
            "rollout/ended": float(self.ended.double().mean()),
            "rollout/unscored": float(self.unscored),
            "ppo/kl_coef": self.kl_coef,
            **{f"rollout/importance_{name}": value for name, value in self.importance.items()},
        }

    def _a_completion(self, kl: Tensor) -> float:
        return float(masked_sum(kl.double(), self.tokens.mask) / len(self.scores))

    def minibatches(self, epoch: int, settings: Settings) -> list[Tensor]:
        """Row indices of each optimiser step of one pass; the first pass keeps the rows' order.

        So the first update has the very batches that the old log-probabilities were computed in,
        and its ratio is 1 to the last bit.
        """
        order = np.arange(len(self.scores))
        if epoch > 0:
            order = _generator(settings.seed, _SHUFFLE, self.index, epoch).permutation(order)
        return list(torch.from_numpy(order).tensor_split(settings.minibatches))


def _generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng([len(seed), *seed])


def stream(count: int, start: int, take: int, seed: int) -> list[int]:
    """``take`` indices below ``count`` from position ``start`` of an endless shuffled order.

    The order is one permutation after another: nothing comes twice before all came once.
    """
    return PromptOrder(tuple(range(count)), seed)(start, take)


@dataclass(frozen=True)
class Collector:
    """Makes rollouts: a pure function of weights, settings, round number and KL coefficient.

    ``order`` is that of the prompts, by default shuffled; ``sampler`` completes them, by default
    the policy itself.
    """

    model: ActorCritic
    reference: Any | None
    tokenizer: Any
    prompts: Sequence[Prompt]
    reward: Reward
    sampling: Sampling
    settings: Settings
    order: PromptOrder | None = None
    sampler: Sampler | None = None

    def __call__(self, index: int, kl_coef: float) -> Rollout:
        """Round ``index``: sample, score, drop what has no score, and estimate advantages.

        Raises:
            SiftuneError: a score is not finite, or too few completions have one.
        """
        prompts, sampled = self._draw(index)
        drawn = sampled.ids
        texts = self.tokenizer.batch_decode(drawn, skip_special_tokens=True)
        scores = self._scores(prompts, texts)
        kept = [at for at, score in enumerate(scores) if score is not None]
        if len(kept) < self.settings.minibatches:
            raise SiftuneError(
                f"the reward scored {len(kept)} of {len(scores)} completions of rollout {index}, "
                f"fewer than the {self.settings.minibatches} mini-batches; first prompt: row "
                f"{prompts[0].row['id']}"
            )
        prompts, drawn = [prompts[at] for at in kept], [drawn[at] for at in kept]
        tokens = Tokens.of([p.ids for p in prompts], drawn, self.sampling.pad)
        old, entropy, ref_logps = self._measure(tokens)
        weights, importance = self._importance(sampled, kept, tokens.mask, old.logps, ref_logps)
        ended = torch.tensor([ids[-1] in self.sampling.ends for ids in drawn])
        score = torch.tensor([scores[at] for at in kept], dtype=torch.float32)
        advantages, returns = self._advantages(score, ended, tokens, old, ref_logps, kl_coef)
        return Rollout(
            index=index,
            ids=[prompt.row["id"] for prompt in prompts],
            completions=[texts[at] for at in kept],
            tokens=tokens,
            scores=score,
            ended=ended,
            old=old,
            entropy=entropy,
            ref_logps=ref_logps,
            advantages=advantages,
            returns=returns,
            kl_coef=kl_coef,
            unscored=len(scores) - len(kept),
            weights=weights,
            importance=importance,
        )

    def _draw(self, index: int) -> tuple[list[Prompt], Sampled]:
        options = self.settings
        order = self.order or PromptOrder(tuple(range(len(self.prompts))), options.seed)
        rows = order(index * options.batch_size, options.batch_size)
        times, draws, before = Counter(rows), list[Draw](), Counter[int]()
        for at, row in enumerate(rows):
            prompt, seed = self.prompts[row], (4, options.seed, _DRAW, index, at)
            number = index * times[row] + before[row]
            draws.append(Draw(prompt.row, prompt.ids, seed, number))
            before[row] += 1
        sampler = self.sampler or InProcess(self.sampling)
        return [self.prompts[row] for row in rows], sampler(self.model.policy, draws)

    def _importance(
        self,
        sampled: Sampled,
        kept: Sequence[int],
        mask: Tensor,
        old_logps: Tensor,
        ref_logps: Tensor,
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Importance weights of the ``kept`` completions and their statistics."""
        theirs = ref_logps
        if not sampled.by_reference:
            if sampled.logps is None:
                return None, {}
            flat = [logp for at in kept for logp in sampled.logps[at]]
            theirs = torch.zeros_like(old_logps).masked_scatter(mask, torch.tensor(flat))
        cap = self.settings.weight_cap
        weights = truncated_weights(old_logps, theirs, cap).masked_fill(~mask, 0)
        return weights, importance_metrics(old_logps, theirs, mask, cap)

    def _scores(self, prompts: Sequence[Prompt], texts: list[str]) -> list[float | None]:
        scores = self.reward([p.text for p in prompts], texts, [p.row for p in prompts])
        if len(scores) != len(texts):
            raise TypeError(
                f"{type(self.reward).__name__} was given {len(texts)} completions and returned "
                f"{len(scores)} scores"
            )
        for prompt, score in zip(prompts, scores, strict=True):
            if score is not None and not math.isfinite(score):
                raise SiftuneError(f"the reward of row {prompt.row['id']} is {score}")
        return scores

    @torch.no_grad()
    def _measure(self, tokens: Tokens) -> tuple[Scores, Tensor, Tensor]:
        """Old log-probs and values, entropies, and the reference's log-probs, all (B, T).

        They are computed in the batches of the first pass over the rollout, 0 outside the mask.
        """
        shape, temperature = tokens.mask.shape, self.settings.temperature
        logps, values, entropy, ref_logps = full = [torch.zeros(shape) for _ in range(4)]
        order = torch.arange(shape[0]).tensor_split(self.settings.minibatches)
        for rows in (part for mini in order for part in mini.split(self.settings.micro_batch)):
            batch = tokens.take(rows).to(self.model.policy.device)
            new = self.model(batch, temperature, entropy=True)
            with reference_of(self.model.policy, self.reference) as reference:
                ref, _ = policy_scores(reference, batch, temperature)
            parts = (new.logps, new.values, new.entropy, ref["policy"])
            for target, part in zip(full, parts, strict=True):
                target[rows, : part.shape[1]] = part.to(target)
        return Scores(logps, values), entropy, ref_logps

    def _advantages(
        self,
        score: Tensor,
        ended: Tensor,
        tokens: Tokens,
        old: Scores,
        ref_logps: Tensor,
        kl_coef: float,
    ) -> tuple[Tensor, Tensor]:
        options, mask = self.settings, tokens.mask
        penalised = score - options.missing_eos_penalty * (~ended)
        rewards = ppo_losses.token_rewards(penalised, kl_k1(old.logps, ref_logps), mask, kl_coef)
        groups = torch.arange(len(score))
        rewarded = Rewarded(penalised, rewards, mask, groups, old.values)
        advantages = GAE(options.gamma, options.lam)(rewarded)
        returns = advantages + old.values
        return whiten(advantages, mask) if options.whiten else advantages, returns
