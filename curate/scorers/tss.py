"""Task-Specificity Score: how much better the answer fits its instruction than other ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from siftune.curate.core.ranges import Count, Seed
from siftune.curate.dedup.reference_rows import check_against
from siftune.curate.files.source_spec import SourceOption
from siftune.curate.lm.answer_model import AnswerModel
from siftune.curate.lm.reference_chats import reference_chats
from siftune.curate.rows.chat import last_turn
from siftune.curate.vectors.embed import Embedder
from siftune.curate.vectors.unit_vectors import exact_products, on_grid, slices

__all__ = ["TSS"]

Chat = list[dict[str, Any]]
_BETWEEN = "\n\n"


@dataclass(frozen=True, kw_only=True)
class TSS(AnswerModel):
    """``tss = 1/K Σ_k L(y | I_k, x) - L(y | I, x)``, with L the mean loss of the answer's tokens.

    By how many nats a token the true instruction I beats K other instructions I_k for the same
    input x (arXiv:2602.03103). About 0: the answer would do for any task, and the row teaches
    little about following its own. ``tss_hardest`` takes the smallest of the K losses, the hard
    alternative of TSS++; ``tss_answer_nll`` is L(y | I, x), for the quality term of TSS++, such as
    ``by: tss_hardest - 0.1 * tss_answer_nll``.

    Only the paper's abstract and idea were read; assumed are the mean over alternatives, losses a
    token, and instructions of other rows as alternatives. They come from ``against``, such as the
    pool itself, so that a row's score does not depend on its batch: by ``seed``, or the nearest by
    embedding, which are harder. An equal instruction is no alternative. Of a prompt with a blank
    line the part before the first one is the instruction, and the rest its input, which stays: so
    `alpaca` writes them. Alternatives with which a row does not fit the window are left out; a row
    without prompt or answer, or without an alternative, is null.

    Not for open-ended instructions, to which many answers fit equally well.

    Options:
        against: Rows whose instructions are the alternatives: a file, a run folder or {path,
            format, map}.
        alternatives: Number of alternatives, K.
        choose: How they are chosen: by the seed (random), or the nearest by embedding (nearest).
        embedder: Embedding model for ``choose: nearest``; none takes all-MiniLM-L6-v2 (`minilm`).
        seed: Seed of the random choice.
    """

    against: SourceOption
    alternatives: Count = 4
    choose: Literal["random", "nearest"] = "random"
    embedder: str | None = None
    seed: Seed = 0

    needs: ClassVar = ("messages",)
    adds: ClassVar = dict.fromkeys(("tss", "tss_hardest", "tss_answer_nll"), pl.Float64)

    def __post_init__(self) -> None:
        check_against(self.against)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Compare each row's instruction with its alternatives."""
        prompts, answers = last_turn(batch["messages"])
        own = np.array(prompts.is_not_null() & (answers.str.len_bytes() > 0), dtype=bool)
        chats = batch["messages"].to_list()
        asked = {
            at: place for at in np.flatnonzero(own) if (place := _asked(chats[at])) is not None
        }
        chosen = self._chosen(
            [_instruction(chats[at][place]) for at, place in asked.items()],
            [_content(chats[at]) for at in asked],
        )
        others = [
            (at, _with(chats[at], place, other))
            for (at, place), listed in zip(asked.items(), chosen, strict=True)
            for other in listed
        ]
        dtype = batch["messages"].dtype
        rows = self._tokens.after_prompt(pl.Series([chat for _, chat in others], dtype=dtype))
        losses = self.mean_nll(rows, hidden=False)
        true = self.losses(batch["messages"], "last")
        found, start = np.full((batch.height, 3), np.nan), 0
        for at, listed in zip(asked, chosen, strict=True):
            known = losses[start : (start := start + len(listed))]
            known = known[np.isfinite(known)]
            if len(known):
                found[at] = known.mean() - true[at], known.min() - true[at], true[at]
        return pl.DataFrame(found, schema=self.adds, orient="row").fill_nan(None)

    def describe(self) -> dict[str, Any]:
        """The precision, and the model that chooses."""
        chooser = {"embedder": self._embedder.describe()} if self.choose == "nearest" else {}
        return {**super().describe(), **chooser}

    def _chosen(self, instructions: Sequence[str], contents: Sequence[str]) -> list[list[str]]:
        """The alternatives of each row."""
        if self.choose == "nearest":
            return self._nearest(instructions)
        return [
            self._drawn(one, content) for one, content in zip(instructions, contents, strict=True)
        ]

    def _drawn(self, own: str, content: str) -> list[str]:
        """By random numbers that depend on the seed and on the row alone."""
        key = blake2b(content.encode(), digest_size=8, key=self.seed.to_bytes(8, "little"))
        rng = np.random.default_rng(int.from_bytes(key.digest(), "little"))
        count = min(len(self._pool), self.alternatives + 1)
        drawn = (self._pool[at] for at in rng.choice(len(self._pool), count, replace=False))
        return [one for one in drawn if one != own][: self.alternatives]

    def _nearest(self, instructions: Sequence[str]) -> list[list[str]]:
        found = []
        units = _units(self._embedder, instructions)
        for part in slices(len(units), 256):
            for near, own in zip(
                exact_products(units[part], self._vectors), instructions[part], strict=True
            ):
                order = np.argsort(-near, kind="stable")[: self.alternatives + 1]
                listed = [self._pool[at] for at in order]
                found.append([one for one in listed if one != own][: self.alternatives])
        return found

    @cached_property
    def _pool(self) -> list[str]:
        """The distinct instructions of the reference, sorted."""
        chats = reference_chats(self.against, "tss")["messages"].to_list()
        places = ((chat, _asked(chat)) for chat in chats)
        return sorted({_instruction(chat[at]) for chat, at in places if at is not None})

    @cached_property
    def _vectors(self) -> np.ndarray:
        return _units(self._embedder, self._pool)

    @property
    def _embedder(self) -> Embedder:
        return Embedder(self.embedder, self.precision, cache=self.cache)


def _units(embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors on the grid; zeros for a text without tokens."""
    units, _ = on_grid(np.nan_to_num(embedder.encode(texts).vectors))
    return units


def _asked(chat: Chat) -> int | None:
    """Index of the last user turn with a text before the last answer; None without one."""
    answer = max(at for at, turn in enumerate(chat) if turn["role"] == "assistant")
    asked = (at for at in reversed(range(answer)) if chat[at]["role"] == "user")
    return next((at for at in asked if chat[at]["content"]), None)


def _instruction(turn: dict[str, Any]) -> str:
    return str(turn["content"]).partition(_BETWEEN)[0]


def _with(chat: Chat, place: int, instruction: str) -> Chat:
    """The chat with another instruction in the turn at ``place``; its input stays."""
    _, between, given = str(chat[place]["content"]).partition(_BETWEEN)
    turn = {**chat[place], "content": instruction + between + given}
    return [*chat[:place], turn, *chat[place + 1 :]]


def _content(chat: Chat) -> str:
    return "\0".join(f"{turn['role']}\0{turn['content']}" for turn in chat)
