"""Names of training methods in commands and recipes; no component is imported."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any, Final

from siftune.curate.core.custom_file import custom_thing, is_custom
from siftune.curate.core.errors import UsageError, closest
from siftune.curate.core.registry import declared, find, names, options

__all__ = [
    "FAMILIES",
    "JUDGE",
    "OPTIONS_OF_ARGUMENTS",
    "PREFERENCE",
    "SET_BY_US",
    "TOOLS",
    "TRAINERS",
    "TRAINER_GROUP",
    "advice_on",
    "advice_on_method",
    "family_of",
    "given_to",
    "objectives",
    "option_of",
    "reads_of",
]

OPTIONS_OF_ARGUMENTS: Final[Mapping[str, str]] = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "save_steps": "save_every",
    "logging_steps": "log_every",
    "data_seed": "seed",
}
"""Our options in place of arguments of transformers' trainers."""

_OPTIONS_OF_SCRIPTS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (option,) for name, option in OPTIONS_OF_ARGUMENTS.items()},
    "batch": ("batch_size",),
    "output_dir": ("out",),
    "model_name_or_path": ("model",),
    "base": ("model",),
    "model_name": ("model",),
    "sft_model_path": ("model",),
    "reward_model_path": ("reward",),
    "max_seq_length": ("max_length",),
    "max_completion_length": ("max_new_tokens",),
    "response_length": ("max_new_tokens",),
    "eval_dataset": ("eval_rows",),
    "use_peft": ("lora",),
    "lora_r": ("lora",),
    "num_ppo_epochs": ("epochs",),
    "num_mini_batches": ("minibatches",),
    "reward_funcs": ("reward",),
    "reward_model": ("reward",),
    "lr_scheduler_type": ("schedule",),
    "precompute_ref_log_probs": ("precompute_reference",),
    "ref_model_sync_steps": ("ref_sync_steps",),
    "sync_ref_model": ("ref_sync_steps",),
    "ref_model_mixup_alpha": ("ref_mixup_alpha",),
    "center_rewards_coefficient": ("center",),
    "early_stopping_patience": ("patience",),
    "num_generations": ("group_size", "count"),
    "num_iterations": ("epochs",),
    "epsilon": ("cliprange",),
    "epsilon_high": ("clip_high",),
    "mask_truncated_completions": ("truncated",),
    "reward_weights": ("reward",),
    **dict.fromkeys(("bf16", "fp16", "torch_dtype", "dtype"), ("precision",)),
}
"""Our options in place of those of the scripts of TRL, the first that a method has."""


def option_of(name: str, known: Container[str]) -> str | None:
    """The option among ``known`` that an argument of TRL or transformers is called here.

    >>> option_of("learning_rate", {"lr", "epochs"}), option_of("warmup_steps", {"lr"})
    ('lr', None)
    """
    return next((one for one in _OPTIONS_OF_SCRIPTS.get(name, ()) if one in known), None)


SET_BY_US: Final[Mapping[str, str]] = {
    "do_train": "the command trains",
    "resume_from_checkpoint": "a run that was cut off is resumed without it",
    "trust_remote_code": "models that bring code are refused",
    "push_to_hub": "the result is a local folder",
    "hub_token": "the result is a local folder, and secrets come from the environment only",
    "report_to": "metrics go to metrics.jsonl",
    "dataset_kwargs": "rows are tokenized before the trainer sees them",
    "remove_unused_columns": "rows are tokenized before the trainer sees them",
    "save_strategy": "set save_every",
    "eval_strategy": "set eval_rows",
    "logging_nan_inf_filter": "a loss that is not finite ends the run",
    "prediction_loss_only": "an evaluation needs more than the loss",
}
"""Arguments of transformers' trainers that nobody can set here, and why, or what to set."""

_METHODS_OF_ARGUMENTS: Final[Mapping[str, str]] = {
    "label_smoothing": "cdpo",
    "f_divergence_type": "f_dpo",
    "ld_alpha": "ld_dpo",
    "use_weighting": "wpo",
    "discopop_tau": "discopop",
}
"""Objectives that are an argument of DPO's trainer in TRL."""

_ADAPTER: Final = "an adapter is on all linear layers, without dropout: set lora and lora_alpha"

_NOT_HERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("lora_dropout", "lora_target_modules", "target_modules"), _ADAPTER),
    **dict.fromkeys(("peft_config", "lora_modules_to_save"), _ADAPTER),
    **dict.fromkeys(
        ("processing_class", "tokenizer"),
        "the tokenizer is that of the model's folder; in Python a model in memory comes with its "
        "own, tokenizer=",
    ),
    "args": "what a configuration of TRL has is given one by one, as options such as lr",
    "attn_implementation": "the attention is the one that transformers takes for the model",
    "reward_model": "only ppo and sample take a reward",
}
"""Arguments of TRL's trainers and scripts that have no option, and what is there instead."""

_NAMES_OF_ROWS: Final = ("dataset_name", "dataset", "train_dataset", "train_file", "data_path")


def advice_on(name: str, known: Container[str], method: str) -> str | None:
    """What to give in place of an argument of TRL or transformers that a method does not have.

    ``known`` are the method's options. None where nothing is known of the name.

    >>> advice_on("learning_rate", {"lr"}, "dpo")
    'did you mean --lr?'
    >>> advice_on("report_to", {"lr"}, "dpo")
    'metrics go to metrics.jsonl'
    """
    option = option_of(name, known)
    if option is not None:
        return f"did you mean --{option.replace('_', '-')}?"
    if name in _NAMES_OF_ROWS:
        return f"the rows are the first argument: siftune finetune {method} ROWS"
    if name == "loss_type" and method in objectives():
        return "each objective is a method, as `siftune finetune losses` lists them: name its own"
    objective = _METHODS_OF_ARGUMENTS.get(name)
    if objective in objectives():
        return f"it is a training on preferences of its own: siftune finetune {objective}"
    if method == _ENSEMBLE and (inner := option_of(name, options(find(*_MEMBER)))):
        return f"it is an option of its members: --reward-options {inner}=VALUE"
    if name in SET_BY_US or name in _NOT_HERE:
        return SET_BY_US.get(name) or _NOT_HERE[name]
    return _as_passed_on(name) if "options" in known else None


def _as_passed_on(name: str) -> str | None:
    """How an argument of the Hugging Face trainer is given; None if it has none of that name."""
    if name == "warmup_ratio":
        return "a share of the steps, below 1, is given as -o warmup_steps=VALUE"
    if name in _passed_on():
        return f"an argument of the Hugging Face trainer is given as -o {name}=VALUE"
    return None


def _passed_on() -> Container[str]:
    """Arguments of transformers' trainers; imported only to answer a mistake."""
    with suppress(ImportError):
        from transformers import TrainingArguments

        return TrainingArguments.__dataclass_fields__
    return ()


TRAINER_GROUP: Final = "finetune.trainers"

PREFERENCE: Final = "preference"
_ENSEMBLE: Final = "reward_ensemble"
_MEMBER: Final = (TRAINER_GROUP, "reward_model")
"""The trainer of `TRAINER_GROUP` that runs every objective."""


def _trainers() -> dict[str, str]:
    """Every other trainer by its command: its ``command``, or else its name."""
    found = [name for name in names(TRAINER_GROUP) if name != PREFERENCE]
    return {str(declared(TRAINER_GROUP, name).get("command", name)): name for name in found}


TRAINERS: Final = _trainers()
"""Methods that are a trainer of their own, and its name in `TRAINER_GROUP`."""

JUDGE: Final = ("finetune.judge_training", "judge")
"""Package and module of the training of a judge; in recipes ``judge`` is a step that asks one."""

_TOOLS: Final = (
    *("init", "evaluate", "sample", "rejection", "coverage", "merge", "propose_reward"),
)
TOOLS: Final = {
    **{name: ("finetune.tools", name) for name in _TOOLS},
    **{name: ("finetune.comparison", name) for name in ("compare", "conformance")},
}
"""Commands that train nothing: the package and the module that has each."""

FAMILIES: Final = (
    "finetune.losses.pair",
    "finetune.losses.unpaired",
    "finetune.losses.token",
    "finetune.losses.listwise",
)
"""Groups of objectives by what they are given."""


def objectives() -> tuple[str, ...]:
    """Every objective, family by family; a name of two families is listed once."""
    return tuple(dict.fromkeys(name for group in FAMILIES for name in names(group)))


def reads_of(method: str) -> str:
    """Which rows of a pipeline a method trains on: ``rows`` or ``pairs``, as its trainer declares.

    >>> reads_of("sft"), reads_of("dpo")
    ('rows', 'pairs')
    """
    return str(declared(TRAINER_GROUP, TRAINERS.get(method, PREFERENCE)).get("reads", "pairs"))


def family_of(objective: str) -> str | None:
    """The group of `FAMILIES` that has an objective, or that a user's own is like; None if none.

    Raises:
        UsageError: the file of a user's own cannot be imported, or its loss takes both sides.
    """
    if is_custom(objective):
        return _family_of_custom(custom_thing(objective))
    return next((group for group in FAMILIES if objective in names(group)), None)


_NAMES_OF_TRL: Final[Mapping[str, str]] = {
    "sigmoid": "dpo",
    "sigmoid_norm": "dpo_norm",
    "hinge": "rso_hinge",
    "exo_pair": "exo",
    "nca_pair": "nca",
    "robust": "robust_dpo",
    "aot_pair": "aot",
}
"""Our objectives by their names in TRL's ``loss_type``, where these differ."""


def advice_on_method(name: object, known: tuple[str, ...]) -> str:
    """What to write in place of the name of a method, or of an objective, that is not ``known``.

    >>> advice_on_method("sigmoid", ("dpo", "ipo")), advice_on_method("dpi", ("dpo", "sft"))
    ("sigmoid is TRL's name of dpo", 'did you mean dpo?')
    >>> advice_on_method("grpo", ("gpo",))
    'grpo is no objective: train with `siftune finetune grpo`, or train.grpo'
    """
    if str(name) in TRAINERS and name not in known:
        return f"{name} is no objective: train with `siftune finetune {name}`, or train.{name}"
    ours = _NAMES_OF_TRL.get(str(name).lower())
    return f"{name} is TRL's name of {ours}" if ours in known else closest(name, known)


def _family_of_custom(loss: Any) -> str:
    _refuse_sides(loss)
    given = given_to(loss)
    if given == "answers":
        plain = not inspect.isroutine(loss) and not getattr(loss, "needs_reference", False)
        return f"finetune.losses.{'token' if plain and not _labelled(loss) else 'unpaired'}"
    return f"finetune.losses.{'listwise' if given == 'lists' else 'pair'}"


def _labelled(loss: Any) -> bool:
    return bool(getattr(loss, "needs_label", False))


def given_to(loss: Any) -> str:
    """What a loss, its class or a function is given: ``pairs``, ``answers`` or ``lists``.

    It is told by the annotation of the first parameter: ``AnswerLogps``, ``ListLogps``, else pairs.
    """
    first = _parameters(loss)[:1]
    annotation = str(first[0].annotation) if first else ""
    known = {"AnswerLogps": "answers", "ListLogps": "lists"}
    return next((family for name, family in known.items() if name in annotation), "pairs")


def _parameters(loss: Any) -> list[inspect.Parameter]:
    """Those of the call of a loss, its class or a function."""
    call = loss if inspect.isroutine(loss) or not callable(loss) else loss.__call__
    call = loss.__call__ if isinstance(loss, type) else call
    return [one for one in inspect.signature(call).parameters.values() if one.name != "self"]


def _refuse_sides(loss: Any) -> None:
    """Refuse a loss that is called with the two sides of pairs, as losses elsewhere are."""
    given = [one.name for one in _parameters(loss)]
    if any("rejected" in name for name in given[1:]):
        raise UsageError(
            f"{getattr(loss, '__name__', 'the loss')}: it takes one PairLogps, which has chosen "
            f"and rejected, then its options; its parameters are {', '.join(given)}"
        )
