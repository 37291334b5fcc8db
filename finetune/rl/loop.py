"""PPO's optimizer loop: a `transformers.Trainer` that makes a rollout when one is used up."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import Pace
from siftune.curate.files.atomic import read_json, write_json
from siftune.finetune.core import distributed
from siftune.finetune.core.masked import masked_sum
from siftune.finetune.models.precision import machine_arguments
from siftune.finetune.policy_losses.ppo_clip import PPOClip
from siftune.finetune.policy_losses.types import PolicyBatch
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.kl import kl_k1, kl_k3
from siftune.finetune.rl.kl_stop import KLLimit, KLStop
from siftune.finetune.rl.model import ActorCritic, policy_scores
from siftune.finetune.rl.rollout import Collector, Rollout
from siftune.finetune.rl.settings import Settings
from siftune.finetune.runs import checkpoints
from siftune.finetune.runs.finite_steps import FiniteSteps, NonFiniteError, StopAtNonFinite

if TYPE_CHECKING:
    from siftune.finetune.rl.prepare import Supervised

__all__ = ["Loop", "RunningMeans", "Update", "update"]

_STATE: Final = "ppo.json"
_FROM_OLD: Final = "from the policy that wrote the rollout"


@dataclass(frozen=True)
class Update:
    """Sums over the ``tokens`` chosen tokens of some rows of a rollout.

    ``loss`` carries the gradient. ``moved`` is the sum of ``log π_old - log π``: over whole
    completions, an estimate (k1) of how far the policy is from the one that wrote them. ``sums``
    are to be reported as means a token; ``ratio_deviation`` is ``|π/π_old - 1|``.
    """

    loss: Tensor
    moved: float
    sums: Mapping[str, Tensor]
    tokens: int


def update(
    model: ActorCritic, rollout: Rollout, rows: Tensor, options: Settings, device: Any
) -> Update:
    """PPO's policy and value loss of ``rows`` of ``rollout`` under ``model``, and statistics."""
    tokens = rollout.tokens.take(rows).to(device)
    mask, width = tokens.mask, tokens.mask.shape[1]
    old, old_values, advantages, returns = (
        part[rows, :width].to(device)
        for part in (rollout.old.logps, rollout.old.values, rollout.advantages, rollout.returns)
    )
    new = model(tokens, options.temperature)
    batch = PolicyBatch(new.logps, old, advantages, mask)
    policy = PPOClip(options.cliprange, options.dual_clip)(batch)
    if rollout.weights is not None:
        policy = policy * rollout.weights[rows, :width].to(device)
    value = ppo_losses.value_loss(new.values, old_values, returns, options.value_clip)
    with torch.no_grad():
        deviation = (torch.exp(new.logps - old) - 1).abs()
        each = {
            "loss/policy": policy,
            "loss/value": value,
            "ppo/approx_kl": kl_k3(old, new.logps),
            "ppo/clipfrac": (deviation > options.cliprange).float(),
            "ppo/ratio_deviation": deviation,
        }
        sums = {name: masked_sum(values, mask) for name, values in each.items()}
        moved = masked_sum(kl_k1(old, new.logps).double(), mask)
    loss = masked_sum(policy, mask) + options.vf_coef * masked_sum(value, mask)
    return Update(loss, float(moved), sums, int(mask.sum()))


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
        """The means since the last call; sums and counts begin at 0 again."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means


class Loop(FiniteSteps):
    """PPO on the rollouts of a `Collector`.

    The data set is the list of optimiser steps; step s reads its mini-batch from rollout
    ``s // steps_a_rollout``, which is made when the one before is used up. Clipping, schedule,
    checkpoints and resuming are those of transformers. A rollout is a pure function of the weights,
    the seed, its number and the KL coefficient, and checkpoints are taken between rollouts only, so
    a resumed run equals the unbroken one bit for bit.

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
        epoch, number = divmod(step, options.minibatches)
        rows = rollout.minibatches(epoch, options)[number]
        self.step_rows = [[rollout.ids[row] for row in rows.tolist()]]
        total = int(rollout.tokens.mask[rows].sum())
        loss, moved = torch.zeros((), device=self.args.device), 0.0
        for part in rows.split(options.micro_batch):
            done = update(model, rollout, part, options, self.args.device)
            loss += done.loss.detach() / total
            moved += done.moved
            self._note(done, first=step == 0)
            if not math.isfinite(loss.item()):
                self._stop_at_non_finite(float(loss), moved, len(rows))
            self.accelerator.backward(done.loss / total)
        self._stop_above_limit(moved / len(rows), _FROM_OLD)
        return loss + self._supervised_loss(int(inputs["step"]))

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
                "ppo/first_ratio_deviation", done.sums["ppo/ratio_deviation"], done.tokens
            )

    def _stop_at_non_finite(self, loss: float, moved: float, rows: int) -> None:
        """Raise: `KLStop` if the KL is above its limit, which is the cause then, else an error."""
        if math.isfinite(moved):
            self._stop_above_limit(moved / rows, _FROM_OLD)
        raise NonFiniteError(f"the loss is {loss}", self.state.global_step + 1, self.step_rows[0])

    def _supervised_loss(self, step: int) -> Tensor:
        """The weighted supervised loss of a step; its gradient is added to PPO's."""
        total_loss = torch.zeros((), device=self.args.device)
        if self.supervised is None or self.settings.ptx_coef == 0:
            return total_loss
        options = self.settings
        ids, tokens = self.supervised.batch(
            step, options.batch_size // options.minibatches, options.seed
        )
        self.step_rows = [*self.step_rows, ids]
        count = int(tokens.mask.sum())
        for rows in torch.arange(len(tokens.mask)).split(options.micro_batch):
            part = tokens.take(rows).to(self.args.device)
            with self.accelerator.autocast():
                found, _ = policy_scores(self.ac.policy, part, temperature=1.0)
            nll = -masked_sum(found["policy"], part.mask)
            self.means.add("loss/ptx", nll, int(part.mask.sum()))
            loss = options.ptx_coef * nll / count
            if not math.isfinite(loss.item()):
                part_ids = [ids[row] for row in rows.tolist()]
                what = f"the supervised loss is {loss.item()}"
                raise NonFiniteError(what, self.state.global_step + 1, part_ids)
            self.accelerator.backward(loss)
            total_loss += loss.detach()
        return total_loss

    def begin(self) -> None:
        """Make the rollout of the first step, or of the first after a checkpoint."""
        self.pace.begin(self.state.global_step)
        if self.at_save is not None and self.state.global_step == 0:
            self.at_save(0)
        self._next()

    def end_of_rollout(self, control: Any) -> None:
        """Log the rollout and its updates, make the next one, ask for a checkpoint.

        A rollout is made after the last update too: it measures the policy that is saved.
        """
        done = self._current
        self._log_rollout(done)
        self.kl_coef = self.settings.controller(self.kl_coef, done.kl, len(done.scores))
        self._next()
        number = done.index + 1
        if number == self.settings.rollouts:
            self._log_rollout(self._current)
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
        self._stop_above_limit(rollout.kl, "from the reference", rollout)
        self.rollout = rollout
        self.good = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in checkpoints.trained(self.ac.policy).items()
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
        """Log a rollout; ``ppo/stopped`` marks the one whose policy is not kept."""
        values: dict[str, Any] = {**rollout.metrics(), **self.means.read()}
        score, kl = values["objective/score"], values["objective/kl"]
        distributed.progress(f"{self._place(rollout)}, score {score:.4g}, KL {kl:.4g}")
        self.log({**values, "ppo/stopped": 1.0} if stopped else values)

    def _place(self, rollout: Rollout) -> str:
        """The number of the rollout in words, tokens per second and the time left."""
        total = self.settings.rollouts
        if rollout.index >= total:
            return "after the last update"
        self.drawn += int(rollout.tokens.mask.sum())
        pace = self.pace(self.state.global_step, self.state.max_steps, self.drawn)
        return f"rollout {rollout.index + 1} of {total}{pace}"

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the trained weights and the KL coefficient; transformers writes the rest."""
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
