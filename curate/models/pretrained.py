"""Load transformers models whole: each tensor is present, of the right shape, and finite.

`transformers` draws a missing tensor at random, drops one that the configuration has no place for,
and accepts NaN. Here each of these is an error that names the tensor.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import if_slow
from siftune.curate.models.model_config import embeddings_of
from siftune.curate.models.model_files import (
    check_files,
    check_settings,
    integers_in,
    listed,
    loading,
    read_object,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "attention_of",
    "load_config",
    "load_pretrained",
    "misfits",
    "narrow_all_but_head",
    "non_finite",
    "pretrained_tokenizer",
    "weights_of",
]

_KINDS: Final = {
    "CausalLM": "causal language model",
    "SequenceClassification": "sequence classifier, which a reward model is,",
}
_EXPECTED: Final = (
    "expected a folder with config.json and .safetensors weights, or a name on the hub"
)
# Constants that older versions of transformers saved beside GPT-2's weights; no number of them is
# learned. transformers lets go what is like them in other families.
_CONSTANTS: Final = re.compile(r"(^|\.)attn\.masked_bias$")
_REPAIR: Final = (
    "config.json and the weights do not belong together, or a file is incomplete: "
    "get the folder again, or correct config.json"
)


def load_config(model: str | Path) -> Any:
    """The configuration of a model folder.

    Raises:
        UsageError: the file cannot be read, or is no configuration of any family.
    """
    from transformers import AutoConfig

    check_settings(Path(model))
    with loading(Path(model) / "config.json"):
        return AutoConfig.from_pretrained(model, trust_remote_code=False)


def pretrained_tokenizer(folder: Path, config: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; without a padding token that ``config`` has no embedding of.

    Raises:
        UsageError: the folder has no tokenizer of `transformers`.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    with loading(f"{folder}: the tokenizer", "expected the files of one of transformers"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UsageError(f"{folder}: no usable tokenizer ({type(tokenizer).__name__})")
    size = embeddings_of(config)
    if size is not None and (tokenizer.pad_token_id or 0) >= size:
        tokenizer.pad_token = None  # a batch that is padded with it could not be read
    return tokenizer


def load_pretrained(auto: Any, model: str | Path, *, backbone: bool = False, **options: Any) -> Any:
    """``auto.from_pretrained(model, **options)`` in eval mode, from safetensors, without its code.

    ``backbone``: only the trunk of ``model`` is used. The head of its own task is left out, and the
    head of ``auto`` is drawn at random.

    Raises:
        UsageError: a file is damaged, tensors are missing, unexpected, of another shape or not
            finite, or the configuration does not make a model.
    """
    check_files(Path(model))
    _check_family(auto, model)
    _check_generation(Path(model))
    with if_slow(f"loading {model} ({_size(Path(model))})"):
        loaded, info = _loaded(auto, model, options)
    wrong = misfits(loaded, info, model if backbone else None)
    if wrong:
        raise UsageError(f"{model} is not a whole {type(loaded).__name__}: {wrong}; {_REPAIR}")
    broken = non_finite(weights_of(loaded))
    if broken:
        raise UsageError(
            f"{model}: NaN or infinity in {listed(broken)}: no number that it gives means "
            "anything; get the folder again, or take an earlier checkpoint"
        )
    _refuse_integers(loaded, Path(model))
    loaded.eval()
    if "quantization_config" not in options:  # its kernels are chosen at the first evaluation
        _refuse_nan(loaded, model)
    return loaded


def _check_generation(folder: Path) -> None:
    """Refuse an invalid generation config, with its file's name."""
    from transformers import GenerationConfig

    path = folder / "generation_config.json"
    if path.is_file():
        with loading(path):
            GenerationConfig.from_dict(read_object(path))


def _refuse_integers(model: Any, folder: Path) -> None:
    """Refuse integer tensors in the place of weights, which `transformers` would cast to floats."""
    floats = {name for name, weight in model.named_parameters() if weight.is_floating_point()}
    prefix = f"{model.base_model_prefix}."
    wrong = [
        name
        for name in integers_in(folder)
        if floats & {name, prefix + name, name.removeprefix(prefix)}
    ]
    if wrong:
        raise UsageError(
            f"{folder}: {listed(wrong)} of whole numbers where the model has floats: they are "
            "quantised in a way that config.json does not name, or damaged; get the model in a "
            "float format"
        )


def _refuse_nan(model: Any, folder: str | Path) -> None:
    """Refuse a model whose output for two tokens is NaN: finite weights do not prevent that.

    Other errors of a family on two tokens are ignored.
    """
    import torch

    ids = torch.tensor([[1, 2]], device=model.device)
    try:
        with torch.no_grad():
            given = model(input_ids=ids)
    except Exception:  # each family has its own
        return
    found = getattr(given, "logits", None)
    found = getattr(given, "last_hidden_state", None) if found is None else found
    if found is not None and not torch.isfinite(found).all():
        raise UsageError(
            f"{folder}: the model gives NaN or infinity for the tokens 1 and 2, though its weights "
            "are finite: a number in config.json is wrong, such as an eps or rope_theta, or the "
            "weights are damaged; get the folder again"
        )


def _check_family(auto: Any, model: str | Path) -> None:
    """Refuse a family for which `transformers` has no model of the required kind."""
    families = getattr(auto, "_model_mapping", None)
    if families is None:
        return  # a class of one family
    config = load_config(model)
    if type(config) not in families:
        kind = auto.__name__.removeprefix("AutoModelFor")
        raise UsageError(
            f"{model}: transformers has no {_KINDS.get(kind, kind)} of the family "
            f"{config.model_type}: take a model of another one, such as Llama, Qwen or SmolLM2"
        )


def attention_of(auto: Any, model: str | Path) -> str:
    """``sdpa`` where the family supports it, else ``eager``; not what the folder's config names."""
    config = load_config(model)
    known = auto._model_mapping.get(type(config), None)
    return "sdpa" if getattr(known, "_supports_sdpa", True) else "eager"


def _size(folder: Path) -> str:
    """The size of a model's weights, in words."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _loaded(
    auto: Any, model: str | Path, options: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Collection[Any]]]:
    report: list[str] = []
    with loading(f"{model} as {auto.__name__}", _EXPECTED):
        try:
            with _load_report(report):
                found: tuple[Any, dict[str, Any]] = auto.from_pretrained(
                    model,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they come in the info, and are refused by name
                    **options,
                )
        except RuntimeError:
            _refuse_joined(model, report)
            raise
    return found


def _refuse_joined(model: str | Path, report: Sequence[str]) -> None:
    """Name the tensors that cannot be merged into one: for experts the error names none."""
    joined = re.findall(r"^(\S+) *\| CONVERSION", "\n".join(report), re.MULTILINE)
    if joined:
        raise UsageError(
            f"{model}: parts of {listed(joined)} are missing or of another shape; {_REPAIR}"
        )


@contextmanager
def _load_report(into: list[str]) -> Iterator[None]:
    """Collect the warnings of `transformers` during loading instead of printing them."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: into.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers.modeling_utils")
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def misfits(
    model: Any, info: Mapping[str, Collection[Any]], trunk_of: str | Path | None = None
) -> str:
    """Missing, unexpected and mismatched tensors in the loading info of ``model``, or ''.

    Tied weights and what the family itself ignores are not in it. ``trunk_of``: the folder of which
    only the trunk is used; then a head may be new as a whole, and BERT's pooler, which most of its
    trained models do not have.
    """
    missing = set(info["missing_keys"])
    unexpected = {name for name in info["unexpected_keys"] if not _CONSTANTS.search(name)}
    if trunk_of is not None:
        missing -= _new_as_a_whole(model, missing)
        unexpected = _of_no_head(model, trunk_of, unexpected)
    other = {
        f"{name}, {tuple(found)} in the file and {tuple(wanted)} in the model"
        for name, found, wanted in info["mismatched_keys"]
    }
    parts = [
        f"{listed(names)} {what}"
        for names, what in (
            (missing, "missing"),
            (unexpected, "not expected by config.json"),
            (other, "of another shape"),
        )
        if names
    ]
    return "; ".join(parts)


def _new_as_a_whole(model: Any, missing: Collection[str]) -> set[str]:
    """The missing tensors that make up a whole head or pooler."""
    trunk = "" if model.base_model is model else f"{model.base_model_prefix}."
    names = set(model.state_dict())
    head = {name for name in names if not name.startswith(trunk)}
    pooler = {name for name in names if "pooler" in name.split(".")}
    return {name for part in (head, pooler) if part <= set(missing) for name in part}


def _of_no_head(loaded: Any, folder: str | Path, unexpected: set[str]) -> set[str]:
    """The unexpected tensors that are no part of a head of the model's own task.

    A tensor of a head has the name of the head's module in its own, or, with names of an older
    version, one that the architecture of the configuration converts.
    """
    kinds = _own_architectures(loaded.config) if unexpected else []
    heads = {name for kind in kinds for name in _heads_of(kind, loaded)}
    rest = {name for name in unexpected if name.partition(".")[0] not in heads}
    for kind in kinds:
        if rest:
            rest = _unexpected_by(kind, folder) - set(loaded.state_dict())
    return rest


def _own_architectures(config: Any) -> list[Any]:
    """The classes of ``architectures`` in the configuration."""
    import transformers

    named = (getattr(transformers, name, None) for name in config.architectures or ())
    return [
        kind
        for kind in named
        if isinstance(kind, type)
        and issubclass(kind, transformers.PreTrainedModel)
        and isinstance(config, kind.config_class or ())
    ]


def _heads_of(kind: Any, loaded: Any) -> set[str]:
    """First names of the modules that an architecture adds to the trunk of ``loaded``."""
    import torch

    with loading(f"{kind.__name__}, which config.json names,"), torch.device("meta"):
        whole = kind(copy.deepcopy(loaded.config))
    trunk = {child for child, _ in loaded.base_model.named_children()}
    return {child for child, _ in whole.named_children()} - {whole.base_model_prefix} - trunk


def _unexpected_by(kind: Any, folder: str | Path) -> set[str]:
    """Tensors of the file that an architecture has no place for; no weight is kept."""
    where = "meta" if find_spec("accelerate") else None
    _, info = _loaded(kind, folder, {"device_map": where})
    return set(info["unexpected_keys"])


def weights_of(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Parameters and saved buffers of a model by name, a tied one once."""
    yield from model.named_parameters()
    saved = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def non_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors with NaN or an infinity."""
    return [
        name
        for name, tensor in tensors
        if tensor.is_floating_point() and tensor.numel() and not _finite(tensor.detach())
    ]


def _finite(tensor: Tensor) -> bool:
    """Whether minimum and maximum are finite: NaN is passed on, and no mask is allocated."""
    low, high = tensor.aminmax()
    return bool(low.isfinite() & high.isfinite())


def narrow_all_but_head(model: Any, dtype: torch.dtype, outputs: int = 1) -> None:
    """Weights of a classifier in ``dtype``, but the layer with its ``outputs`` in float32."""
    from torch.nn import Linear

    layers = [one for one in model.modules() if isinstance(one, Linear)]
    heads = [one for one in layers if one.out_features == outputs]
    kept = {id(weight) for head in heads for weight in head.parameters()}
    for weight in model.parameters():
        if id(weight) not in kept:
            weight.data = weight.data.to(dtype)
    for head in heads:
        head.register_forward_pre_hook(_widened)


def _widened(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.float() for each in inputs)
