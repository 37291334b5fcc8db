"""The watch of one training: records series, raises alarms once, and does what an alarm asks for.

Its state is the file of the series, cut at the step that a run continues from, and a checkpoint's
`watch.json`: the answers that the observer keeps, the alarms so far, the step after which the
detectors look, and how often β was raised. A run that was cut off has the alarms and β of the
unbroken one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import numpy as np
import orjson
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.curate.core.errors import SiftuneError
from siftune.curate.core.progress import if_slow
from siftune.curate.files.atomic import read_json, write_json, write_text
from siftune.finetune.core import distributed
from siftune.finetune.runs import checkpoints
from siftune.finetune.runs.callbacks import in_schedule
from siftune.finetune.watch.actions import Action
from siftune.finetune.watch.alarms import Alarm, Training, alarms, detectors_of, strongest
from siftune.finetune.watch.history import WATCH_FILE, History, cut, mean_point
from siftune.finetune.watch.observe import Answered, Observer

__all__ = ["ALARMS_FILE", "ANSWERS", "Means", "Watch", "WatchCallback", "measured"]

Means: TypeAlias = Mapping[str, tuple[float, float | None, int] | float | None]
Ask: TypeAlias = Callable[[Any], Sequence[Mapping[str, Any]]]
"""Answers of a model to the fixed prompts: ``id``, ``question``, ``completion`` and more."""

ALARMS_FILE: Final = "alarms.json"
ANSWERS: Final = "watch"
"""Folder of the answers to the fixed prompts, ``step-NNNNNN.jsonl`` a checkpoint."""

_STATE: Final = "watch.json"
_RAISE: Final = 2.0
_SERIES: Final = {
    "kl": "kl",
    "entropy": "entropy",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "rewards/margins": "margins",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "logps_chosen",
    "logps/rejected": "logps_rejected",
}
"""Metrics of a trainer's log and the series that they are."""


def measured(logs: Mapping[str, Any]) -> dict[str, float]:
    """The series in a trainer's log.

    >>> measured({"kl": 0.5, "epoch": 1.0, "ppo/clipfrac": 0.25})
    {'kl': 0.5, 'clip_share': 0.25}
    """
    found = {_SERIES[name]: float(logs[name]) for name in _SERIES if logs.get(name) is not None}
    clipped = [logs[name] for name in logs if name.endswith("/clipfrac")]
    return {**found, **({"clip_share": float(clipped[0])} if clipped else {})}


@dataclass
class Watch:
    """Series, alarms and actions of one run; its files lie in ``folder``.

    ``raise_beta`` multiplies β by a factor; ``keeps_beta`` is whether checkpoints have it.
    ``start`` are the trained weights before training,
    where a rollback may have to put them back. ``gold`` names the reward of rollouts that is not
    trained on.
    """

    folder: Path
    training: Training
    action: Action = "log"
    detectors: Mapping[str, Any] = field(default_factory=dict)
    raise_beta: Callable[[float], None] | None = None
    ask: Ask | None = None
    start: Mapping[str, Tensor] | None = None
    keeps_beta: bool = False
    gold: str | None = None
    found: list[Alarm] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Build the detectors."""
        self._built = detectors_of(self.training, self.detectors)
        self.history, self.observer, self._asked = History(), Observer(), Observer()
        self._new: list[Alarm] = []
        self._from = -1  # alarms are of what was measured after this step
        self._raised = 0  # how often β was
        self.ended: Alarm | None = None

    def begin(self, step: int, checkpoint: Path | None) -> None:
        """Begin at a step, after the checkpoint of it where a run continues."""
        cut(self.folder / WATCH_FILE, step if step else -1)
        self.found, self._new, self._from, self._raised = [], [], -1, 0
        self.history = History.read(self.folder / WATCH_FILE)
        state = checkpoint / _STATE if checkpoint is not None else None
        if state is not None and state.is_file():
            kept = read_json(state)
            if "from" not in kept:  # of an older version: alarms are found anew
                kept |= {"alarms": [], "pending": 0, "from": -1, "raised": 0}
            self.observer = Observer.of(kept["rollouts"])
            self._asked = Observer.of(kept["asked"])
            self.found = [Alarm(**one) for one in kept["alarms"]]
            self._new = self.found[len(self.found) - kept["pending"] :]
            self._from, self._raised = kept["from"], kept["raised"]
        self._write([])
        if self._raised and self.raise_beta is not None and not self.keeps_beta:
            self.raise_beta(_RAISE**self._raised)

    def save(self, checkpoint: Path) -> None:
        """Keep in a checkpoint the answers to compare with and the alarms, the last ones pending.

        What was measured at one step comes in parts, each of which the detectors look at, so that
        the alarms are not those of looking at the whole step at once.
        """
        kept = {
            "rollouts": self.observer.state(),
            "asked": self._asked.state(),
            "alarms": [one.as_json() for one in self.found],
            "pending": len(self._new),
            "from": self._from,
            "raised": self._raised,
        }
        write_json(checkpoint / _STATE, kept)

    def add(self, step: int, means: Means, texts: Mapping[str, str] | None = None) -> None:
        """Record what was measured at a step; new alarms are printed and wait for `act`.

        Held-out rows that were measured at the step stay as they are: a run that goes on after its
        last step measures them again.
        """
        known = {name: one for name, one in means.items() if one is not None}
        for name in [one for one in known if one.startswith("held_out/")]:
            if any(point.step == step for point in self.history.points(name)[-1:]):
                known.pop(name)
        if not known:
            return
        added = History()
        added.add(step, known, texts)
        self.history.add(step, known, texts)
        with (self.folder / WATCH_FILE).open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(added.line(step))
        if new := self._look(self.history):
            self._write(new)

    def answered(self, step: int, given: Answered, more: Means | None = None) -> None:
        """Record the answers of a rollout, with other means of its step."""
        means, texts = self.observer(given)
        self.add(step, {**means, **(more or {})}, texts)

    def ask_prompts(self, model: Any, step: int) -> None:
        """Answer the fixed prompts, keep the answers, and record what they look like."""
        if self.ask is None:
            return
        training = model.training
        model.eval()
        try:
            with if_slow(f"answering the watched prompts at step {step:,}"):
                rows = self.ask(model)
        except SiftuneError as error:  # such as tools that the template leaves out
            distributed.notify(f"the watched prompts are not answered: {error}")
            self.ask = None
            return
        finally:
            model.train(training)
        lines = [orjson.dumps(row).decode() + "\n" for row in rows]
        write_text(self.folder / ANSWERS / f"step-{step:06}.jsonl", "".join(lines))
        said = [row for row in rows if row.get("completion") is not None]
        if not said:
            return
        columns = {
            name: [row.get(key) for row in said]
            for name, key in (("kl", "kl_k3"), ("score", "reward"), ("gold", "gold"))
            if any(row.get(key) is not None for row in said)
        }
        columns["cut"] = [float(not row.get("ended", True)) for row in said]
        prompts = [str(row["prompt"]) for row in said]
        given = Answered(prompts, [str(row["completion"]) for row in said], (), columns)
        means, _ = self._asked(given)
        self.add(step, {f"held_out/{name}": one for name, one in means.items()})

    def act(self, control: TrainerControl | None) -> None:
        """Do what the alarms since the last call ask for."""
        new, self._new = self._new, []
        if not new or self.action in ("log", "off"):
            return
        if self.action == "raise_beta":
            self._raise(new[-1].step)
            return
        if self.ended is None:
            self.ended = new[0]
            distributed.notify(f"stopped by the watch: {new[0]}")
        if control is not None:
            control.should_training_stop = True
            control.should_save = False  # a run that is killed after this decides the same again

    def end_if_asked(self, control: TrainerControl | None) -> None:
        """End the training on an alarm of an evaluation; a rise of β waits for the next `act`."""
        if self.action != "raise_beta":
            self.act(control)

    def _look(self, history: History) -> list[Alarm]:
        """New alarms; an action that changes the training makes all detectors begin anew."""
        seen = {one.detector for one in self.found if one.step > self._from}
        now = alarms(history.since(self._from), self._built)
        new = [one for one in now if one.detector not in seen]
        self.found += new
        self._new += new
        if new and self.action == "raise_beta":
            self._from = new[-1].step
        return new

    def _raise(self, step: int) -> None:
        if self.raise_beta is not None:
            self.raise_beta(_RAISE)
            self._raised += 1
            distributed.notify(f"step {step}: β is {_RAISE:g} times what it was")

    def _write(self, new: Sequence[Alarm]) -> None:
        if distributed.first():
            for one in new:
                distributed.notify(f"alarm: {one}")
        facts = {"action": self.action, "alarms": [one.as_json() for one in self.found]}
        write_json(self.folder / ALARMS_FILE, facts)

    def facts(self) -> dict[str, Any]:
        """Alarms and action, for the facts of the model."""
        return {"action": self.action, "alarms": [one.as_json() for one in self.found]}

    def good(self, work: Path) -> int | None:
        """The newest checkpoint at which no detector had half of an alarm's log evidence."""
        for folder in reversed(checkpoints.checkpoints(work)):
            step = int(folder.name[len("checkpoint-") :])
            if strongest(self.history.until(step).since(self._from), self._built) < 0.5:
                return step
        return None

    def spared(self, work: Path) -> Collection[int]:
        """The step whose checkpoint has to stay for a rollback."""
        step = self.good(work) if self.action == "roll_back" else None
        return () if step is None else (step,)

    def take_good(self, trainer: Any) -> int | None:
        """Load the weights of the last good checkpoint after an alarm; its step.

        Where there is none, those that the training began with. None where nothing is rolled back.
        """
        if self.action != "roll_back" or self.ended is None:
            return None
        work = Path(str(trainer.args.output_dir))
        step = self.good(work)
        if step is not None and checkpoints.is_whole(work / f"checkpoint-{step}"):
            trainer._load_from_checkpoint(str(work / f"checkpoint-{step}"))
        else:
            step = 0
            model = trainer.accelerator.unwrap_model(trainer.model)
            checkpoints.put_back(cast("Mapping[str, Tensor]", self.start), model)
        distributed.notify(f"taking the weights of step {step}, before the alarm")
        return step


class WatchCallback(TrainerCallback):
    """Gives a `Watch` what a trainer of transformers logs, and its control."""

    def __init__(self, watch: Watch, more: Callable[[int], Means] = lambda step: {}) -> None:
        """``more(step)`` are further means where the schedule has a checkpoint."""
        self.watch, self.more = watch, more

    def spared(self, work: Path) -> Collection[int]:
        """See `Watch.spared`."""
        return self.watch.spared(work)

    def take_good(self, trainer: Any) -> int | None:
        """See `Watch.take_good`."""
        return self.watch.take_good(trainer)

    def held_out(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record the mean loss of evaluated held-out rows; of a reward model's, -log σ(margin)."""
        losses = [_loss_of(row) for row in rows]
        self.watch.add(step, {"held_out/loss": mean_point(losses)})

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Read what was measured before, or answer the prompts of what the training starts from."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self.watch.begin(state.global_step, folder if state.global_step else None)
        if state.global_step == 0:
            self.watch.ask_prompts(model, 0)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Answer the prompts where a checkpoint is due, before it is written."""
        if in_schedule(args, state):
            self.watch.ask_prompts(model, state.global_step)
            self.watch.add(state.global_step, self.more(state.global_step))
        self.watch.act(control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Record the series in a log."""
        if "loss" in (logs or {}):
            self.watch.add(state.global_step, measured(logs or {}))
            self.watch.act(control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the state beside the checkpoint, before that is sealed."""
        if distributed.first():
            self.watch.save(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Act on an alarm of the last evaluation, which comes after the last step's `act`."""
        self.watch.end_if_asked(control)


def _loss_of(row: Mapping[str, Any]) -> float | None:
    if row.get("loss") is not None:
        return float(row["loss"])
    sides = row.get("reward_chosen"), row.get("reward_rejected")
    if sides[0] is None or sides[1] is None:
        return None
    return float(np.logaddexp(0.0, sides[1] - sides[0]))
