"""Scorers that share a forward pass: chat templates, several answers, the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siftune.curate.lm.answer_tokens import AnswerTokens
from siftune.curate.scorers.ifd import IFD
from siftune.curate.scorers.perplexity import Perplexity
from siftune.curate.scorers.rds import RDS
from siftune.curate.text.language_model import CausalLM
from tests.curate.lm_reference import BOT, USER, Chat, Reference, table

CHATS = [
    [(USER, "What is the capital of France?"), (BOT, "The capital of France is Paris.")],
    [("system", "Be short."), (USER, "Name a colour."), (BOT, "Blue.")],
    [(USER, "Say hello."), (BOT, "Hello, king!"), (USER, "And two plus two?"), (BOT, "four")],
    [(USER, "Hi"), (BOT, ""), (USER, "Name a colour."), (BOT, "red is another"), (USER, "Thanks")],
    [(USER, "No answer came.")],
    [(BOT, "The cat sat on the mat.")],
]
"""One turn, a system turn, two answers, an empty one and a turn after the last, halves."""
SCORED = [True, True, True, True, False, False]


@pytest.fixture(scope="module")
def reference(tiny_model_dir: Path) -> Reference:
    return Reference(tiny_model_dir)


def check_all_variants(
    model: str, reference: Reference, chats: list[Chat], cache: Path | None = None
) -> None:
    for template in ("none", "chat"):
        for answers in ("last", "mean"):
            pairs = [np.mean(reference.losses(one, template, answers), axis=0) for one in chats]
            given: Any = {"model": model, "template": template, "answers": answers}
            given |= {"precision": "fp32", "cache": cache and str(cache)}
            close = {"rel": 1e-4, "abs": 1e-6}
            after = Perplexity(**given)(table(*chats))["perplexity"].to_list()
            assert after == pytest.approx([math.exp(one) for one, _ in pairs], **close)
            alone = Perplexity(**given, given_prompt=False)(table(*chats))["perplexity"].to_list()
            assert alone == pytest.approx([math.exp(one) for _, one in pairs], **close)
            ratio = IFD(**given)(table(*chats))["ifd"].to_list()
            assert ratio == pytest.approx([math.exp(a - b) for a, b in pairs], **close)
            ratio = IFD(**given, ratio="loss")(table(*chats))["ifd"].to_list()
            assert ratio == pytest.approx([a / b for a, b in pairs], **close)


def test_all_variants_are_those_of_one_row_at_a_time(
    tiny_model_dir: Path, reference: Reference
) -> None:
    check_all_variants(str(tiny_model_dir), reference, CHATS[:4])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_variants_are_those_of_one_row_at_a_time_under_smollm2(tmp_path: Path) -> None:
    from siftune.curate.models.cache import state
    from siftune.curate.models.catalog import CATALOG
    from siftune.curate.models.resolve import model_folder

    if state(CATALOG["smollm2"]) != "in the cache":
        pytest.skip("smollm2 is not in the cache: siftune models get smollm2")
    check_all_variants("smollm2", Reference(model_folder("smollm2")), CHATS[:4], tmp_path)


@pytest.mark.parametrize("template", ["none", "chat"])
def test_ifd_scores_the_same_tokens_in_both_terms(tiny_model_dir: Path, template: Any) -> None:
    tokens = AnswerTokens(CausalLM(str(tiny_model_dir)), template)
    chats = table(*CHATS[:4])["messages"]
    for after, alone in zip(tokens.after_prompt(chats), tokens.alone(chats), strict=True):
        assert after
        assert alone
        said = [
            [one for one, yes in zip(row.ids, row.scored, strict=True) if yes]
            for row in (after, alone)
        ]
        assert said[0] == said[1] != []
        assert not alone.scored[0]  # the first token of the answer has a context, and is scored


@pytest.mark.parametrize("template", ["none", "chat"])
@pytest.mark.parametrize("answers", ["last", "mean"])
def test_a_row_that_cannot_be_scored_is_null_and_shifts_no_other(
    tiny_model_dir: Path, template: Any, answers: Any
) -> None:
    long = [(USER, "the sea " * 200), (BOT, "Blue.")]
    twice = [(USER, "Hi"), (BOT, "red"), (USER, "the sea " * 200), (BOT, "Blue.")]
    chats = [long, *CHATS, twice, CHATS[0]]
    found = IFD(str(tiny_model_dir), template, answers=answers)(table(*chats))
    assert found["ifd"].is_not_null().to_list() == [False, *SCORED, False, True]
    assert found[1, "ifd"] == pytest.approx(found[-1, "ifd"], rel=1e-5)
    assert not found["ifd"].is_nan().any()


def test_a_prompt_that_fills_the_window_is_null_not_nan(tiny_model_dir: Path) -> None:
    tokens = AnswerTokens(CausalLM(str(tiny_model_dir)))
    row = tokens.after_prompt(table(CHATS[0])["messages"])[0]
    assert row is not None
    fits = Perplexity(str(tiny_model_dir), max_tokens=len(row.ids))(table(CHATS[0]))
    full = Perplexity(str(tiny_model_dir), max_tokens=row.first)(table(CHATS[0]))
    assert fits["perplexity"].null_count() == 0
    assert full["perplexity"].to_list() == [None]


def test_a_conversation_that_the_template_refuses_is_null(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Perplexity(str(tiny_model_dir), "chat")
    own = scorer._tokens._tokenizer
    refusal = "{{ raise_exception('no') if messages[0]['role'] == 'system' else '' }}"
    monkeypatch.setattr(own, "chat_template", refusal + own.chat_template)
    found = scorer(table(*CHATS[:3]))["perplexity"]
    assert found.is_null().to_list() == [False, True, False]


def test_control_tokens_in_the_data_are_text_in_a_chat_too(tiny_model_dir: Path) -> None:
    tokens = AnswerTokens(CausalLM(str(tiny_model_dir)), "chat")
    chats = table([(USER, "Hi<|im_end|>"), (BOT, "red<|im_end|>")])["messages"]
    row = tokens.after_prompt(chats)[0]
    end = Reference(tiny_model_dir).ids("<|im_end|>")[0]
    assert row is not None
    assert row.ids.count(end) == 2  # of the user's turn and of the assistant's


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each forward pass had."""
    seen: list[int] = []
    forward = CausalLM.forward
    monkeypatch.setattr(
        CausalLM, "forward", lambda self, rows: (seen.append(len(rows)), forward(self, rows))[1]
    )
    return seen


@pytest.mark.parametrize("first", [0, 1, 2])
def test_scorers_share_one_forward_pass_and_none_changes_anothers_values(
    tiny_model_dir: Path, tmp_path: Path, counted: list[int], first: int
) -> None:
    given: Any = {"model": str(tiny_model_dir), "precision": "bf16"}
    kinds: list[Any] = [Perplexity, IFD, RDS]
    alone = [kind(**given)(table(*CHATS)) for kind in kinds]
    counted.clear()
    for place in (first, *range(3), first):
        cached = kinds[place](**given, cache=str(tmp_path))(table(*CHATS))
        assert cached.equals(alone[place])  # bit-equal: alone, first, last, and from the cache
    # four answers after their prompts; the same and a fifth alone; two halves for rds
    assert sum(counted) == 4 + 5 + 1


def test_equal_rows_run_once(tiny_model_dir: Path, counted: list[int]) -> None:
    found = Perplexity(str(tiny_model_dir))(table(CHATS[0], CHATS[1], CHATS[0]))
    assert counted == [2]
    assert found[0, 0] == found[2, 0]


def test_the_cache_knows_the_number_format(tiny_model_dir: Path, tmp_path: Path) -> None:
    given: Any = {"model": str(tiny_model_dir), "cache": str(tmp_path)}
    short = Perplexity(**given, precision="bf16")(table(CHATS[0]))
    exact = Perplexity(**given, precision="fp32")(table(CHATS[0]))
    assert short[0, 0] != exact[0, 0]
    assert len(list(tmp_path.glob("forward-*.sqlite"))) == 2
