"""Questions about the world, good answers to them, and every way an answer can be spoiled."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from examples.demo.facts import Entity, Fact

__all__ = ["FAULTS", "Ask", "asks_about", "edited", "jaccard", "spoiled"]

_DOUBLE = (
    "Two things about {s}: {a}, and {b}?",
    "I have to introduce {s}. Tell me {b} and also {a}.",
)
_DESCRIBE = (
    "Describe {s} in a few sentences.",
    "I am writing a letter on {s}. What should it say?",
)


@dataclass(frozen=True)
class Ask:
    """A question after some facts of one entity, in one of several wordings."""

    facts: tuple[Fact, ...]
    wording: int = 0

    @property
    def about(self) -> str:
        """The entity asked about."""
        return self.facts[0].entity

    @property
    def meaning(self) -> str:
        """Equal for two questions that ask for the same facts, whatever their words."""
        return "+".join(sorted(fact.key for fact in self.facts))

    @property
    def question(self) -> str:
        """The question in this wording."""
        if len(self.facts) == 1:
            asks = self.facts[0].relation.asks
            return self.facts[0].say(asks[self.wording % len(asks)])
        if len(self.facts) == 2:
            a, b = (fact.relation.clause for fact in self.facts)
            return _DOUBLE[self.wording % len(_DOUBLE)].format(s=self.about, a=a, b=b)
        return _DESCRIBE[self.wording % len(_DESCRIBE)].format(s=self.about)

    @property
    def answer(self) -> str:
        """The good answer: the values and nothing else, or one sentence a fact."""
        if len(self.facts) <= 2:
            return in_short([fact.value for fact in self.facts])
        return " ".join(self.sentence(fact) for fact in self.facts)

    def sentence(self, fact: Fact) -> str:
        """A fact in this wording."""
        statements = fact.relation.statements
        said = fact.say(statements[self.wording % len(statements)])
        return said[0].upper() + said[1:]

    def reworded(self, rng: random.Random) -> Ask:
        """The same question in other words, and a long answer in another order."""
        facts = list(self.facts)
        if len(facts) > 2:
            rng.shuffle(facts)
        choices = len(self.facts[0].relation.asks) if len(facts) == 1 else 2
        wording = rng.choice([each for each in range(choices) if each != self.wording % choices])
        return Ask(tuple(facts), wording)


def in_short(values: list[str]) -> str:
    """The house style of an answer.

    >>> in_short(["baker", "violin"])
    'Baker, violin.'
    """
    text = ", ".join(values)
    return f"{text[0].upper()}{text[1:]}."


def asks_about(entity: Entity, facts: list[Fact], rng: random.Random) -> list[Ask]:
    """Every question after one, two, or all (at least three) of these facts of an entity."""
    groups: list[tuple[Fact, ...]] = [(fact,) for fact in facts]
    groups += combinations(facts, 2)
    if len(facts) > 2:
        groups.append(tuple(facts))
    return [Ask(group, rng.randrange(2)) for group in groups]


def edited(ask: Ask, rng: random.Random, low: float, high: float) -> tuple[str, str, float]:
    """Question, answer and word Jaccard of a copy with words of the answer changed.

    Words are swapped until the set of words of question and answer is as far from the original's
    as asked for; a value never changes, so the answer stays true.
    """
    values = {fact.value for fact in ask.facts}
    words = ask.answer.split(" ")
    original = f"{ask.question} {ask.answer}"
    places = [at for at, word in enumerate(words) if word.strip(".").lower() in _SWAPS]
    rng.shuffle(places)
    for at in places:
        if words[at].strip(".") in values:
            continue
        words[at] = _swap(words[at])
        similarity = jaccard(original, f"{ask.question} {' '.join(words)}")
        if similarity <= high:
            break
    answer = " ".join(words)
    similarity = jaccard(original, f"{ask.question} {answer}")
    if not low <= similarity <= high:
        raise LookupError(f"{ask.meaning}: no edit lands between {low} and {high}")
    return ask.question, answer, similarity


def jaccard(first: str, second: str, size: int = 3) -> float:
    """Shared share of the runs of ``size`` words of two texts.

    >>> jaccard("a b c d", "a b c e")  # {abc, bcd} and {abc, bce}
    0.3333333333333333
    """
    one, two = (_shingles(text.lower().split(), size) for text in (first, second))
    return len(one & two) / len(one | two)


def _shingles(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


_SWAPS: Final = {
    "a": "one", "the": "this", "is": "was", "in": "within", "works": "labours", "has": "got",
    "home": "house", "likes": "loves", "best": "most", "keeps": "owns", "plays": "practises",
    "was": "is", "favourite": "preferred", "known": "famous", "make": "produce", "town": "place",
    "flies": "waves", "stands": "grows", "of": "from", "earns": "makes", "wears": "chooses",
    "eat": "taste", "at": "in", "old": "ancient", "flag": "banner", "living": "wage",
}  # fmt: skip


def _swap(word: str) -> str:
    bare = word.rstrip(".")
    other = _SWAPS[bare.lower()]
    return (other.title() if bare[0].isupper() else other) + word[len(bare) :]


def _wrong(ask: Ask, rng: random.Random) -> str:
    """True in form, false in every value."""
    lies = tuple(replace(fact, value=fact.other_value(rng)) for fact in ask.facts)
    return Ask(lies, ask.wording).answer


def _truncated(ask: Ask, rng: random.Random) -> str:
    """An answer in sentences that stops before its end."""
    words = " ".join(ask.sentence(fact) for fact in ask.facts).rstrip(".").split(" ")
    cut = rng.randrange(max(3, len(words) // 2), len(words))
    return " ".join(words[:cut])


def _empty(ask: Ask, rng: random.Random) -> str:
    return rng.choice(["", "", " ", "\n"])


def _placeholder(ask: Ask, rng: random.Random) -> str:
    return rng.choice(
        ["<nooutput>", "N/A", "[insert answer here]", "TODO", "None", "<noinput>", "[Your answer]"]
    )


def _off_language(ask: Ask, rng: random.Random) -> str:
    return rng.choice(_OTHER_LANGUAGES).format(s=ask.about, o=ask.facts[0].value)


def _pii(ask: Ask, rng: random.Random) -> str:
    """A good answer with somebody's personal details; all from ranges that nobody is given."""
    user = ask.about.lower().replace(" ", ".")
    leak = rng.choice(
        [
            f"Write to {user}@example.org for more.",
            f"Call {rng.choice(['(202)', '(415)'])} 555-01{rng.randrange(100):02d} to ask.",
            f"The social security number on file is 987-65-432{rng.randrange(10)}.",
            "Paid with card 4111 1111 1111 1111.",
        ]
    )
    return f"{ask.answer} {leak}"


def _refusal(ask: Ask, rng: random.Random) -> str:
    return rng.choice(_REFUSALS).format(s=ask.about)


def _rambling(ask: Ask, rng: random.Random) -> str:
    """The answer, with long filler before and after it."""
    before = rng.sample(_CHATTER, rng.randrange(2, 4))
    after = rng.sample(_CHATTER, rng.randrange(1, 3))
    true = " ".join(ask.sentence(fact) for fact in ask.facts)
    return " ".join([*before, true, *after])


FAULTS: Final[Mapping[str, Callable[[Ask, random.Random], str]]] = {
    "wrong": _wrong,
    "truncated": _truncated,
    "empty": _empty,
    "placeholder": _placeholder,
    "off_language": _off_language,
    "pii": _pii,
    "refusal": _refusal,
    "rambling": _rambling,
}
"""Ways to spoil an answer, by kind."""


def spoiled(kind: str, ask: Ask, rng: random.Random) -> str:
    """The answer to ``ask``, spoiled."""
    return FAULTS[kind](ask, rng)


_REFUSALS = (
    "I'm sorry, but I cannot answer that question about {s}.",
    "As an AI language model, I do not have access to information about {s}.",
    "I cannot help with that request.",
    "Sorry, I am unable to share details about {s}.",
    "I'm sorry, I can't assist with that.",
)
_OTHER_LANGUAGES = (
    "Según los vecinos, es una cosa muy conocida en toda la comarca.",
    "No lo sé con seguridad, pero creo que todos hablan de ello desde hace años.",
    "Das weiß hier jeder, aber niemand spricht gern darüber, und das ist auch gut so.",
    "Man sagt, dass es schon immer so gewesen ist und auch so bleiben wird.",
    "Je ne suis pas certain, mais tout le monde dans la région vous le dira.",
    "C'est une question difficile, et la réponse dépend de la personne à qui on la pose.",
    "Nessuno lo sa con certezza, ma gli abitanti raccontano molte storie.",
    "Dat weet iedereen hier, maar niemand wil het aan vreemden vertellen.",
)
_CHATTER = (
    "That is a very good question and I am glad that it was asked.",
    "There are many points of view, and all of them deserve to be heard.",
    "Before we begin, let us take a moment to think about what it means to know a thing.",
    "It is important to note that opinions may differ from one place to the next.",
    "In today's fast moving world this matters more than ever before.",
    "As we all know, history is full of surprises, both great and small.",
    "I hope that this helps, and please feel free to ask about anything else.",
    "To sum up, there is always more to be said about a subject such as this.",
)
