"""Merge the weights of several models into one: averages, SLERP, TIES, DARE, or your method."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import quiet_transformers
from siftune.curate.core.ranges import NonNegative, Seed, check_ranges
from siftune.curate.core.registry import build, code_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.models.adapters import classifies, load_merged
from siftune.curate.models.lineage import lineage
from siftune.curate.models.model_files import listed, read_object
from siftune.curate.models.resolve import adapter_base, model_folder
from siftune.finetune.core.distributed import notify
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data.system_prompts import SystemPrompts
from siftune.finetune.models import loading
from siftune.finetune.models.saving import base_facts, write_facts
from siftune.finetune.models.tensor_files import TensorFiles, write_tensors
from siftune.finetune.reward_models.members import GATE

if TYPE_CHECKING:
    from torch import Tensor

    from siftune.finetune.merging.types import Method

__all__ = ["Merge", "result_line"]

_COMMAND: Final = "finetune merge"
_METHODS: Final = "finetune.merging"
_OF_NO_WEIGHT: Final = frozenset(
    {
        *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
        *("use_cache", "bos_token_id", "eos_token_id", "pad_token_id"),
    }
)
"""Keys of ``config.json`` that may differ between the models: those of the first stay."""


@dataclass(frozen=True)
class Merge:
    """One model whose weights are made from those of several models of one architecture.

    Every tensor is merged in a format wider than the stored one (bf16 in fp32, fp32 in fp64) and
    rounded once, so that the average of equal models is that model, byte for byte. Tensors are
    read one by one. The result has the widest number format of the models; configuration and
    tokenizer are those of the first. A tied output embedding stays tied. A model may be an adapter
    of PEFT: what is merged is ``W + (alpha / rank) B A``, not its factors. Models of another
    architecture or another vocabulary are refused, as are reward models with other system prompts
    of their domains; equal ones hold for the merged model. It has no calibration, no states of
    known answers and no gate: those hold for the weights that they were fitted to.

    ``siftune.json`` has the hash and the weight of each model, and how far each is from the result:
    the length of the difference of all weights.

    Options:
        models: The models: folders, names of `siftune models list`, or names on the hub.
        method: How they are merged: linear, slerp, ties, dare, or FILE.py:NAME.
        weights: Weight of each model, of which only the ratios count; equal by default.
        base: The model that all were trained from, whose difference ties and dare merge; linear
            and slerp refuse one.
        method_options: Options of the method by their names, such as density=0.3.
        seed: Seed of the entries that dare drops.
    """

    models: tuple[str, ...]
    method: str = "linear"
    weights: tuple[NonNegative, ...] = ()
    base: str | None = None
    method_options: Mapping[str, Any] = field(default_factory=dict)
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        if len(self.models) < 2:
            raise ValueError(f"models: expected two at least, got {len(self.models)}")
        if self.weights and len(self.weights) != len(self.models):
            raise ValueError(
                f"weights: expected one for each of the {len(self.models)} models, "
                f"got {len(self.weights)}"
            )
        if self.weights and not 0 < math.fsum(self.weights) < math.inf:
            raise ValueError("weights: expected one above 0 at least, got none")

    def check_options(self) -> None:
        """Refuse a method or an option of it, before a model is read.

        Raises:
            UsageError: no such method or option, or it does not take these models.
        """
        self._method()

    def _method(self) -> Method:
        method: Method = build(_METHODS, self.method, self.method_options)
        most = getattr(method, "most", None)
        if most is not None and len(self.models) > most:
            raise UsageError(f"{self.method} merges {most} models, got {len(self.models)}")
        if getattr(method, "needs_base", False) and self.base is None:
            raise UsageError(
                f"{self.method} merges changes from a base model: give the model that all were "
                "trained from, --base MODEL"
            )
        if self.base is not None and getattr(method, "needs_base", None) is False:
            raise UsageError(
                f"base: {self.method} merges whole models and reads no base model: leave --base "
                "out, or take a method that merges changes from it, such as ties or dare"
            )
        return method

    def __call__(self, out: Path) -> TrainResult:
        """Write the model folder ``out``.

        Raises:
            UsageError: an option or a model does not fit, or ``out`` is not of an earlier merge.
        """
        method = self._method()
        check_folder(out, _COMMAND)
        with ExitStack() as held:
            named = [*self.models, *([self.base] if self.base is not None else [])]
            folders = [_whole(model, held) for model in named]
            _check_alike(named, folders)
            prompts = SystemPrompts.of_models(self.models)
            files = [TensorFiles(folder) for folder in folders]
            names = _check_tensors(named, files, _tied(folders[0]))
            first = loading.load_tokenizer(folders[0])
            merged = _Merged(method, self._shares(), files, len(self.models), self.seed)
            with whole_folder(out, _COMMAND) as part:
                write_tensors(((name, merged(name)) for name in names), part)
                _write_config(folders[0], part, merged.dtype)
                with quiet_transformers():
                    first.save_pretrained(part)
                write_facts(part, out.name, self._facts(merged, prompts))
        _warn_of_lost(self.models, out)
        return TrainResult(out, 0, merged.metrics())

    def hashes(self) -> list[str]:
        """The hash of each model, and of the base."""
        return [lineage(model)[0] for model in (*self.models, *filter(None, [self.base]))]

    def _shares(self) -> list[float]:
        """The weights, adding up to 1."""
        given = self.weights or (1.0,) * len(self.models)
        return [weight / math.fsum(given) for weight in given]

    def _facts(self, merged: _Merged, prompts: SystemPrompts | None) -> dict[str, Any]:
        each = zip(self.models, self._shares(), merged.distances(), strict=True)
        models = {
            str(number): {
                "path": loading.shown(model),
                "hash": lineage(model)[0],
                "weight": share,
                "distance": distance,
            }
            for number, (model, share, distance) in enumerate(each, 1)
        }
        base = base_facts(_base_of(self.models[0]))
        parents = dict.fromkeys(known for model in self.models for known in lineage(model))
        parents.pop(base["hash"], None)
        extra: dict[str, Any] = {}
        if self.base is not None:
            extra = {
                "changes_from": {"path": loading.shown(self.base), "hash": lineage(self.base)[0]}
            }
        return {
            "stage": "merge",
            "method": self.method,
            "base": {**base, "ancestors": [*parents]},
            "merged": models,
            **extra,
            "command": self._command(),
            "options": {
                **asdict(self),
                "models": [loading.shown(one) for one in self.models],
                **(prompts.options if prompts is not None else {}),
            },
            "code": code_of(_METHODS, self.method),
            "seed": self.seed,
            "metrics": merged.metrics(),
        }

    def _command(self) -> str:
        words = ["siftune", "finetune", "merge", *map(loading.shown, self.models)]
        words += ["--method", self.method]
        if self.weights:
            words += ["--weights", ",".join(repr(one).removesuffix(".0") for one in self.weights)]
        if self.base is not None:
            words += ["--base", loading.shown(self.base)]
        for name, value in self.method_options.items():
            words += ["--method-options", f"{name}={value}"]
        return shlex.join([*words, *(["--seed", str(self.seed)] if self.seed else [])])


def result_line(result: TrainResult) -> str:
    """What a merge came to: the number of tensors, and the distance of each model."""
    found = dict(result.metrics)
    tensors = found.pop("tensors")
    far = ", ".join(f"{distance:.4g}" for distance in found.values())
    return f"{result.model}: {tensors:,.0f} tensors merged; distance from each model: {far}"


def _base_of(model: str) -> Path:
    """The folder of a model, or of the model under an adapter."""
    folder = model_folder(model)
    return adapter_base(folder) or folder


def _whole(model: str, held: ExitStack) -> Path:
    """The folder of a model; an adapter is merged into its base in one that ``held`` removes."""
    folder = model_folder(model)
    if adapter_base(folder) is None:
        return loading.resolve(model)
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto = AutoModelForSequenceClassification if classifies(folder) else AutoModelForCausalLM
    made = Path(held.enter_context(TemporaryDirectory()))
    with quiet_transformers():
        load_merged(auto, folder, torch.float32).save_pretrained(made)
        loading.load_tokenizer(_base_of(model)).save_pretrained(made)
    return made


def _check_alike(models: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse models of another architecture, or that read other tokens.

    Raises:
        UsageError: there are some; the text has the first difference.
    """
    first, *rest = map(_identity, folders)
    for model, (config, tokens) in zip(models[1:], rest, strict=True):
        both = {*first[0], *config} - _OF_NO_WEIGHT
        other = sorted(key for key in both if first[0].get(key) != config.get(key))
        if other:
            key = "vocab_size" if "vocab_size" in other else other[0]
            raise UsageError(
                f"{model} and {models[0]} cannot be merged: {key} is {config.get(key)!r} in the "
                f"one and {first[0].get(key)!r} in the other; expected models of one architecture"
            )
        if tokens != first[1]:
            where = sorted(dict(tokens.items() ^ first[1].items()))[0]
            raise UsageError(
                f"{model} and {models[0]} cannot be merged: their tokenizers differ, as in "
                f"{where!r}; expected models with one vocabulary"
            )


def _warn_of_lost(models: Sequence[str], out: Path) -> None:
    """Print which parts of reward models the merged one lacks."""
    folders = [model_folder(model) for model in models]
    facts = [loading.read_facts(folder) for folder in folders]
    lost = {
        "calibration": any(isinstance(one.get("calibration"), dict) for one in facts),
        "states of known answers": any(isinstance(one.get("known_states"), dict) for one in facts),
        "gate": any((folder / GATE).is_file() for folder in folders),
    }
    if any(lost.values()):
        notify(
            f"warning: {out} lacks what the merged reward models had beside their weights: "
            f"{', '.join(name for name, is_lost in lost.items() if is_lost)}; it holds only for "
            "the weights it was fitted to, and `siftune finetune reward` fits it anew"
        )


def _identity(folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The configuration and the vocabulary of a model."""
    return loading.config_of(folder).to_dict(), loading.load_tokenizer(folder).get_vocab()


def _tied(folder: Path) -> frozenset[str]:
    """Names of tensors that a model takes from others, which some folders have all the same."""
    config = loading.config_of(folder)
    if not getattr(config.get_text_config(), "tie_word_embeddings", False):
        return frozenset()
    return frozenset({"lm_head.weight", "embed_out.weight", "output.weight"})


def _check_tensors(
    models: Sequence[str], files: Sequence[TensorFiles], tied: frozenset[str]
) -> list[str]:
    """The names of the tensors, in the order of the first model, tied copies left out.

    Raises:
        UsageError: a model lacks one, or has one of another shape.
    """
    first = files[0]
    names = [name for name in first if name not in tied or all(name in one for one in files)]
    for model, own in zip(models[1:], files[1:], strict=True):
        different = {*own} ^ {*first}
        if left := different - tied:
            raise UsageError(
                f"{model} and {models[0]} cannot be merged: {listed(sorted(left))} only in one of "
                "them; expected the same tensors"
            )
        for name in names:
            if own.shape(name) != first.shape(name):
                raise UsageError(
                    f"{model} and {models[0]} cannot be merged: {name} is {own.shape(name)} in the "
                    f"one and {first.shape(name)} in the other"
                )
    return names


@dataclass
class _Merged:
    """Tensors merged one by one, and the distance of each model from the result."""

    method: Callable[..., Any]
    shares: Sequence[float]
    files: Sequence[TensorFiles]
    count: int
    seed: int
    squares: list[float] = field(default_factory=list)
    dtype: Any = None
    tensors: int = 0

    def __call__(self, name: str) -> Tensor:
        """The merged tensor of a name, in the widest format of the models' tensors.

        Raises:
            UsageError: it is no floating-point tensor and not the same in all, or is not finite.
        """
        import torch

        from siftune.finetune.merging.types import Group

        given = [one[name] for one in self.files]
        own = given[: self.count]
        if not all(one.is_floating_point() for one in given):
            return _equal(name, own)
        stored = own[0].dtype
        for one in own[1:]:
            stored = torch.promote_types(stored, one.dtype)
        wide = torch.float32 if stored.itemsize < 4 else torch.float64
        models = torch.stack([one.to(wide) for one in own])
        base = given[self.count].to(wide) if len(given) > self.count else None
        shares = torch.tensor(self.shares, dtype=wide)
        found: Tensor = self.method(Group(models, shares, base, (self.seed, name))).to(stored)
        if found.shape != own[0].shape:
            raise UsageError(f"{name}: the method gave {tuple(found.shape)}, expected its shape")
        if not torch.isfinite(found).all():
            raise UsageError(
                f"{name}: the merged weights are not finite: a model has NaN or infinity there, or "
                "they are too large for its number format"
            )
        self._count(models, found.to(wide), stored)
        return found

    def _count(self, models: Tensor, found: Tensor, stored: Any) -> None:
        import torch

        squares = (models - found).double().square().flatten(1).sum(1).tolist()
        self.squares = [
            a + b for a, b in zip(self.squares or [0.0] * len(squares), squares, strict=True)
        ]
        self.dtype = stored if self.dtype is None else torch.promote_types(self.dtype, stored)
        self.tensors += 1

    def distances(self) -> list[float]:
        """The distance of each model from the result."""
        return [math.sqrt(one) for one in self.squares]

    def metrics(self) -> dict[str, float]:
        """The number of tensors, and the distance of each model from the result, by its number."""
        each = enumerate(self.distances(), 1)
        return {"tensors": self.tensors, **{f"distance_{number}": one for number, one in each}}


def _equal(name: str, tensors: Sequence[Tensor]) -> Tensor:
    """A tensor that is not merged, since all models have the same."""
    if not all(one.equal(tensors[0]) for one in tensors):
        raise UsageError(
            f"{name} has whole numbers that differ between the models: quantised weights cannot be "
            "merged; merge the models before they are quantised"
        )
    return tensors[0]


def _write_config(folder: Path, out: Path, dtype: Any) -> None:
    """The configuration and the settings of generation of the first model, with the dtype."""
    config = read_object(folder / "config.json")
    named = next((key for key in ("dtype", "torch_dtype") if key in config), "dtype")
    write_json(out / "config.json", {**config, named: str(dtype).removeprefix("torch.")})
    settings = folder / "generation_config.json"
    if settings.is_file():
        write_json(out / settings.name, read_object(settings))
