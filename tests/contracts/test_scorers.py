"""What is true of every scorer in the folder."""

from __future__ import annotations

import ast
import json
import pickle
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from siftune.curate.commands.option_help import option_texts
from siftune.curate.core import registry
from siftune.curate.core.schema import BASE, CONTENT, Kind
from siftune.curate.core.types import Scorer
from siftune.curate.rows import conversation_views
from siftune.curate.rows.chat import turn
from tests.own_tests import marks_of, options_of
from tests.tiny_models import quality_head, reward_model

Conversation = list[dict[str, str | None]]

JUDGE = {"judge": "JUDGE", "cache": "ANSWERS", "ask_again": 0}

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "contamination": [{"against": "HELD_OUT", "ngram": 3}],
    "embedding": [{"model": "EMBEDDER"}, {"model": "EMBEDDER", "long": "pool", "of": "response"}],
    "fitted_quality": [{"model": "HEAD"}],
    "ifd": [{"model": "LM"}, {"model": "LM", "template": "chat", "answers": "mean"}],
    "length": [{}, {"tokenizer": "EMBEDDER", "of": "prompt"}],
    "judge_rating": [{**JUDGE, "task": "deita_quality"}, {**JUDGE, "task": "ultrafeedback"}],
    "judgement": [JUDGE],
    "perplexity": [{"model": "LM"}],
    "tags": [JUDGE],
}
"""Options to try, for scorers that cannot do without or have more than one way to work.

A new scorer has them in its own test file (`tests.own_tests`).
"""

CASES = [
    pytest.param(name, given, id=f"{name}-{i}", marks=marks_of(name))
    for name in registry.names("curate.scorers")
    if "messages" in registry.declared("curate.scorers", name).get("content", ("messages",))
    for i, given in enumerate(OPTIONS.get(name) or options_of(name))
]
"""Scorers of conversations; those of pairs or lists alone have tests of their own."""

ROUNDS = {"ifd": 1e-4, "perplexity": 1e-4}
"""Scorers whose last digits depend on the neighbours of a row, as they say. The rest are exact."""


REPLIES = """
def reply(question):
    text = question.messages[-1][1]
    if "Paris" in text:
        return "I would rather not."
    if "tag" in question.messages[0][1]:
        return '[{"tag": "geography", "explanation": "It asks for a place."}]'
    return {label: 1 + len(text) % 7 for label in question.labels} or "It is short."
"""
"""A judge that is a function of what it is asked; an answer of `ultrafeedback` is no number."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, tiny_embedder: Path) -> dict[str, Path | str]:
    from siftune.finetune.tools.init import Init

    folder = tmp_path_factory.mktemp("models")
    (folder / "text.txt").write_text("the cat sat on the mat and looked at the sea\n\n" * 4)
    init = Init(vocab_size=300, hidden=32, layers=1, heads=2, context=512, steps=0, seed=5)
    init(folder / "text.txt", folder / "lm")
    held_out = folder / "held_out.jsonl"
    held_out.write_text('{"prompt": "What is it, now?", "completion": "Paris."}\n')
    judge = folder / "judge.py"
    judge.write_text(REPLIES)
    made = {"JUDGE": f"{judge}:reply", "ANSWERS": folder / "answers.sqlite"}
    made["HEAD"] = quality_head(folder / "head")
    made["RM"] = reward_model(folder / "lm", folder / "rm")
    return {**made, "LM": folder / "lm", "EMBEDDER": tiny_embedder, "HELD_OUT": held_out}


@pytest.fixture
def scorer(name: str, given: dict[str, Any], inputs: dict[str, Path | str]) -> Scorer:
    options = {k: str(inputs.get(v, v)) if isinstance(v, str) else v for k, v in given.items()}
    built: Scorer = registry.build("curate.scorers", name, options)
    return built


@pytest.fixture
def scores(name: str, given: dict[str, Any], scorer: Scorer) -> pl.DataFrame:
    """The scores of `chats`, which several tests of a case look at: computed once."""
    key = name, json.dumps(given)
    if key not in _SCORES:
        _SCORES[key] = scorer(chats().select(scorer.needs))
    return _SCORES[key]


_SCORES: dict[tuple[str, str], pl.DataFrame] = {}


def conversations() -> list[Conversation | None]:
    """Plain, long, odd and missing: what a scorer meets in real tables."""
    answers = [
        *("Paris.", "", "   ", "It is, I think, forty-two.", "a" * 300, "2 + 2 = 4\n" * 9),
        *("你好，世界。", "สวัสดีครับ", "naïve 🙂 café", "\x00\x01", "I'm sorry, but", "N/A"),
        "```python\nprint('x')\n",
        "one two three four " * 40,
    ]
    plain = [[turn("user", "What is it?"), turn("assistant", answer)] for answer in answers]
    odd: list[Conversation | None] = [
        [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Hello.")],
        [*plain[0], turn("user", "And of Italy?"), turn("assistant", "Rome, of course.")],
        [turn("user", "Weather?"), turn("assistant", None, tool_calls="[]"), turn("tool", "12 C")],
        [turn("assistant", "Only an answer, without a question.")],
        [turn("user", "Only a question")],
        [turn("user", None), turn("assistant", None)],
        [*plain[3], turn("user", "Thanks!")],
        [],
        None,
    ]
    return [*plain, *odd]


@cache
def chats() -> pl.DataFrame:
    return table("conversation", messages=conversations())


def table(kind: Kind, **content: list[Any]) -> pl.DataFrame:
    """A rows table of ``kind`` with the base columns that every table has."""
    height = len(next(iter(content.values())))
    base = {
        "id": [f"made:{i}" for i in range(height)],
        "source": ["made"] * height,
        "row": range(height),
        "kind": [kind] * height,
        "digest": [f"{i:032x}" for i in range(height)],
        "extra": [None] * height,
    }
    return pl.DataFrame(base | content, schema=dict(BASE) | dict(CONTENT[kind]))


def same(name: str, left: pl.DataFrame, right: pl.DataFrame) -> None:
    rounds = ROUNDS.get(name)
    assert_frame_equal(left, right, check_exact=rounds is None, rel_tol=rounds or 0)


every_scorer = pytest.mark.parametrize(("name", "given"), CASES)


@every_scorer
def test_it_adds_the_columns_it_says_and_keeps_the_height(
    scorer: Scorer, scores: pl.DataFrame
) -> None:
    assert scores.height == chats().height
    assert scores.schema == pl.Schema(scorer.adds)


@every_scorer
def test_its_columns_carry_its_name(name: str, scorer: Scorer) -> None:
    assert scorer.adds
    assert all(column == name or column.startswith(f"{name}_") for column in scorer.adds)


@every_scorer
def test_batches_do_not_matter(name: str, scorer: Scorer, scores: pl.DataFrame) -> None:
    if getattr(scorer, "whole", False):  # it is given all rows at once
        return
    one_by_one = pl.concat([scorer(row) for row in chats().gather_every(4).iter_slices(1)])
    same(name, scores.gather_every(4), one_by_one)
    same(name, scores, pl.concat([scorer(part) for part in chats().iter_slices(8)]))


@every_scorer
def test_neither_order_nor_copies_in_a_batch_matter(
    name: str, scorer: Scorer, scores: pl.DataFrame
) -> None:
    height = chats().height
    mixed = chats().with_row_index("at").sample(fraction=1.0, shuffle=True, seed=7)
    parts = [chats(), mixed.drop("at")]
    if getattr(scorer, "whole", False):  # of which a copy may change the scores
        twice = scorer(pl.concat([chats(), chats()]))
        same(name, twice.head(height), twice.tail(height))
        parts = parts[1:]
    found = scorer(pl.concat(parts).select(scorer.needs))
    in_order = found.tail(height).with_columns(mixed["at"]).sort("at").drop("at")
    same(name, in_order, scores)
    same(name, found.head(found.height - height), scores.head(found.height - height))


@every_scorer
def test_no_rows_are_no_scores_of_the_right_types(scorer: Scorer) -> None:
    scores = scorer(chats().clear())
    assert scores.height == 0
    assert scores.schema == pl.Schema(scorer.adds)


@every_scorer
def test_where_nothing_is_said_there_is_no_score(scorer: Scorer) -> None:
    said = [turn("user", None), turn("assistant", None)]
    nothing = table("conversation", messages=[None, [], said])
    scores = scorer(nothing).select(pl.exclude("^.*_error$"))  # which has the reason
    assert scores.null_count().row(0) == (3,) * scores.width


@every_scorer
def test_no_score_is_nan(scores: pl.DataFrame) -> None:
    floats = scores.select(pl.col(pl.Float32, pl.Float64))
    assert not floats.select(pl.any_horizontal(pl.all().is_nan().any())).to_series().any()


@every_scorer
def test_it_survives_pickling_before_and_after_work(
    name: str, scorer: Scorer, scores: pl.DataFrame
) -> None:
    before = pickle.loads(pickle.dumps(scorer))
    scorer(chats().head(5))
    after = pickle.loads(pickle.dumps(scorer))
    assert before == after == scorer
    same(name, before(chats()), scores)
    same(name, after(chats()), scores)


@pytest.mark.parametrize("name", registry.names("curate.scorers"))
def test_every_option_is_explained(name: str) -> None:
    component = registry.find("curate.scorers", name)
    explained = option_texts(component)
    named = [field.name for field in fields(component) if field.name != "seed"]
    assert [option for option in named if option not in explained] == []


@pytest.mark.parametrize("name", registry.names("curate.scorers"))
def test_its_help_is_one_line(name: str) -> None:
    tree = ast.parse(registry.source_of("curate.scorers", name).read_text(encoding="utf-8"))
    first, _, _ = (ast.get_docstring(tree) or "").partition("\n")
    assert first.endswith(".")
    assert first == registry.summary("curate.scorers", name)


@every_scorer
def test_what_it_says_of_itself_is_json(scorer: Scorer) -> None:
    describe = getattr(scorer, "describe", dict)
    assert describe() == json.loads(json.dumps(describe()))


PROMPTS = [
    [turn("user", "Name a city.")],
    [turn("system", "Be kind."), turn("user", "Hello there")],
    [turn("user", "x"), turn("assistant", "y"), turn("user", "And now?")],
]
ANSWERS = [[turn("assistant", text)] for text in ("Oslo.", "General Kenobi!", "Nothing, really")]
OTHERS = [[turn("assistant", text)] for text in ("I cannot say.", "", "Now is now. " * 9)]


def both(answers: list[Conversation]) -> pl.DataFrame:
    joined = [before + answer for before, answer in zip(PROMPTS, answers, strict=True)]
    return table("conversation", messages=joined)


@every_scorer
def test_each_side_of_a_pair_is_scored_as_a_conversation(name: str, scorer: Scorer) -> None:
    pairs = table("preference", prompt=PROMPTS, chosen=ANSWERS, rejected=OTHERS)
    scores = conversation_views.score(scorer, pairs)
    assert scores.columns == ["id", *conversation_views.score_schema(scorer, "preference")]
    for side, answers in (("chosen", ANSWERS), ("rejected", OTHERS)):
        alone = scorer(both(answers)).select(pl.all().name.prefix(f"{side}_"))
        same(name, scores.select(alone.columns), alone)
        one_side = conversation_views.score(scorer, pairs.clear(), sides=side)
        assert one_side.columns == ["id", *alone.columns]


@every_scorer
def test_each_answer_of_a_ranked_list_is_scored_as_a_conversation(
    name: str, scorer: Scorer
) -> None:
    answers = [[ANSWERS[0], OTHERS[0]], [], [OTHERS[2], ANSWERS[2], OTHERS[1]]]
    ranked = table("ranked", prompt=PROMPTS, completions=answers)
    scores = conversation_views.score(scorer, ranked)
    flat = [PROMPTS[i] + answer for i, listed in enumerate(answers) for answer in listed]
    alone = scorer(table("conversation", messages=flat))
    for column in alone.columns:
        assert scores[column].list.len().to_list() == [2, 0, 3]
        listed = scores.select(pl.col(column).explode(empty_as_null=False))
        same(name, listed, alone.select(column))


@every_scorer
def test_every_turn_is_scored_on_the_turns_up_to_it(name: str, scorer: Scorer) -> None:
    whole = [*PROMPTS[2], *ANSWERS[2]]
    scores = conversation_views.score(
        scorer, table("conversation", messages=[whole]), turns="every"
    )
    upto = table("conversation", messages=[whole[:2], whole])
    for column, score in zip(scorer.adds, scorer(upto), strict=True):
        same(name, scores[column].explode().to_frame(), score.to_frame())
