"""LoRA adapters: the model of a folder, or an adapter merged into the model it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_files import loading, read_object
from siftune.curate.models.pretrained import load_pretrained, non_finite, weights_of
from siftune.curate.models.resolve import adapter_base

if TYPE_CHECKING:
    import torch

__all__ = ["classifies", "config_folder", "load_merged"]

_WEIGHTS: Final = "adapter_model.safetensors"
_HEADS: Final = ("score.weight", "classifier.weight", "classifier.out_proj.weight")


def config_folder(folder: Path) -> Path:
    """The folder with the configuration of a model: its own, or that of an adapter's base."""
    return adapter_base(folder) or folder


def classifies(folder: Path) -> bool:
    """Whether a folder has a sequence classifier, or an adapter of one."""
    if adapter_base(folder) is not None:
        return read_object(folder / "adapter_config.json").get("task_type") == "SEQ_CLS"
    kinds = read_object(folder / "config.json").get("architectures") or []
    return any(kind.endswith("ForSequenceClassification") for kind in kinds)


def load_merged(auto: Any, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """`load_pretrained`; of an adapter its base, with ``W + (alpha / rank) B A`` for the weights W.

    The sum is made in float32 and rounded to ``dtype`` once, so that small updates are not lost.

    Raises:
        UsageError: PEFT is missing, or the adapter does not fit its base.
    """
    import torch

    base = adapter_base(folder)
    if base is None:
        return load_pretrained(auto, folder, dtype=dtype, **options)
    if not (folder / _WEIGHTS).is_file():
        raise UsageError(
            f"{folder} is an adapter without {_WEIGHTS}: other weight files can run code when they "
            "are loaded and are refused"
        )
    try:
        from peft import PeftModel
    except ImportError:
        raise UsageError(
            f"{folder} is an adapter, and PEFT is not installed: pip install 'siftune[train]', or "
            "give the folder of the merged model"
        ) from None
    head = {"num_labels": _outputs(folder)} if classifies(folder) else {}
    loaded = load_pretrained(
        auto, base, backbone=bool(head), dtype=torch.float32, **head, **options
    )
    with loading(f"{folder} on {base}", "expected an adapter of that model"):
        merged = PeftModel.from_pretrained(loaded, str(folder)).merge_and_unload()
    if broken := non_finite(weights_of(merged)):
        raise UsageError(f"{folder}: NaN or infinity in {broken[0]} of the merged model")
    return merged.to(dtype).eval()


def _outputs(folder: Path) -> int:
    """How many outputs the head has that the adapter of a classifier holds."""
    from safetensors import safe_open

    with loading(folder / _WEIGHTS), safe_open(folder / _WEIGHTS, "pt") as file:
        heads = [name for name in file.keys() if name.endswith(_HEADS)]  # noqa: SIM118
        if not heads:
            raise UsageError(f"{folder} is an adapter without the head of its classifier")
        return int(file.get_slice(heads[0]).get_shape()[0])
