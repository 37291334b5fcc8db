"""Tokens and money of a judge, foretold from a random part of the rows."""

import numpy as np
import pytest

from siftune.curate.judging.engine import Judge
from siftune.curate.judging.forecast import forecast, total_of_rest
from siftune.curate.judging.spending import BILLION, Prices
from siftune.curate.judging.types import Answer, Item, Question, UnparsedError


class Scripted:
    """Bills a token for about four bytes, and a random price for an answer."""

    identity = "scripted"

    def __init__(self, seed=0, unparsed=0.0):
        self.chance, self.unparsed = np.random.default_rng(seed), unparsed

    def answer(self, questions):
        return [self.one(question) for question in questions]

    def one(self, question):
        size = sum(len(text) for _, text in question.messages)
        tokens = 40 + round(size / 4 * self.chance.uniform(0.85, 1.15))
        text = "?" if self.chance.random() < self.unparsed else "4"
        cost = round(self.chance.uniform(0.0001, 0.01) * BILLION)
        return Answer(text, input_tokens=tokens, output_tokens=3, cost=cost)


class Rating:
    answers = None

    def questions(self, item):
        return [Question(item.prompt, max_tokens=8)]

    def parse(self, item, question, answer):
        if answer.text == "?":
            raise UnparsedError("expected a number")
        return int(answer.text)

    def verdict(self, item, parsed):
        return {"rating": parsed[0]}


def items(number, seed=7):
    sizes = np.random.default_rng(seed).lognormal(5, 1, number).astype(int) + 10
    return [Item((("user", f"{n} " + "x" * size),)) for n, size in enumerate(sizes)]


@pytest.mark.parametrize("unparsed", [0.0, 0.2])
def test_after_a_hundred_answers_tokens_are_within_2_percent_and_cost_within_15(tmp_path, unparsed):
    rows = items(1000)
    backend = Scripted(seed=1, unparsed=unparsed)
    judge = Judge(backend, Rating(), cache=tmp_path / "c")
    pilot = np.random.default_rng(1).choice(1000, 100, replace=False)
    list(judge.verdicts([rows[n] for n in pilot]))
    asked = judge.totals.asked
    found = forecast(judge, rows)
    assert judge.totals.asked == asked  # a forecast asks nothing
    assert (found.questions, found.answered) == (1000, 100)
    list(judge.verdicts(rows))
    totals = judge.totals
    assert found.input_tokens.low <= totals.input_tokens <= found.input_tokens.high
    if not unparsed:  # how often answers are asked for again is chance
        assert found.input_tokens.value == pytest.approx(totals.input_tokens, rel=0.02)
    assert found.cost.value == pytest.approx(totals.cost, rel=0.15)
    assert found.cost.low <= totals.cost <= found.cost.high
    assert forecast(judge, rows).cost == (totals.cost, totals.cost, totals.cost)


def test_without_answers_there_is_a_bound_and_no_estimate(tmp_path):
    judge = Judge(Scripted(), Rating(), cache=tmp_path / "c", prices=Prices(most_per_call=0.01))
    found = forecast(judge, items(50))
    assert (found.answered, found.input_tokens, found.cost) == (0, None, None)
    assert found.bound == 50 * BILLION // 100


def test_intervals_have_the_total_in_95_of_100_cases():
    chance = np.random.default_rng(0)
    sizes = chance.lognormal(5, 0.7, 1000)
    inside, runs = 0, 1000
    for _ in range(runs):
        costs = 20 + 3 * sizes + chance.uniform(-200, 200, 1000)
        known = np.zeros(1000, bool)
        known[chance.choice(1000, 100, replace=False)] = True
        estimate = total_of_rest(sizes[known], costs[known], sizes[~known])
        inside += estimate.low <= costs[~known].sum() <= estimate.high
    assert 0.93 <= inside / runs <= 0.97
