"""On-policy training: a policy on a reward of its own answers; trainers are presets of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import polars as pl

from siftune.curate.core.ranges import Count, Natural, Rank
from siftune.curate.core.schema import KINDS
from siftune.curate.files.atomic import write_text
from siftune.curate.models.model_config import positions_of
from siftune.curate.models.token_ids import end_ids
from siftune.finetune.core import distributed
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.models import loading
from siftune.finetune.models.adapters import is_adapter
from siftune.finetune.models.lora import Kept, check_kept, whole_model
from siftune.finetune.models.precision import (
    REFERENCE,
    formats,
    frozen_dtype,
    reference_dtype,
    report,
)
from siftune.finetune.models.saving import base_facts, command_line
from siftune.finetune.rewards.types import (
    Entry,
    check_fields,
    entries_of,
    reward_of,
)
from siftune.finetune.rl.settings import Critic, Settings
from siftune.finetune.runs.resumable_run import Run, quiet
from siftune.finetune.tools.evaluate import chosen_rows, write_step, write_summary
from siftune.finetune.training.on_policy_key import pass_rates_of, reward_folders, run_key
from siftune.finetune.training.watched import check_watch, stopped_by, watch_rollouts
from siftune.finetune.watch.actions import Action

if TYPE_CHECKING:
    from siftune.finetune.rewards.types import Reward
    from siftune.finetune.rl.loop import Loop
    from siftune.finetune.watch.watching import WatchCallback

__all__ = ["OnPolicy"]


@dataclass(frozen=True, kw_only=True)
class OnPolicy(Settings):
    """Policy optimisation on sampled answers: rounds of sampling, scoring and updates.

    Of the training rows only the prompts are used, and known answers by rewards that ask for them;
    rows that have no prompt are refused, or left out with ``on_bad: drop``. A reward model may have
    any tokenizer. Rows that rewards are given have ``finished``, false for an answer that was cut
    at ``max_new_tokens``, which a reward model reads without an end of turn put on.

    ``kl_stop`` bounds the KL from the reference at a rollout, and from the old policy within one.
    ``micro_batch``, and how many processes a launcher starts, change the numbers by rounding alone.

    With ``lora`` the reference is the policy without its adapter, and no copy is in memory. A
    reward model that is an adapter on the same base (its training's ``adapter: keep``) is put on it
    as well, and so is the critic with ``critic: adapter``: four models, and one base in memory.
    ``eval_rows`` are answered before, at every checkpoint and after. A run that was cut off
    continues from its last whole checkpoint. ``seed`` decides the order of prompts and every draw.
    ``precision: auto`` is bf16 for the base under an adapter and a reward model where the processor
    multiplies it, and fp32 for a reference beside a policy of which all weights are trained, so
    that both start equal; ``bf16`` narrows that reference too. Trained weights are fp32.

    Options:
        model: Policy to train, which is also the reference: a folder, a name of `siftune models
            list`, or a name on the hub.
        critic: Value model of its own (separate), a value head on the policy (shared), or an
            adapter of its own with a head on the policy's base (adapter); by default shared with
            lora and separate without.
        critic_model: Model that a separate value model starts from; by default the policy's.
        ptx_rows: Supervised rows, a file or a run folder, that are learned beside the reward.
        save_every: Rollouts between two checkpoints, from which a stopped run continues.
    """

    reads: ClassVar = "rows"
    data: ClassVar = "Data: rows with prompts; known answers are read by rewards that need them."

    model: str
    reward: str | dict[str, Any]
    reward_options: dict[str, Any] | None = None
    lora: Rank = 0
    lora_alpha: Count = 16
    adapter: Kept = "merge"
    critic: Critic | None = None
    critic_model: str | None = None
    share_prefix: bool = True
    ptx_rows: str | None = None
    on_bad: training_rows.OnBad = "refuse"
    eval_rows: str | None = None
    eval_limit: Count = 64
    watch: Action = "log"
    watch_detectors: Mapping[str, Any] = field(default_factory=dict)
    watch_prompts: Natural = 8
    watch_rows: str | None = None
    watch_gold: str | None = None
    save_every: Count = 10

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        super().__post_init__()
        self._check_cost(entries_of(self.reward, self.reward_options))
        check_kept(self.adapter, self.lora)
        if self.ptx_coef > 0 and self.ptx_rows is None:
            raise ValueError("ptx_coef: needs ptx_rows, the supervised rows to draw from")
        if self.ptx_rows is not None and self.ptx_coef == 0:
            raise ValueError("ptx_rows: need ptx_coef above 0, the weight of their loss")
        check_watch(self)
        if self.critic_model is not None and self._critic in ("shared", "adapter"):
            raise ValueError(
                f"critic_model: a critic that is {self._critic} has no trunk of its own to start"
            )
        if self.critic == "adapter" and not self.lora:
            raise ValueError("critic: an adapter of its own needs lora, the rank of adapters")

    def _check_cost(self, rewards: Sequence[Entry]) -> None:
        weights = {one.name: one.weight for one in rewards} if len(rewards) > 1 else {}
        if self.cost is not None and weights.get(self.cost) != 0:
            found = ", ".join(f"{name} with weight {weights[name]:g}" for name in weights)
            raise ValueError(
                f"cost: expected the name of one of several rewards, with weight 0, got "
                f"{self.cost}; reward has {found or 'one alone'}"
            )

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the prompts of ``rows`` and write the model folder ``out``.

        Raises:
            DataError: a row cannot be asked; the text counts and names them.
            SiftuneError: a loss or a score is not finite; checkpoints are kept.
            UsageError: an option or a model does not fit.
        """
        distributed.refuse_spread(self.method)
        table = training_rows.load(rows, KINDS)
        reward = reward_of(self.reward, self.reward_options or {}, self.precision)
        self._check_adapters(reward)
        precision = formats(self.precision, self._frozen, self._trained)
        run = Run.of(out, run_key(self, table, reward, precision))
        with run.held():
            return run.finished() or self._run(table, reward, rows, run)

    def check_options(self) -> None:
        """Do nothing: there is no Hugging Face trainer whose arguments could be given."""

    @property
    def method(self) -> str:
        """The name of the command: that of the file that has the preset."""
        return type(self).__module__.rpartition(".")[2]

    def _run(self, table: pl.DataFrame, reward: Reward, rows: Path, run: Run) -> TrainResult:
        loading.check_writes(self.model)
        tokenizer = loading.load_tokenizer(self.model)
        preflight.refuse(
            [*preflight.check_tokenizer(tokenizer), *preflight.check_template(tokenizer)]
        )
        report(self.precision, self._frozen, self._trained)
        self._load(reward)
        loop, used, bad = self._loop(table, tokenizer, reward, rows, run.work)
        watch = watch_rollouts(self, tokenizer, loop, used, run)
        loop.at_save = self._evaluation(tokenizer, loop, run, watch)
        stopped = self._train(loop, run)
        if watch is not None:
            with quiet():
                watch.take_good(loop)
        from siftune.finetune.rl.parts import parts_record

        facts = {
            "stage": "rl",
            "method": self.method,
            "base": base_facts(self.model),
            "command": command_line(self, run.command, rows),
            "data": {
                **training_rows.data_facts(rows, used),
                "dropped": training_rows.dropped_of(bad).counts(),
            },
            "options": asdict(self),
            "parts": parts_record(self),
            "precision": formats(self.precision, self._frozen, self._trained),
            "seed": self.seed,
            "metrics": self._write_metrics(loop, run),
            "stopped": "kl" if stopped else None,
            "stopped_because": stopped,
            **stopped_by(watch),
        }
        policy = loop.ac.policy
        if self.lora:
            load_base = partial(loading.load_causal, self.model)
            policy = whole_model(policy, self.adapter, self.model, load_base, run.beside)
        return run.finish(policy, tokenizer, facts, training_rows.dropped_of(bad))

    def _check_adapters(self, reward: Reward) -> None:
        from siftune.finetune.rl.backbone import check_adapters

        check_adapters(reward, self.model, self.lora)

    @staticmethod
    def _load(reward: Reward) -> None:
        from siftune.finetune.rl.backbone import load_whole

        load_whole(reward)

    @property
    def _frozen(self) -> list[str]:
        """The models of the run in the frozen number format."""
        mine = ["the frozen base"] if self.lora else [REFERENCE] * (self.precision == "bf16")
        whole = [folder for folder in reward_folders(self) if not is_adapter(folder)]
        return mine + ["the reward model"] * bool(whole)

    @property
    def _trained(self) -> str:
        adapters = "adapters and critic" if self.has_critic else "adapters"
        return adapters if self.lora else "trained weights"

    @property
    def _critic(self) -> Critic | None:
        """Where the critic is; None without one."""
        if not self.has_critic:
            return None
        return self.critic or ("shared" if self.lora else "separate")

    def _loop(
        self, table: pl.DataFrame, tokenizer: Any, reward: Reward, rows: Path, work: Path
    ) -> tuple[Loop, pl.DataFrame, pl.DataFrame]:
        """The loop, all loaded and checked, the rows whose prompts it uses, and those left out."""
        import torch

        from siftune.curate.text.sampling import Sampling
        from siftune.finetune.data.packing import try_sharing
        from siftune.finetune.rl.backbone import put_on_base
        from siftune.finetune.rl.collector import Collector
        from siftune.finetune.rl.loop import Loop
        from siftune.finetune.rl.prepare import actor_critic, prompts_of, supervised_rows
        from siftune.finetune.scoring.logps import check_head

        base: loading.DType = frozen_dtype(self.precision) if self.lora else "float32"
        policy: Any = loading.load_causal(self.model, base)
        context = positions_of(policy.config)
        room = None if context is None else context - self.max_new_tokens
        rates = pass_rates_of(table, self.pass_rate)
        given = None if self.pass_rate is None else rates
        used, bad, prompts = prompts_of(table, tokenizer, room, self.on_bad, rows, given)
        check_fields(reward, [{**one.row, "finished": True} for one in prompts])
        check_head(policy, torch.tensor([prompts[0].ids[:16]]))
        if self.share_prefix:
            try_sharing(policy)
        ends = end_ids(policy, tokenizer)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
        supervised = None
        if self.ptx_rows is not None:
            supervised = supervised_rows(self.ptx_rows, tokenizer, pad, context, self.on_bad)
        lora = (self.lora, self.lora_alpha) if self.lora else None
        critic = (self.critic_model or self.model) if self._critic == "separate" else None
        sampling = Sampling(self.temperature, self.max_new_tokens, ends, pad)
        ids = [prompt.row["id"] for prompt in prompts]
        on_base = self._critic == "adapter"
        model = actor_critic(policy, tokenizer, critic, lora, self.seed, self.has_critic, on_base)
        if self.share_prefix and model.critic is not None:
            try_sharing(model.critic)
        put_on_base(reward, model.policy)
        order = self.order_of(ids, rates, self.seed, self.rollouts * self.batch_size)
        drawn = [ids[at] for at in dict.fromkeys(sorted(order.places))]
        collector = Collector(
            model=model,
            reference=None if self.lora else self._reference(),
            tokenizer=tokenizer,
            prompts=prompts,
            reward=reward,
            sampling=sampling,
            settings=self,
            order=order,
            sampler=self.sampler_of(self.model, tokenizer, sampling, drawn, self.group_size),
        )
        return Loop(collector, self, work, supervised, self.save_every), used, bad

    def _reference(self) -> Any:
        from siftune.finetune.scoring.reference import frozen

        dtype = reference_dtype(self.precision, adapter=self.lora > 0)
        return frozen(self.model, self.share_prefix, dtype).model

    def _train(self, loop: Loop, run: Run) -> str | None:
        """Run the loop, from the last whole checkpoint if there is one; why it stopped early."""
        from siftune.finetune.rl.kl_stop import KLStop
        from siftune.finetune.runs.stop_signals import StopAtSignal, catching_signals

        start = run.begin()
        try:
            with quiet(), catching_signals("rollout") as signals:
                loop.add_callback(StopAtSignal(signals, loop.ends_rollout, self.steps_a_rollout))
                loop.train(resume_from_checkpoint=None if start is None else str(start))
        except KLStop as stop:
            distributed.notify(str(stop))
            loop.restore_good()
            if loop.at_save is not None:
                loop.at_save(loop.state.global_step)
            return str(stop)
        return None

    def _evaluation(
        self, tokenizer: Any, loop: Loop, run: Run, watch: WatchCallback | None
    ) -> Callable[[int], None]:
        """Evaluates the current policy on the held-out prompts, and on those watched, at a step."""
        own = self._own_evaluation(tokenizer, loop, run)
        policy = loop.ac.policy.get_base_model() if self.lora else loop.ac.policy

        def evaluate(step: int) -> None:
            if own is not None:
                own(step)
            if watch is not None:
                watch.watch.ask_prompts(policy, step)

        return evaluate

    def _own_evaluation(self, tokenizer: Any, loop: Loop, run: Run) -> Callable[[int], None] | None:
        if self.eval_rows is None:
            return None
        table = chosen_rows(training_rows.load(self.eval_rows, KINDS), self.eval_limit, self.seed)
        generation_eval = GenerationEval(
            tuple(training_rows.to_prompts(table)),
            tokenizer,
            loop.collector.reference or self._reference(),
            self._evaluating(loop.collector.reward),
            max_new_tokens=self.max_new_tokens,
            precision=self.precision,
        )
        policy = (
            loop.ac.policy.get_base_model() if self.lora else loop.ac.policy
        )  # adapter in place
        return lambda step: write_step(run.beside, step, generation_eval(policy))

    def _evaluating(self, reward: Reward) -> Reward | str | None:
        """The reward of held-out answers: the first reward model, where there is one."""
        folder = next(iter(reward_folders(self)), None)
        if folder is None or not is_adapter(folder):
            return folder
        from siftune.finetune.rl.backbone import reward_adapters

        return reward_adapters(reward)[0]  # on the base already

    def _write_metrics(self, loop: Loop, run: Run) -> dict[str, float]:
        """Write ``metrics.jsonl`` and the summary of evaluations; return the last of both."""
        logged = [_line(entry) for entry in loop.state.log_history if "objective/score" in entry]
        # What a resumed run logged before has been through a file that sorts its keys.
        lines = [orjson.dumps(line, option=orjson.OPT_SORT_KEYS).decode() + "\n" for line in logged]
        write_text(run.beside / "metrics.jsonl", "".join(lines))
        kept = [line for line in logged if "rollout/stopped" not in line][-1]
        last = {name: value for name, value in kept.items() if value is not None}
        if self.eval_rows is not None:
            last |= {f"eval_{name}": value for name, value in write_summary(run.beside).items()}
        return last


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "epoch"}
