"""The optimiser loop: a `transformers.Trainer` whose data are rollouts it makes as it goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import echo
from siftune.curate.files.atomic import read_json, write_json
from siftune.finetune.models.precision import machine_arguments
from siftune.finetune.rl import core
from siftune.finetune.rl.model import ActorCritic, policy_scores
from siftune.finetune.rl.rollout import Collector, Rollout
from siftune.finetune.rl.running_means import Meter
from siftune.finetune.rl.settings import Settings
from siftune.finetune.rl.supervised import Supervised
from siftune.finetune.rl.update import Update, update
from siftune.finetune.runs import checkpoints
from siftune.finetune.runs.finite_steps import FiniteSteps, NonFiniteError, StopAtNonFinite
from siftune.finetune.runs.throughput import Pace

__all__ = ["KLStop", "Loop"]

_STATE = "ppo.json"
_FROM_OLD = "from the policy that wrote the rollout"


class KLStop(Exception):
    """The policy went farther from its reference than the run allows; the text says how far."""


class Loop(FiniteSteps):
    """PPO on what a `Collector` brings.

    The data set is the list of optimiser steps; step s reads its mini-batch from rollout
    ``s // steps_a_rollout``, which is made when the one before is used up. Clipping, schedule,
    checkpoints and resuming are transformers'. A rollout is a pure function of the weights, the
    seed, its number and the KL coefficient, and checkpoints are taken between rollouts only, so a
    resumed run goes on bit for bit as the unbroken one would.

    A checkpoint is only taken once the next rollout has shown that its policy is within the KL
    limit: any checkpoint holds a good policy.
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
        self.kl_coef = settings.kl_coef
        self.rollout: Rollout | None = None
        self.good: dict[str, Tensor] = {}
        self.meter = Meter()
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
            raise UsageError("PPO runs on one device: set CUDA_VISIBLE_DEVICES to one of them")

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
                        "lr": self.settings.critic_lr,
                    },
                ],
                eps=1e-5,
                weight_decay=0.0,
            )
        return self.optimizer

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one mini-batch, in parts that fit in memory."""
        options, rollout = self.settings, self._current
        step = int(inputs["step"]) % options.steps_a_rollout
        epoch, at = divmod(step, options.minibatches)
        rows = rollout.minibatches(epoch, options)[at]
        self.step_rows = [[rollout.ids[row] for row in rows.tolist()]]
        total = int(rollout.tokens.mask[rows].sum())
        loss, moved = torch.zeros((), device=self.args.device), 0.0
        for part in rows.split(options.micro_batch):
            done = update(model, rollout, part, options, self.args.device)
            loss += done.loss.detach() / total
            moved += done.moved
            self._note(done, first=step == 0)
            if not math.isfinite(loss.item()):
                self._refuse(float(loss), moved, len(rows))
            self.accelerator.backward(done.loss / total)
        self._hold(moved / len(rows), _FROM_OLD)
        return loss + self._supervise(int(inputs["step"]))

    @property
    def _current(self) -> Rollout:
        if self.rollout is None:
            raise TypeError("there is no rollout: training has not begun")
        return self.rollout

    def _note(self, done: Update, first: bool) -> None:
        for name, total in done.sums.items():
            self.meter.add(name, total, done.tokens)
        if first:  # before any step on the rollout the ratio has to be 1
            self.meter.add(
                "ppo/first_ratio_deviation", done.sums["ppo/ratio_deviation"], done.tokens
            )

    def _refuse(self, loss: float, moved: float, rows: int) -> None:
        """Stop for the KL if that is why the loss is not finite, else as an error."""
        if math.isfinite(moved):
            self._hold(moved / rows, _FROM_OLD)
        raise NonFiniteError(f"the loss is {loss}", self.state.global_step + 1, self.step_rows[0])

    def _supervise(self, step: int) -> Tensor:
        """The supervised term, weighted; its gradient is added to what is there."""
        total_loss = torch.zeros((), device=self.args.device)
        if self.supervised is None or self.settings.ptx_coef == 0:
            return total_loss
        options = self.settings
        ids, tokens = self.supervised.batch(
            step, options.batch // options.minibatches, options.seed
        )
        self.step_rows = [*self.step_rows, ids]
        count = int(tokens.mask.sum())
        for rows in torch.arange(len(tokens.mask)).split(options.micro_batch):
            part = tokens.take(rows).to(self.args.device)
            with self.accelerator.autocast():
                logps, _, _ = policy_scores(self.ac.policy, part, temperature=1.0)
            nll = -core.masked_sum(logps, part.mask)
            self.meter.add("loss/ptx", nll, int(part.mask.sum()))
            loss = options.ptx_coef * nll / count
            if not math.isfinite(loss.item()):
                own = [ids[row] for row in rows.tolist()]
                what = f"the supervised loss is {loss.item()}"
                raise NonFiniteError(what, self.state.global_step + 1, own)
            self.accelerator.backward(loss)
            total_loss += loss.detach()
        return total_loss

    def begin(self) -> None:
        """Make the rollout that the first step, or the first after a checkpoint, reads."""
        self.pace.begin(self.state.global_step)
        if self.at_save is not None and self.state.global_step == 0:
            self.at_save(0)
        self._next()

    def end_of_rollout(self, control: Any) -> None:
        """Tell what the rollout and its updates came to, make the next one, ask for a checkpoint.

        After the last one a rollout is made all the same: it measures the policy that is saved.
        """
        done = self._current
        self._tell(done)
        self.kl_coef = self.settings.controller(self.kl_coef, done.kl, len(done.scores))
        self._next()
        number = done.index + 1
        if number == self.settings.rollouts:
            self._tell(self._current)
        if number % self.save_every == 0 or number == self.settings.rollouts:
            if self.at_save is not None:
                self.at_save(self.state.global_step)
            control.should_save = True

    def ends_rollout(self, step: int) -> bool:
        """Whether a rollout is used up after ``step``: only there checkpoints are taken."""
        return step % self.settings.steps_a_rollout == 0

    def _next(self) -> None:
        index = self.state.global_step // self.settings.steps_a_rollout
        with self.accelerator.autocast():
            rollout = self.collector(index, self.kl_coef)
        broken = rollout.broken()
        if broken:
            what = f"a log-probability or value of rollout {index} is not finite"
            raise NonFiniteError(what, self.state.global_step, broken)
        self._hold(rollout.kl, "from the reference", rollout)
        self.rollout = rollout
        self.good = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in checkpoints.trained(self.ac.policy).items()
        }

    def _hold(self, kl: float, which: str, rollout: Rollout | None = None) -> None:
        limit = self.settings.kl_stop
        if limit is None or kl <= limit:
            return
        self._tell(rollout or self._current, stopped=rollout is not None)
        raise KLStop(
            f"stopped at step {self.state.global_step}: {kl:.4g} nats a completion {which}, above "
            f"kl_stop={limit:g}; the last policy below it is kept"
        )

    def restore_good(self) -> None:
        """Put back the weights of the last policy that was within the KL limit."""
        checkpoints.put_back(self.good, self.ac.policy)

    def _tell(self, rollout: Rollout, stopped: bool = False) -> None:
        """Log a rollout; ``ppo/stopped`` marks the one whose policy is not kept."""
        said: dict[str, Any] = {**rollout.metrics(), **self.meter.read()}
        score, kl = said["objective/score"], said["objective/kl"]
        echo(f"{self._place(rollout)}, score {score:.4g}, KL {kl:.4g}", err=True)
        self.log({**said, "ppo/stopped": 1.0} if stopped else said)

    def _place(self, rollout: Rollout) -> str:
        """Which rollout it is, in words, and how fast they come."""
        total = self.settings.rollouts
        if rollout.index >= total:
            return "after the last update"
        self.drawn += int(rollout.tokens.mask.sum())
        pace = self.pace(self.state.global_step, self.state.max_steps, self.drawn)
        return f"rollout {rollout.index + 1} of {total}{pace}"

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The weights that are trained, and the KL coefficient; the rest transformers saves."""
        folder = Path(output_dir or self.work)
        checkpoints.save_weights(folder, self.ac)
        write_json(folder / _STATE, {"kl_coef": self.kl_coef})

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        checkpoints.seal(self.work / f"checkpoint-{self.state.global_step}")
        checkpoints.rotate(self.work)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        checkpoints.load_weights(folder, self.ac)
        self.kl_coef = float(read_json(folder / _STATE)["kl_coef"])


class _Boundaries(TrainerCallback):
    """Tells the loop when a rollout is needed and when one is used up."""

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
