"""Log-probabilities of tokens and mean hidden states, by a causal language model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.models.adapters import config_folder, load_merged
from siftune.curate.models.model_config import positions_of
from siftune.curate.models.precision import (
    NumberFormat,
    Precision,
    device_name,
    reason_for,
    resolve_precision,
)
from siftune.curate.models.pretrained import attention_of, load_config
from siftune.curate.models.resolve import catalog_key, folder_hash, model_folder
from siftune.curate.models.token_ids import check_ids
from siftune.curate.text.token_counts import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

__all__ = ["CausalLM", "ForwardPass", "TokenRow"]

_LOGITS = 2**25
"""Most logits per batch (128 MB in float32); a longer row is run alone."""
_TOKENS = {"cpu": 4096, "cuda": 2**16}
"""Most tokens per batch; on a CPU, batches that fit in the caches are twice as fast."""


@dataclass(frozen=True)
class TokenRow:
    """A sequence of token ids, and which of them are scored: never the first, it has no context."""

    ids: tuple[int, ...]
    scored: tuple[bool, ...]

    @classmethod
    def of(cls, context: Sequence[int], answer: Sequence[int]) -> TokenRow:
        """The tokens of an answer, all of them scored, after those of its context."""
        return cls((*context, *answer), (False,) * len(context) + (True,) * len(answer))

    @property
    def key(self) -> bytes:
        """Hash of ids and mask, 16 bytes."""
        ids, scored = np.array(self.ids, "<i8"), np.array(self.scored)
        return blake2b(ids.tobytes() + scored.tobytes(), digest_size=16).digest()

    @property
    def first(self) -> int:
        """Index of the first scored token; the number of tokens where none is."""
        return self.scored.index(True) if True in self.scored else len(self.ids)


class ForwardPass(NamedTuple):
    """What a model computes of one `TokenRow`.

    ``logps`` are the log-probabilities of the scored tokens, in order. ``hidden`` is the mean of
    the last hidden states with the weights t / Σt, t from 1, so that later tokens, which have seen
    more, count more; it is empty where the family has no hidden states.
    """

    logps: np.ndarray[tuple[int], np.dtype[np.float32]]
    hidden: np.ndarray[tuple[int], np.dtype[np.float32]]

    @property
    def mean_nll(self) -> float:
        """``-1/n Σ log p`` of the scored tokens, in nats; NaN where there is none."""
        return float(-self.logps.astype(np.float64).mean()) if len(self.logps) else math.nan


@dataclass(frozen=True)
class CausalLM:
    """A causal model by name or path; loaded on first use, without its own code.

    The folder of a LoRA adapter is its base with the adapter merged into it.

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

        NaN where `encode` gives no row.

        Raises:
            UsageError: the model cannot be loaded, or has no start token.
        """
        rows = self.encode(prompts, answers)
        found = np.full(len(rows), np.nan)
        given = [at for at, row in enumerate(rows) if row is not None]
        passes = self.forward([row for row in rows if row is not None])
        found[given] = [one.mean_nll for one in passes]
        return found

    def encode(
        self, prompts: Sequence[str | None], answers: Sequence[str | None]
    ) -> list[TokenRow | None]:
        """Prompts and answers as token ids, the answers' tokens to be scored.

        Prompt and answer are tokenized separately, after the model's start token (its bos, else its
        eos), so that the same tokens are scored after any prompt, the first one included. None
        where prompt or answer is null, the answer is empty, or the row does not fit the model's
        window: nothing is cut.

        Raises:
            UsageError: the model cannot be loaded, or has no start token.
        """
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
        found: list[TokenRow | None] = [None] * len(prompts)
        for at, prompt, answer in zip(usable, before, after, strict=True):
            if answer.ids and 1 + len(prompt.ids) + len(answer.ids) <= self.window:
                found[at] = TokenRow.of([self.start, *prompt.ids], answer.ids)
        ids = (row.ids for row in found if row is not None)
        check_ids(ids, self._config, self.model, self._tokenizer)
        return found

    def forward(self, rows: Sequence[TokenRow]) -> list[ForwardPass]:
        """One forward pass over each row.

        In fp32 rows are sorted by length and run in batches; other rows in a batch change a value
        by rounding only, a log-probability by less than 1e-5. The rounding of bf16 is a thousand
        times coarser, so there each row runs alone, without padding, and depends on no other row.
        """
        found: dict[int, ForwardPass] = {}
        for batch in _batches(rows, 0 if self.number_format == "bf16" else self._most):
            passes = self._forward([rows[at] for at in batch])
            found.update(zip(batch, passes, strict=True))
        return [found[at] for at in range(len(rows))]

    def _forward(self, batch: Sequence[TokenRow]) -> Iterator[ForwardPass]:
        """The passes over one batch; padding is on the right, where causal attention sees none."""
        import torch

        width = max(len(row.ids) for row in batch)
        first = min(row.first for row in batch) - 1  # predicts the first scored token
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        for at, row in enumerate(batch):
            ids[at, : len(row.ids)] = torch.tensor(row.ids)
        with torch.inference_mode(), _last_hidden(self.loaded) as hidden:
            logits = self.loaded(
                input_ids=ids.to(self.loaded.device),
                use_cache=False,
                logits_to_keep=width - first,
            ).logits[:, first - width : -1]  # some models return all logits
            # Over the last dimension: along another one the sum over the vocabulary is a plain loop
            # in float32, which for 49,152 tokens is off by 1e-4.
            logps = -torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1),
                ids[:, first + 1 :].flatten().to(logits.device),
                reduction="none",
            ).view(len(batch), -1)
            means = [
                _weighted_mean(hidden[0][at, : len(row.ids)]) if hidden else np.empty(0, "f4")
                for at, row in enumerate(batch)
            ]
        known = logps.cpu().numpy()
        for at, (row, mean) in enumerate(zip(batch, means, strict=True)):
            scored = np.array(row.scored[first + 1 :], dtype=bool)
            yield ForwardPass(known[at, : len(scored)][scored], mean)

    @property
    def number_format(self) -> NumberFormat:
        """The number format that ``precision`` means on this machine."""
        device = device_name()
        if self.precision == "auto" and device != "cpu":
            return "fp32"
        return resolve_precision(self.precision, device)

    @cached_property
    def identity(self) -> str:
        """Hash of weights, tokenizer and chat template; of a name of the catalogue its key."""
        return catalog_key(self.model) or folder_hash(model_folder(self.model))

    @property
    def device(self) -> str:
        """The kind of device that the model runs on: cpu or cuda."""
        return device_name()

    def describe(self) -> dict[str, str]:
        """The options as resolved on this machine, for keys and manifests."""
        return {"precision": self.number_format}

    def notice(self) -> str:
        """The precision and its reason, in one line for the user."""
        device = device_name()
        if self.number_format == "bf16":
            what = "bf16 for the model, fp32 for log-softmax"
            return f"precision: {what} ({reason_for(self.precision, device)})"
        batches = self.precision == "auto" and device != "cpu"
        why = "a GPU runs rows in batches" if batches else reason_for(self.precision, device)
        return f"precision: fp32 ({why})"

    @cached_property
    def loaded(self) -> Any:
        """The model of `transformers`, in eval mode, where it runs."""
        return _resident(model_folder(self.model), self.number_format)

    @cached_property
    def _config(self) -> Any:
        """Its configuration, for which no weights are loaded."""
        return load_config(config_folder(model_folder(self.model)))

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
        window = positions_of(self._config)
        return min(size for size in (window, self.max_tokens, 2**31) if size is not None)

    @property
    def start(self) -> int:
        """The token before the first one of a text.

        Raises:
            UsageError: there is none.
        """
        config = self._config.get_text_config()
        for named in (config.bos_token_id, config.eos_token_id):
            start = named[0] if isinstance(named, list) and named else named
            if isinstance(start, int) and 0 <= start < config.vocab_size:
                return start
        raise UsageError(
            f"model {self.model!r} has neither a bos nor an eos token of its vocabulary in "
            "config.json: "
            "the first token of an answer would have nothing before it; set bos_token_id there"
        )


def _batches(rows: Sequence[TokenRow], most: int) -> Iterator[list[int]]:
    """Numbers of rows of similar length, in batches of at most ``most`` tokens; 0: each alone.

    The longest come first, so that a run that does not fit in memory fails at once.
    """
    batch: list[int] = []
    for at in sorted(range(len(rows)), key=lambda at: (-len(rows[at].ids), at)):
        if batch and (len(batch) + 1) * len(rows[batch[0]].ids) > most:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


@contextmanager
def _last_hidden(model: Any) -> Iterator[list[Tensor]]:
    """The last hidden states (after the final norm) of what runs inside, in a list."""
    found: list[Tensor] = []

    def collect(_module: Any, _inputs: Any, output: Any) -> None:
        states = getattr(output, "last_hidden_state", None)
        if states is not None:
            found.append(states)

    hook = model.base_model.register_forward_hook(collect)
    try:
        yield found
    finally:
        hook.remove()


def _weighted_mean(states: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The mean of hidden states (t, width) with the weights 1, 2, 3 ... t."""
    import torch

    weights = torch.arange(1, len(states) + 1, dtype=torch.float64, device=states.device)
    mean = weights / weights.sum() @ states.double()
    found: np.ndarray[tuple[int], np.dtype[np.float32]] = mean.float().cpu().numpy()
    return found


_RESIDENT: Final[dict[tuple[Any, ...], Any]] = {}
"""The model loaded last: scorers of one run under one model load it once."""


def _resident(folder: Path, number_format: NumberFormat) -> Any:
    """The model of ``folder``, where it runs; that of an earlier call if its files are the same."""
    import torch
    from transformers import AutoModelForCausalLM

    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamps = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    key = (folder.resolve(), number_format, stamps)
    if key not in _RESIDENT:
        _RESIDENT.clear()  # its memory is free before the next one is loaded
        loaded = load_merged(
            AutoModelForCausalLM,
            folder,
            torch.bfloat16 if number_format == "bf16" else torch.float32,
            attn_implementation=attention_of(AutoModelForCausalLM, config_folder(folder)),
        )
        _RESIDENT[key] = loaded.to(device_name())
    return _RESIDENT[key]
