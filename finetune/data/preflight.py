"""Checks before the first step: tokenizer, chat template, lengths, labels, step counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from siftune.curate.chat.control_tokens import end_tokens
from siftune.curate.chat.encoding import (
    Encoded,
    control_tokens,
    encode_chats,
    encode_prompts,
    encode_unmasked,
)
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.distributed import notify
from siftune.finetune.data.row_extras import turns_in
from siftune.finetune.data.training_rows import BAD_ROWS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Problem",
    "check_budget",
    "check_cut",
    "check_labels",
    "check_length",
    "check_padding",
    "check_precision",
    "check_reward_head",
    "check_shortened",
    "check_steps",
    "check_template",
    "check_texts",
    "check_tokenizer",
    "check_truncation",
    "refuse",
    "untrainable",
]

_SHOWN: Final = 5
_EMPTY_THINK: Final = re.compile(r"<think>\s*</think>")
_PROBE: Final = (
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Good morning"},
)


@dataclass(frozen=True)
class Problem:
    """What would go wrong, where (a row id or a setting), and how to fix it."""

    level: Literal["error", "warning"]
    where: str
    what: str
    fix: str
    rows: bool = False  # the data is at fault, not a setting

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


def refuse(problems: Iterable[Problem]) -> None:
    """Show warnings on stderr; stop at the first error.

    Raises:
        DataError: the rows are at fault.
        UsageError: a setting is, or the model.
    """
    found = list(problems)
    for problem in found:
        if problem.level == "warning":
            notify(f"warning: {problem}")
    for problem in found:
        if problem.level == "error":
            raise (DataError if problem.rows else UsageError)(str(problem))


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    """A tokenizer that cannot end or pad a text, or does both with one token."""
    if tokenizer.eos_token_id is None:
        return [Problem("error", "tokenizer", "it has no end-of-text token", "set its eos_token")]
    return check_padding(tokenizer)


def check_padding(tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    """A tokenizer that cannot pad a text, or pads it with the token that ends one."""
    if tokenizer.pad_token_id is None:
        fix = "its end token will pad; better give it a pad_token of its own"
        what = "it has no padding token, or one that the model has no embedding of"
        return [Problem("warning", "tokenizer", what, fix)]
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        what = f"{tokenizer.eos_token!r} both ends a text and pads it"
        fix = "ends are learned here all the same; other tools may mask them with the padding"
        return [Problem("warning", "tokenizer", what, fix)]
    return []


def check_template(
    tokenizer: PreTrainedTokenizerBase, assistant_only_loss: bool = True
) -> list[Problem]:
    """A chat template that is missing, marks nothing to learn, begins twice or never ends.

    A short conversation is encoded with it.
    """
    if not tokenizer.chat_template:
        fix = "start from a model that has one, or train on text rows"
        return [Problem("error", "tokenizer", "conversations, but no chat template", fix)]
    try:
        whole = encode_unmasked(tokenizer, [_PROBE])[0]
        if not assistant_only_loss:
            return _check_begin(tokenizer, whole)
        encoded = encode_chats(tokenizer, [_PROBE])[0]
        asked = encode_prompts(tokenizer, [_PROBE[:1]])[0]
    except DataError as error:
        what = f"it cannot be trained with: {str(error).removeprefix('conversation 1: ')}"
        return [Problem("error", "chat template", what, "a question and an answer were tried")]
    return [
        *_check_begin(tokenizer, encoded.ids),
        *_check_prompt(tokenizer, encoded, asked),
        *_check_end(tokenizer, encoded, whole),
    ]


def _check_begin(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[Problem]:
    first = tokenizer.bos_token_id
    if first is not None and list(ids[:2]) == [first, first]:
        what = f"it begins a text with {tokenizer.bos_token!r} twice"
        return [Problem("error", "chat template", what, "remove one")]
    adds = tokenizer("a")["input_ids"][:1] == [first]
    if first is not None and adds and list(ids[:1]) != [first]:
        what = (
            f"the tokenizer begins plain text with {tokenizer.bos_token!r}, the template does not"
        )
        return [Problem("warning", "chat template", what, "put it first if the model expects it")]
    return []


def _check_prompt(
    tokenizer: PreTrainedTokenizerBase, encoded: Encoded, asked: list[int]
) -> list[Problem]:
    """A generation prompt that the template does not write before a given answer."""
    if encoded.ids[: len(asked)] == asked:
        return []
    same = next(
        (at for at, (one, two) in enumerate(zip(encoded.ids, asked, strict=False)) if one != two),
        min(len(encoded.ids), len(asked)),
    )
    what = f"the generation prompt ends with {tokenizer.decode(asked[same:])!r}, which is not "
    what += "written before an answer that has no reasoning"
    fix = "pairs, unpaired and sampled answers are trained after it, conversations without it"
    return [Problem("warning", "chat template", what, fix)]


def _check_end(
    tokenizer: PreTrainedTokenizerBase, encoded: Encoded, whole: Sequence[int]
) -> list[Problem]:
    learned = [token for token, bit in zip(encoded.ids, encoded.mask, strict=True) if bit]
    while learned and not str(tokenizer.decode([learned[-1]])).strip():
        learned.pop()  # a separator after the end of turn
    if not learned:
        fix = "put {% generation %} around the text of the assistant"
        return [Problem("error", "chat template", "it marks no text of the assistant", fix)]
    last, end = tokenizer.convert_ids_to_tokens(learned[-1]), tokenizer.eos_token
    if last in end_tokens(tokenizer):
        return [] if learned[-1] in whole else [_unended(end)]
    if last in control_tokens(tokenizer):
        what = f"an answer ends with {last!r}, generation stops at {end!r}"
        return [Problem("warning", "chat template", what, f"make {last!r} the eos_token")]
    what = f"an answer ends with {last!r}, not with the end token {end!r}"
    fix = "put it inside {% generation %}, or the model never learns to stop"
    return [Problem("error", "chat template", what, fix)]


def _unended(end: str) -> Problem:
    what = f"it ends no answer: {end!r} is added after the last answer of each conversation"
    return Problem("warning", "chat template", what, "the model learns to stop only there")


def check_length(max_length: int | None, config: Any) -> list[Problem]:
    """A length that the model has no positions for, or of less than two tokens."""
    limit = positions_of(config)
    if max_length is not None and max_length < 2:
        return [Problem("error", "max_length", f"{max_length} tokens hold no answer", "raise it")]
    if limit is not None and max_length is not None and max_length > limit:
        fix = f"set max_length to {limit} or less"
        return [Problem("error", "max_length", f"{max_length}, the model takes {limit}", fix)]
    return []


def check_precision(options: Mapping[str, Any], cpu: bool) -> list[Problem]:
    """Half precision of transformers' trainer on a CPU, where weights train in fp32."""
    wrong = [name for name in ("bf16", "fp16", "tf32") if options.get(name) and cpu]
    fix = "leave it out; --precision bf16 is for frozen models, the base under --lora among them"
    return [Problem("error", name, "there is no GPU here", fix) for name in wrong]


def check_steps(rows: int, per_step: int, epochs: float, drop_last: bool = False) -> list[Problem]:
    """A run that ends before its first optimizer step."""
    if rows and epochs > 0 and (rows >= per_step or not drop_last):
        return []
    what = f"{rows} rows in steps of {per_step}, {epochs:g} epochs: no step would be taken"
    return [Problem("error", "epochs", what, "give more rows or epochs, or a smaller batch_size")]


def check_budget(max_tokens: int, order: Sequence[int]) -> list[Problem]:
    """A token budget that is less than one row."""
    if order:
        return []
    what = f"{max_tokens} tokens are fewer than the first row has"
    return [Problem("error", "max_tokens", what, "raise it")]


def check_reward_head(config: Any) -> list[Problem]:
    """A model that does not give exactly one number to a text."""
    labels = getattr(config, "num_labels", None)
    if labels == 1:
        return []
    fix = "load it with num_labels=1 (siftune.finetune.models.loading.load_reward does)"
    return [Problem("error", "model", f"a reward model has num_labels=1, this one {labels}", fix)]


def check_labels(labels: Sequence[bool]) -> list[Problem]:
    """Unpaired rows that are all good, or all bad."""
    if len(set(labels)) > 1:
        return []
    what = f"all {len(labels)} labels are {labels[0] if labels else 'missing'}"
    fix = "a model learns nothing from one class; add rows of the other"
    return [Problem("error", "label", what, fix, rows=True)]


def check_texts(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]]
) -> list[Problem]:
    """Text that looks like a control token, and empty thinking that would be learned.

    ``rows`` hold an ``id`` and turns, as `data.training_rows` gives them.
    """
    tokens = sorted(control_tokens(tokenizer) - {"<think>", "</think>"})
    control = re.compile("|".join(map(re.escape, tokens))) if tokens else None
    forged, hollow = [], []
    for row in rows:
        texts = list(_texts(row))
        if control and any(control.search(text) for _, text in texts):
            forged.append(row["id"])
        if any(role == "assistant" and _EMPTY_THINK.search(text) for role, text in texts):
            hollow.append(row["id"])
    return [
        *_about(forged, "control tokens are spelled out", "they are trained on as plain text"),
        *_about(hollow, "empty <think></think> is trained on", "cut it out if it is boilerplate"),
    ]


def _texts(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield from ((turn["role"], turn["content"]) for _, turn in turns_in(row))


def _about(ids: Sequence[str], what: str, fix: str) -> list[Problem]:
    if not ids:
        return []
    more = ", ..." if len(ids) > _SHOWN else ""
    counted = f"{what} in {len(ids)} rows ({', '.join(ids[:_SHOWN])}{more})"
    return [Problem("warning", "rows", counted, fix, rows=True)]


def untrainable(
    ids: Sequence[str], encoded: Sequence[Encoded], max_length: int | None
) -> pl.DataFrame:
    """Rows without a token to learn (``id, reason``), of all or of what ``max_length`` leaves."""
    found = []
    for key, row in zip(ids, encoded, strict=True):
        if 1 not in row.mask:
            found.append((key, "no_trained_tokens"))
        elif max_length is not None and 1 not in row.mask[:max_length]:
            found.append((key, "prompt_over_max_length"))
    return pl.DataFrame(found, schema=BAD_ROWS, orient="row")


def check_truncation(
    ids: Sequence[str], encoded: Sequence[Encoded], max_length: int | None
) -> list[Problem]:
    """Rows whose end is cut off, with the token that ends an answer."""
    return check_cut(ids, [len(row.ids) for row in encoded], max_length)


def check_cut(ids: Sequence[str], lengths: Sequence[int], max_length: int | None) -> list[Problem]:
    """Texts (``lengths`` in tokens) that are longer than ``max_length``."""
    if max_length is None:
        return []
    cut = [key for key, length in zip(ids, lengths, strict=True) if length > max_length]
    return _about(cut, f"max_length {max_length} cuts off the end", "raise it or select shorter")


def check_shortened(ids: Sequence[str], max_length: int) -> list[Problem]:
    """Rows whose prompt loses its start so that the answer fits within ``max_length``."""
    return _about(ids, f"max_length {max_length} cuts off the start of the prompt", "raise it")
