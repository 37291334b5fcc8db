"""Generation evaluation on held-out prompts: exact match, length, reward, KL to a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core import registry
from siftune.curate.models.model_config import longest_input
from siftune.curate.models.precision import Precision
from siftune.curate.models.token_ids import check_ids, end_ids
from siftune.curate.text.answer_match import contains, exact_match
from siftune.finetune.reward_models.members import component_of
from siftune.finetune.rewards.several import WeightedRewards, parts_of, total_of
from siftune.finetune.rewards.types import load

if TYPE_CHECKING:
    from siftune.curate.chat.encoding import EncodedAnswer
    from siftune.finetune.rewards.types import Reward

__all__ = ["GenerationEval", "number_of"]

_GREEDY: Final = 1e-6  # a temperature at which the likeliest token has all of the mass


@dataclass(frozen=True)
class GenerationEval:
    """Held-out prompts and the settings of generation.

    ``rows`` are those of `training_rows.to_prompts`. ``temperature`` 0 takes the likeliest token;
    above, each row is drawn from random numbers of its own, made from ``seed`` and its id, so that
    an answer depends neither on the batch nor on the other rows. ``reference`` is the model that
    KL is measured from. ``reward`` is a reward, or the folder of a reward model, whose own is
    ``precision``.
    """

    rows: tuple[Mapping[str, Any], ...]
    tokenizer: Any
    reference: Any = None
    reward: Reward | str | None = None
    temperature: float = 0.0
    max_new_tokens: int = 64
    batch_size: int = 16
    seed: int = 0
    precision: Precision = "auto"

    def __call__(self, model: Any) -> list[dict[str, Any]]:
        """One JSON-like object a row, in the order of the rows.

        ``question`` (the last turn before the answer), ``prompt`` (as the model was shown it),
        ``completion``, ``reference``, ``exact_match`` and
        ``contains`` (null where no answer is known), ``tokens`` and ``ended`` (whether the model
        closed its answer), ``kl_k1`` and ``kl_k3`` in nats a sequence (of a greedy answer they are
        its log-ratio, not an estimate), ``reward``, and of several rewards each as
        ``reward/NAME``. What does not fit into the model's context has ``error`` and no completion.
        """
        if hasattr(model, "disable_adapter"):
            model = model.get_base_model()  # the adapter's layers are in it
        if self._reward is not None:
            load(self._reward)
        shown = [*self._prompts, *(one.ids for one in self._known.values())]
        for reader in (model, self.reference):
            self._check_ids(reader, shown)
        answers = self._answers(model)
        self._check_ids(self.reference, answers.values())
        ends = end_ids(model, self.tokenizer)
        found = [self._row(at, answers.get(at), ends) for at in range(len(self.rows))]
        for at, values in [*self._kl(model, answers).items(), *self.losses(model).items()]:
            found[at] |= values
        self._add_rewards(found)
        return found

    def _check_ids(self, reader: Any, ids: Iterable[Sequence[int]]) -> None:
        """Refuse token ids without an embedding in a model, which may have another tokenizer."""
        if reader is not None:
            name = reader.config.name_or_path or "the model"
            check_ids(ids, reader.config, name, self.tokenizer)

    @cached_property
    def _prompts(self) -> list[list[int]]:
        from siftune.curate.chat.encoding import encode_prompts
        from siftune.finetune.data import preflight
        from siftune.finetune.data.tool_checks import check_calls

        asked = [{**row, "answer": ()} for row in self.rows]
        preflight.refuse(check_calls(self.tokenizer, asked, learned=False))
        return encode_prompts(
            self.tokenizer,
            [row["prompt"] for row in self.rows],
            tools=[row.get("tools") for row in self.rows],
            rows=[row["id"] for row in self.rows],
        )

    @cached_property
    def _known(self) -> dict[int, EncodedAnswer]:
        """Token ids of the known answers after their prompts, by row."""
        from siftune.curate.chat.encoding import encode_answers

        answers = {at: answer for at in range(len(self.rows)) if (answer := self._answer(at))}
        encoded = encode_answers(
            self.tokenizer,
            [self.rows[at]["prompt"] for at in answers],
            list(answers.values()),
            tools=[self.rows[at].get("tools") for at in answers],
            rows=[self.rows[at]["id"] for at in answers],
        )
        return dict(zip(answers, encoded, strict=True))

    def _answer(self, at: int) -> list[dict[str, Any]] | None:
        """The turns of a known answer; None of one with calls that the template leaves out."""
        from siftune.finetune.data.tool_checks import check_calls

        row = self.rows[at]
        if row.get("answer") is None:
            known = row["reference"]
            return None if known is None else [{"role": "assistant", "content": known}]
        called = any(turn.get("tool_calls") for turn in row["answer"])
        found = check_calls(self.tokenizer, [row]) if called else []
        return None if any(one.level == "error" for one in found) else list(row["answer"])

    def losses(self, model: Any) -> dict[int, dict[str, float]]:
        """The model's cross-entropy on the known answers that fit into its context."""
        limit = longest_input(model.config)
        order = [
            at
            for at, known in self._known.items()
            if 1 in known.mask and len(known.prompt) + len(known.ids) <= limit
        ]
        order.sort(key=lambda at: -len(self._known[at].prompt) - len(self._known[at].ids))
        found: dict[int, dict[str, float]] = {}
        for batch in _batches(order, self.batch_size):
            known = [self._known[at] for at in batch]
            logps = self._logps(model, [(one.prompt, one.ids) for one in known]).double().tolist()
            for at, one, row in zip(batch, known, logps, strict=True):
                # a row is as long as the longest answer of the batch
                learned = [logp for logp, bit in zip(row, one.mask, strict=False) if bit]
                found[at] = {"loss": -sum(learned) / len(learned), "loss_tokens": len(learned)}
        return found

    def _answers(self, model: Any) -> dict[int, list[int]]:
        """Token ids of each answer, by row; longest prompts first, so that batches are even."""
        from siftune.curate.text.sampling import Sampling, sample

        limit = longest_input(model.config)
        fits = [
            at for at, ids in enumerate(self._prompts) if len(ids) + self.max_new_tokens <= limit
        ]
        fits.sort(key=lambda at: (-len(self._prompts[at]), at))
        pad = self.tokenizer.pad_token_id
        sampling = Sampling(
            max(self.temperature, _GREEDY),
            self.max_new_tokens,
            end_ids(model, self.tokenizer),
            self.tokenizer.eos_token_id if pad is None else pad,
        )
        found: dict[int, list[int]] = {}
        for batch in _batches(fits, self.batch_size):
            seeds = [(self.seed, number_of(self.rows[at]["id"])) for at in batch]
            drawn = sample(model, [self._prompts[at] for at in batch], sampling, seeds)
            found |= dict(zip(batch, drawn, strict=True))
        return found

    def _row(self, at: int, answer: list[int] | None, ends: frozenset[int]) -> dict[str, Any]:
        row = self.rows[at]
        asked = {
            "id": row["id"],
            "question": row["prompt"][-1]["content"],
            "prompt": self.tokenizer.decode(self._prompts[at]),
            "reference": row["reference"],
        }
        if answer is None:
            return {**asked, "completion": None, "error": "prompt_over_context"}
        said = self.tokenizer.decode(answer, skip_special_tokens=True)
        known = row["reference"]
        return {
            **asked,
            "completion": said,
            "exact_match": None if known is None else exact_match(said, known),
            "contains": None if known is None else contains(said, known),
            "tokens": len(answer),
            "ended": len(answer) < self.max_new_tokens or answer[-1] in ends,
        }

    def _kl(self, model: Any, answers: Mapping[int, list[int]]) -> dict[int, dict[str, float]]:
        if self.reference is None:
            return {}
        from siftune.finetune.rl.kl import kl_k1, kl_k3

        found: dict[int, dict[str, float]] = {}
        for batch in _batches(sorted(answers, key=lambda at: len(answers[at])), self.batch_size):
            pairs = [(self._prompts[at], answers[at]) for at in batch]
            policy, reference = self._logps(model, pairs), self._logps(self.reference, pairs)
            k1 = kl_k1(policy, reference).double().sum(1).tolist()
            k3 = kl_k3(policy, reference).double().sum(1).tolist()
            for at, one, three in zip(batch, k1, k3, strict=True):
                found[at] = {"kl_k1": one, "kl_k3": three}
        return found

    def _logps(self, model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> Any:
        import torch

        from siftune.finetune.scoring.logps import score_answers

        longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
        shape = (3, len(pairs), longest)
        ids, there, answered = torch.zeros(shape, dtype=torch.long).unbind()
        for row, (prompt, answer) in enumerate(pairs):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer])
            there[row, :end] = 1
            answered[row, len(prompt) : end] = 1
        batch = {"input_ids": ids, "attention_mask": there, "answer_mask": answered}
        with torch.no_grad():
            on_device = {name: value.to(model.device) for name, value in batch.items()}
            return score_answers(model, on_device)["policy"]

    def _add_rewards(self, found: list[dict[str, Any]]) -> None:
        if self._reward is None:
            return
        answered = [at for at, row in enumerate(found) if row["completion"] is not None]
        parts = parts_of(
            self._reward,
            [found[at]["prompt"] for at in answered],
            [found[at]["completion"] for at in answered],
            [{**self.rows[at], "finished": found[at]["ended"]} for at in answered],
        )
        columns = {"reward": total_of(self._reward, parts)}
        if isinstance(self._reward, WeightedRewards):
            columns |= {f"reward/{name}": scores for name, scores in parts.items()}
        for name, scores in columns.items():
            for at, score in zip(answered, scores, strict=True):
                found[at][name] = score

    @cached_property
    def _reward(self) -> Reward | None:
        if not isinstance(self.reward, str):
            return self.reward
        own = {"batch_size": self.batch_size, "precision": self.precision}
        name = component_of(self.reward)
        built: Reward = registry.build("finetune.rewards", name, {"model": self.reward} | own)
        return built


def _batches(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def number_of(text: str) -> int:
    """64 bits of a text's hash, as a seed."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
