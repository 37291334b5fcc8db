"""Reward of a trained reward model, with its own tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from siftune.curate.core.ranges import Count
from siftune.curate.models.model_config import longest_input
from siftune.curate.models.precision import Precision
from siftune.finetune.core.scored import EMPTY, TOO_LONG, UNKNOWN, Scored
from siftune.finetune.data.prompt_truncation import answer_starts
from siftune.finetune.reward_models.head_states import scores_and_states
from siftune.finetune.reward_models.known_states import FILE, KnownAnswers, load_known_states

if TYPE_CHECKING:
    from siftune.finetune.models.loading import DType

__all__ = ["RewardModel"]


@dataclass(frozen=True)
class RewardModel:
    """``scale · score + shift`` of a sequence-classification model with one output.

    ``model`` is its folder. Prompt and completion are written out in the reward model's own chat
    template (an encoder's without one: its separator after each turn) and read with its own
    tokenizer, so it need share nothing with the policy. Nothing is written after an answer that was
    cut off (``finished`` of its row is false), no end of turn either. Nothing is cut: a text of
    prompt and answer of more than ``max_length`` tokens, or more than the model can take, has no
    score.
    ``batch_size`` texts are read at a time. ``scale`` and ``shift`` are for a model whose scores
    are far from mean 0, variance 1. ``precision`` is that of all but its head, which is fp32:
    ``bf16``, ``fp32``, or ``auto``, bf16 where the processor multiplies it.

    A score of an answer unlike all that the model was trained on is an extrapolation. With
    ``abstain`` such an answer has none: one that is farther from the training answers than all but
    1 % of held-out ones (`known_states`: in another language, or words in disorder). `scored` gives
    the distances, too.

    Options:
        model: Folder of the reward model.
        batch_size: Number of texts that are scored at once.
        max_length: Largest number of tokens of prompt and answer together; a longer text has
            no score; none takes what the model can take.
        scale: Factor that the score is multiplied by.
        shift: Number that is added to the scaled score.
        abstain: Give no score to answers unlike those that the model was trained on.
    """

    model: str
    batch_size: Count = 32
    max_length: Count | None = None
    scale: float = 1.0
    shift: float = 0.0
    precision: Precision = "auto"
    abstain: bool = False

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """One score a completion, None where the text is empty or too long for the model."""
        found = self._found(completions, rows, states=self.abstain)
        return [None if one.reason else one.score for one in found]

    def scored(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Scored]:
        """The score of each completion with its distance from the training answers, or a reason."""
        found = self.all_scored(prompts, completions, rows)
        return [replace(one, score=None) if one.reason else one for one in found]

    with_facts = scored  # of the protocol `FactsReward`

    def all_scored(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Scored]:
        """As `scored`, but an answer of reason `UNKNOWN` keeps its score beside the reason."""
        return self._found(completions, rows, states=self._known is not None)

    def _found(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], *, states: bool
    ) -> list[Scored]:
        """The scores, with distances where ``states`` are looked at."""
        ids = self._ids(completions, rows)
        found = [Scored(None, TOO_LONG if tokens else EMPTY) for tokens in ids]
        fits = [at for at, tokens in enumerate(ids) if 0 < len(tokens) <= self._limit]
        model, tokenizer = self._parts if fits else (None, None)
        texts, far = [ids[at] for at in fits], [math.nan] * len(fits)
        if states and fits:
            assert self._known is not None
            starts = self._starts([rows[at] for at in fits], texts)
            scores, far = scores_and_states(
                model, tokenizer, texts, self.batch_size, starts=starts, read=self._known.distance
            )
        else:
            scores, _ = scores_and_states(model, tokenizer, texts, self.batch_size)
        for at, score, distance in zip(fits, scores.tolist(), far, strict=True):
            known = None if math.isnan(distance) else distance
            found[at] = self._one(self.scale * score + self.shift, known)
        return found

    def _starts(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[list[int]]) -> list[int]:
        """Where each answer begins."""
        asked = [
            {**row, "prompt": prompt} for row, prompt in zip(rows, self._prompts(rows), strict=True)
        ]
        return answer_starts(self._parts[1], asked, [(one, 0) for one in texts])

    def _one(self, score: float, distance: float | None) -> Scored:
        known = self._known if self.abstain else None
        if known is not None and distance is not None and known.is_unknown(distance):
            return Scored(score, UNKNOWN, distance)
        return Scored(score, None, distance)

    def load(self) -> None:
        """Load the model now, so that its faults are found before answers are sampled.

        Raises:
            UsageError: it is no whole reward model, has no tokenizer or template, or is to abstain
                and has no states of its training answers.
        """
        _ = self._parts
        _ = self._known if self.abstain else None

    def use(self, model: Any, tokenizer: Any) -> None:
        """Score with a model that is loaded already, such as an adapter on another one's base.

        Raises:
            UsageError: the tokenizer has no template.
        """
        self._fit(tokenizer)
        model.config.pad_token_id = tokenizer.pad_token_id
        self.__dict__["_parts"] = (model, tokenizer)

    def _ids(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[list[int]]:
        """Tokens of each whole conversation, as the reward model was trained on them."""
        from siftune.curate.chat.encoding import encode_unmasked
        from siftune.finetune.data import preflight
        from siftune.finetune.data.tool_checks import check_calls

        tokenizer = self._parts[1]
        chats = [
            [*prompt, {"role": "assistant", "content": said}]
            for said, prompt in zip(completions, self._prompts(rows), strict=True)
        ]
        asked = [row for row in rows if row.get("tools") or any(map(_has_calls, row["prompt"]))]
        found = check_calls(tokenizer, asked, learned=False)
        preflight.refuse(problem for problem in found if problem.level == "error")
        tools = [row.get("tools") for row in rows]
        ids = [str(row.get("id", at)) for at, row in enumerate(rows)]
        finished = [bool(row.get("finished", True)) for row in rows]
        return encode_unmasked(tokenizer, chats, tools, ids, finished)

    def _prompts(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The turns before each completion, with the system prompt of its domain."""
        prompts = [row["prompt"] for row in rows]
        if self._domains is None:
            return prompts
        fields = [{**(row.get("extra") or {}), **row} for row in rows]
        known = [one.get(self._domains.domain) for one in fields]
        return [self._domains.turns(*one) for one in zip(prompts, known, strict=True)]

    @cached_property
    def _known(self) -> KnownAnswers | None:
        from siftune.curate.core.errors import UsageError
        from siftune.finetune.models.loading import resolve

        own = Path(self.model)  # an adapter's folder is no whole model
        found = load_known_states(own if own.is_dir() else resolve(self.model))
        if found is None and self.abstain:
            raise UsageError(
                f"abstain: {self.model} has no {FILE}, the states of its training answers: train "
                "it again, on at least 20 pairs and with held-out ones"
            )
        return found

    @cached_property
    def _domains(self) -> Any:
        from siftune.finetune.data.system_prompts import SystemPrompts

        return SystemPrompts.of_model(self.model)

    @cached_property
    def _limit(self) -> int:
        model, tokenizer = self._parts
        return longest_input(model.config, tokenizer, self.max_length)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from siftune.curate.core.errors import UsageError
        from siftune.finetune.models import loading
        from siftune.finetune.models.precision import frozen_dtype

        if not loading.is_reward_model(self.model):
            raise UsageError(
                f"{self.model} gives no scores: train it with `siftune finetune reward`"
            )
        tokenizer = loading.load_tokenizer(self.model)
        self._fit(tokenizer)
        model = loading.placed(self._model(frozen_dtype(self.precision)))
        model.config.pad_token_id = tokenizer.pad_token_id
        return model, tokenizer

    def _model(self, dtype: DType) -> Any:
        from siftune.finetune.models.loading import load_reward

        return load_reward(self.model, dtype)

    def _fit(self, tokenizer: Any) -> None:
        """Give a tokenizer a padding token, and an encoder's a template."""
        from siftune.curate.chat.templates import ENCODER
        from siftune.curate.core.errors import UsageError

        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.chat_template is None and tokenizer.sep_token is not None:
            tokenizer.chat_template = ENCODER
        if tokenizer.chat_template is None:
            raise UsageError(
                f"{self.model} has no chat template: it is not known how it reads a conversation"
            )


def _has_calls(turn: Mapping[str, Any]) -> bool:
    return turn["role"] == "tool" or bool(turn.get("tool_calls"))
