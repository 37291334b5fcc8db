"""Text to token ids: what the template says and what the data says are kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from curate.core.errors import DataError, UsageError
from finetune.templates import THINK, marks_generation

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
    "training_template",
]

Turns = Sequence[Mapping[str, Any]]
"""One conversation: turns as `finetune.data.chat` gives them."""

ToolLists = Sequence[Sequence[Mapping[str, Any]] | None]
"""The functions that the model may call (JSON schemas), one entry a conversation."""

_ASSISTANT_MAY_SAY: Final = frozenset(THINK)
_CHUNK: Final = 2_000


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each 1 where the assistant wrote it (and its end of turn), else 0."""

    ids: list[int]
    mask: list[int]


class EncodedAnswer(NamedTuple):
    """Ids of a prompt and of the answer after it, with the answer's end of turn.

    ``mask`` is 1 on the ids of the answer that the assistant wrote. It is 0 on what else an answer
    of several turns holds: the headers between turns, and what users and tools wrote.
    """

    prompt: list[int]
    ids: list[int]
    mask: list[int]


class _Piece(NamedTuple):
    text: str
    wrote: bool  # the assistant did


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The texts that the tokenizer turns into special ids: turn ends, padding and so on."""
    added = tokenizer.added_tokens_decoder.values()
    return frozenset(token.content for token in added if token.special or token.content in THINK)


def training_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template, with generation markers.

    A template of a known family that lacks them is replaced by TRL's marked copy.

    Raises:
        UsageError: there is no template, or one without markers that TRL does not know.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise UsageError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template, and "
            "the rows are conversations: give it one, or train on text rows"
        )
    if marks_generation(template):
        return template
    from trl.chat_template_utils import get_training_chat_template

    try:
        marked: str | None = get_training_chat_template(tokenizer)
    except ValueError:
        marked = None
    if marked is None:
        raise UsageError(
            "the chat template does not mark what the assistant says: put {% generation %} and "
            "{% endgeneration %} around it, or set assistant_only_loss to false"
        )
    return marked


def encode_chats(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Turns],
    template: str | None = None,
    tools: ToolLists | None = None,
) -> list[Encoded]:
    """Ids and assistant mask of whole conversations.

    The text is cut where the assistant begins and ends, and each piece is tokenized alone, so that
    an answer is learned after exactly the ids that the model is given when it has to write one.
    Control tokens spelled out in the data stay text. A turn whose ``weight`` is 0 is not learned.

    ``tools`` are the functions that each conversation's model may call, one entry a conversation.
    """
    template = template or training_template(tokenizer)
    listed = _each(tools, chats)
    pieces = [list(_pieces(tokenizer, c, template, t)) for c, t in zip(chats, listed, strict=True)]
    return _encode(tokenizer, pieces)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Turns],
    template: str | None = None,
    tools: ToolLists | None = None,
) -> list[list[int]]:
    """Ids of prompts, up to where the assistant has to go on."""
    template = template or _template_of(tokenizer)
    pieces = [
        list(_pieces(tokenizer, prompt, template, own, ask=True))
        for prompt, own in zip(prompts, _each(tools, prompts), strict=True)
    ]
    return [encoded.ids for encoded in _encode(tokenizer, pieces)]


def _each(tools: ToolLists | None, chats: Sequence[Turns]) -> ToolLists:
    return [None] * len(chats) if tools is None else tools


def encode_answers(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Turns],
    answers: Sequence[Turns],
    template: str | None = None,
    tools: ToolLists | None = None,
) -> list[EncodedAnswer]:
    """Ids of each prompt and of its answer, and which of them the assistant wrote.

    An answer of several turns is everything after the prompt, up to the end of the assistant's
    last turn.

    Raises:
        DataError: the template writes the prompt another way once there is an answer.
    """
    template = template or training_template(tokenizer)
    asked = encode_prompts(tokenizer, prompts, template, tools)
    chats = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    whole = encode_chats(tokenizer, chats, template, tools)
    return [_split(prompt, chat) for prompt, chat in zip(asked, whole, strict=True)]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Encoded]:
    """Ids of plain texts with the end of sequence, all of it to be learned."""
    first = tokenizer("a")["input_ids"][:1]
    begin = first if first and first[0] == tokenizer.bos_token_id else []
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    plain = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    found = [[*begin, *ids, *end] for ids in plain["input_ids"]]
    return [Encoded(ids, [0] * len(begin) + [1] * (len(ids) - len(begin))) for ids in found]


def _split(prompt: list[int], chat: Encoded) -> EncodedAnswer:
    if chat.ids[: len(prompt)] != prompt:
        raise DataError(
            "the chat template writes a prompt in another way once there is an answer: the model "
            "would be trained after another text than it is asked with; use a template that "
            "keeps the prompt as it is"
        )
    ids, mask = chat.ids[len(prompt) :], chat.mask[len(prompt) :]
    end = len(mask) - mask[::-1].index(1) if 1 in mask else len(mask)
    return EncodedAnswer(prompt, ids[:end], mask[:end])


def _template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    template = tokenizer.chat_template
    return template if isinstance(template, str) else training_template(tokenizer)


def _pieces(
    tokenizer: PreTrainedTokenizerBase,
    chat: Turns,
    template: str,
    tools: Sequence[Mapping[str, Any]] | None = None,
    ask: bool = False,
) -> Iterator[_Piece]:
    """The rendered conversation, cut at the assistant's turns and at forged control tokens."""
    guard = _Guard(tokenizer, [*chat, *(tools or ())])
    text, spans = _render(tokenizer, guard.hide(chat), template, ask, guard.hide_tools(tools))
    learned = _learned(chat, spans)
    at = 0
    for (start, end), wrote in zip(spans, learned, strict=True):
        yield from guard.show(text[at:start], wrote=False)
        yield from guard.show(text[start:end], wrote=wrote)
        at = end
    yield from guard.show(text[at:], wrote=False)


def _learned(chat: Turns, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each span is learned: not where the turn's weight is 0."""
    weights = [turn.get("weight", 1) != 0 for turn in chat if turn.get("role") == "assistant"]
    if all(weights):
        return [True] * len(spans)
    if len(weights) != len(spans):
        raise DataError(
            f"the chat template marks {len(spans)} texts of {len(weights)} assistant turns: which "
            "of them has weight 0 is not known; give all turns of the conversation one weight"
        )
    return weights


def _render(
    tokenizer: PreTrainedTokenizerBase,
    chat: Turns,
    template: str,
    ask: bool,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text, and where in it the assistant writes."""
    from jinja2 import TemplateError
    from transformers.utils import chat_template_utils

    render: Any = chat_template_utils.render_jinja_template  # its annotation says str
    try:
        texts, spans = render(
            conversations=[chat],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=marks_generation(template),
            add_generation_prompt=ask,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"the chat template cannot write a conversation ({reason})") from None
    return texts[0], spans[0] if spans else []


class _Guard:
    """Swaps control tokens in the data for private characters, and back after rendering."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: Turns) -> None:
        said = "".join(_strings(list(chat)))
        self._tokens = sorted(t for t in control_tokens(tokenizer) if t in said)
        free = (chr(code) for code in range(0xF0000, 0x10FFFE) if chr(code) not in said)
        self._mark = dict(zip(self._tokens, free, strict=False))
        self._back = {mark: token for token, mark in self._mark.items()}

    def hide(self, chat: Turns) -> list[dict[str, Any]]:
        """Turns as a template gets them: without ``weight``, which is not part of the text."""
        bare = [{key: turn[key] for key in turn if key != "weight"} for turn in chat]
        return [self._hide_turn(turn) for turn in bare] if self._tokens else bare

    def hide_tools(
        self, tools: Sequence[Mapping[str, Any]] | None
    ) -> list[Mapping[str, Any]] | None:
        return [_replaced(tool, self._mark) for tool in tools] if tools else None

    def _hide_turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        allowed = _ASSISTANT_MAY_SAY if turn.get("role") == "assistant" else frozenset()
        hidden = {token: mark for token, mark in self._mark.items() if token not in allowed}
        return {key: _replaced(value, hidden) for key, value in turn.items()}

    def show(self, text: str, wrote: bool) -> Iterator[_Piece]:
        marks = "".join(self._back)
        parts = re.split(f"([{marks}])", text) if marks else [text]
        for part in parts:
            if part in self._back:  # cut in two, it is no control token any more
                yield _Piece(self._back[part][:1], wrote)
                yield _Piece(self._back[part][1:], wrote)
            elif part:
                yield _Piece(part, wrote)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _replaced(value: Any, marks: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for token, mark in marks.items():
            value = value.replace(token, mark)
        return value
    if isinstance(value, Mapping):
        return {_replaced(key, marks): _replaced(inner, marks) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, marks) for inner in value]
    return value


def _encode(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[_Piece]]
) -> list[Encoded]:
    found: list[Encoded] = []
    for start in range(0, len(conversations), _CHUNK):
        found += _encode_chunk(tokenizer, conversations[start : start + _CHUNK])
    return found


def _encode_chunk(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[_Piece]]
) -> list[Encoded]:
    flat = [piece for pieces in conversations for piece in pieces]
    ids = _ids_of(tokenizer, flat)
    found, at = [], 0
    for pieces in conversations:
        own = ids[at : at + len(pieces)]
        at += len(pieces)
        mask = [int(p.wrote) for p, piece in zip(pieces, own, strict=True) for _ in piece]
        found.append(Encoded([token for piece in own for token in piece], mask))
    return found


def _ids_of(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[_Piece]) -> list[list[int]]:
    """Ids of each piece, as they are in the middle of a text.

    Some tokenizers put a blank before a text: a control token in front keeps them from it.
    """
    anchor = tokenizer.eos_token or ""
    texts = [anchor, *(anchor + piece.text for piece in pieces)]
    first, *rest = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [ids[len(first) :] for ids in rest]
