"""Options of RL: which prompts are drawn, in what order, and what completes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import DataError
from siftune.curate.core.ranges import Count, Positive, Share
from siftune.finetune.core import distributed
from siftune.finetune.models import loading
from siftune.finetune.rl.curriculum import Curriculum, Order, PromptOrder

if TYPE_CHECKING:
    from siftune.curate.text.sampling import Sampling
    from siftune.finetune.rl.rollouts.types import Sampler

__all__ = ["DrawOptions"]

_CAP: Final = 2.0  # of verl's documentation
_TIMES: Final = 3
_NEED_RATES: Final = ("min_pass_rate", "max_pass_rate", "replay_below", "replay_times")
_NEED_SOURCE: Final = ("rollout_options", "importance_cap")


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """What is drawn in a rollout.

    Options:
        pass_rate: Column with the pass rate of each prompt, as the scorer pass_rate adds it, for
            prompt_order, bounds and replay.
        prompt_order: Order of the prompts in each pass over them: shuffled, or by pass rate with
            the easiest or the hardest first.
        min_pass_rate: Smallest pass rate of prompts that are drawn; none has no bound.
        max_pass_rate: Largest pass rate of prompts that are drawn; none has no bound.
        replay_below: Pass rate below which a prompt is drawn again, unless it is 0: a prompt that
            never passes teaches nothing; none draws all alike.
        replay_times: How often such a prompt is drawn in each pass; 3 unless set.
        rollouts_from: What completes the prompts: a server as URL#MODEL that serves the policy's
            weights, or a folder that siftune finetune sample wrote with the model of the run; by
            default the policy itself.
        rollout_options: Options of the server: logprobs, concurrency, tries, pause, key_variable,
            key_file.
        importance_cap: Largest importance weight of a token that rollouts_from has sampled; 2
            unless set.
    """

    pass_rate: str | None = None
    prompt_order: Order = "shuffled"
    min_pass_rate: Share | None = None
    max_pass_rate: Share | None = None
    replay_below: Share | None = None
    replay_times: Count | None = None
    rollouts_from: str | None = None
    rollout_options: dict[str, Any] | None = None
    importance_cap: Positive | None = None

    def check_draws(self) -> None:
        """Refuse options without those that they need.

        Raises:
            ValueError: one is set alone; the text names both.
        """
        ordered = ["prompt_order"] * (self.prompt_order != "shuffled")
        of_rates = [*ordered, *self._set(_NEED_RATES)]
        if of_rates and self.pass_rate is None:
            raise ValueError(f"{of_rates[0]}: needs pass_rate, the column that it reads")
        if self.pass_rate is not None and not of_rates:
            raise ValueError(
                "pass_rate: is read by prompt_order, min_pass_rate, max_pass_rate or replay_below: "
                "set one of them"
            )
        if self.replay_times is not None and self.replay_below is None:
            raise ValueError(
                "replay_times: needs replay_below, the rate below which prompts are drawn again"
            )
        bounds = self.min_pass_rate, self.max_pass_rate
        if None not in bounds and bounds[0] > bounds[1]:  # type: ignore[operator]
            raise ValueError(f"min_pass_rate: {bounds[0]:g} is above max_pass_rate {bounds[1]:g}")
        of_source = self._set(_NEED_SOURCE)
        if of_source and self.rollouts_from is None:
            raise ValueError(
                f"{of_source[0]}: needs rollouts_from, a server or a folder of samples"
            )
        if self.rollout_options and not self.from_server:
            raise ValueError(
                "rollout_options: are those of a server, and rollouts_from is a folder"
            )

    def _set(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    @property
    def from_server(self) -> bool:
        """Whether a server completes the prompts."""
        return (self.rollouts_from or "").startswith(("http://", "https://"))

    @property
    def weight_cap(self) -> float:
        """The largest importance weight."""
        return _CAP if self.importance_cap is None else self.importance_cap

    @property
    def curriculum(self) -> Curriculum:
        """The choice of prompts by pass rate."""
        times = _TIMES if self.replay_times is None else self.replay_times
        bounds = (self.min_pass_rate, self.max_pass_rate)
        return Curriculum(self.prompt_order, *bounds, self.replay_below, times)

    def order_of(
        self, ids: Sequence[str], rates: Mapping[str, float | None], seed: int, total: int
    ) -> PromptOrder:
        """The order in which prompts of the rows ``ids`` are drawn, ``total`` in the whole run.

        Raises:
            DataError: no prompt is within the bounds.
        """
        if self.pass_rate is None:
            return PromptOrder(tuple(range(len(ids))), seed)
        known = [rates[one] or 0.0 for one in ids]
        order = self.curriculum.order_of(known, seed, total)
        low, high = self.min_pass_rate or 0, 1 if self.max_pass_rate is None else self.max_pass_rate
        drawn = set(order.places)
        which = f"a pass rate ({self.pass_rate}) from {low:g} to {high:g}"
        if not drawn:
            raise DataError(f"none of the {len(ids):,} prompts has {which}")
        again = len(order.places) - len(drawn)
        if again or len(drawn) < len(ids):
            distributed.notify(
                f"{len(drawn):,} of {len(ids):,} prompts have {which}; a pass over them has "
                f"{len(order.places):,} draws"
            )
        return order

    def sampler_of(
        self, model: str, tokenizer: Any, sampling: Sampling, drawn: Sequence[str], group_size: int
    ) -> Sampler | None:
        """What completes the prompts of the rows ``drawn``; None for the policy itself.

        Raises:
            DataError: a row has too few samples.
            UsageError: the server or the folder cannot be used.
        """
        if self.rollouts_from is None:
            return None
        if self.from_server:
            from siftune.finetune.rl.rollouts.server import Server

            given = self.rollout_options or {}
            return Server.at(self.rollouts_from, tokenizer, sampling, given)
        from siftune.finetune.rl.rollouts.samples import Samples

        base = loading.model_hash(model)
        samples = Samples.read(self.rollouts_from, model, base, tokenizer, sampling)
        lacking = samples.lacking(drawn, group_size)
        if lacking:
            raise DataError(
                f"{self.rollouts_from}: {len(lacking):,} of {len(drawn):,} rows have fewer than "
                f"{group_size} answers of at most {sampling.max_new_tokens} tokens, the first is "
                f"{lacking[0]}: sample more of them, or leave these rows out"
            )
        return samples
