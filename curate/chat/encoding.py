"""Encode conversations as token ids and loss masks; control tokens in the data stay text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from siftune.curate.chat.control_tokens import (
    DataGuard,
    control_tokens,
    end_tokens,
    private_characters,
    strings,
)
from siftune.curate.chat.piece_ids import Encoded, Piece, encode_pieces
from siftune.curate.chat.templates import (
    ChatRenderer,
    ToolLists,
    Tools,
    Turns,
    own_template,
    training_template,
)
from siftune.curate.chat.turn_spans import Stops, TurnSpan, turn_spans
from siftune.curate.core.errors import DataError
from siftune.curate.models.token_ids import check_own_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Encoded",
    "EncodedAnswer",
    "ToolLists",
    "Turns",
    "control_tokens",
    "encode_answers",
    "encode_chats",
    "encode_prompts",
    "encode_texts",
    "encode_unmasked",
    "training_template",
]


class EncodedAnswer(NamedTuple):
    """Ids of a prompt and of the answer after it, with the answer's end of turn.

    ``mask`` is 1 on the ids of the answer that the assistant wrote. It is 0 on what else an answer
    of several turns holds: the headers between turns, and what users and tools wrote.
    """

    prompt: list[int]
    ids: list[int]
    mask: list[int]


def encode_chats(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Turns],
    template: str | None = None,
    tools: ToolLists | None = None,
    rows: Sequence[str] | None = None,
) -> list[Encoded]:
    """Ids and assistant mask of whole conversations.

    The assistant's turns are what the template marks, or else where `chat.turn_spans` locates
    them. The text is cut where the assistant begins and ends, and each piece is tokenized alone, so
    that an answer is learned after exactly the ids that the model is given when it has to write
    one. Control tokens spelled out in the data stay text. A turn whose ``weight`` is 0 is not
    learned.

    ``tools`` are the functions that each conversation's model may call, one entry a conversation;
    ``rows`` are the ids by which an error names a conversation.

    Raises:
        DataError: the template refuses a conversation, or a turn cannot be located in its text.
        UsageError: the tokenizer has no chat template.
    """
    writer = _Writer(tokenizer, template)
    found = _written(lambda *one: writer.training(*one).learned(), rows, tools, chats)
    return encode_pieces(tokenizer, found)


def encode_unmasked(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Turns],
    tools: ToolLists | None = None,
    rows: Sequence[str] | None = None,
    finished: Sequence[bool] | None = None,
) -> list[list[int]]:
    """Ids of whole conversations as the tokenizer's own template writes them.

    For models that read conversations and do not write them: nothing has to be located. Where
    ``finished`` is false the last turn was cut off: nothing is written after its content, no end of
    turn either.

    Raises:
        DataError: the template refuses a conversation, or does not write what was cut off.
        UsageError: the tokenizer has no chat template.
    """
    writer = _Writer(tokenizer)

    def write(chat: Turns, ended: bool, own: Tools) -> list[Piece]:
        asked = writer.asking(chat, own)
        return asked.whole() if ended else asked.unfinished()

    ended = [True] * len(chats) if finished is None else finished
    found = _written(write, rows, tools, chats, ended)
    return [encoded.ids for encoded in encode_pieces(tokenizer, found)]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Turns],
    template: str | None = None,
    tools: ToolLists | None = None,
    rows: Sequence[str] | None = None,
) -> list[list[int]]:
    """Ids of prompts, with the generation prompt."""
    writer = _Writer(tokenizer, template)
    found = _written(lambda *one: writer.asking(*one).asked(), rows, tools, prompts)
    return [encoded.ids for encoded in encode_pieces(tokenizer, found)]


def encode_answers(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Turns],
    answers: Sequence[Turns],
    template: str | None = None,
    tools: ToolLists | None = None,
    rows: Sequence[str] | None = None,
) -> list[EncodedAnswer]:
    """Ids of each prompt and of its answer, and which of them the assistant wrote.

    The prompt is what the model is asked with. The answer is what the whole conversation has after
    that or, where the template writes the prompt otherwise once there is an answer, from where its
    first turn is located. It goes to the end of the assistant's last turn.

    Raises:
        DataError: the template refuses a conversation, or a turn cannot be located in its text.
        UsageError: the tokenizer has no chat template.
    """
    writer = _Writer(tokenizer, template)

    def write(prompt: Turns, answer: Turns, own: Tools) -> tuple[list[Piece], list[Piece]]:
        asked = writer.training(prompt, own).asked()
        return asked, writer.training([*prompt, *answer], own).answered(len(prompt))

    found = _written(write, rows, tools, prompts, answers)
    sides = (encode_pieces(tokenizer, [one[side] for one in found]) for side in (0, 1))
    return [EncodedAnswer(one.ids, two.ids, two.mask) for one, two in zip(*sides, strict=True)]


_Made = TypeVar("_Made")


def _written(
    write: Callable[..., _Made],
    rows: Sequence[str] | None,
    tools: ToolLists | None,
    *columns: Sequence[Turns] | Sequence[bool],
) -> list[_Made]:
    """What ``write`` makes of each conversation and its tools; an error names the row."""
    found, listed = [], [None] * len(columns[0]) if tools is None else tools
    for at, given in enumerate(zip(*columns, listed, strict=True)):
        try:
            found.append(write(*given))
        except DataError as error:
            row = f"row {rows[at]}" if rows is not None else f"conversation {at + 1}"
            raise DataError(f"{row}: {error}") from None
    return found


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Encoded]:
    """Ids of plain texts with the end of sequence, all of it to be learned."""
    first = tokenizer("a")["input_ids"][:1]
    begin = first if first and first[0] == tokenizer.bos_token_id else []
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    plain = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    found = [[*begin, *ids, *end] for ids in plain["input_ids"]]
    check_own_ids(tokenizer, found)
    return [Encoded(ids, [0] * len(begin) + [1] * (len(ids) - len(begin))) for ids in found]


class _Span(NamedTuple):
    start: int
    end: int
    learned: bool
    close: bool = False  # the end token has to be added


class _Writer:
    """Writes conversations with one tokenizer, in ``template`` or in templates of its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._stops = Stops(end_tokens(tokenizer), control_tokens(tokenizer))

    def training(self, chat: Turns, tools: Tools) -> _Conversation:
        """A conversation in the template that models are trained with."""
        return self._conversation(self._training(bool(tools)), chat, tools)

    def asking(self, chat: Turns, tools: Tools) -> _Conversation:
        """A conversation in the tokenizer's own template, which generation uses."""
        return self._conversation(self._own(bool(tools)), chat, tools)

    @cache  # noqa: B019 (a writer lives as long as one call)
    def _training(self, tools: bool) -> ChatRenderer:
        template = self._template or training_template(self._tokenizer, tools)
        return ChatRenderer(self._tokenizer, template)

    @cache  # noqa: B019
    def _own(self, tools: bool) -> ChatRenderer:
        template = self._template or own_template(self._tokenizer, tools)
        return ChatRenderer(self._tokenizer, template)

    def _conversation(self, renderer: ChatRenderer, chat: Turns, tools: Tools) -> _Conversation:
        guard = DataGuard(self._stops.control, chat, tools)
        hidden, listed = guard.hide(chat), guard.hide_tools(tools)
        return _Conversation(renderer, self._stops, guard, chat, hidden, listed)


@dataclass(frozen=True)
class _Conversation:
    """One conversation, as a template gets it with its control tokens hidden."""

    renderer: ChatRenderer
    stops: Stops
    guard: DataGuard
    chat: Turns
    hidden: Turns
    tools: Tools

    def learned(self) -> list[Piece]:
        """The whole conversation."""
        text, spans = self._spans()
        return self._cut(text, spans)

    def whole(self) -> list[Piece]:
        """The whole conversation, nothing in it located."""
        return self._cut(self._render(self.hidden), [])

    def unfinished(self) -> list[Piece]:
        """The conversation up to the last character of its last turn's content."""
        last = dict(self.hidden[-1])
        mark = next(private_characters(*strings([*self.hidden, *(self.tools or ())])))
        last["content"] = f"{last['content']}{mark}"
        text, found, _ = self._render([*self.hidden[:-1], last]).partition(mark)
        if not found:
            raise DataError("the chat template does not write the answer that was cut off")
        return self._cut(text, [])

    def asked(self) -> list[Piece]:
        """The conversation with the generation prompt, cut where it was cut in training."""
        if self.renderer.marked:
            text, marks = self.renderer.marks(self.hidden, self.tools, ask=True)
            return self._cut(text, [_Span(*mark, learned=False) for mark in marks])
        try:
            text, turns = self._turns(ask=True)
        except DataError:  # to be read, earlier turns need not be located
            return self._cut(self._render(self.hidden, ask=True), [])
        return self._cut(text, [_Span(turn.start, turn.end, False) for turn in turns])

    def answered(self, prompt: int) -> list[Piece]:
        """What follows the first ``prompt`` turns, up to the end of the assistant's last turn."""
        text, spans = self._spans()
        start = self._start_of_answer(text, prompt)
        kept = [
            span._replace(start=max(start, span.start))
            for span in spans
            if span.end > start or (span.close and span.end == start)
        ]
        return self._cut(text[: kept[-1].end] if kept else text, kept, start)

    def _start_of_answer(self, text: str, prompt: int) -> int:
        asked = self._render(self.hidden[:prompt], ask=True)
        if text.startswith(asked):
            return len(asked)
        _, turns = self._turns()
        starts = [turn.start for turn in turns if turn.turn == prompt]
        if not starts:
            raise DataError(
                "the chat template writes the prompt otherwise once there is an answer, and the "
                "answer does not begin with a turn of the assistant"
            )
        return starts[0]

    def _spans(self) -> tuple[str, list[_Span]]:
        """The text, and what the assistant writes in it."""
        if not self.renderer.marked:
            text, turns = self._turns()
            return text, [self._learned(turn) for turn in turns]
        text, marks = self.renderer.marks(self.hidden, self.tools)
        if all(turn.get("weight", 1) for turn in self.chat):
            return text, [_Span(*mark, learned=True) for mark in marks]
        unlearned = [turn for turn in self._turns()[1] if not self._weight(turn)]
        return text, [
            _Span(start, end, not any(start < turn.end and turn.start < end for turn in unlearned))
            for start, end in marks
        ]

    def _learned(self, turn: TurnSpan) -> _Span:
        last = turn.turn + 1 == len(self.chat)
        return _Span(turn.start, turn.end, self._weight(turn), last and not turn.ended)

    def _weight(self, turn: TurnSpan) -> bool:
        return bool(self.chat[turn.turn].get("weight", 1))

    def _turns(self, ask: bool = False) -> tuple[str, list[TurnSpan]]:
        return turn_spans(self._render, self.hidden, self.stops, ask)

    def _render(self, chat: Turns, *, ask: bool = False) -> str:
        return self.renderer(chat, self.tools, ask)

    def _cut(self, text: str, spans: Sequence[_Span], start: int = 0) -> list[Piece]:
        """The text from ``start``, cut at ``spans`` and at forged control tokens."""
        found: list[Piece] = []
        at = start
        for span in spans:
            found += self._shown(text, at, span.start, wrote=False)
            found += self._shown(text, span.start, span.end, wrote=span.learned)
            if span.close:
                found.append(Piece(self.renderer.tokenizer.eos_token or "", span.learned))
            at = span.end
        return [*found, *self._shown(text, at, len(text), wrote=False)]

    def _shown(self, text: str, start: int, end: int, wrote: bool) -> Iterator[Piece]:
        after = self._before(text, start)
        for part in self.guard.show(text[start:end]):
            yield Piece(part, wrote, after)
            after = "text"

    def _before(self, text: str, at: int) -> Literal["nothing", "control", "text"]:
        if at == 0:
            return "nothing"
        return "control" if text.endswith(tuple(self.stops.control), 0, at) else "text"
