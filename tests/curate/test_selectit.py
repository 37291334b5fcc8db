"""SelectIT: worked values, and the traps of the published code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Answer, BackendError, Question
from siftune.curate.judges.local_model import LocalModel
from siftune.curate.scorers.selectit import SelectIT
from siftune.curate.text.language_model import CausalLM
from tests.curate.lm_reference import BOT, USER, Chat, table

OPTIONS = [{"model": "LM", "precision": "bf16", "prompts": 1}]

ASKED: Chat = [(USER, "Name a colour."), (BOT, "Blue.")]
OTHER: Chat = [(USER, "Name a king."), (BOT, "Hello.")]


def rated(monkeypatch: pytest.MonkeyPatch, *shares: Sequence[float] | str) -> None:
    """Let the model answer with these probabilities in turn, or fail for this reason."""
    left = list(shares)

    def answer(_: LocalModel, questions: Sequence[Question]) -> list[Answer | BackendError]:
        given = [left.pop(0) for _ in questions]
        return [
            BackendError(one)
            if isinstance(one, str)
            else Answer(probabilities=dict(zip("12345", one, strict=True)))
            for one in given
        ]

    monkeypatch.setattr(LocalModel, "answer", answer)


def test_token_and_sentence_level_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rated(monkeypatch, [0, 0, 0, 0.25, 0.75], [0.1, 0.1, 0.6, 0.1, 0.1])
    found = SelectIT("m", prompts=2)(table(ASKED))
    first = 5 * (0.75 + 0.75 + 0.75 + 0.5) / 4  # 3.4375
    second = 3 * (4 * 0.5) / 4  # 1.5
    mean, spread = (first + second) / 2, (first - second) / 2  # of two values, of a population
    assert found[0, "selectit"] == pytest.approx(mean / (1 + 0.2 * spread))
    assert found[0, "selectit_rating"] == 4


def test_selectit_applies_softmax_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rated(monkeypatch, [0, 0, 0, 0, 1.0])
    certain = SelectIT("m", prompts=1)(table(ASKED))
    assert certain[0, "selectit"] == 5  # a second softmax would leave 5 * (.405 - .149) = 1.28


def test_an_exception_shifts_no_later_score(monkeypatch: pytest.MonkeyPatch) -> None:
    rated(monkeypatch, "too_long", [0.2, 0.2, 0.2, 0.2, 0.2], [0, 0, 0, 0, 1.0])
    found = SelectIT("m", prompts=1)(table(ASKED, [(USER, "No answer.")], OTHER, ASKED))
    assert found["selectit"].to_list() == [None, None, 0.0, 5.0]
    assert found["selectit_error"].to_list() == ["too_long", "no_answer", None, None]


def test_the_number_of_prompts_is_not_that_of_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    rated(monkeypatch, *[[0, 0, 0, 0, 1.0]] * 3)
    assert SelectIT("m", prompts=3)(table(ASKED))[0, "selectit"] == 5
    with pytest.raises(UsageError, match="expected 1 to 5"):
        SelectIT("m", prompts=6)


def test_models_weigh_by_their_share_of_all_parameters(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path
) -> None:
    rated(monkeypatch, [0, 0, 0, 0, 1.0], [1.0, 0, 0, 0, 0])
    scorer = SelectIT("small", ("large",), prompts=1)
    scorer.__dict__["_sizes"] = [7, 13]
    assert scorer(table(ASKED))[0, "selectit"] == pytest.approx((7 * 5 + 13 * 1) / 20)
    alone = SelectIT(str(tiny_model_dir), (str(tiny_model_dir),))
    size = CausalLM(str(tiny_model_dir)).loaded.num_parameters()
    assert alone._sizes == [size, size]


def test_the_ratings_are_those_of_the_model(tiny_model_dir: Path) -> None:
    scorer = SelectIT(str(tiny_model_dir), prompts=2)
    found = scorer(table(ASKED, OTHER))
    for at, chat in enumerate((ASKED, OTHER)):
        tokens = []
        for question in scorer._questions(chat[0][1], chat[1][1]):
            answer = LocalModel(str(tiny_model_dir)).answer([question])[0]
            assert isinstance(answer, Answer)
            assert answer.probabilities is not None
            shares = list(answer.probabilities.values())
            assert math.fsum(shares) == pytest.approx(1)
            best = shares.index(max(shares))
            tokens.append((best + 1) * sum(shares[best] - one for one in shares) / 4)
        mean = sum(tokens) / 2
        spread = abs(tokens[0] - tokens[1]) / 2
        assert found[at, "selectit"] == pytest.approx(mean / (1 + 0.2 * spread), abs=1e-4)
