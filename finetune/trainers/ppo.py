"""PPO: a policy learns from a reward, held near where it started by the price of KL."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from curate.core import registry
from curate.core.errors import UsageError
from curate.core.files import digest_of, locked, write_text
from curate.core.schema import KINDS
from finetune import data, models
from finetune.ppo.settings import Critic, Settings
from finetune.types import TrainResult

if TYPE_CHECKING:
    from finetune.ppo.loop import Loop
    from finetune.rewards.types import Reward

__all__ = ["PPO"]

_CLOCK = ("epoch", "train_runtime", "train_samples_per_second", "train_steps_per_second")


@dataclass(frozen=True, kw_only=True)
class PPO(Settings):
    """Proximal policy optimisation; arXiv:1707.06347, for language models arXiv:2203.02155.

    ``model`` is the folder of the policy, and its reference. ``reward`` is a component of
    `finetune.rewards` (``reward_options`` are its options) or the folder of a reward model, with
    any tokenizer. Of the training rows only the prompts are used, and known answers by rewards that
    ask for them; rows that cannot be asked are refused, or left out with ``on_bad: drop``.

    ``lora`` is the rank of an adapter on the policy (0: all weights are trained), ``lora_alpha``
    its scale; the reference is then the same model without it, no copy is held, and the adapter is
    merged into the weights that are saved. ``critic`` is ``separate`` (a trunk of its own, started
    from ``critic_model``, by default the policy's folder; the default when all weights are trained)
    or ``shared`` (a value head on the policy's trunk; the default with ``lora``).

    ``ptx_rows`` are the supervised rows of ``ptx_coef``. A checkpoint is taken every ``save_every``
    rollouts beside the output, and a run that was cut off goes on from the last whole one. The
    other options are those of `finetune.ppo.settings.Settings`.
    """

    model: str
    reward: str
    reward_options: dict[str, Any] | None = None
    lora: int = 0
    lora_alpha: int = 16
    critic: Critic | None = None
    critic_model: str | None = None
    ptx_rows: str | None = None
    on_bad: data.OnBad = "refuse"
    save_every: int = 10

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        super().__post_init__()
        self._hold("save_every", self.save_every >= 1, "at least 1")
        self._hold("lora", self.lora >= 0, "a rank, or 0 for none")
        if self.ptx_coef > 0 and self.ptx_rows is None:
            raise ValueError("ptx_coef: needs ptx_rows, the supervised rows to draw from")
        if self.critic_model is not None and self._critic == "shared":
            raise ValueError("critic_model: a shared critic has no trunk of its own to start")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the prompts of ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss or a score is not finite; checkpoints are kept.
        """
        table = data.load(rows, KINDS)
        reward = self._reward()
        tokenizer = models.load_tokenizer(self.model)
        work = out.with_name(f"{out.name}.work")
        with locked(work):
            loop, used = self._loop(table, tokenizer, reward, work, rows)
            stopped = self._train(loop, work, self._run_key(table))
            result = self._finish(loop, tokenizer, used, rows, out, stopped)
            shutil.rmtree(work)
        return result

    @property
    def _critic(self) -> Critic:
        return self.critic or ("shared" if self.lora else "separate")

    def _run_key(self, table: pl.DataFrame) -> str:
        parts: dict[str, Any] = {
            "options": asdict(self),
            "base": models.model_hash(self.model),
            "data": data.data_hash(table),
        }
        if self.ptx_rows is not None:
            parts["ptx"] = data.data_hash(data.load(self.ptx_rows, KINDS))
        if self._reward_folder is not None:
            parts["reward"] = models.model_hash(self._reward_folder)
        return digest_of(parts)

    @property
    def _reward_folder(self) -> str | None:
        return None if self.reward in registry.names("finetune.rewards") else self.reward

    def _reward(self) -> Reward:
        options = self.reward_options or {}
        if self._reward_folder is None:
            found: Reward = registry.build("finetune.rewards", self.reward, options)
            return found
        if not Path(self.reward).is_dir() and "/" not in self.reward:
            names = registry.names("finetune.rewards")
            raise UsageError(
                f"reward {self.reward!r} is neither a model folder nor a reward; "
                f"{registry.closest(self.reward, names)}"
            )
        given = {"model": self.reward, **options}
        model: Reward = registry.build("finetune.rewards", "reward_model", given)
        return model

    def _loop(
        self, table: pl.DataFrame, tokenizer: Any, reward: Reward, work: Path, rows: Path
    ) -> tuple[Loop, pl.DataFrame]:
        """The loop, all loaded and checked, and the rows whose prompts it uses."""
        from finetune.ppo.loop import Loop
        from finetune.ppo.prepare import actor_critic, ask, ends_of, supervise
        from finetune.ppo.rollout import Collector
        from finetune.ppo.sample import Sampling

        policy: Any = models.load_causal(self.model)
        context = getattr(policy.config, "max_position_embeddings", None)
        room = None if context is None else context - self.max_new_tokens
        used, prompts = ask(table, tokenizer, room, self.on_bad, rows)
        ends = ends_of(policy, tokenizer)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
        supervised = None
        if self.ptx_rows is not None:
            supervised = supervise(self.ptx_rows, tokenizer, pad, context, self.on_bad)
        lora = (self.lora, self.lora_alpha) if self.lora else None
        critic = (self.critic_model or self.model) if self._critic == "separate" else None
        collector = Collector(
            model=actor_critic(policy, tokenizer, critic, lora, self.seed),
            reference=None if self.lora else self._reference(),
            tokenizer=tokenizer,
            prompts=prompts,
            reward=reward,
            sampling=Sampling(self.temperature, self.max_new_tokens, ends, pad),
            settings=self,
        )
        return Loop(collector, self, work, supervised, self.save_every), used

    def _reference(self) -> Any:
        frozen: Any = models.load_causal(self.model).requires_grad_(False)
        return frozen.to(models.device())

    def _shown(self) -> dict[str, Any]:
        """The options as they may be published."""
        places = ("model", "critic_model", "ptx_rows", *(["reward"] if self._reward_folder else []))
        options = asdict(self)
        paths = {key: models.shown(options[key]) for key in places if options[key] is not None}
        return {**options, **paths}

    def _train(self, loop: Loop, work: Path, key: str) -> str | None:
        """Run the loop, from the last whole checkpoint if there is one; why it stopped early."""
        from finetune.ppo.checkpoints import claim, newest
        from finetune.ppo.loop import KLStop

        claim(work, key)
        start = newest(work)
        if start is not None:
            print(f"going on from {start}", file=sys.stderr)  # noqa: T201
        try:
            loop.train(resume_from_checkpoint=None if start is None else str(start))
        except KLStop as stop:
            print(stop, file=sys.stderr)  # noqa: T201
            loop.restore_good()
            return str(stop)
        return None

    def _finish(
        self,
        loop: Loop,
        tokenizer: Any,
        used: pl.DataFrame,
        rows: Path,
        out: Path,
        stopped: str | None,
    ) -> TrainResult:
        """Write the model folder, with its metrics, and say what came out."""
        logged = [_line(entry) for entry in loop.state.log_history if "objective/score" in entry]
        beside = loop.work / "beside"
        write_text(
            beside / "metrics.jsonl", "".join(orjson.dumps(x).decode() + "\n" for x in logged)
        )
        kept = [line for line in logged if "ppo/stopped" not in line][-1]
        last = {name: value for name, value in kept.items() if value is not None}
        policy = loop.ac.policy.merge_and_unload() if self.lora else loop.ac.policy
        facts = {
            "stage": "ppo",
            "method": "ppo",
            "base": {"path": models.shown(self.model), "hash": models.model_hash(self.model)},
            "data": data.data_facts(rows, used),
            "options": self._shown(),
            "seed": self.seed,
            "metrics": last,
            "stopped": "kl" if stopped else None,
            "stopped_because": stopped,
        }
        models.save_model(policy, tokenizer, out, facts, beside)
        return TrainResult(out, used.height, last)


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _CLOCK}
