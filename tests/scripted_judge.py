"""A task of one number, and judges in this process and on a server that a function answers for."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl

from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import Answer, BackendError, Item, Question, UnparsedError
from tests.judge_server import FakeTime


@dataclass(frozen=True)
class Length:
    """How long is the answer? Asked ``times`` times over; the numbers are added."""

    answers: int | None = 1
    adds: ClassVar = {"length": pl.Float64}
    times: int = 1
    version: str = "1"

    def questions(self, item):
        text = ("user", f"How long is: {item.answers[0]}")
        return [
            Question((text,), max_tokens=8, version=f"{self.version}.{number}")
            for number in range(self.times)
        ]

    def parse(self, item, question, answer):
        found = re.fullmatch(r"\d+", answer.text)
        if found is None:
            raise UnparsedError("expected a whole number")
        return int(found[0])

    def verdict(self, item, parsed):
        return {"length": float(sum(parsed))}


def length_of(question):
    """What a judge that is always right answers."""
    return str(len(question.messages[0][1].removeprefix("How long is: ")))


@dataclass
class Scripted:
    """``reply`` gives the answer to a question, or fails."""

    reply: object = length_of
    identity: str = "scripted"
    asked: list = field(default_factory=list)

    def _one(self, question):
        try:
            said = self.reply(question)
        except BackendError as error:
            return error
        return said if isinstance(said, Answer) else Answer(said, input_tokens=10, output_tokens=1)


class Batches(Scripted):
    """A backend in this process."""

    def answer(self, questions):
        self.asked += questions
        return [self._one(question) for question in questions]


@dataclass
class Server(Scripted):
    """A server, of which ``most`` requests were open at once."""

    open: int = 0
    most: int = 0
    seconds: float = 0.0

    async def ask(self, question):
        self.asked.append(question)
        self.open += 1
        self.most = max(self.most, self.open)
        said = self._one(question)
        await asyncio.sleep(self.seconds)
        self.open -= 1
        if isinstance(said, BackendError):
            raise said
        return said

    async def close(self):
        pass


def items(number, start=0):
    return [Item((("user", "hi"),), ("x" * n,)) for n in range(start, start + number)]


def judge_of(backend, *, task=None, **options):
    time = FakeTime()
    judge = Judge(backend, task or Length(), clock=time.clock, sleep=time.sleep, **options)
    judge.time = time
    return judge
