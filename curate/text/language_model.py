"""Mean negative log-likelihood of an answer after a prompt, by a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_config import positions_of
from siftune.curate.models.precision import NumberFormat, Precision, reason_for, resolve_precision
from siftune.curate.models.pretrained import attention_of, load_pretrained
from siftune.curate.models.resolve import model_folder
from siftune.curate.models.token_ids import check_ids
from siftune.curate.text.token_counts import load_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

__all__ = ["CausalLM"]

_LOGITS = 2**25
"""Most logits per batch (128 MB in float32); a longer row is run alone."""
_TOKENS = {"cpu": 4096, "cuda": 2**16}
"""Most tokens per batch; on a CPU, batches that fit in the caches are twice as fast."""


@dataclass(frozen=True)
class CausalLM:
    """A causal model by name or path; loaded on first use, without its own code.

    ``max_tokens`` reduces the model's window. Control tokens that are spelled out in a text are
    tokenized as ordinary characters. ``precision`` is the number format of weights and matrix
    products; log-softmax is in float32, sums in float64. ``auto`` is bf16 on a CPU with bf16
    instructions, else fp32: also on a GPU, which is mostly idle when rows run one by one.
    """

    model: str
    max_tokens: int | None = None
    precision: Precision = "auto"

    def mean_nll(
        self, prompts: Sequence[str | None], answers: Sequence[str | None]
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """``-1/n Σ log p(answer_t | start, prompt, answer_<t)`` of each row, in nats a token.

        Prompt and answer are tokenized separately, after the model's start token (its bos, else its
        eos), so that the same tokens are scored after any prompt, the first one included. NaN where
        prompt or answer is null, the answer is empty, or the row does not fit the model's window:
        nothing is cut.

        In fp32 rows are sorted by length and run in batches; other rows in a batch change a value
        by rounding only, below 1e-5. The rounding of bf16 is a thousand times coarser, so there
        each row runs alone, without padding, and depends on no other row.

        Raises:
            UsageError: the model cannot be loaded, or has no start token.
        """
        rows = self._encode(prompts, answers)
        found = np.full(len(prompts), np.nan)
        for batch in _batches(rows, 0 if self.number_format == "bf16" else self._most):
            found[[row.at for row in batch]] = self._nll(batch)
        return found

    def _encode(
        self, prompts: Sequence[str | None], answers: Sequence[str | None]
    ) -> list[_Encoded]:
        usable = [
            at
            for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
            if prompt is not None and answer
        ]
        before, after = (
            self._tokenizer.encode_batch_fast(
                [str(texts[at]) for at in usable], add_special_tokens=False
            )
            for texts in (prompts, answers)
        )
        rows = [
            _Encoded(at, [self._start, *prompt.ids], answer.ids)
            for at, prompt, answer in zip(usable, before, after, strict=True)
        ]
        found = [row for row in rows if row.answer and row.width <= self.window]
        ids = (tokens for row in found for tokens in (row.prompt, row.answer))
        check_ids(ids, self.loaded.config, self.model, self._tokenizer)
        return found

    def _nll(self, batch: Sequence[_Encoded]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Mean negative log-likelihood of each row's answer; padding is on the right."""
        import torch

        width = max(row.width for row in batch)
        first = min(len(row.prompt) for row in batch) - 1  # predicts the first answer token
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        wanted = torch.zeros((len(batch), width), dtype=torch.bool)
        for at, row in enumerate(batch):
            ids[at, : row.width] = torch.tensor(row.prompt + row.answer)
            wanted[at, len(row.prompt) : row.width] = True
        with torch.inference_mode():
            logits = self.loaded(
                input_ids=ids.to(self.loaded.device),
                use_cache=False,
                logits_to_keep=width - first,
            ).logits[:, first - width : -1]  # some models return all logits
            nll = torch.nn.functional.cross_entropy(
                logits.float().transpose(1, 2),
                ids[:, first + 1 :].to(logits.device),
                reduction="none",
            )
        scored = wanted[:, first + 1 :]
        summed = nll.cpu().double().masked_fill(~scored, 0).sum(1)
        mean: np.ndarray[Any, np.dtype[np.float64]] = (summed / scored.sum(1)).numpy()
        return mean

    @property
    def number_format(self) -> NumberFormat:
        """The number format that ``precision`` means on this machine."""
        device = _device().type
        if self.precision == "auto" and device != "cpu":
            return "fp32"
        return resolve_precision(self.precision, device)

    def describe(self) -> dict[str, str]:
        """The options as resolved on this machine, for keys and manifests."""
        return {"precision": self.number_format}

    def notice(self) -> str:
        """The precision and its reason, in one line for the user."""
        device = _device().type
        if self.number_format == "bf16":
            what = "bf16 for the model, fp32 for log-softmax"
            return f"precision: {what} ({reason_for(self.precision, device)})"
        batches = self.precision == "auto" and device != "cpu"
        why = "a GPU runs rows in batches" if batches else reason_for(self.precision, device)
        return f"precision: fp32 ({why})"

    @cached_property
    def loaded(self) -> Any:
        """The model of `transformers`, in eval mode, where it runs."""
        import torch
        from transformers import AutoModelForCausalLM

        loaded = load_pretrained(
            AutoModelForCausalLM,
            model_folder(self.model),
            dtype=torch.bfloat16 if self.number_format == "bf16" else torch.float32,
            attn_implementation=attention_of(AutoModelForCausalLM, model_folder(self.model)),
        )
        return loaded.to(_device())

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(load_tokenizer(self.model).to_str())  # a copy: it is shared
        tokenizer.encode_special_tokens = True
        return tokenizer

    @property
    def _most(self) -> int:
        """Most tokens in a batch."""
        vocabulary = int(self.loaded.config.get_text_config().vocab_size)
        return min(_TOKENS[self.loaded.device.type], max(1, _LOGITS // vocabulary))

    @property
    def window(self) -> int:
        """Most tokens of a row."""
        window = positions_of(self.loaded.config)
        return min(size for size in (window, self.max_tokens, 2**31) if size is not None)

    @property
    def _start(self) -> int:
        config = self.loaded.config.get_text_config()
        for named in (config.bos_token_id, config.eos_token_id):
            start = named[0] if isinstance(named, list) and named else named
            if isinstance(start, int) and 0 <= start < config.vocab_size:
                return start
        raise UsageError(
            f"model {self.model!r} has neither a bos nor an eos token of its vocabulary in "
            "config.json: "
            "the first token of an answer would have nothing before it; set bos_token_id there"
        )


@dataclass(frozen=True)
class _Encoded:
    """One row as token ids; ``at`` is its index."""

    at: int
    prompt: list[int]
    answer: list[int]

    @property
    def width(self) -> int:
        return len(self.prompt) + len(self.answer)


def _batches(rows: Sequence[_Encoded], most: int) -> Iterator[list[_Encoded]]:
    """Rows of similar length in batches of at most ``most`` tokens; 0: each row alone.

    The longest come first, so that a run that does not fit in memory fails at once.
    """
    batch: list[_Encoded] = []
    for row in sorted(rows, key=lambda row: (-row.width, row.at)):
        if batch and (len(batch) + 1) * batch[0].width > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
