"""Token ids of texts that are cut into pieces, each tokenized alone as in the middle of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from siftune.curate.models.token_ids import check_own_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "Piece", "encode_pieces"]

_CHUNK: Final = 2_000


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each 1 where the assistant wrote it (and its end of turn), else 0."""

    ids: list[int]
    mask: list[int]


class Piece(NamedTuple):
    """A part of a text that is tokenized alone."""

    text: str
    wrote: bool  # the assistant did
    after: Literal["nothing", "control", "text"] = "text"


def encode_pieces(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Piece]]
) -> list[Encoded]:
    """Ids and mask of each conversation, given as its pieces in order."""
    found: list[Encoded] = []
    for start in range(0, len(conversations), _CHUNK):
        found += _encode_chunk(tokenizer, conversations[start : start + _CHUNK])
    check_own_ids(tokenizer, (row.ids for row in found))
    return found


def _encode_chunk(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Piece]]
) -> list[Encoded]:
    flat = [piece for pieces in conversations for piece in pieces]
    ids = _ids_of(tokenizer, flat)
    found: list[Encoded] = []
    at = 0
    for pieces in conversations:
        own = ids[at : at + len(pieces)]
        at += len(pieces)
        mask = [int(p.wrote) for p, piece in zip(pieces, own, strict=True) for _ in piece]
        found.append(Encoded([token for piece in own for token in piece], mask))
    return found


def _ids_of(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[Piece]) -> list[list[int]]:
    """Ids of each piece, as they are in the middle of a text.

    Some tokenizers put a blank before a text, and some of those also after a control token: a
    newline in front keeps them from it.
    """
    control = tokenizer.eos_token or ""
    inner = "\n" if _adds_blank(tokenizer, control) else control
    anchors = {"nothing": "", "control": control, "text": inner}
    return _ids_after(tokenizer, [(anchors[piece.after], piece.text) for piece in pieces], control)


def _ids_after(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]], control: str
) -> list[list[int]]:
    """Ids of texts after their anchors; after ``control`` where an anchor merges with its text."""
    anchors = sorted({anchor for anchor, _ in texts} | {control})
    known = dict(zip(anchors, _plain_ids(tokenizer, anchors), strict=True))
    found = _plain_ids(tokenizer, [anchor + text for anchor, text in texts])
    merged = [
        at
        for at, (anchor, _) in enumerate(texts)
        if found[at][: len(known[anchor])] != known[anchor]
    ]
    again = _plain_ids(tokenizer, [control + texts[at][1] for at in merged]) if merged else []
    cut = [ids[len(known[anchor]) :] for (anchor, _), ids in zip(texts, found, strict=True)]
    for at, ids in zip(merged, again, strict=True):
        cut[at] = ids[len(known[control]) :]
    return cut


def _adds_blank(tokenizer: PreTrainedTokenizerBase, control: str) -> bool:
    """Whether a text after a control token gets other ids than after a newline."""
    texts = [control, control + "a", "\n", "\na"]
    first, after_control, newline, after_newline = _plain_ids(tokenizer, texts)
    return after_control[len(first) :] != after_newline[len(newline) :]


def _plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [list(ids) for ids in found]
