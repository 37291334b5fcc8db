"""Log-probability of completions given as texts under a causal model, with its own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from siftune.curate.models.precision import Precision

__all__ = ["CompletionLogps"]


@dataclass(frozen=True)
class CompletionLogps:
    """A causal model in the folder ``model``, loaded when it is first asked.

    Each prompt is written in the model's own chat template, the completion is its answer. The end
    of turn belongs to the answer, and is scored, unless the row's ``finished`` is false: an answer
    that was cut has none.
    """

    model: str
    batch_size: int = 16
    precision: Precision = "auto"

    def __call__(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[tuple[float, int] | None]:
        """``(log π(y | x) in nats, number of tokens of y)``, in order.

        None where the answer has no token, or prompt and answer are too long for the model.
        """
        import torch

        from siftune.finetune.data.answer_rows import AnswerRow
        from siftune.finetune.data.collator import AnswerCollator, pad_of
        from siftune.finetune.scoring.logps import score_answers

        model, tokenizer, limit = self.parts
        encoded = self._encoded(completions, rows)
        lengths = [len(prompt) + len(answer) for prompt, answer in encoded]
        fits = [at for at, (_, answer) in enumerate(encoded) if answer and lengths[at] <= limit]
        fits.sort(key=lambda at: (lengths[at], at))
        collator = AnswerCollator(pad_of(tokenizer))
        found: list[tuple[float, int] | None] = [None] * len(encoded)
        with torch.no_grad():
            for start in range(0, len(fits), self.batch_size):
                part = fits[start : start + self.batch_size]
                given = [AnswerRow(str(at), encoded[at][0], [encoded[at][1]]) for at in part]
                batch = {key: value.to(model.device) for key, value in collator(given).items()}
                sums = score_answers(model, batch)["policy"].double().sum(1).tolist()
                for at, logp in zip(part, sums, strict=True):
                    found[at] = (logp, len(encoded[at][1]))
        return found

    def _encoded(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[tuple[list[int], list[int]]]:
        """Ids of each prompt and of its answer."""
        from siftune.curate.chat.encoding import encode_answers

        tokenizer = self.parts[1]
        prompts = [row["prompt"] for row in rows]
        answers = [[{"role": "assistant", "content": text}] for text in completions]
        tools = [row.get("tools") for row in rows]
        ids = [str(row.get("id", at)) for at, row in enumerate(rows)]
        ends = {*tokenizer.all_special_ids}
        found = []
        for row, one in zip(
            rows, encode_answers(tokenizer, prompts, answers, None, tools, ids), strict=True
        ):
            is_cut = not row.get("finished", True) and one.ids and one.ids[-1] in ends
            found.append((one.prompt, one.ids[:-1] if is_cut else one.ids))
        return found

    @cached_property
    def parts(self) -> tuple[Any, Any, int]:
        """The model, its tokenizer and the most tokens that it takes.

        Raises:
            UsageError: the folder holds no whole causal model, or one whose log-probs are not those
                of its output embedding.
        """
        import torch

        from siftune.curate.models.model_config import longest_input
        from siftune.finetune.models import loading
        from siftune.finetune.models.precision import frozen_dtype
        from siftune.finetune.scoring.logps import check_head

        tokenizer = loading.load_tokenizer(self.model)
        model = loading.placed(loading.load_causal(self.model, frozen_dtype(self.precision)))
        check_head(model, torch.tensor([[*tokenizer("a b c")["input_ids"]]], device=model.device))
        return model, tokenizer, longest_input(model.config)
