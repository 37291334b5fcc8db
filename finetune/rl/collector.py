"""Makes rollouts: draws prompts, samples, scores and measures answers, estimates advantages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor

from siftune.curate.core.errors import SiftuneError
from siftune.curate.text.sampling import Sampling
from siftune.finetune.advantages.types import Advantage, Rewarded
from siftune.finetune.core import distributed
from siftune.finetune.core.masked import Groups, whiten
from siftune.finetune.rewards.several import parts_and_facts_of, total_of
from siftune.finetune.rewards.types import Reward
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.curriculum import PromptOrder
from siftune.finetune.rl.importance import importance_metrics, truncated_weights
from siftune.finetune.rl.lagrangian import CostLimit
from siftune.finetune.rl.model import ActorCritic, Scores, Tokens, policy_scores, reference_of
from siftune.finetune.rl.parts import KL, advantage_of
from siftune.finetune.rl.rollout import (
    DRAW,
    FURTHER,
    Prompt,
    Rollout,
    generator,
    trained_rows,
)
from siftune.finetune.rl.rollouts.in_process import InProcess
from siftune.finetune.rl.rollouts.types import Draw, Sampler
from siftune.finetune.rl.settings import Settings

__all__ = ["Answer", "Collector", "parts_for"]

_REDRAWS: Final = 3


@dataclass(frozen=True)
class Answer:
    """One sampled completion: its tokens with the end token, if one came, its text and scores.

    ``group`` numbers the prompts of a rollout. ``parts`` are the scores of each reward by name,
    ``facts`` what rewards measured of the answer besides, as ``NAME/spread``. ``logps`` are those
    of its tokens under what sampled it, unless it was the policy or, with ``by_reference``, the
    reference.
    """

    prompt: Prompt
    group: int
    ids: list[int]
    text: str
    finished: bool
    score: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    facts: Mapping[str, float | None] = field(default_factory=dict)
    cost: float = 0.0
    logps: Sequence[float] | None = None
    by_reference: bool = False


@dataclass(frozen=True)
class Collector:
    """Makes rollouts: a pure function of weights, settings, round number, KL and cost weights.

    ``order`` is that of the prompts, by default shuffled; ``sampler`` completes them, by default
    the policy itself. Several processes share the work of a rollout, and each gets the whole of it.
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

    def __call__(self, index: int, kl_coef: float, cost_multiplier: float = 0.0) -> Rollout:
        """Round ``index``: sample, score, drop what has no score, and estimate advantages.

        Raises:
            SiftuneError: a score is not finite, or too few completions have one.
        """
        drawn, redrawn = self._drawn(index)
        scored = [answer for answer in drawn if answer.score is not None]
        if len(scored) < self.settings.minibatches:
            raise SiftuneError(
                f"the reward scored {len(scored)} of {len(drawn)} completions of rollout {index}, "
                f"fewer than the {self.settings.minibatches} mini-batches; first prompt: row "
                f"{drawn[0].prompt.row['id']}"
            )
        kept = self._kept(scored)
        tokens = Tokens.of([a.prompt.ids for a in kept], [a.ids for a in kept], self.sampling.pad)
        ended = torch.tensor([answer.finished for answer in kept])
        learned = tokens.mask
        if self.settings.truncated == "leave_out":
            learned = learned & ended.unsqueeze(1)
        old, entropy, ref_logps = self._measure(tokens, learned)
        score = torch.tensor([answer.score for answer in kept], dtype=torch.float32)
        groups = torch.tensor([answer.group for answer in kept])
        cost = torch.tensor([answer.cost for answer in kept])
        worth = CostLimit.score(score, cost, cost_multiplier)
        rewarded = self._rewarded(worth, ended, groups, tokens, old, ref_logps, kl_coef)
        advantages = self.advantage(rewarded)
        returns = None if old.values is None else advantages + old.values
        if self.settings.whiten:
            advantages = whiten(advantages, learned)
        weights, importance = self._importance(kept, tokens.mask, old.logps, ref_logps)
        left_out = len(scored) - int(learned.any(1).sum())
        return Rollout(
            index=index,
            ids=[answer.prompt.row["id"] for answer in kept],
            completions=[answer.text for answer in kept],
            tokens=tokens,
            scores=score,
            ended=ended,
            groups=groups,
            learned=learned,
            old=old,
            entropy=entropy,
            ref_logps=ref_logps,
            advantages=advantages,
            returns=returns,
            kl_coef=kl_coef,
            drawn={
                **_means(drawn, scored),
                **self._counts(scored, redrawn),
                "rollout/left_out": float(left_out),
                **self._costs(scored, cost_multiplier),
            },
            weights=weights,
            importance=importance,
            parts={name: [answer.parts[name] for answer in kept] for name in kept[0].parts},
            facts={name: [answer.facts.get(name) for answer in kept] for name in _facts(kept)},
        )

    @cached_property
    def advantage(self) -> Advantage:
        """The chosen estimator."""
        return advantage_of(self.settings)

    def _drawn(self, index: int) -> tuple[list[Answer], int]:
        """The answers of a round, and how many of their prompts replace prompts without signal."""
        options = self.settings
        start = index * options.batch_size
        rows = self._order(start, options.batch_size)
        answers = self._answered(rows, 0, index, self._order.draws_before(start))
        if options.dynamic_sampling != "redraw":
            return answers, 0
        further, drawn = self._further(index, rows), 0
        for _ in range(options.max_redraws or _REDRAWS):
            scored = [answer for answer in answers if answer.score is not None]
            missing = options.batch_size - len({answer.group for answer in _telling(scored)})
            more = list(islice(further, missing))
            if not more:
                break
            answers += self._answered(more, len(rows) + drawn, index, dict.fromkeys(more, index))
            drawn += len(more)
        return answers, drawn

    @cached_property
    def _order(self) -> PromptOrder:
        return self.order or PromptOrder(tuple(range(len(self.prompts))), self.settings.seed)

    def _further(self, index: int, taken: Sequence[int]) -> Iterator[int]:
        """Prompts that the round has not drawn yet, in a random order of its own."""
        rest = sorted({*self._order.places} - {*taken})
        order = generator(self.settings.seed, FURTHER, index).permutation(len(rest))
        return (rest[at] for at in order)

    def _answered(
        self, rows: Sequence[int], first: int, index: int, earlier: Mapping[int, int]
    ) -> list[Answer]:
        """A group of answers to each prompt of ``rows``, the first one group number ``first``.

        ``earlier`` counts the groups of a prompt before this round. Redraws, which depend on
        scores, are not in it: a replacement has the number of the round.
        """
        draws = list[tuple[int, int, Draw]]()
        size, before = self.settings.group_size, Counter[int]()
        for group, row in enumerate(rows, first):
            number = (earlier[row] + before[row]) * size
            before[row] += 1
            prompt = self.prompts[row]
            for copy in range(size):
                seed = (4, self.settings.seed, DRAW, index, group * size + copy)
                draws.append((row, group, Draw(prompt.row, prompt.ids, seed, number + copy)))
        parts = distributed.from_all(lambda: self._own(distributed.share_of(draws)))
        return [answer for part in parts for answer in part]

    def _own(self, draws: Sequence[tuple[int, int, Draw]]) -> list[Answer]:
        """The answers that this process samples: of each the prompt, its group, and the draw."""
        if not draws:
            return []
        sampler = self.sampler or InProcess(self.sampling)
        sampled = sampler(self.model.policy, [draw for _, _, draw in draws])
        texts = self.tokenizer.batch_decode(sampled.ids, skip_special_tokens=True)
        logps: Sequence[list[float] | None] = sampled.logps or [None] * len(draws)
        answers = [
            Answer(
                prompt=self.prompts[row],
                group=group,
                ids=ids,
                text=text,
                finished=ids[-1] in self.sampling.ends,
                logps=own,
                by_reference=sampled.by_reference,
            )
            for (row, group, _), ids, text, own in zip(
                draws, sampled.ids, texts, logps, strict=True
            )
        ]
        return self._scored(answers)

    def _scored(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers with their scores, of each reward and in sum."""
        rows = [{**answer.prompt.row, "finished": answer.finished} for answer in answers]
        texts = [answer.text for answer in answers]
        asked = [answer.prompt.text for answer in answers]
        parts, facts = parts_and_facts_of(self.reward, asked, texts, rows)
        for scores in parts.values():
            if len(scores) != len(texts):
                raise TypeError(
                    f"{type(self.reward).__name__} was given {len(texts)} completions and returned "
                    f"{len(scores)} scores"
                )
        totals = total_of(self.reward, parts)
        costs = parts[self.settings.cost] if self.settings.cost else [0.0] * len(texts)
        for what, numbers in (("reward", totals), ("cost", costs)):
            for answer, number in zip(answers, numbers, strict=True):
                if number is not None and not math.isfinite(number):
                    raise SiftuneError(f"the {what} of row {answer.prompt.row['id']} is {number}")
        return [
            replace(
                answer,
                score=None if cost is None else score,
                parts={name: scores[at] for name, scores in parts.items()},
                facts={name: values[at] for name, values in facts.items()},
                cost=cost or 0.0,
            )
            for at, (answer, score, cost) in enumerate(zip(answers, totals, costs, strict=True))
        ]

    def _costs(self, scored: Sequence[Answer], multiplier: float) -> dict[str, float | None]:
        """The mean cost, and its weight in this rollout, where there is a limit on it."""
        if not self.settings.cost:
            return {}
        mean = sum(answer.cost for answer in scored) / len(scored)
        return {"objective/cost": mean, "objective/cost_multiplier": multiplier}

    def _kept(self, scored: list[Answer]) -> list[Answer]:
        """The answers to learn from: without those of prompts that teach nothing, where asked for.

        All stay where there would be fewer than mini-batches, and teach nothing by their advantage
        of 0.
        """
        telling = scored if self.settings.dynamic_sampling == "off" else _telling(scored)
        return telling if len(telling) >= self.settings.minibatches else scored

    def _counts(self, scored: Sequence[Answer], redrawn: int) -> dict[str, float | None]:
        """Figures of groups, where there are any."""
        if self.settings.group_size == 1:
            return {}
        telling = {answer.group for answer in _telling(scored)}
        groups = {answer.group for answer in scored}
        found: dict[str, float | None] = {
            "rollout/flat_groups": (len(groups) - len(telling)) / len(groups)
        }
        if self.settings.dynamic_sampling == "redraw":
            found["rollout/redrawn"] = float(redrawn)
        return found

    def _importance(
        self, kept: Sequence[Answer], mask: Tensor, old_logps: Tensor, ref_logps: Tensor
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Importance weights of completions that the policy has not sampled, and statistics."""
        theirs = ref_logps
        if not kept[0].by_reference:
            if kept[0].logps is None:
                return None, {}
            flat = [logp for answer in kept for logp in answer.logps or ()]
            theirs = torch.zeros_like(old_logps).masked_scatter(mask, torch.tensor(flat))
        cap = self.settings.weight_cap
        weights = truncated_weights(old_logps, theirs, cap).masked_fill(~mask, 0)
        return weights, importance_metrics(old_logps, theirs, mask, cap)

    @torch.no_grad()
    def _measure(self, tokens: Tokens, learned: Tensor) -> tuple[Scores, Tensor, Tensor]:
        """Old log-probs and values, entropies, and the reference's log-probs, all (B, T).

        They are computed in the batches of the first pass over the rollout, 0 outside the mask.
        """
        shape, temperature = tokens.mask.shape, self.settings.temperature
        logps, entropy, ref_logps, values = full = [torch.zeros(shape) for _ in range(4)]
        for rows in self._batches(learned):
            batch = tokens.take(rows).to(self.model.policy.device)
            new = self.model(batch, temperature, entropy=True)
            with reference_of(self.model.policy, self.reference) as reference:
                ref, _ = policy_scores(reference, batch, temperature)
            parts = (new.logps, new.entropy, ref["policy"], new.values)
            for target, part in zip(full, parts, strict=True):
                if part is not None:
                    target[rows, : part.shape[1]] = part.to(target)
        logps, entropy, ref_logps, values = (distributed.add_up(part) for part in full)
        has_values = self.model.value_head is not None
        return Scores(logps, values if has_values else None), entropy, ref_logps

    def _batches(self, learned: Tensor) -> Iterator[Tensor]:
        """Rows that this process measures at once: the micro-batches of the first pass, and others.

        The others are rows that no update reads.
        """
        options = self.settings
        trained = trained_rows(learned, options.minibatches)
        rest = torch.ones(len(learned), dtype=torch.bool)
        rest[trained] = False
        for mini in (*trained.tensor_split(options.minibatches), rest.nonzero().flatten()):
            yield from parts_for(mini, options.micro_batch)

    def _rewarded(
        self,
        score: Tensor,
        ended: Tensor,
        groups: Tensor,
        tokens: Tokens,
        old: Scores,
        ref_logps: Tensor,
        kl_coef: float,
    ) -> Rewarded:
        """The rewards of answers and tokens, penalties and KL included."""
        options, mask = self.settings, tokens.mask
        penalised = score - options.missing_eos_penalty * (~ended)
        if options.overlong:
            penalised = penalised - ppo_losses.overlong_punishment(
                mask.sum(1), options.max_new_tokens, options.overlong
            )
        coef = 0.0 if options.kl_is_loss else kl_coef
        kl = KL[options.estimator](old.logps, ref_logps)
        rewards = ppo_losses.token_rewards(penalised, kl, mask, coef)
        return Rewarded(penalised, rewards, mask, groups, old.values)


def parts_for(rows: Tensor, micro_batch: int) -> list[Tensor]:
    """The ``rows`` of a mini-batch that this process computes, ``micro_batch`` at a time."""
    own = rows.tensor_split(distributed.count())[distributed.rank()]
    return [part for part in own.split(micro_batch) if len(part)]


def _telling(scored: Sequence[Answer]) -> list[Answer]:
    """The scored answers of prompts whose answers do not all have the same score and cost."""
    if not scored:
        return []
    groups = Groups(torch.tensor([answer.group for answer in scored]))
    flat = groups.all_equal(torch.tensor([answer.score for answer in scored], dtype=torch.float64))
    flat &= groups.all_equal(torch.tensor([answer.cost for answer in scored], dtype=torch.float64))
    return [answer for answer, same in zip(scored, flat.tolist(), strict=True) if not same]


def _means(drawn: Sequence[Answer], scored: Sequence[Answer]) -> dict[str, float | None]:
    """Means over what was sampled: scores over what has one, the share cut over all."""
    total = torch.tensor([answer.score for answer in scored], dtype=torch.float32)
    lengths = torch.tensor([len(answer.ids) for answer in scored])
    cut = sum(not answer.finished for answer in drawn)
    found: dict[str, float | None] = {
        "objective/score": float(total.mean()),
        "rollout/length": float(lengths.double().mean()),
        "rollout/truncated": cut / len(drawn),
        "rollout/unscored": float(len(drawn) - len(scored)),
    }
    for name in (*drawn[0].parts, *_facts(drawn)):
        given = [{**one.parts, **one.facts}.get(name) for one in drawn]
        each = [value for value in given if value is not None]
        found[f"reward/{name}"] = sum(each) / len(each) if each else None
    return found


def _facts(answers: Sequence[Answer]) -> list[str]:
    """The names of the facts that some of the answers have."""
    return sorted({name for answer in answers for name in answer.facts})
