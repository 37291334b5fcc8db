"""Model folders: written whole or not at all, with their facts (`siftune.json`) and a card."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.core.markdown import escaped
from siftune.curate.core.progress import quiet_transformers
from siftune.curate.files.atomic import hash_file, write_json, write_text
from siftune.curate.files.outputs import whole_folder
from siftune.curate.models.catalog import CATALOG
from siftune.curate.models.lineage import lineage
from siftune.finetune.models.loading import FACTS, model_hash, read_facts, resolve, shown
from siftune.finetune.models.lora import adapter_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "base_facts",
    "card",
    "command_line",
    "licence_of",
    "save_model",
    "write_facts",
]


def save_model(
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    facts: Mapping[str, Any],
    beside: Path | None = None,
    weights: Mapping[str, Any] | None = None,
    command: str = "finetune",
) -> dict[str, Any]:
    """Write a model folder in one step, and return its facts.

    ``facts`` are the keys of ``siftune.json`` (``stage``, ``method``, ``base``, ``data``,
    ``options``, ``seed``, ``metrics``); versions and hashes, of the model and of each file, are
    added here. The files of the folder ``beside`` (metrics, evaluations) are copied in. ``weights``
    replace the model's own.
    ``command`` marks the folder as written by it. ``model`` None: ``beside`` holds an adapter.

    Raises:
        UsageError: ``out`` may not be replaced (`outputs.whole_folder`).
    """
    with whole_folder(out, command) as part:
        if beside is not None:
            shutil.copytree(beside, part, dirs_exist_ok=True)
        if model is not None:
            with quiet_transformers():
                model.save_pretrained(part, state_dict=_once(model, weights))
        tokenizer.save_pretrained(part)
        digest = adapter_hash(part) if model is None else model_hash(part)
        return write_facts(part, out.name, facts, digest)


def write_facts(
    part: Path, name: str, facts: Mapping[str, Any], digest: str | None = None
) -> dict[str, Any]:
    """Write the facts and the card of a model folder that is else whole; returns the facts.

    ``name`` is that of the folder when it is in place, ``digest`` the model's hash, if known.
    """
    whole = {**facts, "versions": dict(_versions()), "hash": digest or model_hash(part)}
    whole["options"] = _published(facts.get("options"))
    written = sorted(path for path in part.rglob("*") if path.is_file())
    whole["files"] = {path.relative_to(part).as_posix(): hash_file(path) for path in written}
    write_json(part / FACTS, whole)
    write_text(part / "README.md", card(name, whole))
    return whole


def _once(model: Any, weights: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Weights without tied copies, as a model saves its own."""
    if weights is None:
        return None
    return {name: value for name, value in weights.items() if name not in _tied(model)}


def _tied(model: Any) -> Mapping[str, str]:
    return model.all_tied_weights_keys if model.config.tie_word_embeddings else {}


def _published(options: Any) -> Any:
    """Options with absolute paths shortened."""
    if isinstance(options, Mapping):
        return {key: _published(value) for key, value in options.items()}
    if isinstance(options, str) and Path(options).is_absolute():
        return shown(options)
    return options


@cache
def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in ("siftune", "torch", "transformers", "trl")}


_HEAD: Final = """---
library_name: transformers
tags:
- siftune
{licence}---

# {name}

{what}

It loads with plain `transformers`; `siftune.json` beside this card holds the same facts for
programs.
"""
_SHORTENED: Final = (
    "Absolute paths are shortened to their last two names, and the one of the model to its last: "
    "the card is the same wherever it was made. Put your own in their place.\n"
)
_IDENTIFIER: Final = re.compile(r"[\w.-]+")


def card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown of the facts of a model (see `saving.save_model`)."""
    licence = (facts.get("base") or {}).get("licence", "")
    head = f"license: {licence}\n" if _IDENTIFIER.fullmatch(licence) else ""
    parts = [_HEAD.format(name=escaped(name), what=_what(facts), licence=head)]
    parts += _command(name, facts)
    tables = {
        "Data": facts.get("data"),
        "Merged models": facts.get("merged"),
        "Options": _effective(facts),
        "Metrics": facts.get("metrics"),
        "Versions": facts.get("versions"),
    }
    parts += [_table(title, rows) for title, rows in tables.items() if rows]
    return "\n".join(parts)


def _what(facts: Mapping[str, Any]) -> str:
    made = f"Made by `siftune finetune {facts.get('stage', 'train')}`"
    base = facts.get("base")
    if not base:
        return f"{made}, from random weights."
    path, number = escaped(base["path"]), escaped(base["hash"])
    licence = f"is {escaped(base['licence'])}" if "licence" in base else "is not stated"
    return (
        f"{made}, from {path} (hash {number}), seed {facts.get('seed')}. "
        f"The licence of the base model {licence}; the rows may have terms of their own."
    )


def _command(name: str, facts: Mapping[str, Any]) -> list[str]:
    """The command as an indented block, without Markdown in it."""
    if "command" not in facts:
        return []
    line = " ".join(f"{facts['command']} --out {shlex.quote(name)}".split())
    return [f"## Command\n\n    {line}\n", _SHORTENED]


def _effective(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options, with the number format that was used."""
    used = {"precision": facts["precision"]} if "precision" in facts else {}
    return {**(facts.get("options") or {}), **used}


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {escaped(key)} | {_cell(value)} |" for key, value in sorted(rows.items())]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines, ""])


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{escaped(key)}: {_cell(inner)}" for key, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else escaped(value)


_STATED: Final = re.compile(r"(?m)^license:\s*['\"]?([\w .+()-]{1,60}?)['\"]?\s*$")


def base_facts(model: str | Path) -> dict[str, Any]:
    """``path``, ``hash``, ``ancestors`` and, where it is stated, ``licence`` of a base model."""
    licence = licence_of(model)
    stated = {} if licence is None else {"licence": licence}
    known, *ancestors = lineage(resolve(model))
    return {"path": shown(model), "hash": known, **stated, "ancestors": ancestors}


def licence_of(model: str | Path) -> str | None:
    """The licence in `siftune models list`, in the model's card, or of its base model."""
    if str(model) in CATALOG and not Path(model).is_dir():
        return CATALOG[str(model)].licence
    folder = resolve(model)
    stated = _STATED.search(_front_matter(folder / "README.md"))
    if stated is not None:
        return stated[1]
    base = _facts(folder).get("base")
    known = base.get("licence") if isinstance(base, dict) else None
    return known if isinstance(known, str) else None


def _facts(folder: Path) -> dict[str, object]:
    try:
        return read_facts(folder)
    except UsageError:  # not ours, or damaged: its facts are not needed to train
        return {}


def _front_matter(card: Path) -> str:
    """The YAML that a card begins with; empty where there is none."""
    if not card.is_file():
        return ""
    text = card.read_text(encoding="utf-8", errors="replace")
    return text[4:].partition("\n---")[0] if text.startswith("---\n") else ""


_OWN_FLAGS: Final = ("loss_options",)  # options of the loss are options of its command
_LEFT_OUT: Final = ("loss", "options", "cache")  # the command's name, `-o`, a place


def command_line(trainer: Any, command: str, rows: Path | str) -> str:
    """``siftune COMMAND ROWS --option VALUE ...``, but for ``--out``, which changes no result.

    Folders of the machine are shortened as in `loading.shown`.
    """
    words = ["siftune", *command.split(), shown(rows)]
    for field in fields(trainer):
        value = getattr(trainer, field.name)
        if value == _default(field) or value is None:
            continue
        named = getattr(trainer, "names_loss", False)  # its command is not the loss's
        if field.name in _OWN_FLAGS and not named:
            for name, inner in value.items():
                words += _flag(name, inner)
        elif field.name == "options":
            for name, inner in value.items():
                words += ["-o", f"{name}={_text(inner)}"]
        elif field.name not in _LEFT_OUT or (named and field.name == "loss"):
            words += _flag(field.name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    pairs = value.items() if isinstance(value, Mapping) else ()
    for key, inner in pairs:
        yield from (flag, f"{key}={_text(inner)}")
    if not isinstance(value, Mapping):
        yield from (flag, _text(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return shown(value) if Path(value).is_absolute() else value
    return orjson.dumps(value).decode()


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
