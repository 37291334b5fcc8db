"""A sentence-transformers model in memory, run on batches of fixed shape without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from curate.core.embed_model import load_model
from curate.core.errors import UsageError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

__all__ = ["Dtype", "Encoder", "load_encoder"]

Dtype: TypeAlias = Literal["auto", "fp32", "bf16"]

_BATCH_TOKENS: Final = {"cpu": 128, "cuda": 8192}
"""Tokens a batch aims at; on a CPU fewer starve the matrix kernels and more waste places."""

_PROBE: Final = (
    "Eat a balanced diet, sleep enough and exercise regularly.",
    "def add(a, b):\n    return a + b",
    "The capital of France is Paris, which lies on the Seine.",
    "1. First, preheat the oven to 180 °C. 2. Then mix flour, sugar and two eggs.",
    "I'm sorry, but I cannot answer that.",
)
"""Texts on which the loss of a shorter number format is measured."""


@dataclass(frozen=True)
class Encoder:
    """A model in memory, and how to run it."""

    model: SentenceTransformer
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
        return windows

    def rows(self, windows: list[list[list[int]]], pool: bool) -> np.ndarray:
        """``(n, dimension + 1)``: the vector and the cut share of texts given as windows."""
        shown = windows if pool else [text[:1] for text in windows]
        vectors = self.forward([ids for text in shown for ids in text])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = np.full((len(windows), self.dimension + 1), np.nan, dtype=np.float32)
        ends = np.cumsum([len(text) for text in shown])
        for row, every, seen, end in zip(rows, windows, shown, ends, strict=True):
            weights = np.array([len(ids) - self.special for ids in seen], dtype=np.float32)
            if weights.sum() > 0:
                mean = weights @ vectors[end - len(seen) : end]
                row[:-1] = mean / np.linalg.norm(mean)
                row[-1] = 1 - weights.sum() / sum(len(ids) - self.special for ids in every)
        return rows

    def forward(self, windows: list[list[int]]) -> np.ndarray:
        """``(n, dimension)`` embeddings of token id lists, in batches of fixed shape."""
        vectors = np.empty((len(windows), self.dimension), dtype=np.float32)
        for length, members in _by_length(windows).items():
            places = max(1, round(_BATCH_TOKENS[self.device.partition(":")[0]] / length))
            for start in range(0, len(members), places):
                part = members[start : start + places]
                ids = [windows[i] for i in part]
                ids += [ids[-1]] * (places - len(part))
                vectors[part] = _embeddings(self.model, ids)[: len(part)]
        return vectors


def _by_length(windows: list[list[int]]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for i, ids in enumerate(windows):
        members.setdefault(len(ids), []).append(i)
    return members


def _embeddings(model: SentenceTransformer, ids: list[list[int]]) -> np.ndarray:
    """Embeddings of token ids of one length; what follows the transformer runs in fp32."""
    import torch

    with torch.inference_mode():
        tokens = torch.tensor(ids, device=model.device)
        first, *others = model
        features: dict[str, Tensor] = first(
            {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        )
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in others:
            features = module(features)
        vectors: np.ndarray = features["sentence_embedding"].float().cpu().numpy()
    return vectors


@lru_cache(maxsize=2)
def load_encoder(folder: Path, dtype: Dtype, device: str) -> Encoder:
    """The model of ``folder``, loaded once a process.

    Raises:
        UsageError: it cannot be loaded, or is not of a kind that can be run in this way.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] not in _BATCH_TOKENS:
        raise UsageError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    model = load_model(folder, device)
    _check(model, folder)
    tokenizer = model.tokenizer
    window = min(model.max_seq_length or tokenizer.model_max_length, tokenizer.model_max_length)
    exact = Encoder(
        model=model,
        dtype="fp32",
        device=device,
        dimension=int(model.get_embedding_dimension() or 0),
        window=window,
        special=tokenizer.num_special_tokens_to_add(),
        min_cosine=1.0,
    )
    wanted = ("bf16" if _computes_in_bf16(device) else "fp32") if dtype == "auto" else dtype
    return exact if wanted == "fp32" else _in_bf16(exact)


def _in_bf16(exact: Encoder) -> Encoder:
    """The same model with its transformer in bf16, and what that did to the probe texts."""
    import torch

    probe = exact.tokenize(list(_PROBE))
    before = exact.rows(probe, pool=False)[:, :-1]
    exact.model[0].to(torch.bfloat16)
    after = exact.rows(probe, pool=False)[:, :-1]
    cosine = float((before * after).sum(axis=1).min())
    return replace(exact, dtype="bf16", min_cosine=round(min(cosine, 1.0), 6))


def _computes_in_bf16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _check(model: SentenceTransformer, folder: Path) -> None:
    from sentence_transformers.base.modules import Transformer

    if not isinstance(model[0], Transformer) or not model.tokenizer.is_fast:
        raise UsageError(f"{folder}: expected a transformer with a fast tokenizer (tokenizer.json)")
    prompted = model.prompts.get(model.default_prompt_name or "", None)
    if prompted and not all(getattr(module, "include_prompt", True) for module in model):
        raise UsageError(f"{folder} leaves its default prompt out of the pooling: not supported")
