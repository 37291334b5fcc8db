"""LoRA adapters, arXiv:2106.09685: put on a model, merged into its weights, or kept as files."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from siftune.curate.files.atomic import digest_of, hash_file
from siftune.finetune.core import distributed
from siftune.finetune.models import loading

__all__ = [
    "ADAPTER_FILES",
    "Kept",
    "adapter_hash",
    "check_kept",
    "inner_model",
    "lora_config",
    "merge_adapter",
    "whole_model",
    "with_adapter",
]

Kept: TypeAlias = Literal["merge", "keep", "both"]
"""What is written of a trained adapter: the merged model, the adapter alone, or both."""

ADAPTER_FILES: Final = ("adapter_model.safetensors", "adapter_config.json")
_FOLDER: Final = "adapter"


def lora_config(
    rank: int, alpha: float, task: str = "CAUSAL_LM", modules: Sequence[str] = ()
) -> Any:
    """PEFT's configuration of an adapter: ``W + (alpha / rank) B A``, B zero at first.

    ``modules`` names the layers that get one; empty: every linear layer but the head. ``task``
    ``SEQ_CLS`` trains the whole head of a sequence classifier too. There is no dropout: a policy
    has to equal its reference before the first step.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a float serves as well
        lora_dropout=0.0,
        target_modules=list(modules) or "all-linear",
        task_type=task,
    )


def with_adapter(
    model: Any,
    rank: int,
    alpha: float,
    seed: int = 0,
    modules: Sequence[str] = (),
    task: str = "CAUSAL_LM",
) -> Any:
    """``model`` under a new adapter, drawn from ``seed``; only the adapter is trained."""
    import torch
    from peft import get_peft_model

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated")
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings=True.*")
        return get_peft_model(model, lora_config(rank, alpha, task, modules))


def inner_model(model: Any) -> Any:
    """The model inside PEFT's wrapper, its layers still adapted; a plain model is returned."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def check_kept(kept: Kept, rank: int) -> None:
    """Refuse to keep an adapter where none is trained.

    Raises:
        ValueError: all weights are trained.
    """
    if kept != "merge" and not rank:
        raise ValueError(f"adapter: {kept} needs lora, the rank of an adapter to train")


def whole_model(
    trained: Any, kept: Kept, base: str, load: Callable[[], Any], beside: Path
) -> Any | None:
    """The merged model, or None with ``keep``; a kept adapter is written where `Run.beside` is.

    ``trained`` is a PEFT model on the folder ``base``, which ``load`` loads in float32. With
    ``keep`` the adapter is in the model folder itself, with ``both`` in its folder ``adapter``.
    """
    if kept != "merge" and distributed.first():
        _save(trained, base, beside / _FOLDER if kept == "both" else beside)
    return None if kept == "keep" else merge_adapter(trained, load)


def _save(trained: Any, base: str, folder: Path) -> None:
    """Write the adapter as PEFT does, in the same bytes for the same adapter."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    weights = get_peft_model_state_dict(trained, save_embedding_layers=False)
    whole = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(whole, folder / ADAPTER_FILES[0], metadata={"format": "pt"})
    config = copy.copy(trained.peft_config["default"])
    config.target_modules = sorted(config.target_modules)  # a set has another order in each process
    if config.modules_to_save is not None:
        config.modules_to_save = sorted(config.modules_to_save)
    config.base_model_name_or_path = _found_by_peft(base)
    config.inference_mode = True
    config.save_pretrained(str(folder))


def _found_by_peft(base: str) -> str:
    """The base as given; for a name of the catalogue of `siftune models`, its folder."""
    return base if Path(base).is_dir() or "/" in base else str(loading.resolve(base))


def adapter_hash(folder: Path) -> str:
    """128-bit digest of an adapter."""
    return digest_of({name: hash_file(folder / name) for name in ADAPTER_FILES})


def merge_adapter(trained: Any, load: Callable[[], Any]) -> Any:
    """The plain model with ``W + (alpha / rank) B A`` for the weights W under the adapter.

    A base in float32 takes the adapter as it is. Where ``trained`` holds its base in bf16 or in 4
    bits the sum is made in ``load()``, the model in float32: W is that of the folder, not rounded,
    and small updates are not lost.
    """
    import torch

    quantized = getattr(trained.get_base_model(), "is_loaded_in_4bit", False)
    if trained.get_base_model().dtype == torch.float32 and not quantized:
        return trained.merge_and_unload()
    whole = load()
    with torch.no_grad():
        _add(trained.get_base_model(), whole)
    return whole


def _add(trained: Any, whole: Any) -> None:
    """Add the low-rank updates of ``trained`` to ``whole``, and copy what is trained in full."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    for name, layer in trained.named_modules():
        adapted: Any = layer
        if isinstance(layer, LoraLayer):
            weight = whole.get_submodule(name).weight
            weight += adapted.get_delta_weight("default").to(weight)
        elif isinstance(layer, ModulesToSaveWrapper):
            saved = adapted.modules_to_save["default"].state_dict()
            whole.get_submodule(name).load_state_dict(saved)
