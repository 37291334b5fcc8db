"""Token ids of a conversation's last answer: after its prompt, alone, or as the whole text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
import polars as pl

from siftune.curate.chat.encoding import (
    EncodedAnswer,
    encode_answers,
    encode_prompts,
    encode_unmasked,
)
from siftune.curate.chat.template_turns import chat
from siftune.curate.chat.templates import own_template
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.models.adapters import config_folder
from siftune.curate.models.pretrained import load_config, pretrained_tokenizer
from siftune.curate.models.resolve import model_folder
from siftune.curate.rows.chat import contents, last_turn
from siftune.curate.text.language_model import CausalLM, TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AnswerTokens", "Template", "each_answer"]

Template: TypeAlias = Literal["none", "chat"]
Turn: TypeAlias = dict[str, Any]
_Made = TypeVar("_Made")

_PROBE = [{"role": "user", "content": "?"}]


@dataclass(frozen=True)
class AnswerTokens:
    """Conversations as `TokenRow`, the tokens of the last answer to be scored.

    Without a template a row is the model's start token, the texts before the answer, joined by
    blank lines, ``between``, and the answer. With the model's chat template it is what training on
    the conversation would see; the answer has its end-of-turn token. Control tokens that the data
    spells out stay text, and functions that a row lists (``tools``) are not written.

    A row is None where it has no answer, where the answer has no text, where the template refuses
    the conversation, or where it is longer than the window: nothing is cut.
    """

    lm: CausalLM
    template: Template = "none"
    between: str = "\n"

    def after_prompt(self, chats: pl.Series) -> list[TokenRow | None]:
        """The answer after all turns before it; None where these have no text."""
        if self.template == "none":
            prompts, answers = last_turn(chats)
            return self.lm.encode((prompts + self.between).to_list(), answers.to_list())
        return [self._fitting(one and _row(one.prompt, one)) for one in self._answers(chats)]

    def alone(self, chats: pl.Series) -> list[TokenRow | None]:
        """The same tokens of the answer, after the start token, or what opens an answer in a chat.

        In a chat that is the generation prompt, such as ``<|im_start|>assistant`` and a line end.
        """
        if self.template == "none":
            return self.lm.encode([""] * len(chats), last_turn(chats)[1].to_list())
        return [self._fitting(one and _row(self._opening, one)) for one in self._answers(chats)]

    def whole(self, chats: pl.Series) -> list[TokenRow | None]:
        """As `after_prompt`; a prompt without an answer, or the reverse, is all of the row.

        Of a prompt no token is scored.
        """
        found = self.after_prompt(chats)
        texts = contents(chats).to_list()
        rest = [at for at, row in enumerate(found) if row is None and texts[at]]
        prompts, answers = (one.to_list() for one in last_turn(chats.gather(rest)))
        for at, prompt, answer in zip(rest, prompts, answers, strict=True):
            if not (prompt and answer):  # one with both is too long, or refused
                found[at] = self._part(chats[at].to_list(), texts[at], answer)
        return found

    def _part(self, turns: Sequence[Turn], text: str, answer: str | None) -> TokenRow | None:
        if self.template == "chat":
            ids = self._each(lambda one: encode_unmasked(self._tokenizer, one), [chat(turns)])[0]
            return self._fitting(None if ids is None else TokenRow.of(ids, ()))
        row = self.lm.encode([""], [answer or text])[0]
        return row if answer or row is None else TokenRow.of(row.ids, ())

    def _fitting(self, row: TokenRow | None) -> TokenRow | None:
        return row if row is not None and len(row.ids) <= self.lm.window else None

    def _answers(self, chats: pl.Series) -> list[EncodedAnswer | None]:
        """Prompt and answer of each conversation in the chat template; None where one is empty."""
        texts = zip(*(one.to_list() for one in last_turn(chats)), strict=True)
        usable = [at for at, (prompt, answer) in enumerate(texts) if prompt and answer]
        turns = [_parted(chat(chats[at].to_list())) for at in usable]
        encoded = self._each(
            lambda some: encode_answers(
                self._tokenizer,
                [before for before, _ in some],
                [answer for _, answer in some],
                self._own_template,
            ),
            turns,
        )
        found: list[EncodedAnswer | None] = [None] * len(chats)
        for at, one in zip(usable, encoded, strict=True):
            found[at] = one if one is not None and any(one.mask) else None
        return found

    def _each(
        self, encode: Callable[[list[Any]], list[_Made]], given: list[Any]
    ) -> list[_Made | None]:
        """What ``encode`` makes of all, or None for each that the template refuses."""
        try:
            return [*encode(given)]
        except DataError:
            if len(given) == 1:
                return [None]
            return [made for one in given for made in self._each(encode, [one])]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        folder = model_folder(self.lm.model)
        found = pretrained_tokenizer(folder, load_config(config_folder(folder)))
        if found.chat_template is None:
            raise UsageError(
                f"{self.lm.model} has no chat template: set template: none, or name a chat model, "
                "such as smollm2"
            )
        return found

    @cached_property
    def _own_template(self) -> str:
        return own_template(self._tokenizer)

    @cached_property
    def _opening(self) -> Sequence[int]:
        """What the template writes to ask for an answer; the start token where that is nothing."""
        asked = encode_prompts(self._tokenizer, [_PROBE], self._own_template)[0]
        before = encode_unmasked(self._tokenizer, [_PROBE])[0]
        opening = asked[len(before) :] if asked[: len(before)] == before else []
        return opening or [self.lm.start]


def each_answer(chats: pl.Series) -> tuple[np.ndarray[Any, np.dtype[np.int64]], pl.Series]:
    """Each conversation up to each of its answers, and the number of its row.

    Answers without a text, or without a text before them, are left out.
    """
    cut = chats.rename("chat").to_frame().with_row_index("row")
    ends = pl.int_ranges(1, pl.col("chat").list.len() + 1)
    cut = cut.with_columns(end=ends).explode("end", empty_as_null=False, keep_nulls=False)
    cut = cut.with_columns(chat=pl.col("chat").list.head(pl.col("end")).cast(chats.dtype))
    cut = cut.filter(pl.col("chat").list.last().struct.field("role") == "assistant")
    prompts, answers = last_turn(cut["chat"])
    cut = cut.filter(prompts.is_not_null() & (answers.str.len_bytes() > 0))
    return cut["row"].cast(pl.Int64).to_numpy(), cut["chat"]


def _row(context: Sequence[int], answer: EncodedAnswer) -> TokenRow:
    unscored = (False,) * len(context)
    return TokenRow((*context, *answer.ids), (*unscored, *map(bool, answer.mask)))


def _parted(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The turns before the last answer, and it alone; what follows it is left out."""
    last = max(at for at, turn in enumerate(turns) if turn["role"] == "assistant")
    return turns[:last], [turns[last]]
