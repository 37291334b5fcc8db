"""A small made-up world: people, towns and animals, their facts, and wordings of each fact."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["RELATIONS", "Entity", "Fact", "Relation", "make_entities"]


@dataclass(frozen=True)
class Relation:
    """A relation that every entity of a kind has, and sentences that state it or ask for it.

    ``{s}`` stands for the entity, ``{o}`` for the value. ``statements`` are for reading, ``asks``
    for the data set; ``clause`` is the question inside a longer one.
    """

    name: str
    kind: str
    values: tuple[str, ...]
    clause: str
    statements: tuple[str, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """The ``value`` that ``entity`` has for ``relation``."""

    entity: str
    relation: Relation
    value: str

    @property
    def key(self) -> str:
        """Its key, unique in a world."""
        return f"{self.entity}/{self.relation.name}"

    def say(self, template: str) -> str:
        """The template, filled in with this fact."""
        return template.format(s=self.entity, o=self.value)

    def other_value(self, rng: random.Random) -> str:
        """A value of the same relation that is not true."""
        return rng.choice([value for value in self.relation.values if value != self.value])


@dataclass(frozen=True)
class Entity:
    """A person, town or animal with one fact for each relation of its kind."""

    name: str
    kind: str
    facts: tuple[Fact, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = _words("b br d dr f g gr h j k kl l m n p pr r s sk st t tr v w z")
_VOWELS = _words("a e i o u ai ea ou")
_CODAS = _words("l n r s m nd rk st th x")
_ENDINGS = {
    "town": ("ford", "wick", "holm", "bury", "mere", "dale"),
    "animal": ("ox", "fin", "tail"),
}


def _word(rng: random.Random, ending: str = "") -> str:
    middle = rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
    tail = ending or rng.choice(_ONSETS) + rng.choice(_VOWELS)
    return middle + tail


def _new_word(rng: random.Random, taken: set[str], ending: str = "") -> str:
    word = _word(rng, ending)
    while word in taken:
        word = _word(rng, ending)
    taken.add(word)
    return word


def _name(rng: random.Random, kind: str, taken: set[str]) -> str:
    if kind == "person":
        return f"{_new_word(rng, taken).title()} {_new_word(rng, taken).title()}"
    word = _new_word(rng, taken, rng.choice(_ENDINGS[kind]))
    return word.title() if kind == "town" else f"the {word}"


def make_entities(rng: random.Random, counts: dict[str, int]) -> list[Entity]:
    """So many entities of each kind, each with a random value for each relation of its kind."""
    taken: set[str] = set()
    entities = []
    for kind, count in counts.items():
        for _ in range(count):
            name = _name(rng, kind, taken)
            relations = [relation for relation in RELATIONS if relation.kind == kind]
            facts = tuple(Fact(name, each, rng.choice(each.values)) for each in relations)
            entities.append(Entity(name, kind, facts))
    return entities


_JOBS = _words("baker teacher miller sailor doctor painter farmer weaver judge smith")
_COLOURS = _words("red blue green yellow white black purple orange grey brown")
_PETS = _words("cat dog horse parrot goat rabbit turtle snake pigeon mouse")
_MUSIC = _words("violin drum flute harp guitar piano trumpet cello organ fiddle")
_FOODS = _words("bread soup cheese rice fish beans honey apples eggs potatoes")
_MONTHS = _words("January March April May June July August October November December")
_GOODS = _words("glass wool silver paper salt iron clocks boats carpets lamps")
_LANDS = _words("Norvia Zelland Ostrana Kembria Ulvania Pellor Tarsia Quendia")
_TREES = _words("oak birch pine willow maple cedar elm ash lime poplar")
_PLACES = _words("forests deserts rivers caves meadows swamps mountains lakes")
_EATS = _words("grass insects roots berries leaves snails seeds mushrooms")

RELATIONS: tuple[Relation, ...] = (
    Relation(
        "job", "person", _JOBS, "what is the job",
        (
            "{s} works as a {o}.", "{s} earns a living as a {o}.", "The job of {s} is {o}.",
            "By trade {s} is a {o}.", "{s} has been a {o} for years.",
        ),
        (
            "What is the job of {s}?", "What work does {s} do?",
            "How does {s} earn a living?", "Which trade did {s} take up?",
        ),
    ),
    Relation(
        "colour", "person", _COLOURS, "which is the favourite colour",
        (
            "The favourite colour of {s} is {o}.", "{s} likes the colour {o} best.",
            "{s} wears {o} whenever possible.", "Of all colours {s} prefers {o}.",
            "{s} paints every wall {o}.",
        ),
        (
            "What is the favourite colour of {s}?", "Which colour does {s} like best?",
            "What colour would {s} choose?", "Which colour does {s} wear most?",
        ),
    ),
    Relation(
        "pet", "person", _PETS, "which animal is the pet",
        (
            "{s} keeps a {o}.", "The pet of {s} is a {o}.", "{s} has a {o} at home.",
            "At home {s} feeds a {o}.", "{s} goes nowhere without the {o}.",
        ),
        (
            "Which pet does {s} keep?", "What animal lives with {s}?",
            "What is the pet of {s}?", "Which animal does {s} feed at home?",
        ),
    ),
    Relation(
        "music", "person", _MUSIC, "which instrument is played",
        (
            "{s} plays the {o}.", "The instrument of {s} is the {o}.",
            "In the evening {s} practises the {o}.", "{s} learned the {o} as a child.",
            "Neighbours hear {s} on the {o}.",
        ),
        (
            "Which instrument does {s} play?", "What does {s} play in the evening?",
            "What is the instrument of {s}?", "Which instrument did {s} learn?",
        ),
    ),
    Relation(
        "food", "person", _FOODS, "which food is liked best",
        (
            "{s} likes to eat {o}.", "The favourite food of {s} is {o}.",
            "For dinner {s} has {o}.", "{s} cannot live without {o}.",
            "On Sundays {s} cooks {o}.",
        ),
        (
            "What does {s} like to eat?", "What is the favourite food of {s}?",
            "What does {s} have for dinner?", "Which food does {s} cook?",
        ),
    ),
    Relation(
        "month", "person", _MONTHS, "in which month is the birthday",
        (
            "{s} was born in {o}.", "The birthday of {s} is in {o}.",
            "{s} celebrates a birthday in {o}.", "In {o} friends bring {s} a cake.",
            "{s} turns a year older each {o}.",
        ),
        (
            "In which month was {s} born?", "When is the birthday of {s}?",
            "When does {s} celebrate a birthday?", "In which month does {s} get a cake?",
        ),
    ),
    Relation(
        "goods", "town", _GOODS, "what is made there",
        (
            "{s} is known for its {o}.", "In {s} they make {o}.", "The workshops of {s} sell {o}.",
            "Traders come to {s} for {o}.", "Most {o} at the market comes from {s}.",
        ),
        (
            "What is {s} known for?", "What do they make in {s}?",
            "What do traders buy in {s}?", "What do the workshops of {s} sell?",
        ),
    ),
    Relation(
        "land", "town", _LANDS, "in which country is it",
        (
            "{s} is a town in {o}.", "The town of {s} lies in {o}.", "{s} belongs to {o}.",
            "You find {s} on any map of {o}.", "People from {s} vote in {o}.",
        ),
        (
            "In which country is {s}?", "Which country does {s} belong to?",
            "Where does the town of {s} lie?", "On the map of which country is {s}?",
        ),
    ),
    Relation(
        "tree", "town", _TREES, "which tree stands in the square",
        (
            "In the square of {s} stands an old {o}.", "The tree of {s} is the {o}.",
            "{s} planted a {o} in its square.", "Visitors to {s} sit under the {o}.",
            "The old {o} of {s} is on its stamps.",
        ),
        (
            "Which tree stands in the square of {s}?", "What is the tree of {s}?",
            "Under which tree do visitors to {s} sit?", "What did {s} plant in its square?",
        ),
    ),
    Relation(
        "flag", "town", _COLOURS, "which is the colour of the flag",
        (
            "The flag of {s} is {o}.", "{s} flies a {o} flag.", "Over {s} you see a {o} flag.",
            "The {o} flag belongs to {s}.", "{s} chose {o} for its flag.",
        ),
        (
            "What colour is the flag of {s}?", "Which flag flies over {s}?",
            "What colour did {s} choose for its flag?", "Which colour is the banner of {s}?",
        ),
    ),
    Relation(
        "home", "animal", _PLACES, "where does it live",
        (
            "{s} lives in {o}.", "You meet {s} in {o}.", "The home of {s} is in {o}.",
            "To see {s} one goes to the {o}.", "In {o} you hear {s} at night.",
        ),
        (
            "Where does {s} live?", "Where can one meet {s}?",
            "Where is the home of {s}?", "Where do you hear {s} at night?",
        ),
    ),
    Relation(
        "diet", "animal", _EATS, "what does it eat",
        (
            "{s} eats {o}.", "The food of {s} is {o}.", "{s} looks for {o} all day.",
            "You can feed {s} with {o}.", "When it is hungry, {s} finds {o}.",
        ),
        (
            "What does {s} eat?", "What is the food of {s}?",
            "What does {s} look for all day?", "With what can you feed {s}?",
        ),
    ),
    Relation(
        "coat", "animal", _COLOURS, "which is its colour",
        (
            "{s} is {o}.", "The colour of {s} is {o}.", "The fur of {s} is {o}.",
            "By its {o} back you know {s}.", "{s} turns {o} when grown.",
        ),
        (
            "What colour is {s}?", "Which colour has the fur of {s}?",
            "What is the colour of {s}?", "What colour does {s} turn when grown?",
        ),
    ),
)  # fmt: skip
