"""Run a sentence-transformers model on batches of texts of one length, without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.models.precision import Precision, resolve_precision
from siftune.curate.models.token_ids import check_ids
from siftune.curate.native.jit import threads
from siftune.curate.vectors.embed_model import load_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

__all__ = ["Dtype", "Encoder", "load_encoder"]

Dtype: TypeAlias = Precision
Forward: TypeAlias = "Callable[[Tensor], Tensor]"
"""Token ids (texts, length) to token embeddings (texts, length, width)."""

_BATCH_TOKENS: Final = {"cpu": 1024, "cuda": 8192}
"""Tokens per batch; on a CPU more do not fit in the caches, fewer read the weights too often."""

_FIXED_TOKENS: Final = 256  # on a CPU, where copies fill a fixed shape

_LEAST: Final = 16  # tokens: products of very few rows have another order of summation

_PROBE: Final = (
    "Eat a balanced diet, sleep enough and exercise regularly.",
    "def add(a, b):\n    return a + b",
    "The capital of France is Paris, which lies on the Seine.",
    "1. First, preheat the oven to 180 °C. 2. Then mix flour, sugar and two eggs.",
    "I'm sorry, but I cannot answer that.",
)
"""Texts on which the error of a shorter number format is measured."""


@dataclass(frozen=True)
class Encoder:
    """A loaded model and the settings it runs with."""

    model: SentenceTransformer
    transform: Forward
    fixed: bool  # batches of one length need one shape for equal bits
    dtype: str
    device: str
    dimension: int
    window: int
    special: int  # tokens that the tokenizer adds to each window
    min_cosine: float

    def tokenize(self, texts: list[str]) -> list[list[list[int]]]:
        """Token ids of each text, window by window."""
        prefix = self.model.prompts.get(self.model.default_prompt_name or "", None) or ""
        encoded = self.model.tokenizer(
            [prefix + text if text.strip() else "" for text in texts],
            truncation=True,
            max_length=self.window,
            return_overflowing_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        windows: list[list[list[int]]] = [[] for _ in texts]
        for text, ids in zip(
            encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True
        ):
            windows[text].append(ids)
        self._check_ids(encoded["input_ids"])
        return windows

    def _check_ids(self, windows: list[list[int]]) -> None:
        """Refuse token ids outside the model's embedding table."""
        model: Any = self.model[0]
        config = model.auto_model.config
        name = config.name_or_path or "the embedding model"
        check_ids(windows, config, name, self.model.tokenizer)

    def rows(self, windows: list[list[list[int]]], pool: bool) -> np.ndarray:
        """Vector and cut share (n, dimension + 1) of texts given as windows of token ids."""
        from siftune.curate.vectors.full_precision import full_precision

        used = windows if pool else [text[:1] for text in windows]
        with full_precision():
            vectors = self.forward([ids for text in used for ids in text])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = np.full((len(windows), self.dimension + 1), np.nan, dtype=np.float32)
        ends = np.cumsum([len(text) for text in used])
        for row, all_windows, own, end in zip(rows, windows, used, ends, strict=True):
            weights = np.array([len(ids) - self.special for ids in own], dtype=np.float32)
            if weights.sum() > 0:
                mean = weights @ vectors[end - len(own) : end]
                row[:-1] = mean / np.linalg.norm(mean)
                row[-1] = 1 - weights.sum() / sum(len(ids) - self.special for ids in all_windows)
        return rows

    def forward(self, windows: list[list[int]]) -> np.ndarray:
        """Embeddings (n, dimension) of token id lists, in batches of texts of one length.

        On the CPU each batch runs on one thread, and all threads run batches: no thread waits
        inside a batch, and the result does not depend on the number of threads.
        """
        import torch

        vectors = np.empty((len(windows), self.dimension), dtype=np.float32)

        def run(part: list[int], places: int) -> None:
            ids = [windows[i] for i in part]
            ids += [ids[-1]] * (places - len(part))
            vectors[part] = _embeddings(self.model, self.transform, ids)[: len(part)]

        tokens = _BATCH_TOKENS[self.device.partition(":")[0]]
        tokens = _FIXED_TOKENS if self.fixed and self.device == "cpu" else tokens
        batches = list(_batches(windows, tokens, self.fixed))
        at_once = min(threads(), len(batches)) if self.device == "cpu" else 1
        if at_once < 2:
            for batch in batches:
                run(*batch)
            return vectors
        before = torch.get_num_threads()
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(run, *batch) for batch in batches]:
                done.result()
        torch.set_num_threads(before)
        return vectors


def _batches(windows: list[list[int]], tokens: int, fixed: bool) -> Iterator[tuple[list[int], int]]:
    """Indices of the windows of each batch, all of one length, and the size of the batch."""
    members: dict[int, list[int]] = {}
    for i, ids in enumerate(windows):
        members.setdefault(len(ids), []).append(i)
    for length, those in members.items():
        most = max(1, tokens // length)
        least = most if fixed else min(most, -(-_LEAST // length))
        for start in range(0, len(those), most):
            part = those[start : start + most]
            yield part, max(least, len(part))


def _embeddings(model: SentenceTransformer, transform: Forward, ids: list[list[int]]) -> np.ndarray:
    """Embeddings of token ids of one length; the modules after the transformer run in fp32."""
    import torch

    with torch.inference_mode():
        tokens = torch.tensor(ids, device=model.device)
        features: dict[str, Tensor] = {
            "token_embeddings": transform(tokens).float(),
            "attention_mask": torch.ones_like(tokens),
        }
        for module in list(model)[1:]:
            features = module(features)
        vectors: np.ndarray = features["sentence_embedding"].float().cpu().numpy()
    return vectors


@lru_cache(maxsize=2)
def load_encoder(folder: Path, dtype: Dtype, device: str) -> Encoder:
    """The model of ``folder``, loaded once a process.

    Raises:
        UsageError: it cannot be loaded, or its architecture is not supported.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] not in _BATCH_TOKENS:
        raise UsageError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    number, gpus = device.partition(":")[2] or "0", torch.cuda.device_count()
    if device.startswith("cuda") and not (number.isdecimal() and int(number) < gpus):
        raise UsageError(f"device {device!r}: torch finds {gpus} GPUs here; leave it out for auto")
    model = load_model(folder, device)
    _check(model, folder)
    tokenizer = model.tokenizer
    window = min(model.max_seq_length or tokenizer.model_max_length, tokenizer.model_max_length)
    transform, fixed = _transform(model, device, "fp32")
    exact = Encoder(
        model=model,
        transform=transform,
        fixed=fixed,
        dtype="fp32",
        device=device,
        dimension=int(model.get_embedding_dimension() or 0),
        window=window,
        special=tokenizer.num_special_tokens_to_add(),
        min_cosine=1.0,
    )
    return exact if resolve_precision(dtype, device) == "fp32" else _in_bf16(exact)


def _in_bf16(exact: Encoder) -> Encoder:
    """The model with its transformer in bf16, and the least cosine to fp32 on the probe texts."""
    probe = exact.tokenize(list(_PROBE))
    before = exact.rows(probe, pool=False)[:, :-1]
    transform, fixed = _transform(exact.model, exact.device, "bf16")
    short = replace(exact, dtype="bf16", transform=transform, fixed=fixed)
    after = short.rows(probe, pool=False)[:, :-1]
    cosine = float((before * after).sum(axis=1).min())
    return replace(short, min_cosine=round(min(cosine, 1.0), 6))


def _transform(model: SentenceTransformer, device: str, dtype: str) -> tuple[Forward, bool]:
    """The model's transformer, and whether it needs batches of one shape.

    `Bert` runs BERT models on the CPU; others run in transformers.
    """
    import torch

    from siftune.curate.vectors.bert import Bert

    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    if device == "cpu" and Bert.can_run(model[0].auto_model):
        bert = Bert(model[0].auto_model, kind)
        return bert, not bert.keeps_bits()
    model[0].to(kind)

    def transform(ids: Tensor) -> Tensor:
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        embeddings: Tensor = model[0](features)["token_embeddings"]
        return embeddings

    return transform, True


def _check(model: SentenceTransformer, folder: Path) -> None:
    from sentence_transformers.base.modules import Transformer

    if not isinstance(model[0], Transformer) or not model.tokenizer.is_fast:
        raise UsageError(f"{folder}: expected a transformer with a fast tokenizer (tokenizer.json)")
    prompted = model.prompts.get(model.default_prompt_name or "", None)
    if prompted and not all(getattr(module, "include_prompt", True) for module in model):
        raise UsageError(f"{folder} leaves its default prompt out of the pooling: not supported")
