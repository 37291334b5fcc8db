"""Truncation of prompts for models that score answers: a long prompt keeps its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["SAME", "TOO_LONG", "Scored", "answer_starts", "encode_scored", "shortened"]

TOO_LONG: Final = "answer_over_max_length"
SAME: Final = "same_within_max_length"
"""Reasons of pairs that cannot be compared: an answer does not fit, both sides have equal ids."""


class Scored(NamedTuple):
    """Ids of a prompt with an answer, and how many ids of the prompt were left out.

    ``ids`` are empty where the answer alone has more than there is room for.
    """

    ids: list[int]
    cut: int = 0


def encode_scored(
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[Sequence[Mapping[str, Any]]],
    max_length: int | None = None,
) -> list[Scored]:
    """Ids of the prompt of each of ``rows`` with its answer, at most ``max_length`` of them.

    ``rows`` hold ``id``, ``prompt`` and perhaps ``tools``. The prompt's ids are those that the
    conversation shares with one of the prompt alone, so the header of the answer's turn is a part
    of the answer.

    Raises:
        DataError: the chat template refuses a conversation.
        UsageError: the tokenizer has no chat template.
    """
    from siftune.curate.chat.encoding import encode_unmasked

    tools, keys = [row.get("tools") for row in rows], [row["id"] for row in rows]
    chats = [[*row["prompt"], *answer] for row, answer in zip(rows, answers, strict=True)]
    whole = encode_unmasked(tokenizer, chats, tools, keys)
    found = [Scored(ids) for ids in whole]
    if max_length is None:
        return found
    long = [at for at, ids in enumerate(whole) if len(ids) > max_length]
    asked = encode_unmasked(
        tokenizer,
        [rows[at]["prompt"] for at in long],
        [tools[at] for at in long],
        [keys[at] for at in long],
    )
    first = {tokenizer.bos_token_id, tokenizer.cls_token_id}
    for at, prompt in zip(long, asked, strict=True):
        found[at] = shortened(whole[at], _shared(whole[at], prompt), max_length, first)
    return found


def answer_starts(
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[tuple[Sequence[int], int]],
) -> list[int]:
    """Where the answer begins in each of ``texts``: ids, and how many of the prompt were left out.

    The header of its turn is a part of the answer, as it is there.
    """
    from siftune.curate.chat.encoding import encode_unmasked

    asked = encode_unmasked(
        tokenizer,
        [row["prompt"] for row in rows],
        [row.get("tools") for row in rows],
        [str(row.get("id")) for row in rows],
    )
    first, found = {tokenizer.bos_token_id, tokenizer.cls_token_id}, []
    for (ids, cut), prompt in zip(texts, asked, strict=True):
        head = int(cut > 0 and bool(ids) and ids[0] in first)  # it stays, see `shortened`
        found.append(head + _shared(ids[head:], prompt[head + cut :]))
    return found


def shortened(ids: Sequence[int], prompt: int, max_length: int, first: set[int | None]) -> Scored:
    """``ids``, the first ``prompt`` of which are the prompt's, without the start of the prompt.

    A first id among ``first`` (the start of a text, which encoders read their state from) stays.

    >>> shortened([1, 5, 6, 7, 8, 9], prompt=4, max_length=4, first={1})
    Scored(ids=[1, 7, 8, 9], cut=2)
    >>> shortened([1, 5, 6, 7, 8, 9], prompt=2, max_length=4, first={1})  # the answer has four
    Scored(ids=[], cut=2)
    """
    head = list(ids[:1]) if prompt and ids[0] in first else []
    answer = list(ids[prompt:])
    room = max_length - len(head) - len(answer)
    if room < 0:
        return Scored([], prompt)
    kept = [*head, *ids[prompt - room : prompt], *answer] if room else [*head, *answer]
    return Scored(kept, len(ids) - len(kept))


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of ids that two sequences begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, two) in pairs if one != two), min(len(first), len(second)))
