"""New names of keys (``--map KEY=NAME``): refused where a question would be read by no format."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from siftune.curate.core.errors import BadRow, UsageError
from siftune.curate.core.types import Format, Row
from siftune.curate.files.source_spec import spelled
from siftune.curate.records.field_names import is_answer, is_context, is_fact, is_question, map_flag
from siftune.curate.records.prompts import CHATS, QUESTIONS
from siftune.curate.records.side_fields import BESIDE

__all__ = ["check_new_names"]

_MAIN: Final = (
    *("prompt", "completion", "chosen", "rejected", "text", "output", "response", "answer"),
    *("history", "label", "completions", "scores", "tools", "context", "inputs", "targets"),
    *("score_chosen", "score_rejected", "margin", "solution", "responses", "rejected_response"),
)
_READ: Final = tuple(sorted({*_MAIN, *QUESTIONS, *CHATS, *BESIDE}))
"""Names that people rename keys to. Others are read too: a name is wrong only where it is not."""
_NEAR: Final = 0.75  # similarity of a name and its misspelling: promt, anwser, mesages


def check_new_names(
    mapping: Mapping[str, str], rows: Sequence[Row], form: Format | None = None
) -> None:
    """Check that no new name is a misspelt one, and none takes a question or an answer out of it.

    ``rows`` have the new names; ``form`` reads them, and leaves what it does not know to ``extra``.
    Without one only misspelt names are refused.

    Raises:
        UsageError: a name is that; the text has the closest that is read.
    """
    if not mapping:
        return
    left = None if form is None else _left(form, rows)
    for key, name in mapping.items():
        if name in _READ or is_fact(name) or (left is not None and name not in left):
            continue
        near = difflib.get_close_matches(name, _READ, n=1, cutoff=_NEAR)
        if near and near[0] == key:
            problem = f"{key!r} is read as it is, leave the option out"
        elif near:
            problem = f"did you mean {map_flag(key, near[0])}?"
        elif form is not None and (is_question(key) or is_answer(key) or is_context(key)):
            problem = f"expected a name that one reads, such as {', '.join(_MAIN[:4])}"
        else:
            continue
        advice = f"to keep it as a fact in extra, {map_flag(key, f'meta_{name}')}"
        raise UsageError(
            spelled(
                f"{map_flag(key, name)}: no layout reads a field {name!r}; {problem} ({advice})"
            )
        )


def _left(form: Format, rows: Sequence[Row]) -> set[str]:
    """The keys that the format leaves to ``extra`` in rows that it can read."""
    return {
        str(key) for row in rows for made in _made(form, row) for key in made.get("extra") or ()
    }


def _made(form: Format, row: Row) -> Iterator[Row]:
    try:
        yield from form.read(row)
    except BadRow:
        return
