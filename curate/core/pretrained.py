"""Loading a transformers model whole: each tensor is there, of the right shape, and finite.

`transformers` draws a tensor that the weights lack at random, leaves out one that the configuration
has no place for, and takes NaN as it is. Here each of these is an error that names the tensor.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.core.errors import UsageError
from curate.core.files import read_json
from curate.core.quiet import quiet_transformers

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_files", "load_pretrained", "misfits", "non_finite", "one_line", "weights_of"]

_SHOWN: Final = 3
_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_ADAPTER: Final = "adapter_config.json"
_REPAIR: Final = (
    "config.json and the weights do not belong together, or a file is incomplete: "
    "get the folder again, or correct config.json"
)


def load_pretrained(auto: Any, model: str | Path, *, backbone: bool = False, **options: Any) -> Any:
    """``auto.from_pretrained(model, **options)`` in eval mode, from safetensors, without its code.

    ``backbone``: only the trunk of ``model`` is wanted. The head of its own task is left out, and
    the head that ``auto`` puts on the trunk is drawn at random.

    Raises:
        UsageError: a file is damaged, tensors are missing, unexpected, of another shape or not
            finite, or the configuration does not make a model.
    """
    check_files(Path(model))
    loaded, info = _loaded(auto, model, options)
    wrong = misfits(loaded, info, backbone=backbone)
    if wrong:
        raise UsageError(f"{model} is not a whole {type(loaded).__name__}: {wrong}; {_REPAIR}")
    broken = non_finite(weights_of(loaded))
    if broken:
        raise UsageError(
            f"{model}: NaN or infinity in {_listed(broken)}: no number that it gives means "
            "anything; get the folder again, or take an earlier checkpoint"
        )
    return loaded.eval()


def check_files(folder: Path) -> None:
    """Refuse weight files that are not whole; a name on the hub has none yet.

    Raises:
        UsageError: a shard is missing, a file is cut off or its header is wrong, or the folder
            holds an adapter, for which `transformers` would load another folder.
    """
    if (folder / _ADAPTER).is_file():
        raise UsageError(
            f"{folder} holds an adapter ({_ADAPTER}), not a whole model: merge it into its base "
            "model and give the folder of that"
        )
    whole, index = folder / _WEIGHTS, folder / _INDEX
    for path in [whole] if whole.is_file() else _shards(index) if index.is_file() else []:
        _check_header(path)


def _shards(index: Path) -> list[Path]:
    places = read_json(index).get("weight_map")
    names = set(places.values()) if isinstance(places, dict) else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise UsageError(f"{index}: expected a weight_map of tensor names to files beside it")
    for name in sorted(names):
        if not (index.parent / name).is_file():
            lost = [tensor for tensor, place in places.items() if place == name]
            raise UsageError(
                f"{index} names the file {name}, which is not there, for {_listed(lost)}: "
                "get the folder again"
            )
    return [index.parent / name for name in sorted(names)]


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(
            f"{path} is not a whole safetensors file ({one_line(error)}): get it again"
        ) from None


def _loaded(
    auto: Any, model: str | Path, options: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Collection[Any]]]:
    try:
        with quiet_transformers(), _load_report() as report:
            found: tuple[Any, dict[str, Any]] = auto.from_pretrained(
                model,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they come in the info, and are refused by name
                **options,
            )
    except Exception as error:  # of any kind: each family reads a wrong configuration its own way
        joined = re.findall(r"^(\S+) *\| CONVERSION", "\n".join(report), re.MULTILINE)
        if joined:  # mixtures of experts; the error itself names no tensor
            raise UsageError(
                f"{model}: parts of {_listed(joined)} are missing or of another shape; {_REPAIR}"
            ) from None
        raise UsageError(
            f"{model} cannot be loaded as {auto.__name__} ({one_line(error)}): expected a folder "
            "with config.json and .safetensors weights, or a name on the hub"
        ) from None
    return found


@contextmanager
def _load_report() -> Iterator[list[str]]:
    """Keep what `transformers` warns of while it loads, off the screen."""
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers.modeling_utils")
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def misfits(model: Any, info: Mapping[str, Collection[Any]], *, backbone: bool = False) -> str:
    """What the loading info of ``model`` holds that a whole model's has not; empty: nothing.

    Tied weights and what the family itself lets go are not in it. ``backbone`` as in
    `load_pretrained`: then a head may be new as a whole, and BERT's pooler too, which is no part of
    most of its trained models.
    """
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    if backbone and missing | unexpected:
        missing -= _new_as_a_whole(model, missing)
        heads = _heads_of(model)
        unexpected = {name for name in unexpected if name.partition(".")[0] not in heads}
    other = {
        f"{name}, {tuple(found)} in the file and {tuple(wanted)} in the model"
        for name, found, wanted in info["mismatched_keys"]
    }
    parts = [
        f"{_listed(names)} {what}"
        for names, what in (
            (missing, "missing"),
            (unexpected, "not expected by config.json"),
            (other, "of another shape"),
        )
        if names
    ]
    return "; ".join(parts)


def _new_as_a_whole(model: Any, missing: Collection[str]) -> set[str]:
    """Those of the missing tensors that are the whole of a head or of a pooler."""
    trunk = "" if model.base_model is model else f"{model.base_model_prefix}."
    names = set(model.state_dict())
    head = {name for name in names if not name.startswith(trunk)}
    pooler = {name for name in names if "pooler" in name.split(".")}
    return {name for part in (head, pooler) if part <= set(missing) for name in part}


def _heads_of(model: Any) -> set[str]:
    """First names of what the architectures of the configuration put on their trunk."""
    import torch
    import transformers

    heads: set[str] = set()
    for name in model.config.architectures or ():
        kind = getattr(transformers, name, None)
        if kind is not None:
            with torch.device("meta"):
                whole = kind(copy.deepcopy(model.config))
            heads |= {child for child, _ in whole.named_children()} - {whole.base_model_prefix}
    return heads - {child for child, _ in model.base_model.named_children()}


def weights_of(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Parameters and saved buffers of a model by name, a tied one once."""
    yield from model.named_parameters()
    saved = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def non_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or an infinity."""
    return [
        name
        for name, tensor in tensors
        if tensor.is_floating_point() and tensor.numel() and not _finite(tensor.detach())
    ]


def _finite(tensor: Tensor) -> bool:
    """Whether both ends are: NaN is passed on, and no mask as large as the tensor is made."""
    low, high = tensor.aminmax()
    return bool(low.isfinite() & high.isfinite())


def one_line(error: BaseException) -> str:
    """The first line of an error's text, with the next where it only announces that one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    count = next((at for at, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:count]) or type(error).__name__


def _listed(names: Collection[str]) -> str:
    """How many tensors, and the first few by name.

    >>> _listed(["layers.10.b", "layers.2.a", "norm", "layers.2.b"])
    '4 tensors (layers.2.a, layers.2.b, layers.10.b, ...)'
    """
    ordered = sorted(names, key=_natural)
    more = ", ..." if len(ordered) > _SHOWN else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({', '.join(ordered[:_SHOWN])}{more})"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
