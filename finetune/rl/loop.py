"""The optimizer loop: a `transformers.Trainer` that makes a rollout when one is used up."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import Pace
from siftune.curate.files.atomic import read_json, write_json
from siftune.finetune.core import distributed
from siftune.finetune.core.masked import masked_sum
from siftune.finetune.models.precision import machine_arguments
from siftune.finetune.rl.collector import Collector, parts_for
from siftune.finetune.rl.kl_stop import KLLimit, KLStop
from siftune.finetune.rl.model import ActorCritic, policy_scores
from siftune.finetune.rl.parts import Divisor, policy_loss_of
from siftune.finetune.rl.rollout import Rollout
from siftune.finetune.rl.rollout_watch import answered, means_of
from siftune.finetune.rl.settings import Settings
from siftune.finetune.rl.update import Update, update
from siftune.finetune.runs import checkpoints
from siftune.finetune.runs.finite_steps import FiniteSteps, NonFiniteError, StopAtNonFinite

if TYPE_CHECKING:
    from siftune.finetune.rl.prepare import Supervised
    from siftune.finetune.watch.watching import Watch

__all__ = ["Loop", "RunningMeans"]

_STATE: Final = "rl.json"
_CRITIC_LR: Final = 3e-5
_FROM_OLD: Final = "from the policy that wrote the rollout"


@dataclass
class RunningMeans:
    """Means over all tokens of many mini-batches, from sums and counts by name."""

    _sums: dict[str, Tensor] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Add a sum over ``count`` items."""
        total = total.detach().double()
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] += count

    def read(self) -> dict[str, float]:
        """The means since the last call, over all processes; sums and counts begin at 0 again."""
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        own = {name: float(total) for name, total in self._sums.items()}, dict(self._counts)
        for totals, numbers in distributed.from_all(lambda: own):
            for name, total in totals.items():
                sums[name] += total
                counts[name] += numbers[name]
        self._sums.clear()
        self._counts.clear()
        return {name: total / counts[name] for name, total in sums.items() if counts[name]}


class Loop(FiniteSteps):
    """Policy optimisation on the rollouts of a `Collector`.

    The data set is the list of optimiser steps; step s reads its mini-batch from rollout
    ``s // steps_a_rollout``, which is made when the one before is used up. Clipping, schedule,
    checkpoints and resuming are those of transformers. A rollout is a pure function of the weights,
    the seed, its number and the weights of KL and cost, and checkpoints are taken between rollouts
    only, so a resumed run equals the unbroken one bit for bit.

    A checkpoint is only taken once the next rollout has shown that its policy is within the KL
    limit: any checkpoint holds a good policy.

    Several processes make one rollout together and compute a share of each mini-batch; gradients
    are summed, and all divisors are those of the whole mini-batch.
    """

    def __init__(
        self,
        collector: Collector,
        settings: Settings,
        work: Path,
        supervised: Supervised | None = None,
        save_every: int = 10,
        at_save: Callable[[int], None] | None = None,
    ) -> None:
        """``work``: the folder of checkpoints, one every ``save_every`` rollouts.

        ``at_save(step)`` is called before the first step and at each checkpoint, to evaluate.
        """
        self.collector, self.settings, self.supervised = collector, settings, supervised
        self.work, self.save_every, self.at_save = work, save_every, at_save
        self.kl_coef, self.cost_multiplier = settings.kl_coef, settings.first_multiplier
        self.watch: Watch | None = None
        self.policy_loss = policy_loss_of(settings)
        self.rollout: Rollout | None = None
        self.good: dict[str, Tensor] = {}
        self.kl_limit = KLLimit("kl_stop", settings.kl_stop, "completion")
        self.means = RunningMeans()
        self.pace, self.drawn = Pace(), 0  # tokens of answers in this process
        steps = [{"step": s} for s in range(settings.rollouts * settings.steps_a_rollout)]
        super().__init__(
            model=collector.model,
            args=_arguments(settings, work),
            train_dataset=steps,
            callbacks=[StopAtNonFinite(self), _Boundaries(self)],
        )
        self.remove_callback(PrinterCallback)  # it writes to stdout, which is for data
        if self.args.n_gpu > 1:
            raise UsageError(
                "one process trains on one device: set CUDA_VISIBLE_DEVICES to one of them"
            )

    @property
    def ac(self) -> ActorCritic:
        """The policy with its critic."""
        return self.collector.model

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW without decay, the critic at its own rate; ε = 1e-5 as in the PPO of OpenAI."""
        if self.optimizer is None:
            critic = {id(parameter) for parameter in self.ac.critic_parameters()}
            trained = list(checkpoints.trained(self.ac).values())
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": [p for p in trained if id(p) not in critic], "lr": self.settings.lr},
                    {
                        "params": [p for p in trained if id(p) in critic],
                        "lr": self.settings.critic_lr or _CRITIC_LR,
                    },
                ],
                eps=1e-5,
                weight_decay=0.0,
            )
        return self.optimizer

    def get_train_dataloader(self) -> Any:
        """The steps one by one; of several processes each takes all of them."""
        if distributed.count() == 1:
            return super().get_train_dataloader()
        steps: Any = self.train_dataset
        return DataLoader(steps, batch_size=1, collate_fn=self.data_collator)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one mini-batch, in parts that fit in memory."""
        options, rollout, device = self.settings, self._current, self.args.device
        step = int(inputs["step"]) % options.steps_a_rollout
        epoch, number = divmod(step, options.minibatches)
        rows = rollout.minibatches(epoch, options)[number]
        self.step_rows = [[rollout.ids[row] for row in rows.tolist()]]
        divisor = Divisor.of(options.reduction, rollout.learned, rows, options.max_new_tokens)
        loss, moved = torch.zeros((), device=device), 0.0
        for part in parts_for(rows, options.micro_batch):
            done = update(self.ac, rollout, part, self.policy_loss, divisor, options, device)
            loss += done.loss.detach() / divisor.total
            moved += done.moved
            self._note(done, first=step == 0)
            if not math.isfinite(loss.item()):
                break
            self.accelerator.backward(done.loss / divisor.total)
        loss = distributed.add_up(loss)
        moved = float(distributed.add_up(torch.tensor(moved, dtype=torch.float64)))
        if not math.isfinite(loss.item()):
            self._stop_at_non_finite(float(loss), moved, len(rows))
        self._stop_above_limit(moved / max(len(rows), 1), _FROM_OLD)
        loss += self._supervised_loss(int(inputs["step"]))
        distributed.add_up_gradients(checkpoints.trained(self.ac).values())
        return loss

    @property
    def _current(self) -> Rollout:
        if self.rollout is None:
            raise TypeError("there is no rollout: training has not begun")
        return self.rollout

    def _note(self, done: Update, first: bool) -> None:
        for name, total in done.sums.items():
            self.means.add(name, total, done.tokens)
        if first:  # before any step on the rollout the ratio has to be 1
            self.means.add(
                "policy/first_ratio_deviation", done.sums["policy/ratio_deviation"], done.tokens
            )

    def _stop_at_non_finite(self, loss: float, moved: float, rows: int) -> None:
        """Raise: `KLStop` if the KL is above its limit, which is the cause then, else an error."""
        if math.isfinite(moved):
            self._stop_above_limit(moved / rows, _FROM_OLD)
        raise NonFiniteError(f"the loss is {loss}", self.state.global_step + 1, self.step_rows[0])

    def _supervised_loss(self, step: int) -> Tensor:
        """The weighted supervised loss of a step; its gradient is added to the policy's."""
        total_loss = torch.zeros((), device=self.args.device)
        if self.supervised is None or self.settings.ptx_coef == 0:
            return total_loss
        options = self.settings
        ids, tokens = self.supervised.batch(
            step, options.answers // options.minibatches, options.seed
        )
        self.step_rows = [*self.step_rows, ids]
        count, broken = int(tokens.mask.sum()), list[str]()
        for rows in parts_for(torch.arange(len(tokens.mask)), options.micro_batch):
            part = tokens.take(rows).to(self.args.device)
            with self.accelerator.autocast():
                found, _ = policy_scores(self.ac.policy, part, temperature=1.0)
            nll = -masked_sum(found["policy"], part.mask)
            self.means.add("loss/ptx", nll, int(part.mask.sum()))
            loss = options.ptx_coef * nll / count
            total_loss += loss.detach()
            if not math.isfinite(loss.item()):
                broken = [ids[row] for row in rows.tolist()]
                break
            self.accelerator.backward(loss)
        total_loss = distributed.add_up(total_loss)
        if not math.isfinite(total_loss.item()):
            wrong = [one for part in distributed.from_all(lambda: broken) for one in part]
            what = f"the supervised loss is {total_loss.item()}"
            raise NonFiniteError(what, self.state.global_step + 1, wrong)
        return total_loss

    def begin(self) -> None:
        """Make the rollout of the first step, or of the first after a checkpoint."""
        step = self.state.global_step
        self.pace.begin(step)
        if self.watch is not None:
            self.watch.begin(step, self.work / f"checkpoint-{step}" if step else None)
        if self.at_save is not None and self.state.global_step == 0:
            self.at_save(0)
        self._next()

    def end_of_rollout(self, control: Any) -> None:
        """Log the rollout and its updates, make the next one, ask for a checkpoint.

        A rollout is made after the last update too: it measures the policy that is saved.
        """
        done = self._current
        self._log_rollout(done)
        if self.watch is not None:
            self.watch.act(control)  # before the next rollout, which β is a part of
            if self.watch.ended is not None:
                return
        self.kl_coef = self.settings.controller(self.kl_coef, done.kl, len(done.scores))
        if (cost := done.drawn.get("objective/cost")) is not None:
            self.cost_multiplier = self.settings.limiter(self.cost_multiplier, cost)
        self._next()
        number = done.index + 1
        if number == self.settings.rollouts:
            self._log_rollout(self._current)
        if number % self.save_every == 0 or number == self.settings.rollouts:
            if self.at_save is not None:
                self.at_save(self.state.global_step)
            control.should_save = True
            if self.watch is not None:
                self.watch.end_if_asked(control)

    def ends_rollout(self, step: int) -> bool:
        """Whether a rollout is used up after ``step``: only there checkpoints are taken."""
        return step % self.settings.steps_a_rollout == 0

    def _next(self) -> None:
        index = self.state.global_step // self.settings.steps_a_rollout
        with self.accelerator.autocast():
            rollout = self.collector(index, self.kl_coef, self.cost_multiplier)
        broken = rollout.broken()
        if broken:
            what = f"a log-probability or value of rollout {index} is not finite"
            raise NonFiniteError(what, self.state.global_step, broken)
        self._stop_above_limit(rollout.kl, "from the reference", rollout)
        self.rollout = rollout
        if self.kl_limit.limit is None:
            return  # no run is ever taken back to it
        critic = {id(weight) for weight in self.ac.critic_parameters()}
        self.good = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in checkpoints.trained(self.ac.policy).items()
            if id(parameter) not in critic
        }

    def _stop_above_limit(self, kl: float, other: str, rollout: Rollout | None = None) -> None:
        reason = self.kl_limit.exceeded(kl, self.state.global_step, other)
        if reason is not None:
            self._log_rollout(rollout or self._current, stopped=rollout is not None)
            raise KLStop(f"{reason}; the last policy below it is kept")

    def restore_good(self) -> None:
        """Put back the weights of the last policy that was within the KL limit."""
        checkpoints.put_back(self.good, self.ac.policy)

    def _log_rollout(self, rollout: Rollout, stopped: bool = False) -> None:
        """Log a rollout; ``rollout/stopped`` marks the one whose policy is not kept."""
        values: dict[str, Any] = {**rollout.metrics(), **self.means.read()}
        score, kl = values["objective/score"], values["objective/kl"]
        distributed.progress(f"{self._place(rollout)}, score {score:.4g}, KL {kl:.4g}")
        self.log({**values, "rollout/stopped": 1.0} if stopped else values)
        if self.watch is not None and not stopped and rollout.index < self.settings.rollouts:
            prompts = {one.row["id"]: one.text for one in self.collector.prompts}
            given, more = answered(rollout, prompts, self.watch.gold), means_of(values)
            self.watch.answered(self.state.global_step, given, more)

    def _place(self, rollout: Rollout) -> str:
        """The number of the rollout in words, tokens per second and the time left."""
        total = self.settings.rollouts
        if rollout.index >= total:
            return "after the last update"
        self.drawn += int(rollout.tokens.mask.sum())
        pace = self.pace(self.state.global_step, self.state.max_steps, self.drawn)
        return f"rollout {rollout.index + 1} of {total}{pace}"

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the trained weights, KL coefficient and cost weight; transformers the rest."""
        folder = Path(output_dir or self.work)
        checkpoints.save_weights(folder, self.ac)
        state = {"kl_coef": self.kl_coef, "cost_multiplier": self.cost_multiplier}
        write_json(folder / _STATE, state)
        if self.watch is not None and distributed.first():
            self.watch.save(folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        distributed.together()
        if distributed.first():
            checkpoints.seal(self.work / f"checkpoint-{self.state.global_step}")
            checkpoints.rotate(
                self.work, () if self.watch is None else self.watch.spared(self.work)
            )
        distributed.together()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        checkpoints.load_weights(folder, self.ac)
        state = read_json(folder / _STATE)
        self.kl_coef, self.cost_multiplier = state["kl_coef"], state["cost_multiplier"]


class _Boundaries(TrainerCallback):
    """Calls the loop when training begins and when a rollout is used up."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.loop.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.loop.ends_rollout(state.global_step):
            self.loop.end_of_rollout(control)


def _arguments(settings: Settings, work: Path) -> TrainingArguments:
    machine: dict[str, Any] = machine_arguments(settings.precision)
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        max_grad_norm=settings.max_grad_norm,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=settings.seed,
        **machine,
    )
