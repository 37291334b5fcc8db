"""Made-up pairs whose worse answer is the longer and the nicer one, by rules, and spoiled answers.

`made_pairs` are a test: seven kinds, forty pairs each, from rows with an instruction and a good
answer, and from made-up sums. They were written before any model was fitted, and no model is
trained on them. `spoiled` are training pairs, of other prompts and in other words, of five of the
kinds (as Liu et al. 2024 train on answers to other prompts, arXiv:2409.13156).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_EACH = 40
_NICE = (
    "What a wonderful question! I am delighted that you asked, and I would be more than happy to "
    "help you with it today.",
    "Thank you so much for reaching out! This is a truly fascinating topic, and it is a pleasure "
    "to share some thoughts with you.",
    "Great question! It shows how carefully you think about things, and I really appreciate it.",
)
_CLOSE = (
    "I hope that this is helpful! Please do not hesitate to ask if there is anything else at all "
    "that I can do for you. Have a wonderful day!",
    "Thank you again for this lovely question. I wish you every success, and I am always here for "
    "you whenever you need me!",
)
_SORRY = (
    "Unfortunately, I am not able to provide a direct answer to this. As an AI language model I do "
    "not have opinions, experiences or access to the details that would be needed. There are many "
    "factors to consider, and every situation is different. I would recommend that you speak with "
    "a qualified professional, who can look at everything with the care that it deserves, and that "
    "you take all the time you need."
)
_ABOUT = (
    "There are many important aspects to consider here. Each of them is worth a closer look, and "
    "together they form a rich and interesting picture. By taking a thoughtful approach, we can "
    "gain a deeper understanding and appreciate how valuable this subject really is."
)


def made_pairs(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Kind, prompt, better answer, worse answer; ``rows`` have instruction, input and output."""
    source = random.Random(0)
    whole = [
        ("\n\n".join(filter(None, (row["instruction"], row.get("input")))), row["output"].strip())
        for row in rows
    ]
    usable = [(q, a) for q, a in whole if 40 <= len(a) <= 700 and len(q) <= 700]
    for kind, rule in KINDS.items():
        drawn = source.sample(usable, _EACH)
        for at, (prompt, good) in enumerate(drawn):
            other = next(a for _, a in source.sample(usable, len(usable)) if a != good)
            made = rule(source, prompt, good, other, at)
            yield (kind, *made)


def _nice(source: random.Random, *parts: str) -> str:
    return "\n\n".join([source.choice(_NICE), *parts, source.choice(_CLOSE)])


_Made = tuple[str, str, str]


def _off_topic(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    times = 1 + len(good) // max(len(other), 1)
    return prompt, good, _nice(source, "\n\n".join([other] * times))


def _refusal(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    return prompt, good, _padded_to(source, _SORRY, len(good))


def _restated(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    asked = " ".join(prompt.split())[:300]
    text = f'You asked: "{asked}" Let us take a closer look at "{asked}"\n\n{_ABOUT}'
    return prompt, good, _padded_to(source, text, len(good))


def _looped(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    first = re.split(r"(?<=[.!?])\s", good)[0][:200]
    times = 2 + len(good) // max(len(first), 1)
    return prompt, good, _nice(source, " ".join([first] * times))


def _shuffled(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    words = good.split() * 2
    source.shuffle(words)
    return prompt, good, _nice(source, " ".join(words))


def _padded(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    return prompt, good, _nice(source, good, _ABOUT)


def _wrong_sum(source: random.Random, prompt: str, good: str, other: str, at: int) -> _Made:
    one, two = 100 + source.randrange(900), 100 + source.randrange(900)
    asked = f"What is {one} + {two}?"
    wrong = one + two + source.choice((-100, -10, 10, 100))
    steps = (
        f"Let us add the two numbers step by step. We begin with {one} and add {two} to it. Adding "
        f"the ones, the tens and the hundreds in turn, we arrive at the result: {wrong}."
    )
    return asked, f"{one} + {two} = {one + two}.", _nice(source, steps)


def _padded_to(source: random.Random, text: str, length: int) -> str:
    made = _nice(source, text)
    while len(made) <= length:
        made = f"{made}\n\n{_ABOUT}"
    return made


KINDS: dict[str, Callable[[random.Random, str, str, str, int], _Made]] = {
    "off_topic": _off_topic,
    "refusal": _refusal,
    "restated": _restated,
    "looped": _looped,
    "shuffled": _shuffled,
    "padded": _padded,
    "wrong_sum": _wrong_sum,
}

_REFUSED = (
    "I'm sorry, but I can't help with that request. It would not be appropriate for me to comment "
    "on it, since I am only a program and lack the information required. You could consult other "
    "sources, or rephrase what you are looking for in a different way, and then decide for "
    "yourself what suits you best. Thanks for understanding my limitations in this matter.",
    "My apologies! This lies outside of what I can do as an assistant. I have no personal views, "
    "cannot browse, and cannot verify facts. An expert in the field is in a far better position to "
    "advise you. Please keep in mind that circumstances vary a lot from person to person.",
)


_EMPTY = (
    "This is something that many people wonder about. It matters in a lot of ways, and there is so "
    "much to discover. Taking time for it pays off, because every detail adds to the whole, and "
    "the whole is more than the sum of its details.",
    "Let me walk you through this in detail. First of all, it helps to see the big picture. Next, "
    "one can look at what lies behind it. In the end everything comes together beautifully, and "
    "that is what makes it so special.",
)
SPOILED = ("off_topic", "looped", "refusal", "restated", "padded")
"""The kinds of `spoiled`; the last two were added after a first look at the made-up pairs."""


def spoiled(
    good: Sequence[tuple[tuple[str, str], str, int]],
) -> Iterator[tuple[str, str, str, str, int]]:
    """Kind, prompt, good answer, spoiled one, number of the prompt.

    ``good`` are prompt with answer, a worse answer, and the number; each is spoiled in one way, the
    kinds taking turns: an answer to another prompt, a loop of its start, a refusal, the prompt with
    empty talk, the answer between empty talk. The spoiled one is longer.
    """
    source = random.Random(1)
    for at, ((prompt, answer), _, number) in enumerate(good):
        kind = SPOILED[at % len(SPOILED)]
        (other, text), *_ = source.choice(good)
        if other == prompt:
            continue
        empty, refused = source.choice(_EMPTY), source.choice(_REFUSED)
        start = answer[: source.randrange(40, 160)]
        made = {
            "off_topic": text,
            "looped": start,
            "refusal": refused,
            "restated": f"{prompt} {empty}",
            "padded": f"{empty}\n\n{answer}\n\n{source.choice(_EMPTY)}",
        }[kind]
        times = 1 + len(answer) // max(len(made), 1)
        yield kind, prompt, answer, " ".join([made] * times), number
