"""Of answers of several turns, what the assistant wrote is scored, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from siftune.curate.chat.encoding import encode_answers, encode_chats
from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import schema_of
from siftune.finetune.data.answer_rows import encode_rows, with_mismatched
from siftune.finetune.data.collator import AnswerCollator
from siftune.finetune.data.packing import share_prefixes
from siftune.finetune.data.token_budget import budget_order
from siftune.finetune.models.loading import load_causal, load_tokenizer
from siftune.finetune.scoring.logps import score_answers
from siftune.finetune.scoring.reference import precomputed
from siftune.finetune.training.pair_loop import pairs_of
from siftune.finetune.training.preference_loop import answers_of
from tests.finetune.test_answers import turn


def turns(*texts: str) -> list[dict[str, Any]]:
    """The assistant first, then user and assistant in turn."""
    roles = ["assistant", "user"] * len(texts)
    return [turn(role, text) for role, text in zip(roles, texts, strict=False)]


PROMPT = [turn("user", "What is it?")]
SIDES = (turns("Blue.", "And two plus two?", "Four, king."), turns("Red.", "So?", "No, good cat."))
SINGLE = (turns("Blue is a colour."), turns("Red."))


@pytest.fixture
def tokenizer(tiny_model_dir: Path) -> Any:
    return load_tokenizer(tiny_model_dir)


def pair_table(*sides: Any) -> pl.DataFrame:
    rows = [
        {"id": f"r:{at}", "source": "r", "row": at, "kind": "preference", "digest": str(at),
         "prompt": PROMPT, "chosen": chosen, "rejected": rejected}
        for at, (chosen, rejected) in enumerate(sides)
    ]  # fmt: skip
    schema = schema_of("preference")
    return pl.DataFrame(rows, {name: schema[name] for name in rows[0]})


def by_hand(model: Any, tokenizer: Any, answer: list[dict[str, Any]]) -> tuple[float, int]:
    """Sum and count of the assistant's token log-probs in the whole conversation."""
    (chat,) = encode_chats(tokenizer, [[*PROMPT, *answer]])
    ids = torch.tensor([chat.ids])
    with torch.no_grad():
        logps = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    each = logps.gather(1, ids[0, 1:, None])[:, 0]
    mask = torch.tensor(chat.mask[1:]).bool()
    return float(each[mask].sum()), int(mask.sum())


@pytest.mark.parametrize("shared", [False, True])
def test_the_log_prob_of_a_side_is_that_of_its_assistant_tokens(
    tiny_model_dir: Path, tokenizer: Any, shared: bool
) -> None:
    """Beside a pair of single turns, padded as two rows, or packed behind one prompt."""
    model = load_causal(tiny_model_dir)
    expected = [
        by_hand(model, tokenizer, side) for side in (SIDES[0], SINGLE[0], *(SIDES[1], SINGLE[1]))
    ]
    if shared:
        assert share_prefixes(model) is None
    pairs = encode_rows(pair_table(SIDES, SINGLE), tokenizer).ids
    batch = AnswerCollator(0, frozenset(tokenizer.all_special_ids))(pairs)
    with torch.no_grad():
        tokens = {**score_answers(model, batch), "formatting": batch["formatting"]}
    scored = pairs_of(answers_of(tokens, batch, ("policy", "formatting")), batch)
    sums = torch.cat([scored.chosen.policy, scored.rejected.policy])
    lengths = torch.cat([scored.chosen.length, scored.rejected.length])
    assert sums.tolist() == pytest.approx([total for total, _ in expected], abs=1e-4)
    assert lengths.tolist() == [count for _, count in expected]
    ends = scored.chosen.tokens["formatting"].sum(1).tolist()
    assert ends == [2, 1]  # an end of turn of each of the assistant's, none of the user's header


def test_answers_of_one_turn_are_scored_whole_as_without_a_mask(tokenizer: Any) -> None:
    (pair,) = encode_rows(pair_table(SINGLE), tokenizer).ids
    assert all(all(mask) for mask in pair.scored)
    collate = AnswerCollator(0, frozenset(tokenizer.all_special_ids))
    with_masks, without = collate([pair]), collate([replace(pair, masks=())])
    assert all(torch.equal(with_masks[name], without[name]) for name in without)


def labelled(*answers: Any) -> pl.DataFrame:
    rows = [
        {"id": f"r:{at}", "source": "r", "row": at, "kind": "unpaired", "digest": str(at),
         "prompt": [turn("user", f"What is {at}?")], "completion": answer, "label": at % 2 == 0}
        for at, answer in enumerate(answers)
    ]  # fmt: skip
    schema = schema_of("unpaired")
    return pl.DataFrame(rows, {name: schema[name] for name in rows[0]})


def test_single_answers_and_those_to_other_prompts_are_masked_alike(
    tokenizer: Any,
) -> None:
    read = encode_rows(labelled(*SIDES, SINGLE[0]), tokenizer, labelled=True).ids
    rows = with_mismatched(read, seed=1)
    batch = AnswerCollator(0)(rows)
    by_id = {row.id: row for row in read}
    for row, own, other in zip(rows, batch["row_of"][:, 0], batch["mismatched"], strict=True):
        assert int(batch["answer_mask"][own].sum()) == sum(by_id[row.id].scored[0])
        assert int(batch["answer_mask"][other].sum()) == sum(by_id[row.mismatched_id].scored[0])
    assert sum(read[0].scored[0]) < len(read[0].answers[0])
    cut = with_mismatched(read, seed=1, max_length=len(read[0].prompt) + 4)
    assert all(len(row.scored[-1]) == len(row.mismatched or ()) == 4 for row in cut)


def test_precomputed_log_probs_are_those_of_the_scored_tokens(
    tiny_model_dir: Path, tokenizer: Any, tmp_path: Path
) -> None:
    model = load_causal(tiny_model_dir)
    pairs = encode_rows(pair_table(SIDES, SINGLE), tokenizer).ids
    collate = AnswerCollator(0)
    known = precomputed(str(tiny_model_dir), pairs, collate, tmp_path)
    for pair in known:
        assert [len(side) for side in pair.reference] == [sum(mask) for mask in pair.scored]
    batch = collate(known)
    with torch.no_grad():
        values = score_answers(model, batch)["policy"]
    torch.testing.assert_close(batch["reference"], values, atol=1e-5, rtol=1e-5)
    whole = precomputed(
        str(tiny_model_dir), [replace(pairs[0], masks=())], collate, tmp_path
    )  # another mask is another content
    assert len(whole[0].reference[0]) == len(pairs[0].answers[0])


def test_a_token_budget_counts_what_is_scored(tokenizer: Any) -> None:
    pairs = encode_rows(pair_table(SIDES), tokenizer).ids
    scored = sum(map(sum, pairs[0].scored))
    assert budget_order([scored], 3 * scored, seed=0) == [0, 0, 0]


def test_an_answer_without_a_scored_token_is_named(tokenizer: Any) -> None:
    from siftune.finetune.data.answer_rows import fitting

    (pair,) = encode_rows(pair_table(SINGLE), tokenizer).ids
    mute = replace(pair, masks=[pair.scored[0], [0] * len(pair.answers[1])])
    table = pair_table(SINGLE)
    none = table.clear().select("id", reason=pl.lit("x"))
    options: dict[str, Any] = {"max_length": 1, "source": "rows"}
    with pytest.raises(DataError, match="no_trained_tokens"):
        fitting(table, none, [mute], on_bad="refuse", **options | {"max_length": None})
    left = fitting(pl.concat([table, table.with_columns(id=pl.lit("r:1"))]), none,
                   [mute, replace(pair, id="r:1")], on_bad="drop",
                   max_length=pair.length, source="rows")  # fmt: skip
    assert [row.id for row in left.ids] == ["r:1"]


def test_the_supervised_part_of_ppo_is_masked(tokenizer: Any) -> None:
    from siftune.finetune.rl.prepare import Supervised

    rows = encode_answers(tokenizer, [PROMPT, PROMPT], [SIDES[0], SINGLE[0]])
    ids, tokens = Supervised(["a", "b"], rows, pad=0).batch(0, 2, seed=0)
    counts = dict(zip(ids, tokens.mask.sum(1).tolist(), strict=True))
    assert counts == {"a": sum(rows[0].mask), "b": sum(rows[1].mask)}
    assert sum(rows[0].mask) < len(rows[0].ids)
