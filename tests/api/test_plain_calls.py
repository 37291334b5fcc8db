"""Components by themselves: called with plain frames, tensors and texts."""

from __future__ import annotations

import pickle

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import siftune as sf
from siftune.curate.core import registry
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.scorers.length import Length
from siftune.curate.selectors.exact_dedup import ExactDedup
from siftune.curate.selectors.k_center import KCenter
from siftune.curate.selectors.minhash_dedup import MinHashDedup
from siftune.curate.selectors.quota import Quota
from siftune.curate.selectors.top_k import TopK
from siftune.finetune.core.methods import FAMILIES
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.list_types import ListLogps
from siftune.finetune.losses.pair.dpo import DPO
from siftune.finetune.losses.pair.tdpo2 import TDPO2
from siftune.finetune.losses.types import Answers, PairLogps, needs_of
from siftune.finetune.losses.unpaired.kto import KTO
from siftune.finetune.rewards.exact_match import ExactMatch
from tests.own_tests import options_of

ALPACA = pl.DataFrame(
    {
        "instruction": ["Say it.", "Say it.", "Name a king."],
        "output": ["one two three four five six", "one two three four five six", "Arthur"],
        "source": ["web", "book", "book"],
    }
)


def test_prompt_and_response_columns_are_scored_like_turns():
    asked = pl.DataFrame({"prompt": ["Hi", "Ho"], "response": ["a b", "c"]})
    turns = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
        for p, r in asked.iter_rows()
    ]
    found = Length()(asked)
    assert found["length_words"].to_list() == [2, 1]
    assert_frame_equal(found, Length()(pl.DataFrame({"messages": turns})))
    assert_frame_equal(found, Length()(asked.to_dicts()))


def test_both_sides_of_pairs_are_scored():
    pairs = pl.DataFrame({"prompt": ["Hi"], "chosen": ["a b c"], "rejected": ["a"]})
    found = Length()(pairs)
    assert found["chosen_length_words"].to_list() == [3]
    assert found["rejected_length_words"].to_list() == [1]


@pytest.mark.parametrize("dedup", [ExactDedup(), MinHashDedup(ngram=2)], ids=["exact", "minhash"])
def test_duplicates_are_found_by_what_rows_say_not_by_columns_beside(dedup):
    assert dedup(ALPACA)["keep"].to_list() == [True, False, True]


def test_a_frame_without_texts_is_ranked_by_its_own_columns():
    frame = pl.DataFrame({"s": [1, 3, 2], "embedding": [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]})
    assert TopK(by="s", rows=1)(frame)["keep"].to_list() == [False, True, False]
    assert KCenter(rows=1)(frame)["keep"].sum() == 1


def test_a_column_of_the_frame_comes_before_one_that_is_made():
    assert Quota(by="source", rows=1)(ALPACA)["keep"].sum() == 2


def test_the_order_of_rows_without_ids_decides_nothing():
    frame = pl.DataFrame({"s": [1, 1, 1], "t": ["a", "b", "c"]})
    best = frame.filter(TopK(by="s", rows=1)(frame)["keep"])
    turned = frame.reverse()
    assert_frame_equal(best, turned.filter(TopK(by="s", rows=1)(turned)["keep"]))


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (TopK(by="length_words", rows=1), ["no column 'length_words'", "the scorer length adds"]),
        (KCenter(rows=1), ["no column 'embedding'", "the scorer embedding adds"]),
        (TopK(by="sorce", rows=1), ["no column 'sorce'", "did you mean source?"]),
    ],
)
def test_a_missing_column_is_named_with_the_way_to_get_it(component, words):
    with pytest.raises(UsageError) as refused:
        component(ALPACA)
    assert all(word in str(refused.value) for word in words), refused.value


JUDGES = ("judge_pairwise", "judge_ranking", "judge_rating", "judgement", "tags")
OPTIONS = {
    "balanced": {"first": "x", "second": "y"},
    "contamination": {"against": "rows.jsonl"},
    "cluster_balanced": {"rows": 1},
    "deita_filter": {"rows": 1, "rank_by": "x"},
    "embedding": {"model": "m"},
    "facility_location": {"rows": 1},
    "ifd": {"model": "m"},
    **{name: {"judge": "m"} for name in JUDGES},
    "k_center": {"rows": 1},
    "longest": {"rows": 1},
    "mmr": {"rows": 1, "rank_by": "x"},
    "perplexity": {"model": "m"},
    "quota": {"by": "x", "rows": 1},
    "random": {"rows": 1},
    "split": {"part": "train"},
    "threshold": {"by": "x", "min": 0},
    "top_fraction": {"by": "x", "fraction": 0.5},
    "top_k": {"by": "x", "rows": 1},
}
READS_NOTHING = {"exact_dedup", "random"}  # but id and digest, which any frame gets


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("curate.scorers", "curate.selectors")
        for name in registry.names(group)
        if name not in READS_NOTHING
    ],
)
def test_no_component_answers_a_frame_that_lacks_all_with_an_error_of_polars(group, name):
    component = registry.build(group, name, OPTIONS.get(name) or options_of(name)[0])
    with pytest.raises((UsageError, DataError), match="frame"):
        component(pl.DataFrame({"nothing": [1, 2]}))


def test_a_row_that_cannot_be_read_is_named():
    frame = pl.DataFrame({"prompt": ["Hi", None, "Ho"], "response": ["a", "b", "c"]})
    with pytest.raises(DataError, match=r"Length: row 2 of this frame cannot be read"):
        Length()(frame)


def test_what_is_no_frame_is_refused():
    with pytest.raises(UsageError, match="got int"):
        Length()(3)


def test_a_component_still_is_a_plain_dataclass():
    assert pickle.loads(pickle.dumps(Length(of="both"))) == Length(of="both")
    assert Length.__call__.__doc__ == "Measure one text a row."


def plain(group, loss, dtype):
    """Two pairs, completions or lists for a loss, as tensors of ``dtype``."""
    numbers = torch.tensor([-6.0, -4.0], dtype=dtype)
    needs = needs_of(loss)
    columns = {name: torch.tensor([0.25, 0.75], dtype=dtype) for name in needs.columns}
    if group.endswith("pair"):
        return PairLogps, {"policy": (numbers, numbers - 1), "ref": (numbers, numbers)} | columns
    if group.endswith("listwise"):
        lists = torch.stack([numbers, numbers - 1])
        columns = {name: torch.stack([one, one]) for name, one in columns.items()}
        return ListLogps, {"policy": lists, "ref": lists - 1, "score": lists} | columns
    given = {"policy": numbers, "ref": numbers - 1, "mismatched": (numbers, numbers)}
    label = torch.tensor([True, False])
    return AnswerLogps, given | {"label": label, "value": numbers / 8} | columns


def by_token(group, given, needs, dtype):
    """The same completions as log-probabilities of single tokens after a prompt, and their mask."""

    def spread(sums, prompt):
        row = torch.tensor([9.0] * prompt + [0.75, 0.25, 0.0], dtype=dtype)
        return sums[:, None] * row

    sides = (2, 0) if group.endswith("pair") else (1,)
    values = {
        name: tuple(spread(one, n) for one, n in zip(sums, sides, strict=True))
        if len(sides) == 2
        else spread(sums, sides[0])
        for name, sums in given.items()
        if name in ("policy", "ref")
    }
    masks = [torch.tensor([[False] * n + [True, True, False]] * 2) for n in sides]
    more = {name: [mask * 0.5 for mask in masks] for name in needs.tokens if name != "policy"}
    pick = tuple if len(sides) == 2 else (lambda listed: listed[0])
    tokens = {name: pick([one.to(dtype) for one in listed]) for name, listed in more.items()}
    return given | values | {"mask": pick(masks), "tokens": tokens}


EVERY_LOSS = [(group, name) for group in FAMILIES for name in registry.names(group)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("group", "name"), EVERY_LOSS)
def test_every_loss_takes_plain_tensors_and_keeps_their_dtype(group, name, dtype):
    loss = registry.build(group, name, {})
    batch, given = plain(group, loss, dtype)
    needs = needs_of(loss)
    if not group.endswith("listwise"):
        tokens = by_token(group, given, needs, dtype)
        found = loss(**tokens).loss
        assert found.dtype == dtype
        if not needs.tokens:  # it reads sums, which these are too
            assert torch.allclose(found, loss(**given, length=LENGTHS[batch]).loss)
    if needs.tokens:
        with pytest.raises(TypeError, match=r"reads single tokens: .* mask="):
            loss(**given)
        return
    found = loss(**given).loss
    assert found.dtype == dtype
    assert torch.equal(found, loss(batch.of(**given)).loss)


LENGTHS = {PairLogps: ([2, 2], [2, 2]), AnswerLogps: [2, 2]}


def test_values_of_single_tokens_are_those_of_answers_built_by_hand():
    policy = torch.tensor([[9.0, -1.0, -2.0]], requires_grad=True)
    mask, kl = torch.tensor([[0, 1, 1]]), torch.tensor([[7.0, 0.5, 0.25]])
    short = torch.tensor([[-4.0, 3.0]])
    found = sf.loss("tdpo2")(
        policy=(policy, short),
        ref=(policy.detach() - 1, short - 2),
        mask=(mask, [[1, 0]]),
        tokens={"ref_kl": (kl, short)},
    )
    chosen = Answers(
        torch.tensor([-3.0]),
        torch.tensor([2.0]),
        torch.tensor([-5.0]),
        {"policy": policy[:, 1:], "ref_kl": kl[:, 1:]},
    )
    rejected = Answers(
        torch.tensor([-4.0]),
        torch.tensor([1.0]),
        torch.tensor([-6.0]),
        {"policy": torch.tensor([[-4.0]]), "ref_kl": torch.tensor([[-4.0]])},
    )
    assert torch.equal(found.loss, TDPO2()(PairLogps(chosen, rejected)).loss)
    found.loss.sum().backward()
    assert policy.grad[0, 0] == 0  # the prompt's
    assert policy.grad[0, 1] == policy.grad[0, 2] != 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mask": ([[1, 1]], [[1]])}, r"of one shape, got \(1, 1\) of policy, \(1, 2\) of mask"),
        ({"mask": ([[0]], [[1]])}, "at least one token in each row"),
    ],
)
def test_a_mask_that_fits_nothing_is_refused(given, words):
    with pytest.raises(TypeError, match=words):
        DPO()(policy=([[-1.0]], [[-1.0]]), ref=([[-1.0]], [[-1.0]]), **given)


def test_numbers_of_two_kinds_become_like_the_tensors_and_gradients_flow():
    logps = torch.tensor([-6.0], requires_grad=True)
    loss = DPO(beta=1.0)(policy=(logps, -9), ref=(-5, -7)).loss
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.3133, abs=1e-4)
    assert logps.grad is not None


@pytest.mark.parametrize("given", [(torch.zeros(1),), (torch.zeros(1),) * 4, ()])
def test_a_loss_that_is_called_with_something_else_tells_how(given):
    with pytest.raises(TypeError, match=r"DPO\(\)\(policy=\(chosen, rejected\), ref="):
        DPO()(*given)
    with pytest.raises(TypeError, match=r"KTO\(\)\(policy=logps, ref=logps\)"):
        KTO()(*given)


def test_a_reward_needs_no_rows():
    assert ExactMatch()(["2+2?"], ["4"]) == [None]
    assert ExactMatch()(["2+2?"], ["4"], [{"reference": "4"}]) == [1.0]
