"""Several LoRA adapters on one frozen base: which one runs, new ones, kept ones loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import read_json
from siftune.curate.models.lineage import FACTS
from siftune.finetune.models import loading
from siftune.finetune.models.lora import ADAPTER_FILES, lora_config

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["adapter_parameters", "add_adapter", "check_base", "is_adapter", "load_adapter", "only"]

_HEADS: Final = ("score.weight", "classifier.weight")


@contextmanager
def only(model: Any, name: str | None) -> Iterator[None]:
    """Run ``model`` under its adapter ``name`` alone, or under none, in the block.

    PEFT's ``set_adapter`` and ``disable_adapter`` also decide which weights are trained, and switch
    off the training of all adapters but one; this changes what is computed and nothing else.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    try:
        for layer in layers:
            layer._disable_adapters = name is None
            if name is not None:
                layer._active_adapter = [name]
        yield
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = active, disabled


def adapter_parameters(model: Any, name: str) -> list[Any]:
    """The weights of one of a model's adapters."""
    return [weight for key, weight in model.named_parameters() if f".{name}." in key]


def add_adapter(model: Any, name: str, rank: int, alpha: float, seed: int) -> None:
    """Put a new adapter, which is trained beside the others, on a PEFT model; B starts at zero."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _add(model, name, lora_config(rank, alpha))
    for weight in adapter_parameters(model, name):
        weight.requires_grad_(True)


def is_adapter(model: str | Path) -> bool:
    """Whether a folder holds an adapter alone, as ``adapter: keep`` of a training writes it."""
    folder = Path(model)
    return (folder / ADAPTER_FILES[1]).is_file() and not (folder / "config.json").is_file()


def check_base(folder: str, base: str) -> None:
    """Refuse a kept adapter that was not trained on the model ``base``.

    Raises:
        UsageError: it was trained on another one, or it does not say on which.
    """
    if (Path(folder) / FACTS).is_file():
        facts = read_json(Path(folder) / FACTS)
        made = facts.get("base", {}) if isinstance(facts, dict) else {}
        path, known = made.get("path"), made.get("hash")
    else:
        settings = read_json(Path(folder) / ADAPTER_FILES[1])
        path = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
        known = loading.model_hash(path) if path and Path(path).is_dir() else None
    if known != loading.model_hash(base):
        raise UsageError(
            f"{folder} is an adapter on {path or 'an unknown model'}, and the policy starts from "
            f"{base}: both have to be on one base; train it on {base}, or give a whole reward model"
        )


def load_adapter(model: Any, name: str, folder: str) -> Tensor:
    """Put the kept reward adapter of ``folder``, frozen, on a PEFT model; its head (1, H).

    Raises:
        UsageError: it has no head with one output, or is of layers that the model does not have.
    """
    from peft import LoraConfig
    from safetensors.torch import load_file

    config = LoraConfig.from_pretrained(folder)
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
    weights = load_file(Path(folder) / ADAPTER_FILES[0])
    heads = {key: one for key, one in weights.items() if key.endswith(_HEADS)}
    if len(heads) != 1 or next(iter(heads.values())).shape[0] != 1:
        raise UsageError(
            f"{folder} is no adapter of a reward model: it has no head with one output; train it "
            "with `siftune finetune reward --lora 8 --adapter keep`"
        )
    ((head_name, head),) = heads.items()
    _add(model, name, config)
    layers = {key: one for key, one in weights.items() if key != head_name}
    own = dict(model.named_parameters())
    put = {_with_name(key, name): one for key, one in layers.items()}
    added = {key for key in own if f".{name}." in key}
    if put.keys() != added:
        odd = sorted(put.keys() ^ added)[0]
        raise UsageError(f"{folder} does not fit the policy's layers: {odd}")
    for key, value in put.items():
        own[key].data.copy_(value)
    for weight in adapter_parameters(model, name):
        weight.requires_grad_(False)
    return head.float()


def _with_name(key: str, name: str) -> str:
    """A key of a saved adapter as the model has it: ``….lora_A.weight``, the name put in."""
    start, _, last = key.rpartition(".")
    return f"{start}.{name}.{last}"


def _add(model: Any, name: str, config: Any) -> None:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings=True.*")
        model.add_adapter(name, config)
    for weight in trained:  # PEFT switches the training of all but the active adapter off
        weight.requires_grad_(True)
