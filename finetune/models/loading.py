"""Load models, configurations, tokenizers and facts of model folders, without their code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from siftune.curate.core.errors import UsageError
from siftune.curate.models.lineage import FACTS
from siftune.curate.models.model_config import embeddings_of
from siftune.curate.models.model_files import check_settings, read_object
from siftune.curate.models.precision import device_name
from siftune.curate.models.pretrained import (
    load_config,
    load_pretrained,
    narrow_all_but_head,
    pretrained_tokenizer,
)
from siftune.curate.models.resolve import folder_hash, model_folder
from siftune.curate.models.token_ids import check_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "FACTS",
    "DType",
    "check_critic",
    "check_read_by",
    "check_same_size",
    "check_same_tokens",
    "check_writes",
    "config_of",
    "device",
    "is_reward_model",
    "load_causal",
    "load_reward",
    "load_tokenizer",
    "model_hash",
    "placed",
    "read_facts",
    "resolve",
    "shown",
]

DType: TypeAlias = Literal["float32", "bfloat16"]

_RUNS_CODE: Final = ("auto_map", "_attn_implementation")


def resolve(model: str | Path) -> Path:
    """The folder of a model: itself, one of `siftune models list`, or a hub name's download.

    Raises:
        UsageError: there is no such folder, it has no ``config.json`` or no safetensors weights,
            a settings file is none, or one asks for code of its own to be run.
    """
    folder = model_folder(model)
    if not (folder / "config.json").is_file():
        _refuse_adapter(model, folder)
        raise UsageError(f"{model} is not a model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{model} has no .safetensors weights: other weight files can run code when they are "
            "loaded and are refused; get or convert the weights first"
        )
    check_settings(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            _refuse_code(folder / name)
    return folder


def _refuse_adapter(model: str | Path, folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{model} holds an adapter, not a whole model: train with --adapter both, or merge it "
            "into its base model, and give the folder of the merged one"
        )


def _refuse_code(path: Path) -> None:
    for key in _keys(read_object(path)):
        if key.startswith(_RUNS_CODE):
            raise UsageError(
                f"{path}: the key {key!r} makes transformers run code that came with the model; "
                "such models are refused; use one of a built-in architecture, or remove the key "
                "if the architecture is built in"
            )


def _keys(value: Any) -> Iterator[str]:
    """Every key of a JSON value, at any depth: sub-configurations can name code too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is not None:
                yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def device() -> torch.device:
    """Where models run: the first CUDA device, else the CPU."""
    import torch

    return torch.device(device_name())


def placed(model: PreTrainedModel) -> PreTrainedModel:
    """The model, moved to where models run."""
    model.to(device())  # type: ignore[arg-type]
    return model


def config_of(model: str | Path) -> Any:
    """The configuration of a model folder.

    Raises:
        UsageError: the folder is refused (see `resolve`), or no model can be made from it.
    """
    return load_config(resolve(model))


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; without a padding token that has no embedding.

    Raises:
        UsageError: the folder is refused (see `resolve`) or holds no tokenizer.
    """
    config = config_of(model)  # what is wrong there is no fault of the tokenizer
    return pretrained_tokenizer(resolve(model), config)


def load_causal(
    model: str | Path, dtype: DType = "float32", *, in_4bit: bool = False
) -> PreTrainedModel:
    """A causal language model on the CPU, in eval mode.

    Weights that are trained are float32: steps of a small learning rate vanish in bf16 ones. A
    frozen model (a reference, a sampler, the base under an adapter) can be loaded as ``bfloat16``
    (`precision.frozen_dtype`); one that only an adapter is trained on also ``in_4bit``
    (where models run, not on the CPU alone).

    Raises:
        UsageError: the folder is refused, lacks tensors or has some too many, holds NaN, or holds
            another kind of model.
    """
    from transformers import AutoModelForCausalLM

    check_writes(model)
    more = _four_bits(dtype) if in_4bit else {}
    loaded: PreTrainedModel = _load(AutoModelForCausalLM, model, dtype, **more)
    for part in loaded.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            # bitsandbytes' packed CPU kernel, taken up at the first evaluation, has no gradient
            part.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return loaded


def check_writes(model: str | Path) -> None:
    """Refuse a model that cannot generate text, such as one of sentence embeddings.

    Raises:
        UsageError: its architecture is the bare trunk of an encoder.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    settings = read_object(resolve(model) / "config.json")
    kinds = [str(kind) for kind in settings.get("architectures") or []]
    encodes = settings.get("model_type") in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    bare = all(kind.endswith("Model") and "LMHead" not in kind for kind in kinds)
    if encodes and kinds and bare and not settings.get("is_decoder"):
        raise UsageError(
            f"{model} is an embedding model ({', '.join(kinds)}): it reads texts and writes none; "
            "give a causal language model, such as smollm2 (`siftune models list`)"
        )


def _four_bits(dtype: DType) -> dict[str, Any]:
    """NF4 with double quantisation, as in QLoRA, arXiv:2305.14314, section 3."""
    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise UsageError("4-bit weights need bitsandbytes: pip install 'siftune[qlora]'")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config, "device_map": {"": device()}}


def is_reward_model(model: str | Path) -> bool:
    """Whether the folder holds a trained sequence classifier, not a bare backbone."""
    kinds = read_object(resolve(model) / "config.json").get("architectures") or []
    return any(kind.endswith("ForSequenceClassification") for kind in kinds)


def load_reward(
    model: str | Path, dtype: DType = "float32", seed: int = 0, classes: Sequence[str] = ()
) -> PreTrainedModel:
    """A model that gives one number to a text, or one to each of ``classes``, in eval mode.

    The folder holds a reward model, or a backbone (a causal model, or an encoder such as MiniLM)
    that gets a fresh head, drawn from ``seed``. The head is float32 whatever ``dtype`` is: a score
    in bf16 would have three digits.

    Raises:
        UsageError: the folder is refused, damaged, or is a classifier of other classes.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    labels, wanted = config_of(model).num_labels, len(classes) or 1
    if is_reward_model(model) and labels != wanted:
        gate = (resolve(model) / "gate.safetensors").is_file()
        gated = "; with its gate it is a reward: --reward FOLDER" if gate else ""
        needed = f"{wanted} are needed" if classes else "a reward model gives one number"
        raise UsageError(
            f"{model} is a classifier of {labels} classes: {needed} "
            f"(num_labels={wanted}); start from a reward model, a causal model or an encoder{gated}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded: PreTrainedModel = _load(
            AutoModelForSequenceClassification,
            model,
            "float32",
            num_labels=wanted,
            backbone=not is_reward_model(model),
        )
    if classes:
        loaded.config.id2label = dict(enumerate(classes))
        loaded.config.label2id = {name: at for at, name in enumerate(classes)}
    if dtype != "float32":
        narrow_all_but_head(loaded, getattr(torch, dtype), wanted)
    if loaded.config.pad_token_id is None:  # causal heads find the last token by it
        loaded.config.pad_token_id = load_tokenizer(model).pad_token_id
    return loaded


def _load(auto: Any, model: str | Path, dtype: DType, **more: Any) -> Any:
    import torch

    return load_pretrained(auto, resolve(model), dtype=getattr(torch, dtype), **more)


def model_hash(model: str | Path) -> str:
    """128-bit digest of what makes a model: weights, configuration, tokenizer and template."""
    return folder_hash(resolve(model))


def read_facts(model: str | Path) -> dict[str, Any]:
    """The facts in ``siftune.json`` of a model folder; empty where there is none."""
    path = Path(model) / FACTS
    facts: dict[str, Any] = read_object(path) if path.is_file() else {}
    return facts


def shown(path: str | Path) -> str:
    """A path as it may be published: a relative one as it is, an absolute one by its last parts.

    >>> shown("/home/me/runs/alpaca/kept.parquet"), shown("runs/sft"), shown("org/name")
    ('alpaca/kept.parquet', 'runs/sft', 'org/name')
    """
    given = Path(path)
    return "/".join(given.parts[1:][-2:]) if given.is_absolute() else given.as_posix()


def check_read_by(model: str | Path, tokenizer: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse ids of ``tokenizer`` that ``model``, such as a reference, has no embedding of.

    Raises:
        UsageError: there are some; the text has the largest.
    """
    check_ids(rows, config_of(model), model, tokenizer)


def check_same_size(model: str | Path, other: str | Path, name: str) -> None:
    """Refuse two models whose distributions over all tokens could not be compared or mixed.

    ``name`` is the option that names ``other``.

    Raises:
        UsageError: they have another number of embeddings.
    """
    own, its = (embeddings_of(config_of(each)) for each in (model, other))
    if own != its:
        raise UsageError(
            f"{name} {other} has the vocab_size {its}, and {model} has {own}: whole distributions "
            "are compared, so expected a model with as many tokens, such as the one that the "
            "other was trained from"
        )


def check_same_tokens(model: str | Path, other: str | Path, name: str) -> None:
    """Refuse two models whose tokenizers give different ids; ``name`` is the option of ``other``.

    Raises:
        UsageError: their vocabularies differ.
    """
    own, its = (load_tokenizer(each).get_vocab() for each in (model, other))
    if own != its:
        first = sorted(dict(own.items() ^ its.items()))[0]
        raise UsageError(
            f"{name} {other} has another tokenizer than {model} (they differ in {first!r}): "
            "distributions over tokens are compared, so expected one with the same vocabulary"
        )


def check_critic(policy: Any, critic: Any, folder: str | Path) -> None:
    """Refuse a critic without embeddings of tokens that the policy can write.

    Raises:
        UsageError: it has fewer than the policy.
    """
    own, its = embeddings_of(policy.config), embeddings_of(critic.config)
    if own is not None and its is not None and its < own:
        raise UsageError(
            f"critic_model {folder} has the vocab_size {its}, and the policy {own}: it could not "
            "read all tokens that the policy writes; start it from a model with as many"
        )
