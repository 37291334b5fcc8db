"""Models in memory, such as one of a notebook, as the folders that trainers read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import quiet_transformers
from siftune.curate.models.model_files import one_line
from siftune.session import Scratch, scratch

__all__ = ["ModelsInMemory"]

_OPTIONS: Final = ("model", "ref_model", "reference", "critic_model")
_FOLDER: Final = "in_memory"  # with the option's name all that is left of the path in a model card
_SAVE: Final = "save it with save_pretrained, its tokenizer beside it, and give the folder"


@dataclass(frozen=True)
class ModelsInMemory:
    """The models among options that are objects of `transformers`, and the tokenizer of them all.

    ``options`` have folders in place of these objects, which `write` makes. They are removed with
    this object.
    """

    options: Mapping[str, Any]
    models: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Any = None
    place: Scratch | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ModelsInMemory:
        """Those of ``given``, whose option ``tokenizer`` is taken out; nothing is written yet.

        Raises:
            UsageError: an object cannot be written as a folder that is read back as the same model.
        """
        options = {key: value for key, value in given.items() if key != "tokenizer"}
        tokenizer = given.get("tokenizer")
        models = {key: value for key, value in options.items() if _is_model(key, value)}
        for key, model in models.items():
            _check(key, model)
        if not models:
            if tokenizer is not None:
                raise UsageError(
                    "tokenizer= is for a model in memory: a folder has its own; "
                    "model.save_pretrained and tokenizer.save_pretrained write one of both"
                )
            return cls(options)
        if options.get("adapter", "merge") != "merge":
            raise UsageError(
                f"adapter: with {options['adapter']} the adapter names its base model, and one in "
                f"memory has no name: {_SAVE}"
            )
        _check_tokenizer(next(iter(models)), tokenizer)
        place = scratch()
        folders = {key: str(place.path / _FOLDER / key) for key in models}
        return cls(options | folders, models, tokenizer, place)

    def write(self) -> None:
        """Write the folders.

        Raises:
            UsageError: transformers cannot write one.
        """
        for key, model in self.models.items():
            try:
                with quiet_transformers():
                    model.save_pretrained(self.options[key])
                    self.tokenizer.save_pretrained(self.options[key])
            except Exception as error:  # each family has its own
                raise UsageError(
                    f"{key}: the model in memory cannot be written as a folder ({one_line(error)})"
                ) from None


def _is_model(key: str, value: Any) -> bool:
    """Whether it is a model; a module that is a user's own reward is none."""
    torch = sys.modules.get("torch")  # a model is there only where it has been imported
    if torch is None or not isinstance(value, torch.nn.Module):
        return False
    return key in _OPTIONS or _is_of_transformers(value)


def _check(key: str, model: Any) -> None:
    from transformers import PreTrainedModel

    kind = type(model).__name__
    if key not in _OPTIONS:
        raise UsageError(f"{key}: expected a name or a folder, got a {kind} in memory: {_SAVE}")
    if hasattr(model, "peft_config") or getattr(model, "_hf_peft_config_loaded", False):
        raise UsageError(
            f"{key}: the {kind} has an adapter on it: give what model.merge_and_unload() returns"
        )
    if not isinstance(model, PreTrainedModel) or not _is_of_transformers(model):
        raise UsageError(
            f"{key}: expected a model of a class of transformers itself, got {_class_of(model)}: "
            "others are read back only by code that came with them, and are refused"
        )
    method = getattr(model.config, "quantization_config", None)
    if method is not None or getattr(model, "is_quantized", False):
        raise UsageError(
            f"{key}: the weights are quantised: give the model as it was before "
            "(load_in_4bit=True quantises the base of an adapter while it is loaded)"
        )
    if any(weight.device.type == "meta" for weight in model.parameters()):
        raise UsageError(f"{key}: some weights are not in memory (device meta): load all of them")


def _check_tokenizer(key: str, tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    if tokenizer is None:
        raise UsageError(f"{key} is a model in memory: give its tokenizer, too: tokenizer=...")
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not _is_of_transformers(tokenizer):
        raise UsageError(
            "tokenizer: expected one of a class of transformers itself, such as "
            f"AutoTokenizer.from_pretrained gives, got {_class_of(tokenizer)}"
        )


def _is_of_transformers(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "transformers"


def _class_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
