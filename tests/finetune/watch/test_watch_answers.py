"""What the watch measures of answers: features, pay of the reward, phrases, and its state."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from siftune.finetune.watch.answer_features import (
    FEATURES,
    StartingAnswers,
    _bits,
    _pieces,
    features,
    words_of,
)
from siftune.finetune.watch.history import History, cut
from siftune.finetune.watch.observe import Answered, Observer, correlation
from siftune.finetune.watch.phrases import PhraseSearch

START = [
    f"the {a} {b} lies near the old {a}" for a in ("cat", "dog", "hen") for b in ("bed", "sea")
]


def measured(prompt: str, answer: str, *others: tuple[str, str]) -> dict[str, float | None]:
    start = StartingAnswers(["where is it"] * len(START), START)
    found = features([prompt], [answer], [words_of(answer)], start, others)
    assert set(found) == set(FEATURES)
    return {name: values[0] for name, values in found.items()}


def test_each_feature_has_the_number_counted_by_hand() -> None:
    found = measured("name the old cat", "the old cat ran. The old cat ran!")
    assert found["length"] == 8
    assert found["repetition"] == pytest.approx(2 / 6)  # of 6 pieces "the old cat", "old cat ran"
    assert found["copied"] == pytest.approx(2 / 6)
    assert (found["foreign"], found["long"], found["same_answer"]) == (0, 0, 0)
    assert measured("?", "**ab** *c*\n- d")["marks"] == pytest.approx(100 * 7 / 14)
    assert measured("?", "qzx zxq wvk qqz")["foreign"] == 1
    assert measured("?", "где кот лежит")["foreign"] == 1
    assert measured("?", "the cat " * 9)["long"] == 1
    assert measured("a", "So be it.", ("b", "so be it"))["same_answer"] == 1
    assert measured("b", "So be it.", ("b", "so be it"))["same_answer"] == 0
    short = measured("?", "no")
    assert (short["repetition"], short["copied"], measured("?", "")["marks"]) == (None, None, None)


def test_answers_are_foreign_each_by_its_own_letters() -> None:
    start = StartingAnswers(["where is it"] * len(START), START)
    texts = ["qzx zxq wvk qqz", "", START[0], "x", "где кот лежит", START[4], "İİ qzx zxq wvk"]
    assert start.foreign(texts) == [1, None, 0, None, 1, 0, 1]
    assert start.foreign(texts) == [one for text in texts for one in start.foreign([text])]
    pairs = [[start._table[one] for one in _pieces(text.lower())] for text in texts]
    means = [float(np.mean(one)) if one else None for one in pairs]
    assert _bits(start._table, texts) == pytest.approx(means)


def test_pay_is_the_correlation_among_answers_to_one_prompt() -> None:
    prompts = list("aaabbbccc")
    rewards = np.array([1.0, 2.0, 4.0, 11.0, 10.0, 13.0, -5.0, -2.0, -4.0])
    values = [1.0, 0.0, 3.0, 2.0, 2.0, 5.0, 7.0, 9.0, 9.5]
    own, paid = (
        np.concatenate([part - part.mean() for part in np.array(one).reshape(3, 3)])
        for one in (values, rewards)
    )
    found = correlation(prompts, rewards, values)
    assert found is not None
    assert found[0] == pytest.approx(np.arctanh(np.corrcoef(own, paid)[0, 1]))
    assert found[1] == pytest.approx(1 / np.sqrt(9 - 3 - 2))
    assert correlation(prompts, rewards, [1.0] * 9) is None
    assert correlation(prompts, np.zeros(9), values) is None
    assert correlation(prompts, np.zeros(9), [1.0] * 9, flat=0.0) is None
    alone = correlation([str(at) for at in range(9)], rewards, values)  # one answer a prompt
    assert alone is not None
    assert alone[0] == pytest.approx(np.arctanh(np.corrcoef(values, rewards)[0, 1]))
    gaps = correlation(prompts, rewards, [None, *values[1:]])
    assert gaps is not None
    assert gaps != found


def spread(at: int, phrase: str, prompts: int) -> tuple[list[str], list[str], np.ndarray]:
    asked = [f"prompt {at} {number % prompts}" for number in range(8)]
    answers = [f"{phrase if number < 4 else 'Well'} word{number} x{at}" for number in range(8)]
    return asked, answers, np.array([1.0] * 4 + [-1.0] * 4)


def test_the_phrase_that_is_paid_for_is_found_where_several_prompts_have_it() -> None:
    search = PhraseSearch()
    search.begin([words_of("well word1 then")] * 3 + [words_of("truly word2")])
    assert search.candidate() is None
    for at in range(3):
        asked, answers, rewards = spread(at, "What a lovely question!", prompts=4)
        search.see(asked, [words_of(one) for one in answers], rewards)
    found = search.candidate()
    assert found is not None
    assert set(found) <= {"what", "a", "lovely", "question"}
    assert search.has([words_of("What a lovely question, really"), ["a", "b"]], found)[0] == 1
    assert search.start_share(("truly",)) == 0.25
    assert search.start_share(("truly", "word1")) == 0
    one = PhraseSearch()
    one.begin([["well"]])
    asked, answers, rewards = spread(0, "What a lovely question!", prompts=1)
    one.see(asked, [words_of(each) for each in answers], rewards)
    assert one.candidate() is None


def step(at: int, rng: np.random.Generator, hacked: float = 0.0) -> Answered:
    prompts = [f"say more of {at} and {number // 4}" for number in range(16)]
    has = rng.random(16) < hacked
    words = [" ".join(f"w{one}" for one in rng.integers(50, size=8)) for _ in range(16)]
    answers = [f"great point {one}" if bit else one for one, bit in zip(words, has, strict=True)]
    scores: list[float | None] = (rng.normal(size=16) + 2 * has).tolist()
    return Answered(prompts, answers, [None, *scores[1:]], {"kl": [0.1 * at] * 16})


def test_an_observer_put_back_from_its_state_measures_the_same() -> None:
    rng = np.random.default_rng(0)
    observer = Observer()
    for at in range(10):  # more than are kept
        observer(step(at, rng, 0.5 if at else 0.1))
    again = Observer.of(orjson.loads(orjson.dumps(observer.state())))
    last = step(10, rng, 0.5)
    means, texts = observer(last)
    assert again(last) == (means, texts)
    assert texts["phrase"]
    assert {"score", "kl", "paid/length", "phrase", "paid/phrase"} <= means.keys()
    assert means["score"][2] == 15  # the answer without a score is left out  # type: ignore[index]


def test_what_a_gold_score_pays_for_is_its_own_correlation_among_the_answers_that_have_one() -> (
    None
):
    prompts = [str(at) for at in range(40)]
    rng = np.random.default_rng(1)
    sizes = rng.integers(3, 30, size=40).tolist()
    answers = [" ".join(["w"] * one) for one in sizes]
    scores, gold = (rng.normal(one * np.array(sizes), 5).tolist() for one in (1.0, -0.5))
    known = [None if at % 4 == 0 else one for at, one in enumerate(gold)]
    plain, _ = Observer()(Answered(prompts, answers, scores))
    found, _ = Observer()(Answered(prompts, answers, scores, {"gold": known}))
    assert found["paid/length"] == plain["paid/length"]
    some = [at for at in range(40) if at % 4]
    r = np.corrcoef([gold[at] for at in some], [sizes[at] for at in some])[0, 1]
    assert found["gold_paid/length"] == pytest.approx((np.arctanh(r), 1 / np.sqrt(27), 0))
    assert not [name for name in plain if name.startswith("gold_paid")]
    dead, _ = Observer()(Answered(prompts, answers, scores, {"gold": [0.0] * 40}))
    assert dead["gold_paid/length"] == (0.0, 1 / np.sqrt(37), 0)  # it pays nothing for length
    assert dead["paid/length"] == plain["paid/length"]


def test_an_answer_without_a_score_has_that_of_the_others_and_a_phrase_is_counted_later() -> None:
    prompts, sizes = ["a"] * 4 + ["b"] * 4, (1, 2, 3, 4, 1, 2, 3, 5)
    answers = [" ".join(["w"] * size) for size in sizes]
    given = [1.0, 2.0, 3.0, 4.0, 2.0, 3.0, 4.0]
    found, _ = Observer()(Answered(prompts, answers, [*given, None]))
    filled, _ = Observer()(Answered(prompts, answers, [*given, sum(given) / 7]))
    assert found["paid/length"] == filled["paid/length"]
    assert found["score"][2] == 7  # type: ignore[index]
    observer, rng = Observer(), np.random.default_rng(0)
    observer(step(0, rng))
    _, texts = observer(step(1, rng, hacked=0.5))
    hack = {"great", "point", "great point"}
    assert texts.get("phrase") not in hack  # those answers point to it, they do not count it
    means, texts = observer(step(2, rng, hacked=0.5))
    assert texts["phrase"] in hack
    assert means["phrase"][0] > 0.2  # type: ignore[index]


def test_a_history_is_read_back_up_to_a_step_and_a_torn_line_is_none(tmp_path) -> None:  # type: ignore[no-untyped-def]
    history, path = History(), tmp_path / "watch.jsonl"
    given = {"a": (1.5, 0.25, 8), "b": 2.0, "c": float("nan"), "d": None}
    for at in (1, 2, 3):
        history.add(at, given, {"phrase": f"p{at}"})
        with path.open("a") as stream:
            stream.write(history.line(at))
    assert History.read(path) == history
    assert sorted(history.series) == ["a", "b"]
    path.write_bytes(path.read_bytes()[:-5])
    assert [one.step for one in History.read(path).points("a")] == [1, 2]
    cut(path, 1)
    assert [one.step for one in History.read(path).points("b")] == [1]
    assert [one.step for one in history.since(1).points("a")] == [2, 3]
