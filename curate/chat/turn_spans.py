"""Spans of the assistant's turns in the text of an unmarked chat template, found by rendering.

The conversation is rendered once, and each assistant turn is a span of that one text. A second
rendering whose contents carry marks (characters that occur nowhere else) shows where the contents
are; it has to be the same text but for the marks. A span starts where the text parts from the
rendering of the turns before with the generation prompt, and goes to the end of turn: the token
after the content that generation stops at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

from siftune.curate.chat.control_tokens import private_characters, strings
from siftune.curate.chat.templates import THINK, Turns
from siftune.curate.core.errors import DataError

__all__ = ["Stops", "TurnSpan", "turn_spans"]

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "thinking")
_NOT_TEXT: Final = ("id", "type")
_THINKING: Final = re.compile("|".join(map(re.escape, THINK)))


class TurnSpan(NamedTuple):
    """Characters ``start`` to ``end`` of the text are what the assistant writes in a turn."""

    turn: int  # its number in the conversation
    start: int
    end: int
    ended: bool  # an end of turn is the last of it


class Stops(NamedTuple):
    """The tokens that generation stops at, and all control tokens."""

    ends: frozenset[str]
    control: frozenset[str]


class Render(Protocol):
    """Renders turns as text; with ``ask``, with the generation prompt at the end."""

    def __call__(self, chat: Turns, *, ask: bool = False) -> str: ...


def turn_spans(
    render: Render, chat: Turns, stops: Stops, ask: bool = False
) -> tuple[str, list[TurnSpan]]:
    """The conversation as text, and the span of each assistant turn in it.

    Raises:
        DataError: the template refuses the conversation, or what it writes of a turn cannot be
            found in its text.
    """
    text = render(chat, ask=ask)
    layouts = _Layouts(render, chat, text, _Ends(stops), ask)
    spans: list[TurnSpan] = []
    for at, turn in enumerate(chat):
        if turn.get("role") == "assistant":
            spans.append(layouts.span(at, spans[-1].end if spans else 0))
    return text, spans


@dataclass(frozen=True)
class _Layouts:
    """Renderings of a conversation that show where its contents are."""

    render: Render
    chat: Turns
    text: str
    ends: _Ends
    ask: bool

    def span(self, turn: int, floor: int) -> TurnSpan:
        """The span of a turn, which starts at ``floor`` or later."""
        for layout in self._of(turn):
            span = layout.span(turn)
            if span is not None and floor <= span.start <= span.end:
                return span
        raise DataError(
            f"turn {turn + 1} cannot be located in what the chat template writes: it leaves the "
            "turn out, moves it or changes it; use a template that writes it, or mark it there "
            "with {% generation %} and {% endgeneration %}"
        )

    def _of(self, turn: int) -> Iterator[_Layout]:
        """The rendering that shows the turn, or those that may."""
        marked = self._all or self._marked([turn])
        if marked is not None:
            yield marked
            return
        replaced = self._replaced(turn)
        if replaced is not None:
            yield replaced
        yield _Layout(self.render, self.chat, self.text, self.ends, self.ask, {}, lambda at: at)

    @cached_property
    def _all(self) -> _Layout | None:
        turns = range(len(self.chat))
        if any(turn.get("role") == "assistant" and _blank(turn) for turn in self.chat):
            layout = self._marked(turns, blanks=True)
            if layout is not None:
                return layout
        return self._marked(turns)

    def _marked(self, turns: Collection[int], blanks: bool = False) -> _Layout | None:
        """Marks around the contents of ``turns``; None where they change what is written."""
        marks = _Marks(self.chat, self.text, blanks)
        layout = self._layout(
            [marks.around(turn, at) if at in turns else turn for at, turn in enumerate(self.chat)],
            marks.owner,
        )
        if layout is None or layout.bare != self.text:
            return None
        return replace(layout, complete=len(turns) == len(self.chat))

    def _replaced(self, turn: int) -> _Layout | None:
        """A sentinel for the turn's content; None where it changes more than that content."""
        marks = _Marks(self.chat, self.text)
        chat = [dict(each) for each in self.chat]
        chat[turn]["content"] = marks.pair("x", turn)
        layout = self._layout(chat, marks.owner)
        if layout is None or [owner for _, owner in layout.marks] != [turn, turn]:
            return None
        before = layout.text[: layout.marks[0].at]
        after = layout.text[layout.marks[1].at + 1 :]
        if not (self.text.startswith(before) and self.text[len(before) :].endswith(after)):
            return None
        shift = len(self.text) - len(layout.text)
        return replace(layout, place=lambda at: at if at <= len(before) else at + shift)

    def _layout(self, chat: Turns, owner: Mapping[str, int]) -> _Layout | None:
        try:
            text = self.render(chat, ask=self.ask)
        except DataError:
            return None
        found = _Layout(self.render, chat, text, self.ends, self.ask, owner, lambda at: at)
        positions = [mark.at for mark in found.marks]
        return replace(found, place=lambda at: at - sum(position < at for position in positions))


class _Mark(NamedTuple):
    at: int
    turn: int


@dataclass(frozen=True)
class _Layout:
    """A rendering with marks in the contents of turns, and where its characters are in the text."""

    render: Render
    chat: Turns
    text: str
    ends: _Ends
    ask: bool
    owner: Mapping[str, int]
    place: Callable[[int], int]
    complete: bool = False  # the contents of all turns carry marks

    @cached_property
    def marks(self) -> list[_Mark]:
        return self._marks_in(self.text)

    @property
    def bare(self) -> str:
        return self.text.translate({ord(mark): None for mark in self.owner})

    def span(self, turn: int) -> TurnSpan | None:
        """The span of a turn, None where it cannot be located."""
        alone = self._rendered(turn + 1, ask=False)
        own = self._own(turn, alone)
        if not own and (turn in self.owner.values() or alone == self._rendered(turn, ask=False)):
            return None  # the template leaves it out
        start = self._start(turn, own)
        if start is None:
            return None
        end = self._end(turn, start, own[-1] + 1 if own else start, alone)
        if end is None:
            return None
        return TurnSpan(turn, self.place(start), self.place(end[0]), end[1])

    def _own(self, turn: int, alone: str | None) -> list[int]:
        """The marks of a turn, up to the last that is written where no turn follows it.

        Those after that belong to later turns: a tool's answer may repeat the name of the call.
        """
        own = self._until_repeated([mark.at for mark in self.marks if mark.turn == turn])
        last = self._last_mark(turn, alone)
        if alone is None or last is None:
            return own
        places = [at for at in own if self.text[at] == alone[last]]
        count = alone.count(alone[last])
        return [at for at in own if at <= places[count - 1]] if len(places) >= count else own

    def _until_repeated(self, own: list[int]) -> list[int]:
        """The marks of a turn before it is written again, after an end of turn."""
        seen: set[str] = set()
        for number, at in enumerate(own):
            if self.text[at] in seen and self.ends.stops(self.text[own[number - 1] : at]):
                return own[:number]
            seen.add(self.text[at])
        return own

    def _last_mark(self, turn: int, text: str | None) -> int | None:
        own = [mark.at for mark in self._marks_in(text or "") if mark.turn == turn]
        return own[-1] if own else None

    def _start(self, turn: int, own: list[int]) -> int | None:
        """Where the text parts from the prompt; at the content if that is not before it."""
        prompt = self._rendered(turn, ask=True)
        start, whole = (None, False) if prompt is None else self._parting(prompt, turn)
        if not own:
            return start
        if start is None or start > own[0] or self._others(turn, start, own[-1]):
            start = own[0]
        header = _THINKING.sub("", self.text[start : own[0]]).strip()
        if header and not whole and self.chat[turn].get("content"):
            start = own[0]  # another header than that of the generation prompt
        return None if self._others(turn, start, own[-1]) else start

    def _others(self, turn: int, start: int, end: int) -> bool:
        """Whether another turn's content is in a part of the text."""
        return any(start <= mark.at < end and mark.turn != turn for mark in self.marks)

    def _parting(self, prompt: str, turn: int) -> tuple[int | None, bool]:
        """The end of what the rendering of a prompt has in common with the text, if it is all.

        Where earlier turns are written otherwise, that is what they share after the last content
        of the prompt.
        """
        if self.text.startswith(prompt):
            return len(prompt), True
        marks = self._marks_in(prompt)
        if not marks:
            alone = turn == 0 or self.complete
            return (self.ends.shared(prompt, self.text) or None) if alone else None, False
        last = prompt[marks[-1].at]
        places = [mark.at for mark in self.marks if self.text[mark.at] == last]
        if len(places) < prompt.count(last):
            return None, False
        after = places[prompt.count(last) - 1] + 1
        rest = prompt[marks[-1].at + 1 :]
        shared = self.ends.shared(rest, self.text[after:])
        return after + shared if shared else None, shared == len(rest)

    def _end(self, turn: int, start: int, last: int, alone: str | None) -> tuple[int, bool] | None:
        """Where a turn whose content ends at ``last`` is over, and whether a token ends it."""
        later = [mark.at for mark in self.marks if mark.at >= last]
        tail = self.text[last : later[0] if later else len(self.text)]
        exact = True
        if self.ask or turn + 1 < len(self.chat):
            closed = self._tail_of(alone, turn, start)
            shared = 0 if closed is None else self.ends.shared(tail, closed)
            exact = closed is not None and self.ends.whole(closed, shared)
            tail = tail[:shared] if exact else tail
        elif not self.ends.stops(tail) and self._rendered(turn + 1, ask=True) == self.text:
            tail = tail[: self.ends.shared(tail, self._tail_before_user(turn, start) or tail)]
        if not exact and last == start:
            return None
        length, ended = self.ends.end_of(tail, exact, self.text[last + len(tail) :])
        return last + length, ended

    def _tail_before_user(self, turn: int, start: int) -> str | None:
        """The text after the content of the last turn where a user turn follows.

        It shows the end of turn of templates that write the generation prompt after every text.
        """
        more = [*self.chat, {"role": "user", "content": "x"}]
        try:
            return self._tail_of(self.render(more, ask=False), turn, start)
        except DataError:
            return None

    def _tail_of(self, text: str | None, turn: int, start: int) -> str | None:
        """What follows the content of a turn in a text that the turn is the last of."""
        if text is None:
            return None
        last = self._last_mark(turn, text)
        if last is not None:
            return text[last + 1 :]
        return text[start:] if text.startswith(self.text[:start]) else None

    def _rendered(self, turns: int, ask: bool) -> str | None:
        """The first turns as text, None where the template refuses them alone."""
        try:
            return self.render(self.chat[:turns], ask=ask)
        except DataError:
            return None

    def _marks_in(self, text: str) -> list[_Mark]:
        if not self.owner:
            return []
        found = re.finditer(f"[{''.join(self.owner)}]", text)
        return [_Mark(match.start(), self.owner[match[0]]) for match in found]


class _Ends:
    """Finds the end of a turn in the text after its content."""

    def __init__(self, stops: Stops) -> None:
        self._ends = _any_of(stops.ends)
        self._control = _any_of(stops.control | stops.ends)

    def shared(self, text: str, other: str) -> int:
        """Length of the common prefix of two texts, a control token being one character."""
        pairs = zip(text, other, strict=False)
        same = (at for at, (one, two) in enumerate(pairs) if one != two)
        length = next(same, min(len(text), len(other)))
        for match in chain(self._control.finditer(text), self._control.finditer(other)):
            if match.start() < length < match.end():
                length = match.start()
        return length

    def stops(self, tail: str) -> bool:
        """Whether a tail has a token that generation stops at."""
        return self._ends.search(tail) is not None

    def whole(self, tail: str, shared: int) -> bool:
        """Whether the part of a tail that another shares has the end of turn."""
        return shared == len(tail) or self._control.search(tail[:shared]) is not None

    def end_of(self, tail: str, exact: bool, rest: str) -> tuple[int, bool]:
        """Length of the end of turn in ``tail``, and whether a token ends it.

        ``tail`` is what follows a content: just its turn's where that is ``exact``, else all up to
        the next content. ``rest`` follows it: a token there that generation stops at ends the turn
        of a template that has no other end.
        """
        stop = self._ends.search(tail)
        if stop is not None:
            return stop.end(), True
        controls = [match.end() for match in self._control.finditer(tail)]
        if controls and (exact or self._control.match(tail.lstrip())):
            return (controls[-1] if exact else controls[0]), True
        opening = self._ends.match(rest) if exact else None
        if opening is not None:
            return len(tail) + opening.end(), True
        return (len(tail.rstrip()) if exact else 0), False


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    longest = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) or "(?!)")


class _Marks:
    """Puts characters that occur nowhere else around the texts of turns."""

    def __init__(self, chat: Turns, text: str, blanks: bool = False) -> None:
        self._free = private_characters(text, *strings(list(chat)))
        self._blanks = blanks
        self.owner: dict[str, int] = {}

    def pair(self, text: str, turn: int) -> str:
        """The text between two marks."""
        before, after = next(self._free), next(self._free)
        self.owner |= {before: turn, after: turn}
        return before + text + after

    def around(self, turn: Mapping[str, Any], at: int) -> dict[str, Any]:
        """A turn with marks around its contents, its reasoning and the values of its calls."""
        blanks = self._blanks and turn.get("role") == "assistant" and _blank(turn)
        found = dict(turn)
        for key in _TEXTS:
            if key in turn:
                found[key] = self._within(turn[key], at)
        if blanks:
            found["content"] = (turn.get("content") or "") + self.pair("", at)
        if turn.get("tool_calls"):
            found["tool_calls"] = self._within(turn["tool_calls"], at)
        return found

    def _within(self, value: Any, at: int) -> Any:
        """White space stays outside of marks: templates trim it."""
        if isinstance(value, str):
            core = value.strip()
            before, _, after = value.partition(core) if core else (value, "", "")
            return before + self.pair(core, at) + after if core else value
        if isinstance(value, Mapping):
            return {
                key: inner if key in _NOT_TEXT else self._within(inner, at)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._within(inner, at) for inner in value]
        return value


def _blank(turn: Mapping[str, Any]) -> bool:
    """Whether a turn has nothing to write: no content, no call."""
    content = turn.get("content") or ""
    return isinstance(content, str) and not content.strip() and not turn.get("tool_calls")
