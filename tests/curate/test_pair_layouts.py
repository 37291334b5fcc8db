"""Pairs, labelled answers and prompts as data sets publish them: the question is never lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import BadRow, DataError
from siftune.curate.io.detect import detect, named
from siftune.curate.io.ingest import ingest, read_rows
from siftune.curate.records.field_names import could_answer, could_ask, is_picture

Row = dict[str, Any]
Turns = list[tuple[str, str]]

SIDES = {"chosen": "It has 8 wheels.", "rejected": "It has 6 wheels."}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def model(text: str) -> Row:
    return {"role": "assistant", "content": text}


def rows(tmp_path: Path, *records: Row, **options: Any) -> list[Row]:
    """The rows of records without their base columns, as a command reads them."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    table, bad = read_rows(path, **options)
    assert not bad, bad
    return table.to_dicts()


def row(tmp_path: Path, record: Row, **options: Any) -> Row:
    [only] = rows(tmp_path, record, **options)
    return only


def spoken(turns: list[Row]) -> Turns:
    return [(turn["role"], turn["content"]) for turn in turns]


def extra(row: Row) -> Row:
    return json.loads(row["extra"]) if row["extra"] else {}


QUESTIONS: dict[str, tuple[Row, Turns]] = {
    # Intel/orca_dpo_pairs, its card
    "orca": ({"system": "Be brief.", "question": "Q?"}, [("system", "Be brief."), ("user", "Q?")]),
    # argilla/distilabel-intel-orca-dpo-pairs, its card: the question is `input`
    "orca, cleaned": ({"system": "", "input": "Q?"}, [("user", "Q?")]),
    # hiyouga/LLaMA-Factory data/README.md, alpaca preference
    "instruction, input": ({"instruction": "Do.", "input": "X"}, [("user", "Do.\n\nX")]),
    "instruction": ({"instruction": "Do.", "input": ""}, [("user", "Do.")]),
    # ms-swift's older pairs
    "query, history": (
        {"query": "Q?", "history": [["A?", "B."]]},
        [("user", "A?"), ("assistant", "B."), ("user", "Q?")],
    ),
    "problem": ({"problem": "Q?", "source": "made up"}, [("user", "Q?")]),
    "the same twice": ({"question": "Q?", "instruction": "Q?"}, [("user", "Q?")]),
    "an empty prompt": ({"prompt": "", "question": "Q?"}, [("user", "Q?")]),
    "a prompt made of the question": (
        {"prompt": "Answer: Q?", "question": "Q?"},
        [("user", "Answer: Q?")],
    ),
    "history alone": ({"history": "A post."}, [("user", "A post.")]),
    "turns of history": ({"history": [user("A?")]}, [("user", "A?")]),
    "system alone": ({"system": "Be brief."}, [("system", "Be brief.")]),
    "messages": (
        {"messages": [user("A?"), model("B."), user("Q?")]},
        [("user", "A?"), ("assistant", "B."), ("user", "Q?")],
    ),
    "messages with the chosen answer": (
        {"messages": [user("Q?"), model(SIDES["chosen"])]},
        [("user", "Q?")],
    ),
    "messages and their question": ({"messages": [user("Q?")], "question": "Q?"}, [("user", "Q?")]),
    # shibing624/MedicalGPT data/reward
    "conversations": ({"conversations": [{"from": "human", "value": "Q?"}]}, [("user", "Q?")]),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_the_prompt_of_a_pair_of_texts_is_read_from_where_it_is(case: str, tmp_path: Path) -> None:
    asked, prompt = QUESTIONS[case]
    got = row(tmp_path, asked | SIDES)
    assert got["kind"] == "preference"
    assert spoken(got["prompt"]) == prompt
    assert (got["chosen"][0]["content"], got["rejected"][0]["content"]) == tuple(SIDES.values())
    assert extra(got).keys() <= {"source"}


@pytest.mark.parametrize("case", ["orca", "conversations", "instruction, input"])
def test_sides_may_be_turns_as_well_as_texts(case: str, tmp_path: Path) -> None:
    asked, prompt = QUESTIONS[case]
    listed = {side: [model(text)] for side, text in SIDES.items()}
    tagged = {side: {"from": "gpt", "value": text} for side, text in SIDES.items()}
    objects = {side: model(text) for side, text in SIDES.items()}
    for sides in (listed, tagged, objects):
        got = row(tmp_path, asked | sides)
        assert spoken(got["prompt"]) == prompt
        assert spoken(got["chosen"]) == [("assistant", SIDES["chosen"])]


UNCLEAR: dict[str, tuple[Row, str]] = {
    "two questions": (
        {"question": "Q?", "instruction": "Do."},
        "--map question=prompt --map instruction=meta_instruction",
    ),
    "an unknown key": ({"ask": "How many?"}, "--map ask=prompt"),
    "a long title": ({"title": "How many wheels has it?"}, "--map title=prompt"),
    "an unknown chat": ({"talk": [user("Q?")]}, "--map talk=prompt"),
    "none of two": (
        {"remark": "Hm.", "title": "Of carts and their wheels"},
        "--map remark=meta_remark --map title=meta_title",
    ),
    "a chat and another question": (
        {"messages": [user("A?")], "question": "Q?"},
        "--map messages=prompt --map question=meta_question",
    ),
    "question and input": (
        {"question": "Q?", "input": "X"},
        "--map question=prompt --map input=meta_input",
    ),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_where_the_prompt_is_not_clear_the_flags_are_named_and_work(
    case: str, tmp_path: Path
) -> None:
    asked, flags = UNCLEAR[case]
    with pytest.raises(BadRow, match=flags) as bad:
        list(named("preference").read(asked | SIDES))
    assert bad.value.reason == "unclear_prompt"
    renames = [flag.partition("=") for flag in flags.replace("--map ", "").split()]
    assert row(tmp_path, asked | SIDES, mapping={key: name for key, _, name in renames})["prompt"]


def test_a_question_beside_another_prompt_is_not_lost(tmp_path: Path) -> None:
    record = {"prompt": "Translate.", "input": "Hund", "chosen": "dog", "rejected": "cat"}
    with pytest.raises(BadRow, match=r"unclear_prompt.*--map input=meta_input"):
        list(named("preference").read(record))
    got = row(tmp_path, record, mapping={"input": "meta_input"})
    assert extra(got) == {"meta_input": "Hund"}


@pytest.mark.parametrize(
    "beside",
    [{}, {"source": "web"}, {"id": "a b c d e"}, {"chosen_model": "big", "score": 2}, {"n": "4"}],
)
def test_texts_share_their_prompt_only_beside_fields_that_are_none(
    beside: Row, tmp_path: Path
) -> None:
    got = row(tmp_path, SIDES | beside)
    assert spoken(got["prompt"]) == [("user", "It has ")]
    assert spoken(got["chosen"]) == [("assistant", "8 wheels.")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ([user("A?"), model("4")], [user("B?"), model("5")], "prompt_mismatch"),
        (
            [user("A?"), model("4"), user("B?"), model("5")],
            [user("A?"), model("4"), user("C?"), model("6")],
            "prompt_mismatch",
        ),
        (
            [{"role": "system", "content": "S"}, user("A?"), model("4")],
            [{"role": "system", "content": "T"}, user("A?"), model("5")],
            "prompt_mismatch",
        ),
        ([user("A?"), model("4")], [model("5")], "prompt_mismatch"),
        ([user("A?"), model("4")], [user("A?")], "no_answer"),
    ],
)
def test_sides_that_answer_different_turns_are_no_pair(
    chosen: list[Row], rejected: list[Row], reason: str
) -> None:
    with pytest.raises(BadRow) as bad:
        list(named("preference").read({"chosen": chosen, "rejected": rejected}))
    assert bad.value.reason == reason


def test_dialogues_that_ask_different_things_are_no_pair() -> None:
    sides = {
        "chosen": "\n\nHuman: 2+2?\n\nAssistant: 4",
        "rejected": "\n\nHuman: 3+3?\n\nAssistant: 5",
    }
    with pytest.raises(BadRow, match="prompt_mismatch"):
        list(named("hh_rlhf").read(sides))


def test_a_chat_that_ends_with_a_third_answer_is_no_prompt() -> None:
    record = {"messages": [user("Q?"), model("Something else.")]} | SIDES
    with pytest.raises(BadRow, match="prompt_mismatch"):
        list(named("preference").read(record))


def test_skywork_reward_pairs_are_whole_chats(tmp_path: Path) -> None:  # its card: 80K-v0.2
    record = {
        "chosen": [user("2+2?"), model("4")],
        "rejected": [user("2+2?"), model("5")],
        "source": "magpie_ultra",
    }
    got = row(tmp_path, record)
    assert spoken(got["prompt"]) == [("user", "2+2?")]
    assert spoken(got["rejected"]) == [("assistant", "5")]
    assert extra(got) == {"source": "magpie_ultra"}


def test_fields_of_a_prompts_turns_stay_with_them(tmp_path: Path) -> None:
    record = {"messages": [{**user("Q?"), "lang": "en"}, model(SIDES["chosen"])]}
    assert extra(row(tmp_path, record | SIDES)) == {"prompt.fields": [{"lang": "en"}]}


LABELLED: dict[str, Row] = {
    # hiyouga/LLaMA-Factory data/README.md; ms-swift: messages and label
    "messages": {"messages": [user("A?"), model("4")], "label": True},
    "conversations": {
        "conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "4"}],
        "label": "true",
    },
    "a tag": {"messages": [user("A?"), model("4")], "kto_tag": True},
    "alpaca": {"instruction": "A?", "input": "", "output": "4", "kto_tag": True},
    "question": {"question": "A?", "response": "4", "label": True},
    "prompt": {"prompt": "A?", "completion": "4", "label": 1},
}


@pytest.mark.parametrize("case", LABELLED)
def test_an_answer_with_a_label_is_read_from_where_it_is(case: str, tmp_path: Path) -> None:
    got = row(tmp_path, LABELLED[case])
    assert (got["kind"], got["label"], extra(got)) == ("unpaired", True, {})
    assert spoken(got["prompt"]) == [("user", "A?")]
    assert spoken(got["completion"]) == [("assistant", "4")]


def test_a_class_is_no_label(tmp_path: Path) -> None:
    for record in (
        {"messages": [user("A?"), model("4")], "label": "sports"},
        {"instruction": "A?", "input": "", "output": "4", "label": 1},
    ):
        assert row(tmp_path, record)["kind"] == "conversation"


def test_a_labelled_chat_ends_with_an_answer() -> None:
    with pytest.raises(BadRow, match="no_answer"):
        list(named("unpaired").read({"messages": [user("A?")], "label": True}))


REJECTED: dict[str, Row] = {  # ms-swift, custom data sets in its documentation
    "a text": {"messages": [user("A?"), model("4")], "rejected_response": "5"},
    "a conversation": {
        "messages": [user("A?"), model("4")],
        "rejected_messages": [user("A?"), model("5")],
    },
    "turns": {"messages": [user("A?"), model("4")], "rejected_response": [model("5")]},
    "query and response": {"query": "A?", "response": "4", "rejected_response": "5"},
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_rejected_response_makes_a_pair_of_a_chat(case: str, tmp_path: Path) -> None:
    got = row(tmp_path, REJECTED[case])
    assert spoken(got["prompt"]) == [("user", "A?")]
    assert spoken(got["chosen"]) == [("assistant", "4")]
    assert spoken(got["rejected"]) == [("assistant", "5")]
    assert extra(got) == {}


def test_a_rejected_conversation_answers_the_same_question() -> None:
    record = REJECTED["a conversation"] | {"rejected_messages": [user("B?"), model("5")]}
    with pytest.raises(BadRow, match="prompt_mismatch"):
        list(named("rejected_response").read(record))


def test_two_outputs_of_an_instruction_are_a_pair_with_its_input(tmp_path: Path) -> None:
    got = row(tmp_path, {"instruction": "Do.", "input": "X", "output": ["yes", "no"]})
    assert spoken(got["prompt"]) == [("user", "Do.\n\nX")]
    assert (got["chosen"][0]["content"], got["extra"]) == ("yes", None)


def test_both_labels_of_safe_rlhf_can_be_read(tmp_path: Path) -> None:
    record = {"prompt": "A?", "response_0": "x", "response_1": "y"}
    record |= {"better_response_id": 0, "safer_response_id": 1}
    assert row(tmp_path, record)["chosen"][0]["content"] == "x"
    safer = row(tmp_path, record, format="safe_rlhf_safety")
    assert (safer["chosen"][0]["content"], extra(safer)["better_response_id"]) == ("y", 0)


BATTLE = {"prompt": '["A?", "B?"]', "response_a": '["w", "x"]', "response_b": '["w", "y"]'}


def test_a_battle_of_several_turns_shares_what_both_were_asked() -> None:
    # lmsys/lmsys-arena-human-preference-55k, its card
    won = {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
    name = detect("here", [BATTLE | won])[0]
    [got] = named(name).read(BATTLE | won)
    assert spoken(got["prompt"]) == [("user", "A?"), ("assistant", "w"), ("user", "B?")]
    assert (spoken(got["chosen"]), got["extra"]) == ([("assistant", "y")], {"chosen_response": 2})


@pytest.mark.parametrize(
    "won",
    [
        *({"winner": "tie (bothbad)"}, {"winner": "both_bad"}),
        {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1},
    ],
)
def test_a_drawn_battle_prefers_nothing(won: Row) -> None:
    with pytest.raises(BadRow) as bad:
        list(named("arena_battles").read(BATTLE | won))
    assert bad.value.reason == "tie"


def test_equal_scores_prefer_nothing() -> None:
    record = {"question": {"full_text": "A?"}, "answer_0": "x", "answer_1": "y"}
    with pytest.raises(BadRow, match="tie"):
        list(named("webgpt").read(record | {"score_0": 0.0, "score_1": 0.0}))


def test_questions_of_one_prompt_that_need_answers_between_are_set_aside() -> None:
    with pytest.raises(BadRow, match="several_prompts"):  # MT-Bench, question.jsonl
        list(named("arena").read({"question_id": 81, "turns": ["Write.", "Rewrite it."]}))


ANSWERS: dict[str, tuple[Row, str, str, str]] = {
    # hendrycks/competition_math, its card
    "boxed": (
        {"problem": "Q?", "level": "5", "type": "A", "solution": r"So $\boxed{\frac{1}{2}}$."},
        *("Q?", r"\frac{1}{2}", "solution:boxed"),
    ),
    # arkilpatel/SVAMP SVAMP.json
    "svamp": (
        {"Body": "There are 2 cats.", "Question": "How many ears?", "Answer": 4.0},
        *("There are 2 cats. How many ears?", "4", "Answer"),
    ),
    # agentica-org/DeepScaleR-Preview-Dataset, its card
    "formula": (
        {"problem": "Q?", "answer": r"-\frac{2}{3}", "solution": "Some steps."},
        *("Q?", r"-\frac{2}{3}", "answer"),
    ),
    # ms-swift, GRPO
    "messages": ({"messages": [user("Q?")], "solution": "#### 7"}, "Q?", "7", "solution:####"),
    # OpenRLHF and slime: prompts with a label
    "label": ({"prompt": [user("Q?")], "label": "34"}, "Q?", "34", "label"),
    "prompt": ({"prompt": "Q?", "ground_truth": 7}, "Q?", "7", "ground_truth"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_question_with_a_checkable_answer_is_a_prompt(case: str, tmp_path: Path) -> None:
    record, question, answer, source = ANSWERS[case]
    got = row(tmp_path, record)
    assert spoken(got["messages"]) == [("user", question)]
    assert (got["answer"], got["answer_from"]) == (answer, source)


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Why?", "answer": "Because the sun warms the sea."},
        {"question": "Which?", "choices": ["a", "b"], "answer": 1},
        {"context": "A story.", "question": "How many?", "answer": "4"},
        {"question": "Which?", "A": "x", "B": "y", "options": ["x"], "answer": "2"},
    ],
)
def test_what_cannot_be_checked_or_asked_alone_is_refused(record: Row) -> None:
    with pytest.raises(DataError, match="no format fits"):
        detect("here", [record])


def test_rows_without_an_answer_beside_those_with_one_have_null(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    (tmp_path / "asks.jsonl").write_text('{"prompt": "Why?"}\n')
    ingest([str(tmp_path / "sums.jsonl"), str(tmp_path / "asks.jsonl")], tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "rows.parquet")
    assert table["answer"].to_list() == ["4", None]
    again, _ = read_rows(tmp_path / "out" / "rows.parquet")
    assert again["answer"].to_list() == ["4", None]


def test_rows_of_formats_without_answers_have_no_such_column(tmp_path: Path) -> None:
    assert "answer" not in row(tmp_path, {"prompt": "Why?"})


@pytest.mark.parametrize(
    "beside",
    [
        *({"answer": "4"}, {"gold_answer": "x"}, {"image": "a.png"}, {"file_name": "a.jpg"}),
        *({"question": "Q?"}, {"prompt": "P"}, {"summary": "short"}, {"url": "http://x/y.webp"}),
    ],
)
def test_a_text_with_its_answer_question_or_picture_is_no_document(beside: Row) -> None:
    assert detect("here", [{"text": "T", "title": "t", "label": 1}])[0] == "text"
    assert not named("text").matches({"text": "T", **beside})


ADVICE: list[tuple[Row, str]] = [
    ({"question": "Why?", "answer": "So it is."}, "--map question=prompt --map answer=completion"),
    ({"prompt": "Why?", "reply": "So."}, "--map reply=completion"),
    (
        {"post": "Why?", "better": "So it is.", "worse": "No."},
        "--map post=prompt --map better=chosen --map worse=rejected",
    ),
    (  # lvwerra/stack-exchange-paired
        {"question": "Why?", "response_j": "So.", "response_k": "No.", "qid": 1},
        "--map question=prompt --map response_j=chosen --map response_k=rejected",
    ),
    ({"full_text": "A story.", "template_id": 3}, "--map full_text=text"),
    (
        {"passage": "A story.", "question": "Is it?", "answer": "Yes, it is."},
        "--map question=instruction --map passage=input --map answer=output",
    ),
    ({"prompt": "Write a story.", "text": "Once."}, "--map text=completion"),
    ({"text": "Why?", "answer": "So it is."}, "--map text=prompt --map answer=completion"),
    ({"prompt": "Why?", "remark": "Google's IFEval", "kwargs": [{}]}, "--format prompt_only"),
    ({"text": "A cat.", "image": "cat.png"}, "--format text"),
]


@pytest.mark.parametrize(("record", "flags"), ADVICE)
def test_advice_names_keys_that_are_there_and_works(
    record: Row, flags: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        detect("here", [record])
    assert flags in str(error.value)
    mapping = dict(flag.split("=") for flag in flags.split() if "=" in flag)
    format = flags.removeprefix("--format ") if "--format" in flags else None
    if "image" not in record:
        assert row(tmp_path, record, mapping=mapping, format=format)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Why?", "answer_a": "So.", "answer_b": "No.", "verdict": "b"},
        {"question": "Which?", "choices": ["a", "b"], "answer": "the first of them"},
        {"query": "Why?", "text": "A passage."},
    ],
)
def test_no_renaming_is_advised_that_would_lose_a_part_of_the_question(record: Row) -> None:
    with pytest.raises(DataError, match="no format fits") as error:
        detect("here", [record])
    assert "=completion" not in str(error.value)


def test_keys_are_judged_by_their_words() -> None:
    assert could_answer("gold_answer", "x")
    assert not could_answer("answer_id", "x")
    assert not could_answer("response_length", 7)
    assert could_ask("utterance", "Go.")
    assert not could_ask("rejectedModel", "a b c d")
    assert is_picture("pixel_values", [1])
    assert not is_picture("imagery", "vivid")


CASES = Path(__file__).parents[2].parent / "shared" / "cases"


def case(name: str) -> Path:
    path = CASES / name / "rows.jsonl"
    if not path.exists():
        pytest.skip(f"{name} is not here (../shared/cases)")
    return path


def test_case_02_the_question_under_another_key_is_the_prompt() -> None:
    table, bad = read_rows(case("02-other-key-question-in-pairs"))
    assert (table.height, bad) == (6, [])
    assert spoken(table["prompt"][0].to_list()) == [
        ("system", "Answer in one line."),
        ("user", "How many wheels have 2 carts?"),
    ]
    assert spoken(table["chosen"][0].to_list()) == [("assistant", "They have 8 wheels.")]
    assert table["extra"].null_count() == 6


@pytest.mark.parametrize("format", [None, "preference"])
def test_case_04_the_conversation_beside_two_texts_is_the_prompt(format: str | None) -> None:
    table, bad = read_rows(case("04-hint-leads-to-wrong-reading"), format=format)
    assert (table.height, bad) == (6, [])
    prompts = [spoken(prompt) for prompt in table["prompt"].to_list()]
    assert prompts[5] == [("user", "What helps against cold 5?")]
    assert spoken(table["rejected"][5].to_list()) == [("assistant", "Go running, day 5.")]


def test_case_06_messages_with_a_label_are_unpaired() -> None:
    table, bad = read_rows(case("06-kto-messages-label"))
    assert (table["kind"].unique().to_list(), bad) == (["unpaired"], [])
    assert table["label"].to_list() == [True, False] * 4
    assert spoken(table["prompt"][0].to_list()) == [("user", "Is 0 even?")]
    assert spoken(table["completion"][1].to_list()) == [("assistant", "Yes.")]


def test_case_22_prompts_keep_what_a_reward_checks_them_by() -> None:
    table, bad = read_rows(case("22-prompt-list-with-checker-fields"))
    assert (table["answer"].to_list(), bad) == (["1", "2", "3", "4", "5"], [])
    assert spoken(table["messages"][0].to_list()) == [("user", "What is 0+1?")]
    assert table["answer_from"].unique().to_list() == ["reward_model.ground_truth"]
