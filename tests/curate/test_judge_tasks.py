"""Judge tasks: a contract for all of them, and fixed answers with the values they give."""

import json
import math
import pickle
import random
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.fence import FRAME
from siftune.curate.judge_calls.types import (
    Answer,
    Item,
    Question,
    Task,
    UnjudgeableError,
    UnparsedError,
)
from tests.curate.judge_task_cases import (
    CHAT,
    GROUP,
    ITEMS,
    PAIR,
    REPLIES,
    SINGLE,
    WITHOUT_RUBRIC,
    item_of,
    judged,
    refused,
    task_of,
)


def column_types(task: Task) -> dict[str, Any]:
    return dict(task.adds)


@pytest.fixture(params=[name for name in registry.names(GROUP) if name not in WITHOUT_RUBRIC])
def name(request):
    return request.param


def test_questions_are_the_same_each_time_and_are_versioned(name):
    task = task_of(name)
    questions = task.questions(item_of(name))
    assert questions
    assert list(pickle.loads(pickle.dumps(task)).questions(item_of(name))) == list(questions)
    assert all(question.version.startswith(f"{name}-") for question in questions)
    assert all(len(set(question.labels)) == len(question.labels) for question in questions)


def test_data_are_in_the_user_turn_only_and_cut_at_max_chars(name):
    item = item_of(name)
    long = replace(item, prompt=(("user", "q" * 50 + "zzz"),))
    for question in task_of(name, max_chars=50).questions(long):
        assert [role for role, _ in question.messages] == ["system", "user"]
        assert "qqq" not in question.messages[0][1]
        assert "zzz" not in question.messages[1][1]


def test_verdicts_have_the_columns_that_are_declared(name):
    task, item = task_of(name), item_of(name)
    values = judged(task, item, *[REPLIES[name]] * len(task.questions(item)))
    assert list(values) == list(task.adds)
    frame = pl.DataFrame([values], schema=column_types(task), strict=True)
    assert frame.schema == pl.Schema(column_types(task))


def test_labels_are_read_from_texts_and_from_probabilities(name):
    task, item = task_of(name), item_of(name)
    for position, question in enumerate(task.questions(item)):
        if question.labels:
            certain = {name: float(name == question.labels[0]) for name in question.labels}
            line = f"{question.prefix}{question.labels[0]}"
            written = task.parse(item, position, Answer(line))
            likely = task.parse(item, position, Answer(None, certain))
            assert without_text(likely) == without_text(written)
            with pytest.raises(UnparsedError):
                task.parse(item, position, Answer(None, {question.labels[0]: 1.0}))


def without_text(parsed: Any) -> Any:
    """The verdict of what was parsed, without a probability or a text beside it."""
    return parsed[0] if isinstance(parsed, tuple) else parsed


def test_an_answer_without_a_verdict_is_refused(name):
    task, item = task_of(name), item_of(name)
    for text in ("", " \n"):
        with pytest.raises(UnparsedError):
            task.parse(item, 0, Answer(text))


def test_what_cannot_be_judged_is_named(name):
    task = task_of(name)
    for item in (Item((), ()), Item((("user", " "),), ("",) * len(item_of(name).answers))):
        with pytest.raises(UnjudgeableError) as error:
            task.questions(item)
        assert error.value.reason.startswith(("no_", "bad_"))


def test_alpagasus():
    task = task_of("alpagasus", dimension="helpfulness")
    assert "helpfulness of the answer" in task.questions(SINGLE)[0].messages[0][1]
    assert judged(task, SINGLE, "4.5\nAlmost perfect.") == {"rating": 4.5}
    assert judged(task, SINGLE, {"0": 0, "1": 0, "2": 0, "3": 0, "4": 0.5, "5": 0.5}) == {
        "rating": 4.5
    }
    refused(task, SINGLE, "Almost perfect.\n4.5", "9\nGood", "Score of 4\n")
    short = task_of("alpagasus", explanation=False)
    assert judged(short, SINGLE, "4") == {"rating": 4}
    refused(short, SINGLE, "4\nGood.")


@pytest.mark.parametrize(
    ("name", "column"), [("deita_complexity", "complexity"), ("deita_quality", "quality")]
)
def test_deita(name, column):
    task = task_of(name)
    even = {str(k): 1 / 6 for k in range(1, 7)}
    verdict = judged(task, CHAT, even, "6")
    assert verdict[f"{column}_turns"] == pytest.approx([3.5, 6])
    assert verdict[column] == pytest.approx(4.75)
    first, second = (question.messages[1][1] for question in task.questions(CHAT))
    assert "Hi" in first
    assert "Name a prime." in second
    assert ("Hello!" in first, "Seven." in second) == ((name == "deita_quality"),) * 2
    refused(task, CHAT, "7", "0", "3 of 6", "Score: 3\nScore: 4")


def test_pairwise():
    task = task_of("pairwise")
    first, second = (question.messages[1][1] for question in task.questions(PAIR))
    assert first.index("Seven.") < first.index("Eight.")
    assert second.index("Eight.") < second.index("Seven.")
    for answers, expected in (
        (("A", "B"), ("first", 1, True, False, 1)),
        (("B", "A"), ("second", 0, True, False, 1)),
        (("A", "A"), ("tie", 0.5, False, True, 2)),
        (("B", "B"), ("tie", 0.5, False, True, 0)),
        (("C", "tie"), ("tie", 0.5, True, True, 1)),
        (("A", "C"), ("tie", 0.75, False, True, 1.5)),
    ):
        assert tuple(judged(task, PAIR, *answers).values()) == expected
    likely = judged(task, PAIR, {"A": 0.5, "B": 0.25, "C": 0.25}, {"A": 0.0, "B": 1.0, "C": 0.0})
    assert likely["preference"] == pytest.approx((0.625 + 1) / 2)
    assert likely["winner"] == "first"
    refused(task, PAIR, "A and B", "A\nB", "Seven.", "The first")
    refused(task_of("pairwise", ties=False), PAIR, "C", "tie")
    for answers in (("Seven.",), ("Seven.", " "), ("Seven.", "Eight.", "Nine.")):
        with pytest.raises(UnjudgeableError):
            task.questions(replace(PAIR, answers=answers))


def shown_better(question: Question) -> str:
    """The letter of the answer with three stars."""
    text = question.messages[1][1]
    return "A" if text.index("***") < text.index("[BEGIN answer B") else "B"


def starred(row: int, better_first: bool) -> Item:
    answers = (f"Text {row} ***", f"Text {row} *")
    return Item((("user", f"Question {row}"),), answers if better_first else answers[::-1])


def test_planted_preferences_come_back_and_planted_inconsistency_is_found():
    """600 pairs: a judge that errs in 1 of 20 questions, and in 1 of 10 pairs reads the order."""
    rng, task = random.Random(5), task_of("pairwise", ties=False)
    right = decided = 0
    for row in range(600):
        better_first, by_position = rng.random() < 0.5, row % 10 == 0
        item = starred(row, better_first)
        better = [shown_better(question) for question in task.questions(item)]
        noisy = [each if rng.random() < 0.95 else "AB".replace(each, "") for each in better]
        verdict = judged(task, item, *(["A", "A"] if by_position else noisy))
        if by_position:
            assert (verdict["consistent"], verdict["winner"]) == (False, "tie")
        elif verdict["consistent"]:
            decided += 1
            right += verdict["winner"] == ("first" if better_first else "second")
            assert (verdict["preference"] > 0.5) == (verdict["winner"] == "first")
    assert decided >= 0.88 * 540
    assert right >= 0.99 * decided


def test_both_orders_cancel_a_planted_position_bias_in_probabilities():
    """500 pairs: one order alone is right in fewer than 9 of 10 rows, the mean of both in 99 %."""
    rng, task = random.Random(6), task_of("pairwise", ties=False)
    right = alone = 0
    for row in range(500):
        better_first = rng.random() < 0.5
        item, shares = starred(row, better_first), []
        for question in task.questions(item):
            quality = 1 if shown_better(question) == "A" else -1
            logit = quality + 1.5 + rng.gauss(0, 0.3)  # the bias outweighs the quality
            shares.append(1 / (1 + math.exp(-logit)))
        verdict = judged(task, item, *({"A": share, "B": 1 - share} for share in shares))
        right += (verdict["preference"] > 0.5) == better_first
        alone += (shares[0] > 0.5) == better_first
    assert right >= 0.99 * 500
    assert alone < 0.9 * 500


def test_ultrafeedback():
    task = task_of("ultrafeedback")
    assert list(task.adds) == [
        *("rating", "helpfulness", "honesty", "instruction_following", "truthfulness")
    ]
    verdict = judged(task, SINGLE, "1", "2", "5", {"1": 0, "2": 0, "3": 0.5, "4": 0.5, "5": 0})
    assert list(verdict.values()) == [2.875, 1, 2, 5, 3.5]
    refused(task, SINGLE, "10", "1\n0", "Score: 10")
    with pytest.raises(UnparsedError):  # the 1 of a 10 that was cut
        task.parse(SINGLE, 0, Answer("1", truncated=True))
    two = task_of("ultrafeedback", aspects=("honesty", "helpfulness"))
    assert judged(two, SINGLE, "1", "4") == {"rating": 2.5, "honesty": 1, "helpfulness": 4}
    with pytest.raises(UsageError, match="aspects"):
        task_of("ultrafeedback", aspects=("honesty", "honesty"))


@pytest.mark.parametrize("name", ["additive", "fineweb_edu"])
def test_points_are_whole_and_on_the_last_line(name):
    task = task_of(name)
    assert judged(task, SINGLE, "It earns 2 points, then a third.\n\n**Score: 3**") == {"rating": 3}
    refused(task, SINGLE, "Score: 3\nbecause it is good", "3", "Score: 2.5", "Score: 6", "Good.")
    assert task.questions(SINGLE)[0].prefix == "Score: "
    short = task_of(name, rationale=False)
    assert judged(short, SINGLE, "3") == {"rating": 3}
    assert short.questions(SINGLE)[0].prefix == ""


def test_additive_samples_are_other_questions():
    task = task_of("additive", samples=3, temperature=0.7)
    assert judged(task, SINGLE, "Score: 1", "Score: 1", "Score: 4") == {"rating": 2}
    assert len({question.version for question in task.questions(SINGLE)}) == 3


def test_fineweb_edu_rates_a_text_alone():
    assert judged(task_of("fineweb_edu"), Item((), ("A chapter.",)), "Score: 4") == {"rating": 4}


def test_instag():
    task = task_of("instag")
    answer = [
        {"tag": " Spelling & Grammar-Check", "explanation": ""},
        {"tag": "spelling grammar check"},
    ]
    assert judged(task, SINGLE, f"```json\n{json.dumps(answer)}\n```") == {
        "tags": ["spelling grammar check"],
        "tag_count": 1,
    }
    assert "Seven." not in task.questions(SINGLE)[0].messages[1][1]
    refused(
        task,
        SINGLE,
        *("[]", '[{"tag": "a"}', '[{"tag": 1}]', '["a"]', '{"tag": "a"}', '[{"tag": "?!"}]'),
        *('Tags: [{"tag": "a"}]', '[{"tag": "a", "score": 5}]', json.dumps([{"tag": "a" * 99}])),
    )


def test_listwise():
    task, item = task_of("listwise"), ITEMS["listwise"]
    shown = task.questions(item)[0].messages[1][1]
    order = sorted(range(3), key=lambda place: shown.index(item.answers[place]))
    verdict = judged(task, item, "B > A > C")
    assert verdict["best"] == order[1]
    assert [verdict["ranks"][place] for place in order] == [2, 1, 3]
    assert judged(task, item, '["B", "A", "C"]') == verdict
    assert judged(task, item, "Ranking: b > a > c.") == verdict
    refused(task, item, "B > A", "B > A > A", "B > A > D", "B, A, C", "B > A > C\nC > A > B", "B")


def test_a_list_of_one_or_of_thirty_is_none_to_rank():
    for number in (1, 30):
        item = replace(ITEMS["listwise"], answers=("a",) * number)
        with pytest.raises(UnjudgeableError, match=f"2 to 26 answers, got {number}") as told:
            task_of("listwise").questions(item)
        assert told.value.reason == "wrong_number_of_answers"


def test_listwise_orders_are_balanced():
    task, first = task_of("listwise"), 0
    for row in range(300):
        item = replace(ITEMS["listwise"], prompt=(("user", f"Question {row}"),))
        first += judged(task, item, "A > B > C")["best"] == 0
    assert 70 <= first <= 130
    seeds = {task_of("listwise", seed=seed).questions(item)[0].messages for seed in range(20)}
    assert len(seeds) == 6


def test_principles_are_drawn_by_content(tmp_path):
    """The same for critique and revision of a row, and over many rows each of them."""
    file = tmp_path / "principles.txt"
    file.write_text("# rules\nBe kind, and honest.\n\nBe brief.\n", encoding="utf-8")
    drawn = set()
    for row in range(30):
        item = replace(SINGLE, prompt=(("user", f"Question {row}"),))
        critique = judged(task_of("critique", principles=str(file)), item, "It is rude.")
        revised = replace(item, extra={"critique": critique["critique"]})
        listed = task_of("revision", principles=("Be kind, and honest.", "Be brief."))
        revision = judged(listed, revised, "Seven, dear friend.")
        assert revision == {"revision": "Seven, dear friend.", "principle": critique["principle"]}
        assert critique["principle"] in listed.questions(revised)[0].messages[0][1]
        assert "It is rude." in listed.questions(revised)[0].messages[1][1]
        drawn.add(critique["principle"])
    assert drawn == {"Be kind, and honest.", "Be brief."}
    fixed = replace(SINGLE, extra={"critique": "x", "principle": "Be brief."})
    assert judged(listed, fixed, "Seven!")["principle"] == "Be brief."
    with pytest.raises(UnjudgeableError, match="principle"):  # it would be an instruction
        task_of("revision").questions(fixed)
    described = task_of("critique", principles=str(file)).describe()
    assert described == {"principles": ["Be kind, and honest.", "Be brief."]}
    for bad in (str(tmp_path / "none.txt"), ()):
        with pytest.raises(UsageError, match="principles"):
            task_of("critique", principles=bad).questions(SINGLE)


def test_texts_that_are_wanted_whole():
    for name in ("critique", "revision"):
        task, item = task_of(name, max_tokens=50), item_of(name)
        mark = task.questions(item)[0].messages[1][1].splitlines()[2]
        assert mark.startswith("[BEGIN instruction")
        refused(
            task, item, f"{mark}\nSeven.", f"Seven.\n\n{FRAME[1]} Reply.", f"{FRAME[0]} 5: Seven"
        )
    cut = Answer("Seven is", output_tokens=50, truncated=True)
    assert task_of("critique").parse(SINGLE, 0, cut) == "Seven is"
    with pytest.raises(UnparsedError):
        task_of("revision").parse(item_of("revision"), 0, cut)
    fixed = replace(SINGLE, extra={"critique": "Too short.", "principle": "Rhyme."})
    refused(
        task_of("revision", principles=("Rhyme.",)),
        fixed,
        "Rhyme.",
        "Too short.",
        " Name a prime.\n",
    )
    with pytest.raises(UnjudgeableError, match="critique"):
        task_of("revision").questions(SINGLE)


def test_constitution_preference():
    task = task_of("constitution_preference", principles=("Be kind.",))
    assert all("Be kind." in question.messages[0][1] for question in task.questions(PAIR))
    verdict = judged(task, PAIR, "A", "B")
    assert (verdict["winner"], verdict["principle"]) == ("first", "Be kind.")
    assert not judged(task, PAIR, "A", "A")["consistent"]
    refused(task, PAIR, "C", "tie")


def test_contrastive():
    task = task_of("contrastive")
    right, wrong = "Because.\nVerdict: A", "Hm.\nVerdict: B"
    verdict = judged(task, PAIR, right, wrong, wrong, wrong)
    assert verdict == {
        "winner": "tie",  # the row's order is even, the swapped one prefers the first
        "preference": 0.75,
        "consistent": False,
        "tie": True,
        "first_position": 0.5,
        "verdicts": ["first", "first", "second", "first"],
        "judgements": [right, wrong, wrong, wrong],
    }
    assert judged(task, PAIR, right, wrong, right, wrong)["consistent"]
    assert judged(task, PAIR, right, right, right, right)["winner"] == "tie"
    assert all(question.temperature > 0 for question in task.questions(PAIR))
    with pytest.raises(UnparsedError):  # probabilities have no reasons
        task.parse(PAIR, 0, Answer(None, {"A": 1.0, "B": 0.0}))
    refused(task, PAIR, "A", "Verdict: A\nBecause.", "Verdict: C", "Verdict: A\nVerdict: B")


def test_refusal_class():
    task = task_of("refusal_class")
    likely = {"A": 0.125, "B": 0.5, "C": 0.25, "D": 0.125}
    assert judged(task, SINGLE, likely) == {"class": "poor_refusal", "probability": 0.5}
    assert judged(task, SINGLE, "safe_answer") == {"class": "safe_answer", "probability": None}
    refused(task, SINGLE, "E", "refuse", "A, B")
    two = task_of("refusal_class", classes={"yes": "it complies", "no": "it declines"})
    assert judged(two, SINGLE, "B")["class"] == "no"
    with pytest.raises(UsageError, match="classes"):
        task_of("refusal_class", classes={"yes": "it complies"})
