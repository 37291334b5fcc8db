"""The score of a trained reward model, read with its own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["RewardModel"]


@dataclass(frozen=True)
class RewardModel:
    """``scale · score + shift`` of a sequence-classification model with one output.

    ``model`` is its folder. The text of prompt and completion is written out in the reward model's
    own chat template (or, without one, joined) and read with its own tokenizer, so it need share
    nothing with the policy. What is longer than ``max_length`` tokens (default: what the model can
    take) cannot be scored: half an answer has no score. ``batch_size`` texts are read at a time.
    ``scale`` and ``shift`` are for a model whose scores are far from mean 0, variance 1.
    """

    model: str
    batch_size: int = 32
    max_length: int | None = None
    scale: float = 1.0
    shift: float = 0.0

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """One score a completion, None where the text is empty or too long for the model."""
        import torch

        ids = [self._ids(*texts) for texts in zip(prompts, completions, rows, strict=True)]
        fits = [at for at, tokens in enumerate(ids) if 0 < len(tokens) <= self._limit]
        fits.sort(key=lambda at: len(ids[at]))
        scores: list[float | None] = [None] * len(ids)
        with torch.no_grad():
            for start in range(0, len(fits), self.batch_size):
                part = fits[start : start + self.batch_size]
                for at, score in zip(part, self._scores([ids[at] for at in part]), strict=True):
                    scores[at] = self.scale * score + self.shift
        return scores

    def _ids(self, prompt: str, completion: str, row: Mapping[str, Any]) -> list[int]:
        if self._tokenizer.chat_template is None:
            asked = "\n\n".join(turn["content"] for turn in row["prompt"]) if row else prompt
            tokens: list[int] = self._tokenizer(f"{asked}\n\n{completion}")["input_ids"]
            return tokens
        turns = [*row["prompt"], {"role": "assistant", "content": completion}]
        return list(self._tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"])

    def _scores(self, ids: list[list[int]]) -> list[float]:
        model, tokenizer = self._parts
        batch = tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")
        batch = {key: value.to(model.device) for key, value in batch.items()}
        scores: list[float] = model(**batch).logits.squeeze(-1).double().tolist()
        return scores

    @property
    def _tokenizer(self) -> Any:
        return self._parts[1]

    @cached_property
    def _limit(self) -> int:
        model, tokenizer = self._parts
        known = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
        return int(min(known, self.max_length or known))

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from curate.core.errors import UsageError
        from finetune.models import device, is_reward_model, load_reward, load_tokenizer

        if not is_reward_model(self.model):
            raise UsageError(
                f"{self.model} gives no scores: train it with `siftune finetune reward`"
            )
        tokenizer = load_tokenizer(self.model)
        model: Any = load_reward(self.model)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        return model.to(device()), tokenizer
