"""Distance of answers from a reward model's training answers, against slow references."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.data.prompt_truncation import answer_starts, encode_scored
from siftune.finetune.models.loading import load_reward, load_tokenizer
from siftune.finetune.reward_models.head_states import recorded_states, scores_and_states
from siftune.finetune.reward_models.known_states import FILE, KnownAnswers, load_known_states
from siftune.finetune.reward_models.token_bigrams import TokenBigrams
from siftune.finetune.reward_models.token_states import TokenStates

V, H = 30, 8


def texts(count: int, seed: int) -> list[list[int]]:
    """Ids below 20 of which each is mostly followed by the next one, of ragged lengths."""
    source, found = np.random.default_rng(seed), []
    for _ in range(count):
        ids = [int(source.integers(20))]
        for _ in range(int(source.integers(5, 60))):
            ids.append((ids[-1] + 1) % 20 if source.random() < 0.8 else int(source.integers(20)))
        found.append(ids)
    return found


SIGNS = np.random.default_rng(9).normal(size=(V, H))


def states_of(ids: list[int], seed: int = 0) -> np.ndarray:
    """States that are those of the id, with noise and some of the id before."""
    own = SIGNS[ids]
    own = own + 0.5 * np.vstack([np.zeros(H), own[:-1]])
    made: np.ndarray = own + 0.3 * np.random.default_rng(seed + sum(ids)).normal(size=own.shape)
    return made


def slow_bigrams(known: list[list[int]], text: list[int]) -> list[list[float]]:
    """The two numbers of each token by dictionaries."""
    tokens = Counter(one for ids in known for one in ids)
    pairs = Counter(two for ids in known for two in zip([None, *ids], ids, strict=False))
    context: Counter[int | None] = Counter()
    for (first, _), times in pairs.items():
        context[first] += times

    def discount(counts: Any) -> float:
        once, twice = list(counts).count(1), list(counts).count(2)
        return min(max(once / max(once + 2 * twice, 1), 0.1), 0.9)

    single, double = discount(tokens.values()), discount(pairs.values())
    total, found = sum(tokens.values()), []
    for first, second in zip([None, *text], text, strict=False):
        alone = (max(tokens[second] - single, 0) + single * len(tokens) / V) / total
        after = alone
        if context[first]:
            followers = sum(1 for one, _ in pairs if one == first)
            after = max(pairs[first, second] - double, 0) / context[first]
            after += double * followers / context[first] * alone
        found.append([-math.log(alone), math.log(alone / after)])
    return found


def test_probabilities_of_tokens_are_those_of_dictionaries_and_sum_to_one() -> None:
    known = texts(6, 1)
    model = TokenBigrams.fit(known, V)
    for text in (*texts(3, 2), [25, 3, 4, 25, 25], [7]):  # 25 was never seen
        np.testing.assert_allclose(model.values(text), slow_bigrams(known, text), rtol=1e-12)
    for before in (3, 25):
        both = np.array([model.values([before, after])[1] for after in range(V)])
        assert np.exp(-both[:, 0]).sum() == pytest.approx(1 + 0, abs=1e-9)
        assert np.exp(-both.sum(1)).sum() == pytest.approx(1)
    assert model.values([]).shape == (0, 2)


def slow_states(known: list[np.ndarray], text: np.ndarray) -> np.ndarray:
    """The two numbers by whole matrices: covariance, and least squares with penalty rows."""
    every = np.concatenate(known)
    mean = every.mean(0)
    _, directions = np.linalg.eigh(np.cov((every - mean).T))
    width = min(64, every.shape[1])
    directions = directions[:, ::-1][:, :width]
    variances = ((every - mean) @ directions).var(0)
    outside = ((every - mean) ** 2).sum(1).mean() - variances.sum()
    rest = outside / max(every.shape[1] - width, 1)

    def coordinates(one: np.ndarray) -> np.ndarray:
        found: np.ndarray = (one - mean) @ directions / np.sqrt(variances)
        return found

    def around(z: np.ndarray) -> np.ndarray:
        rows = []
        for at in range(len(z)):
            near = [z[at + k] if 0 <= at + k < len(z) else 0 * z[0] for k in (-2, -1, 1, 2)]
            rows.append(np.append(np.concatenate(near), 1))
        return np.array(rows)

    given = np.concatenate([around(coordinates(one)) for one in known])
    wanted = np.concatenate([coordinates(one) for one in known])
    penalty = np.diag(np.sqrt(0.01 * (given**2).sum(0)))
    stacked = np.vstack([wanted, np.zeros((len(penalty), width))])
    weights = np.linalg.lstsq(np.vstack([given, penalty]), stacked, rcond=None)[0]
    errors = ((wanted - given @ weights) ** 2).mean(0)
    z = coordinates(text)
    left = ((text - mean) ** 2).sum(1) - (((text - mean) @ directions) ** 2).sum(1)
    far = ((z**2).sum(1) + (left / rest if rest > 1e-9 else 0)) / every.shape[1]
    badly = ((z - around(z) @ weights) ** 2 / errors).mean(1)
    return np.stack([np.log(far), np.log(badly / (z**2).mean(1))], 1)


@pytest.mark.parametrize("wide", [H, 70])  # all directions, and more than are kept
def test_states_are_compared_as_with_whole_matrices(wide: int) -> None:
    turn = np.random.default_rng(3).normal(size=(H, wide))
    noise = np.random.default_rng(4)
    known = [states_of(ids) @ turn for ids in texts(30, 3)]
    known = [one + noise.normal(size=one.shape) for one in known]
    folds = [at % 3 for at in range(30)]
    whole, *without = TokenStates.fit(known, folds)
    new = states_of(texts(1, 5)[0]) @ turn + 0.05
    np.testing.assert_allclose(whole.values(new), slow_states(known, new), atol=2e-3)
    others = [one for one, fold in zip(known, folds, strict=True) if fold != 1]
    given = slow_states(others, new)[:, 1]  # its directions differ, its regression hardly does
    assert np.corrcoef(without[1].values(new)[:, 1], given)[0, 1] > 0.97
    np.testing.assert_array_equal(without[1].directions, whole.directions)
    assert not np.allclose(without[1].weights, whole.weights, rtol=1e-3)


@pytest.fixture(scope="module")
def known() -> KnownAnswers:
    ids = texts(60, 7)
    prompts = [f"q{at % 12}" for at in range(60)]
    fitted = KnownAnswers.fit(ids, [states_of(one) for one in ids[:50]], prompts, V)
    return fitted.with_threshold([fitted.distance(one, states_of(one)) for one in texts(120, 8)])


def test_disorder_and_strange_tokens_are_far_and_short_answers_are_not(known: KnownAnswers) -> None:
    new = texts(300, 11)
    source = np.random.default_rng(0)
    mixed = [source.permutation(one).tolist() for one in new]
    strange = [[20 + one % 10 for one in ids] for ids in new]

    def far(listed: list[list[int]]) -> np.ndarray:
        return np.array([known.distance(one, states_of(one)) for one in listed])

    long = np.array([len(one) > 25 for one in new])
    usual = known.is_unknown(far(new))
    assert usual.mean() < 0.04
    assert usual[~long].mean() < 0.06
    assert known.is_unknown(far(mixed))[long].mean() > 0.9
    assert known.is_unknown(far(strange)).mean() > 0.9
    order = known.parts(mixed[3], states_of(mixed[3]))
    assert order[1] > 1
    assert order[0] == pytest.approx(known.parts(new[3], states_of(new[3]))[0])
    assert math.isnan(known.distance([], np.zeros((0, H))))


def test_the_distance_is_the_largest_standardised_mean(known: KnownAnswers) -> None:
    ids = texts(1, 13)[0]
    states = states_of(ids)
    values = np.hstack([known.bigrams.values(ids), known.states.values(states)])
    z = (values.mean(0) - known.mean) / np.sqrt(known.between + known.within / len(ids))
    np.testing.assert_allclose(known.parts(ids, states), z / known.usual)
    expected = math.log(1 + math.exp((z / known.usual).max())) / math.log(1 + math.e)
    assert known.distance(ids, states) == pytest.approx(expected)
    # of 121 answers of one kind the 120th by distance: ceil(121 · .99) = 120
    again = known.with_threshold([float(at) for at in range(120)][::-1])
    assert again.threshold == 119
    assert again.false_flags == pytest.approx(1 / 121)
    assert known.with_threshold([float(at) for at in range(120)], 0.9).threshold == 108
    assert again.is_unknown([119, 119.5]).tolist() == [False, True]


def test_usual_numbers_are_those_of_answers_whose_prompts_were_left_out(
    known: KnownAnswers,
) -> None:
    ids, prompts = texts(60, 7), [f"q{at % 12}" for at in range(60)]
    of = {prompt: at % 5 for at, prompt in enumerate(sorted(set(prompts)))}
    folds = [of[prompt] for prompt in prompts]
    states = TokenStates.fit([states_of(one) for one in ids[:50]], folds[:50])
    values = []
    for one, fold in zip(ids[:50], folds, strict=False):
        others = [other for other, own in zip(ids, folds, strict=True) if own != fold]
        own = states[1 + fold].values(states_of(one))
        values.append(np.hstack([slow_bigrams(others, one), own]))
    means = np.array([one.mean(0) for one in values])
    np.testing.assert_allclose(known.mean, means.mean(0), rtol=1e-5)
    within = sum(len(one) * one.var(0) for one in values) / sum(len(one) - 1 for one in values)
    np.testing.assert_allclose(known.within, within, rtol=1e-5)
    between = means.var(0) - within * np.mean([1 / len(one) for one in values])
    np.testing.assert_allclose(known.between, np.maximum(between, 1e-3 * means.var(0)), rtol=1e-4)
    spread = np.sqrt(known.between + np.outer([1 / len(one) for one in values], known.within))
    usual = np.quantile((means - known.mean) / spread, 0.99, axis=0)
    np.testing.assert_allclose(known.usual, np.maximum(usual, 1), rtol=1e-5)


def test_it_is_read_as_written_and_damage_is_named(known: KnownAnswers, tmp_path: Path) -> None:
    known.save(tmp_path)
    again = load_known_states(tmp_path)
    assert again is not None
    for ids in texts(4, 12):
        assert again.distance(ids, states_of(ids)) == known.distance(ids, states_of(ids))
    assert (again.threshold, again.false_flags) == (known.threshold, known.false_flags)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-9])
    with pytest.raises(UsageError, match=f"{FILE} is damaged or of an older version"):
        load_known_states(tmp_path)
    assert load_known_states(tmp_path / "nothing") is None
    few = texts(10, 1)
    with pytest.raises(UsageError, match="20 training answers to 5 prompts at least, got 10 to 1"):
        KnownAnswers.fit(few, [states_of(one) for one in few], ["q"] * 10, V)
    with pytest.raises(UsageError, match="20 held-out answers at least, got 5"):
        known.with_threshold([1.0] * 5)


ROWS = [
    {"id": str(at), "prompt": [{"role": "user", "content": "say hello " + "sit red " * at}]}
    for at in range(4)
]
SAID = ["hello red cat", "sit", "the cat", "hello hello sit"]


@pytest.mark.parametrize("kind", ["tiny_model_dir", "tiny_embedder"])
def test_states_are_those_of_the_answers_tokens_at_the_middle_layer(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder = str(request.getfixturevalue(kind))
    tokenizer, model = load_tokenizer(folder), load_reward(folder).eval()
    if tokenizer.chat_template is None:
        from siftune.curate.chat.templates import ENCODER

        tokenizer.chat_template = ENCODER
    model.config.pad_token_id = tokenizer.pad_token_id
    said = [[{"role": "assistant", "content": one}] for one in SAID]
    whole = encode_scored(tokenizer, ROWS, said)
    longest = len(whole[3].ids)
    for length in (None, longest - 2):  # the longest prompt loses its start
        encoded = encode_scored(tokenizer, ROWS, said, length)
        starts = answer_starts(tokenizer, ROWS, encoded)
        assert [one.cut for one in encoded] == [0, 0, 0, 0 if length is None else 2]
        for one, other, start, answer in zip(encoded, whole, starts, SAID, strict=True):
            assert one.ids[start:] == other.ids[other.cut + start + one.cut :]
            said_there = str(tokenizer.decode(one.ids[start:])).replace(" ", "")
            assert answer.replace(" ", "") in said_there
            assert "sitred" not in said_there
        ids = [one.ids for one in encoded]
        scores, found = scores_and_states(
            model, tokenizer, ids, 3, starts=starts, read=lambda own, states: (own, states)
        )
        for text, start, score, (own, states) in zip(ids, starts, scores, found, strict=True):
            assert list(own) == text[start:]
            with torch.no_grad():
                alone = model(torch.tensor([text]), output_hidden_states=True)
            layers = alone.hidden_states
            np.testing.assert_allclose(states, layers[len(layers) // 2][0, start:], atol=1e-5)
            assert score == pytest.approx(alone.logits.item(), abs=1e-5)
    with recorded_states(model, {}, lambda own, states: 1 / 0) as nothing:
        scores_and_states(model, tokenizer, ids)
    assert nothing == {}
