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


def test_columns_that_are_null_in_every_row_are_named():
    asked = pl.DataFrame({"prompt": ["Hi"], "response": ["Ho"]}).with_columns(prompt=None)
    with pytest.raises(DataError, match=r"Length: no turns .*; null in every row: 'prompt'"):
        Length()(asked)


@pytest.mark.parametrize("dedup", [ExactDedup(), MinHashDedup(ngram=2)], ids=["exact", "minhash"])
def test_duplicates_are_found_by_what_rows_say_not_by_columns_beside(dedup):
    assert dedup(ALPACA)["keep"].to_list() == [True, False, True]


def test_a_frame_without_texts_is_ranked_by_its_own_columns():
    frame = pl.DataFrame({"s": [1, 3, 2], "embedding": [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]})
    assert TopK(by="s", rows=1)(frame)["keep"].to_list() == [False, True, False]
    assert KCenter(rows=1)(frame)["keep"].sum() == 1


def test_a_column_of_the_frame_comes_before_one_that_is_made():
    assert Quota(group_by="source", rows=1)(ALPACA)["keep"].sum() == 2


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
    "deita_filter": {"rows": 1, "by": "x"},
    "embedding": {"model": "m"},
    "facility_location": {"rows": 1},
    "fitted_quality": {"model": "m"},
    "ifd": {"model": "m"},
    **{name: {"judge": "m"} for name in JUDGES},
    "bees": {"rows": 1},
    "best_per_prompt": {"by": "x"},
    "difficulty": {"rows": 1},
    "k_center": {"rows": 1},
    "longest": {"rows": 1},
    "margin": {"min": 0},
    "mmr": {"rows": 1, "by": "x"},
    "perplexity": {"model": "m"},
    "quota": {"group_by": "x", "rows": 1},
    "random": {"rows": 1},
    "selective": {"by": "x"},
    "split": {"part": "train"},
    "threshold": {"by": "x", "min": 0},
    "top_fraction": {"by": "x", "fraction": 0.5},
    "top_k": {"by": "x", "rows": 1},
}
READS_NOTHING = {"exact_dedup", "random"}  # but id and digest, which any frame gets
READS_NOTHING |= {"lim", "pass_rate"}  # files by id


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
    other, lengths = numbers * 0.75 - 1, torch.tensor([2.0, 3.0], dtype=dtype)
    columns = {
        name: torch.tensor([0.25, 0.75], dtype=dtype) + at / 8
        for at, name in enumerate(needs_of(loss).columns)
    }
    if group.endswith("pair"):
        given = {"policy": (numbers, other), "ref": (other, numbers / 2)}
        return PairLogps, given | {"length": (lengths, lengths + 1)} | columns
    if group.endswith("listwise"):
        lists = torch.stack([numbers, other])
        columns = {name: torch.stack([one, 1 - one]) for name, one in columns.items()}
        lengths = torch.stack([lengths, lengths + 1])
        return ListLogps, {"policy": lists, "ref": lists / 2, "length": lengths} | columns
    given = {"policy": numbers, "ref": other, "mismatched": (numbers, other), "length": lengths}
    label = torch.tensor([True, False])
    return AnswerLogps, given | {"label": label, "value": numbers / 8} | columns


def by_hand(batch, given):
    """The batch of `plain` numbers, in float64, from its parts."""
    exact = {
        name: tuple(one.double() for one in value) if isinstance(value, tuple) else value.double()
        for name, value in given.items()
    }
    names = ("policy", "ref", "length", "label", "value", "mismatched")
    columns = {name: value for name, value in exact.items() if name not in names}
    policy, ref, length = (exact[name] for name in names[:3])
    if batch is PairLogps:
        sides = [Answers(policy[side], length[side], ref[side]) for side in (0, 1)]
        return PairLogps(*sides, columns)
    answers = Answers(policy, length, ref)
    if batch is ListLogps:
        return ListLogps(answers, torch.ones(2, 2, dtype=torch.bool), columns)
    others = Answers(exact["mismatched"][0], torch.ones(2), exact["mismatched"][1])
    return AnswerLogps(answers, given["label"], columns, exact["value"], others)


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
        without = {key: one for key, one in given.items() if key != "length"}
        found = loss(**by_token(group, without, needs, dtype)).loss
        assert found.dtype == dtype
        if not needs.tokens:  # it reads sums, which these are too
            assert torch.allclose(found, loss(**given | {"length": LENGTHS[batch]}).loss)
    if needs.tokens:
        with pytest.raises(UsageError, match=rf"^{name}: give mask="):
            loss(**given)
        return
    found = loss(**given).loss
    assert found.dtype == dtype
    exact = type(loss).__call__.__wrapped__(loss, by_hand(batch, given)).loss
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    assert torch.allclose(found.double(), exact, rtol=tolerance, atol=tolerance)


LENGTHS = {PairLogps: ([2, 2], [2, 2]), AnswerLogps: [2, 2]}


@pytest.mark.parametrize(("group", "name"), EVERY_LOSS)
def test_a_loss_that_reads_lengths_asks_for_them(group, name):
    loss = registry.build(group, name, {})
    batch, given = plain(group, loss, torch.float64)
    if needs_of(loss).tokens:
        return
    longer = by_hand(batch, given | {"length": _squared(given["length"])})
    plain_loss = type(loss).__call__.__wrapped__
    of_lengths = not torch.equal(
        plain_loss(loss, by_hand(batch, given)).loss, plain_loss(loss, longer).loss
    )
    del given["length"]
    if of_lengths or name in OF_LENGTHS:
        with pytest.raises(UsageError, match=rf"^{name}: the loss reads lengths: give length="):
            loss(**given)
    else:
        loss(**given)


OF_LENGTHS = {"npo", "reward_weighted"}  # in a term of weight 0, in a metric


def _squared(length):
    return tuple(one**2 for one in length) if isinstance(length, tuple) else length**2


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda one: one[1])
def test_what_a_loss_reads_and_is_not_given_is_asked_for(loss):
    made = registry.build(*loss, {})
    needs = needs_of(made)
    _, given = plain(loss[0], made, torch.float64)
    lacking = [
        *(["ref"] if needs.reference else []),
        *([one for one in ("label", "value", "mismatched") if getattr(needs, one)]),
        *needs.columns,
    ]
    with pytest.raises(UsageError) as refused:
        made(policy=given["policy"], wrong=1)
    assert f"{loss[1]}: it reads no 'wrong'; " in str(refused.value)
    for name in lacking:
        with pytest.raises(UsageError, match=rf"^{loss[1]}: give (.* and )?{name}="):
            made(**{key: one for key, one in given.items() if key != name})


THREE = (-1.0, -2.0, -3.0)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("simpo", {"policy": (THREE, -1.0)}, "policy: expected as many rejected .* 3, got 1"),
        ("dpo", {"policy": (THREE, THREE), "ref": (-1, -1)}, "ref: expected 3 numbers.* got 1"),
        ("dpo", {"policy": THREE, "ref": (-1, -1)}, r"policy: expected \(chosen, rejected\)"),
        ("dpo", {"policy": (torch.zeros(2, 3),) * 2, "ref": (0, 0)}, "policy: .* need mask="),
        ("ipo", {"policy": (-1, -1), "ref": (0, 0), "length": 3}, r"length: .* got int"),
        ("ipo", {"policy": (-1, -1), "ref": (0, 0), "length": ((1, 2), 1)}, "length: expected 1"),
        ("sppo_soft", {"policy": (THREE,) * 2, "ref": (THREE,) * 2, "win_probability": [1, 0]},
         "win_probability: expected 3 numbers, .* got 2"),
        ("kto", {"policy": THREE, "ref": THREE, "label": [True], "mismatched": ((0, 1), (0, 1))},
         "label: expected 3 numbers"),
        ("kto", {"policy": THREE, "ref": THREE, "label": True, "mismatched": ((0, 1), 0)},
         "mismatched: expected 2 numbers"),
        ("rrhf", {"policy": THREE, "length": (1, 1), "score": THREE},
         r"length: expected the shape \(1, 3\), as policy, got \(1, 2\)"),
        ("rrhf", {"policy": torch.zeros(1, 2, 3), "length": 1, "score": 1}, r"policy: .* \(B, K\)"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit_together_are_refused(name, given, words):
    with pytest.raises(UsageError, match=rf"^{name}: {words}"):
        sf.loss(name)(**given)


def test_one_length_and_one_label_are_those_of_all():
    pairs = {"policy": (THREE, THREE), "ref": ((-1, -1, -1),) * 2}
    assert torch.equal(
        sf.loss("ipo")(**pairs, length=(4, 2)).loss,
        sf.loss("ipo")(**pairs, length=((4, 4, 4), (2, 2, 2))).loss,
    )
    one, each = (
        sf.loss("apo_zero_unpaired")(policy=THREE, ref=(0, 0, 0), label=label).loss
        for label in (False, [False] * 3)
    )
    assert torch.equal(one, each)


def test_a_loss_of_a_user_is_called_by_its_name():
    def mine(logps: PairLogps):
        return logps.chosen.mean * logps.column("weight")

    with pytest.raises(UsageError, match=r"mine: it reads no 'weight'; .* needs_columns"):
        sf.loss(mine)(policy=(-1, -1), weight=2)
    mine.needs_columns = ("weight",)
    with pytest.raises(
        UsageError, match=r"mine: line \d+: .*: the loss reads lengths: give length="
    ):
        sf.loss(mine)(policy=(-1, -1), weight=2)
    found = sf.loss(mine)(policy=(-1, -1), length=(4, 1), weight=2)
    assert found.loss.tolist() == [-0.5]


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
    with pytest.raises(UsageError, match=words):
        DPO()(policy=([[-1.0]], [[-1.0]]), ref=([[-1.0]], [[-1.0]]), **given)


def test_numbers_of_two_kinds_become_like_the_tensors_and_gradients_flow():
    logps = torch.tensor([-6.0], requires_grad=True)
    loss = DPO(beta=1.0)(policy=(logps, -9), ref=(-5, -7)).loss
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.3133, abs=1e-4)
    assert logps.grad is not None


@pytest.mark.parametrize(
    ("given", "came"),
    [((torch.zeros(1),), "Tensor"), ((torch.zeros(1), 2), "Tensor, int"), ((), "nothing")],
)
def test_a_loss_that_is_called_with_something_else_tells_how(given, came):
    how = r"expected log-probabilities as policy=\(chosen, rejected\), ref=.* or a PairLogps; got"
    with pytest.raises(UsageError, match=f"dpo: {how} {came}$"):
        DPO()(*given)
    with pytest.raises(UsageError, match=r"kto: .* policy=\[\.\.\.\], .* AnswerLogps; got " + came):
        KTO()(*given)


def test_a_reward_needs_no_rows():
    assert ExactMatch()(["2+2?"], ["4"]) == [None]
    assert ExactMatch()(["2+2?"], ["4"], [{"reference": "4"}]) == [1.0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("2+2?", ["4"]), "prompts: expected a list of texts, got str"),
        ((["2+2?"], "4"), "completions: expected a list of texts, got str"),
        ((["2+2?"], ["4", "5"]), "expected as many completions as prompts, 1, got 2"),
        ((["2+2?"], ["4"], []), "expected as many rows as prompts, 1, got 0"),
        (([[{"role": "user", "content": "2+2?"}]], ["4"]), "prompts: .* give the text of a turn"),
        ((["2+2?"], [None]), "completions: expected texts, got NoneType"),
        ((["2+2?"], ["4"], [3]), "rows: expected dicts, got int"),
        ((["2+2?"], ["4"], [{"answer": "4"}]), "a row has no 'reference'; the first has answer"),
    ],
)
def test_a_reward_of_what_is_no_list_of_texts_is_refused(given, words):
    with pytest.raises(UsageError, match=f"^exact_match: {words}"):
        sf.reward("exact_match")(*given)
