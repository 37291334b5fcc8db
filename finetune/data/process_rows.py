"""Answers in steps with labels: PRM800K, Math-Shepherd and TRL's layout, and their token ids."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import schema_of
from siftune.curate.records.turns import text_turn
from siftune.finetune.data.prompt_truncation import shortened

__all__ = ["StepIds", "encode_steps", "read_steps", "steps_of"]

_TAG: Final = "ки"
"""What ends a step in Math-Shepherd."""
_LABELS: Final = {"+": 1, "-": 0}
_SCHEMA: Final = {
    **schema_of("conversation"),
    "steps": pl.List(pl.String),
    "step_labels": pl.List(pl.Int8),
}


def read_steps(source: Path | str) -> pl.DataFrame:
    """Conversation rows with ``steps`` and ``step_labels`` (1 right, 0 wrong, null unknown).

    A JSON-lines file (plain, .gz or .zst) or a parquet file of records in a layout of `steps_of`.

    Raises:
        DataError: a record has another layout; the text names its line.
    """
    path, rows = Path(source), []
    if not path.is_file():
        raise DataError(f"{source}: expected a file of answers in steps, there is none")
    for number, record in enumerate(_records(path), 1):
        try:
            found = steps_of(record)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{source}, record {number}: expected 'prompt', 'completions' and 'labels', or the "
                f"fields of PRM800K or Math-Shepherd ({type(error).__name__}: {error})"
            ) from None
        for part, (prompt, steps, labels) in enumerate(found):
            rows.append(_row(path.name, number, part, prompt, steps, labels))
    if not rows:
        raise DataError(f"{source}: no answer in steps")
    return pl.DataFrame(rows, schema=_SCHEMA)


def _row(
    name: str, number: int, part: int, prompt: str, steps: Sequence[str], labels: Sequence[Any]
) -> dict[str, Any]:
    turns = [text_turn("user", prompt), text_turn("assistant", "\n".join(steps))]
    own = {"id": f"{name}:{number}" + f"#{part}" * bool(part), "source": name, "row": number}
    made = {**dict.fromkeys(_SCHEMA), **own, "kind": "conversation", "messages": turns}
    return made | {"steps": list(steps), "step_labels": list(labels)}


def _records(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        yield from pl.read_parquet(path, glob=False).iter_rows(named=True)
        return
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}: no JSON ({error})") from None


def _opened(path: Path) -> Any:
    if path.suffix == ".zst":
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb")))
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def steps_of(record: Mapping[str, Any]) -> list[tuple[str, list[str], list[int | None]]]:
    """``(prompt, steps, labels)`` of each answer in a record.

    TRL's layout is ``prompt``, ``completions`` and ``labels`` (or ``steps``). Of PRM800K
    (arXiv:2305.20050) the chosen steps are one answer; each other completion rated at a step is one
    of its own, whose label is that of the last step alone. A neutral rating counts as right, as it
    does there; what a human wrote is not rated. Of Math-Shepherd (arXiv:2312.08935) the marks are
    taken out.

    >>> steps_of({"prompt": "2 + 2?", "completions": ["2 + 2 = 5", "5"], "labels": [False, None]})
    [('2 + 2?', ['2 + 2 = 5', '5'], [0, None])]
    >>> task = {"input": "Add. Step 1: 1 ки Step 2: 3 ки", "label": "Add. Step 1: 1 + Step 2: 3 -"}
    >>> steps_of(task)
    [('Add.', ['Step 1: 1', 'Step 2: 3'], [1, 0])]

    Raises:
        KeyError, TypeError, ValueError: it is none of them.
    """
    if "question" in record and isinstance(record.get("label"), Mapping):
        return _prm800k(record)
    if "input" in record and isinstance(record.get("label"), str):
        return [_math_shepherd(record["input"], record["label"])]
    steps = record["completions"] if "completions" in record else record["steps"]
    labels = [None if label is None else int(label > 0) for label in record["labels"]]
    if len(steps) != len(labels) or not steps or not all(isinstance(one, str) for one in steps):
        raise ValueError(f"{len(steps)} steps and {len(labels)} labels")
    prompt = record["prompt"]
    if not isinstance(prompt, str):
        (turn,) = prompt
        prompt = turn["content"]
    return [(prompt, list(steps), labels)]


def _prm800k(record: Mapping[str, Any]) -> list[tuple[str, list[str], list[int | None]]]:
    prompt = record["question"]["problem"]
    trunk: list[str] = []
    labels: list[int | None] = []
    found = []
    for step in record["label"]["steps"]:
        rated = [
            (one["text"], None if one["rating"] is None else int(one["rating"] >= 0))
            for one in step["completions"] or ()
        ]
        chosen = step["chosen_completion"]
        for at, (text, label) in enumerate(rated):
            if at != chosen and label is not None:
                found.append((prompt, [*trunk, text], [*[None] * len(trunk), label]))
        if chosen is None and step.get("human_completion") is None:
            break  # the solution ends at this step
        text, label = (step["human_completion"]["text"], None) if chosen is None else rated[chosen]
        trunk.append(text)
        labels.append(label)
    whole = [(prompt, trunk, labels)] if any(label is not None for label in labels) else []
    return [*whole, *found]


def _math_shepherd(text: str, marked: str) -> tuple[str, list[str], list[int | None]]:
    parts, at = text.split(_TAG), 0
    labels: list[int | None] = []
    for part in parts[:-1]:
        at += len(part)
        labels.append(_LABELS[marked[at]])
        at += 1
    first = parts[0].rindex("Step 1")
    steps = [parts[0][first:], *parts[1:-1]]
    return parts[0][:first].strip(), [step.strip() for step in steps], labels


class StepIds(NamedTuple):
    """Ids of a prompt and of an answer in steps, and where each step ends in them.

    ``ids`` are empty where the answer does not fit; ``cut`` ids of the prompt are left out.
    """

    ids: list[int]
    ends: list[int]
    cut: int


def encode_steps(
    tokenizer: Any,
    prompts: Sequence[Sequence[Mapping[str, Any]]],
    answers: Sequence[Sequence[str]],
    max_length: int,
) -> list[StepIds]:
    """Ids of each prompt with its generation prompt, then of each step with a newline after it.

    A step is tokenized alone, so that its ids do not depend on those that follow. A prompt that is
    too long loses its start.

    Raises:
        UsageError: the tokenizer has no chat template.
    """
    from siftune.curate.chat.encoding import encode_prompts

    first = {tokenizer.bos_token_id, tokenizer.cls_token_id}
    found = []
    for prompt, steps in zip(encode_prompts(tokenizer, prompts), answers, strict=True):
        texts = [step.strip() + "\n" for step in steps]
        how = {"add_special_tokens": False, "split_special_tokens": True}
        each = tokenizer(texts, **how)["input_ids"] if texts else []
        ids, ends = list(prompt), []
        for own in each:
            ids += own
            ends.append(len(ids) - 1)
        made, cut = ids, 0
        if len(ids) > max_length:
            made, cut = shortened(ids, len(prompt), max_length, first)
        found.append(StepIds(made, [end - cut for end in ends], cut))
    return found
