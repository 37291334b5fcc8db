"""What leaves a run: each trainer's layout, without the answer in a prompt, in every container."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from siftune.curate import exports
from siftune.curate.cli import curate
from siftune.curate.core.errors import UsageError
from siftune.curate.core.markdown import escaped
from siftune.curate.core.registry import build, names, source_of
from siftune.curate.core.types import Row
from siftune.curate.export_files.training_records import FITS, SHAPES, prompt_of
from siftune.curate.export_files.write import export
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse

CALL = {"id": "c1", "type": "function", "function": {"name": "temp", "arguments": '{"of": "Oslo"}'}}
TOOL = {"name": "temp", "parameters": {"type": "object", "properties": {"of": {"type": "string"}}}}
WRAPPED = {"type": "function", "function": TOOL}


def turns(*said: str) -> list[Row]:
    """User and assistant in turn; a text that begins with ``S:`` is the system's."""
    system = [{"role": "system", "content": said[0]}] if said[0].startswith("S:") else []
    rest = said[len(system) :]
    roles = ("user", "assistant")
    return [*system, *({"role": roles[at % 2], "content": t} for at, t in enumerate(rest))]


CHATS: list[Row] = [
    {"messages": turns("Q1?", "ANSWER1"), "topic": "sums"},
    {"messages": turns("S: short", "Q2?", "first", "Q3?", "ANSWER2"), "topic": 7},
]
TOOLED: Row = {
    "messages": [
        {"role": "user", "content": "How warm?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "RESULT", "tool_call_id": "c1"},
        {"role": "assistant", "content": "ANSWER"},
    ],
    "tools": [TOOL],
}
PAIRS: list[Row] = [
    {
        "prompt": turns(*prompt),
        "chosen": [{"role": "assistant", "content": f"GOOD{at}"}],
        "rejected": [{"role": "assistant", "content": f"BAD{at}"}],
        "score_chosen": 1.0 + at,
    }
    for at, prompt in enumerate([("P1?",), ("S: short", "P2?", "first", "P3?")])
]
RANKED: list[Row] = [
    {"prompt": "P1?", "completions": ["BAD", "GOOD", "middle"], "scores": [0.0, 2.0, 1.0]},
    {"prompt": "P2?", "completions": ["one", "two"], "scores": [1.0, 1.0]},
]
KINDS: dict[str, list[Row]] = {
    "conversation": CHATS,
    "preference": PAIRS,
    "ranked": RANKED[:1],
    "unpaired": [
        {"prompt": "P1?", "completion": "GOOD", "label": True},
        {"prompt": turns("P1?", "x", "P2?"), "completion": turns("", "BAD")[1:], "label": False},
    ],
    "text": [{"text": "a document"}, {"text": "another"}],
}
ANSWERS = ("ANSWER", "RESULT", "GOOD", "BAD", "middle")


def finished(folder: Path, rows: Sequence[Row], *stages: Row, name: str = "rows") -> Path:
    source = folder / f"{name}.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    raw = {"name": name, "source": [str(source)], "stages": [*stages]}
    run(parse(raw), folder / "run")
    return folder / "run"


def lines(folder: Path) -> list[Row]:
    return [orjson.loads(line) for line in (folder / "train.jsonl").read_bytes().splitlines()]


def written(folder: Path) -> list[Row]:
    """The rows of an export, in either kind of file."""
    if (folder / "train.jsonl").is_file():
        return lines(folder)
    rows: list[Row] = pq.read_table(folder / "train.parquet").to_pylist()
    return rows


def exported(folder: Path, rows: Sequence[Row], layout: str, **options: Any) -> list[Row]:
    export(finished(folder, rows), folder / "out", layout, **options)
    return written(folder / "out")


PROMPTS = {"prompt", "instruction", "history", "system", "data_source", "extra_info", "query"}
BESIDE = {"solution", "label", "reward_model"}
"""Columns of prompts that hold the reference answer, and are no part of what a model is shown."""

LAYOUTS = {name: build("curate.exports", name, {}) for name in names("curate.exports")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind of rows."""
    return {kind: finished(tmp_path_factory.mktemp(kind), rows) for kind, rows in KINDS.items()}


def test_every_layout_is_tried_with_all_that_it_takes() -> None:
    assert {"trl", "llamafactory", "axolotl", "ms_swift", "openrlhf", "verl"} <= set(LAYOUTS)
    fits = {shape for kind in KINDS for shape in FITS[kind]}  # type: ignore[index]
    assert fits == set(SHAPES)
    assert all(set(layout.shapes) <= fits for layout in LAYOUTS.values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_export_has_one_schema_and_no_answer_in_a_prompt(
    layout: str, kind: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    made = LAYOUTS[layout]
    for shape in FITS[kind]:  # type: ignore[index]
        if shape not in made.shapes:
            continue
        for container in {*made.containers} - {"datasets"}:
            out = tmp_path / shape / container
            export(runs[kind], out, layout, container, shape)
            rows = written(out)
            assert len({tuple(row) for row in rows}) == 1
            for column in rows[0]:
                assert len({type(row[column]) for row in rows} - {type(None)}) <= 1, column
            shown = {*PROMPTS, "messages"} if shape == "prompt_only" else PROMPTS
            assert not leaks(rows, shown), shape


def leaks(rows: Sequence[Row], shown: set[str]) -> bool:
    """Whether an answer is in a column that a model is shown."""
    asked = [{key: row[key] for key in row if key in shown - BESIDE} for row in rows]
    return any(answer in json.dumps(asked) for answer in ANSWERS)


RAW = [
    (name, kind)
    for name in names("curate.formats")
    for kind in KINDS
    if build("curate.formats", name, {}).kind == kind and not name.startswith("oasst")
]
"""Raw formats that the rows fit; a tree of OASST has its answers below its prompt by design."""


@pytest.mark.parametrize(("name", "kind"), RAW)
def test_no_raw_format_writes_an_answer_into_a_prompt(
    name: str, kind: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    try:
        export(runs[kind], tmp_path, name)
    except UsageError as refused:
        pytest.skip(f"{name} wants more than these rows have: {refused}")
    assert not leaks(written(tmp_path), PROMPTS)


# What conversations leave as.


def test_single_and_multi_turn_pairs_leave_as_lists_of_turns(tmp_path: Path) -> None:
    plain = {"prompt": "P0?", "chosen": "GOOD", "rejected": "BAD"}
    rows = exported(tmp_path, [plain, *PAIRS], "trl")
    assert [row["prompt"] for row in rows] == [turns("P0?"), *(pair["prompt"] for pair in PAIRS)]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "GOOD"}]
    assert rows[0].keys() == {"prompt", "chosen", "rejected"}


def test_a_prompt_ends_before_the_answer_and_the_calls_that_led_to_it(tmp_path: Path) -> None:
    rows = exported(tmp_path, [*CHATS, TOOLED], "prompt_only")
    assert [row["prompt"] for row in rows] == [
        turns("Q1?"),
        turns("S: short", "Q2?", "first", "Q3?"),
        turns("How warm?"),
    ]
    assert rows[2]["tools"] == [WRAPPED]


def test_a_conversation_that_waits_for_an_answer_is_a_prompt_as_a_whole() -> None:
    waiting = turns("Q1?", "A1", "Q2?")
    assert prompt_of(waiting) == waiting
    called = [*TOOLED["messages"][:3]]
    assert prompt_of(called) == called
    assert prompt_of(turns("Q1?", "A1")) == turns("Q1?")


def test_rows_without_any_answer_leave_as_prompts_by_themselves(tmp_path: Path) -> None:
    assert exported(tmp_path, [{"prompt": "Q1?"}, {"prompt": "Q2?"}], "trl") == [
        {"prompt": turns("Q1?")},
        {"prompt": turns("Q2?")},
    ]


def test_a_pair_leaves_as_its_chosen_side_as_two_answers_and_as_a_prompt(tmp_path: Path) -> None:
    made = finished(tmp_path, PAIRS[:1])
    asked, good, bad = turns("P1?"), PAIRS[0]["chosen"], PAIRS[0]["rejected"]
    expected: dict[str, list[Row]] = {
        "messages": [{"messages": [*asked, *good]}],
        "prompt_completion": [{"prompt": asked, "completion": good}],
        "unpaired": [
            {"prompt": asked, "completion": good, "label": True},
            {"prompt": asked, "completion": bad, "label": False},
        ],
        "prompt_only": [{"prompt": asked}],
    }
    for shape, rows in expected.items():
        for at, options in enumerate(({"layout": shape}, {"shape": shape})):
            out = tmp_path / f"{shape}{at}"
            export(made, out, **options)
            assert lines(out) == rows


def test_of_labelled_answers_only_the_good_ones_leave_as_messages(tmp_path: Path) -> None:
    made = finished(tmp_path, KINDS["unpaired"])
    done = export(made, tmp_path / "out", "messages")
    assert lines(tmp_path / "out") == [{"messages": turns("P1?", "GOOD")}]
    assert [row.why for row in done.left_out] == ["bad_answer: the answer is labelled false"]


def test_a_ranked_list_leaves_as_best_against_worst_and_a_tie_is_left_out(tmp_path: Path) -> None:
    done = export(finished(tmp_path, RANKED), tmp_path / "out")
    [row] = lines(tmp_path / "out")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("GOOD", "BAD")
    assert [one.why[:7] for one in done.left_out] == ["no_pair"]


# Columns.


def test_an_export_holds_what_the_layout_names_and_the_columns_asked_for(tmp_path: Path) -> None:
    made = finished(tmp_path, CHATS, {"score": "length"})
    export(made, tmp_path / "bare")
    assert {tuple(row) for row in lines(tmp_path / "bare")} == {("messages",)}
    export(made, tmp_path / "more", columns=["source", "length_words", "topic"])
    rows = lines(tmp_path / "more")
    assert [list(row) for row in rows] == [["messages", "source", "length_words", "topic"]] * 2
    assert [row["source"] for row in rows] == ["rows", "rows"]
    assert [row["topic"] for row in rows] == ["sums", "7"]  # one type for the column
    assert [row["length_words"] for row in rows] == [1, 1]


def test_the_input_of_alpaca_is_written_once(tmp_path: Path) -> None:
    record = {"instruction": "Add.", "input": "2 and 2", "output": "4"}
    made = finished(tmp_path, [record, {"instruction": "Hi", "input": "", "output": "Hello"}])
    export(made, tmp_path / "messages")
    assert lines(tmp_path / "messages")[0] == {"messages": turns("Add.\n\n2 and 2", "4")}
    export(made, tmp_path / "alpaca", "alpaca")
    assert lines(tmp_path / "alpaca")[0] == record


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": ["lenght"]}, "no column 'lenght'"),
        ({"columns": ["messages"]}, "has a column of that name itself"),
        ({"layout": "lama-factory"}, "did you mean llamafactory"),
        ({"layout": "hh_rlhf"}, "these do: "),
        ({"shape": "preference"}, "conversation rows do not fit preference"),
        ({"shape": "pairs"}, "--as: expected one of messages"),
        ({"layout": "alpaca", "shape": "messages"}, "raw format: omit it"),
        ({"layout": "messages", "shape": "prompt_only"}, "omit one"),
        ({"layout": "verl", "to": "jsonl"}, "is read from parquet, not jsonl"),
        ({"layout": "openrlhf", "shape": "text"}, "rows do not fit text"),
        ({"to": "csv"}, "--to: expected one of"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(
    options: Row, words: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        export(runs["conversation"], tmp_path / "out", **options)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_layout_without_a_place_for_pairs_names_what_it_takes(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="verl has no layout for preference: try --as messages"):
        export(runs["preference"], tmp_path / "out", "verl")


@pytest.mark.parametrize("name", ["LLaMA-Factory", "ms-swift", "OpenRLHF", "Axolotl"])
def test_layouts_are_found_by_the_names_people_write(
    name: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    assert export(runs["conversation"], tmp_path / "out", name).rows == 2


# Tools and weights, each layout in its own way.


def test_tools_leave_in_each_layout_s_own_way_or_the_row_is_left_out(tmp_path: Path) -> None:
    made = finished(tmp_path, [TOOLED, CHATS[0]])
    found, left = {}, {}
    for layout in LAYOUTS:
        done = export(made, tmp_path / layout, layout)
        left[layout] = [row.why for row in done.left_out]
        if not left[layout]:
            found[layout] = lines(tmp_path / layout)[0]
    arguments = {"name": "temp", "arguments": {"of": "Oslo"}}
    assert found["trl"]["messages"][1]["tool_calls"][0]["function"] == arguments
    assert found["trl"]["tools"] == [WRAPPED]
    assert json.loads(found["axolotl"]["tools"]) == [WRAPPED]
    conversations = found["llamafactory"]["conversations"]
    assert [turn["from"] for turn in conversations] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]
    assert json.loads(conversations[1]["value"]) == arguments
    assert json.loads(found["llamafactory"]["tools"]) == [TOOL]
    swift = found["ms_swift"]["messages"]
    assert [turn["role"] for turn in swift] == ["user", "tool_call", "tool_response", "assistant"]
    assert json.loads(swift[1]["content"]) == arguments
    assert json.loads(found["ms_swift"]["tools"]) == [WRAPPED]
    assert left["openrlhf"] == ["no_place: OpenRLHF has no place for the tools of a row"]
    assert left["verl"] == ["no_place: verl has no place for the tools of a row"]


def test_results_are_in_the_order_of_the_calls_where_places_count(tmp_path: Path) -> None:
    calls = [{"id": i, "type": "function", "function": {"name": i, "arguments": {}}} for i in "ab"]
    results = [{"role": "tool", "content": f"of {i}", "tool_call_id": i} for i in "ba"]
    row = {
        "messages": [
            {"role": "user", "content": "both"},
            {"role": "assistant", "content": "", "tool_calls": calls},
            *results,
            {"role": "assistant", "content": "done"},
        ]
    }
    made = finished(tmp_path, [row])
    export(made, tmp_path / "swift", "ms_swift")
    [swift] = lines(tmp_path / "swift")
    assert [turn["content"] for turn in swift["messages"][3:5]] == ["of a", "of b"]
    export(made, tmp_path / "lf", "llamafactory")
    [factory] = lines(tmp_path / "lf")
    assert factory["conversations"][2]["value"] == ("of a\n</tool_response>\n<tool_response>\nof b")


def test_a_turn_of_weight_0_is_masked_or_its_row_is_left_out(tmp_path: Path) -> None:
    said = turns("Q1?", "wrong", "Q2?", "right")
    said[1]["weight"] = 0
    made = finished(tmp_path, [{"messages": said}, CHATS[0]])
    export(made, tmp_path / "a", "axolotl")
    assert [turn.get("train") for turn in lines(tmp_path / "a")[0]["messages"]] == [
        None,
        False,
        None,
        True,
    ]
    export(made, tmp_path / "s", "ms_swift")
    assert lines(tmp_path / "s")[0]["messages"][1]["loss"] is False
    for layout in ("llamafactory", "openrlhf", "verl", "alpaca"):
        done = export(made, tmp_path / layout, layout)
        assert [row.id for row in done.left_out] == ["rows:1"], layout


def test_reasoning_reaches_the_template_or_begins_the_answer(tmp_path: Path) -> None:
    said = turns("Q1?", "four")
    said[1]["reasoning"] = "2+2"
    made = finished(tmp_path, [{"messages": said}])
    for layout, expected in (
        ("trl", {"content": "four", "reasoning_content": "2+2"}),
        ("ms_swift", {"content": "<think>\n2+2\n</think>\n\nfour"}),
    ):
        export(made, tmp_path / layout, layout)
        assert lines(tmp_path / layout)[0]["messages"][1] == {"role": "assistant"} | expected


# Files beside.


def test_help_lists_every_layout() -> None:
    shown = CliRunner().invoke(curate, ["export", "--help"], env={"COLUMNS": "200"})
    assert not [name for name in LAYOUTS if f"{name}:" not in shown.output]


def test_a_new_layout_is_a_new_file(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = source_of("curate.exports", "trl").read_text().replace("class TRL", "class Mine")
    (tmp_path / "mine.py").write_text(text.replace('__all__ = ["TRL"]', '__all__ = ["Mine"]'))
    monkeypatch.setattr(exports, "__path__", [*exports.__path__, str(tmp_path)])
    names.cache_clear()
    try:
        assert export(runs["preference"], tmp_path / "out", "mine", columns=["source"]).rows == 2
    finally:
        names.cache_clear()


def test_llamafactory_finds_the_data_by_dataset_info(tmp_path: Path) -> None:
    for rows, kind in ((PAIRS, "preference"), (CHATS, "messages")):
        folder = tmp_path / kind
        folder.mkdir()
        [first, *_] = exported(folder, rows, "llamafactory")
        [entry] = json.loads((folder / "out/dataset_info.json").read_text()).values()
        assert (folder / "out" / entry["file_name"]).is_file()
        assert entry["formatting"] == "sharegpt"
        assert entry.get("ranking", False) is (kind == "preference")
        assert set(entry["columns"].values()) == set(first)


def test_axolotl_has_the_lines_of_its_configuration(tmp_path: Path) -> None:
    exported(tmp_path, PAIRS, "axolotl")
    config = yaml.safe_load((tmp_path / "out/axolotl.yaml").read_text())
    assert config["rl"] == "dpo"
    assert config["datasets"] == [
        {"path": "train.jsonl", "ds_type": "json", "type": "chat_template.default"}
    ]


def test_verl_has_a_source_and_a_reference_answer_beside_the_prompt(tmp_path: Path) -> None:
    record = {"prompt": "2+2?", "answer": "4"}
    rows = exported(tmp_path, [*CHATS, {"messages": turns("Q?")}], "verl", shape="prompt_only")
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["ANSWER1", "ANSWER2", ""]
    assert [row["data_source"] for row in rows] == ["rows"] * 3
    assert [row["extra_info"]["index"] for row in rows] == [1, 2, 3]
    folder = tmp_path / "known"
    folder.mkdir()
    raw = {"name": "k", "source": [str(folder / "k.jsonl")], "format": "prompt_only", "stages": []}
    (folder / "k.jsonl").write_bytes(orjson.dumps(record) + b"\n")
    run(parse(raw), folder / "run")
    export(folder / "run", folder / "out", "verl")
    [row] = pq.read_table(folder / "out/train.parquet").to_pylist()
    assert row["reward_model"]["ground_truth"] == "4"


# Containers.


def test_rows_whose_values_differ_in_type_go_into_every_container(tmp_path: Path) -> None:
    rows = [
        *CHATS,
        TOOLED,
        {"messages": [*turns("Q1?"), {"role": "assistant", "content": "A", "weight": 0.5}]},
        {"messages": turns("Q1?", "A"), "topic": {"deep": [1, "x", None, 2**70]}, "n": "x"},
        {"messages": turns("Q1?", "A"), "topic": [], "n": 1.5},
    ]
    made = finished(tmp_path, rows)
    for container in ("jsonl", "parquet", "datasets"):
        done = export(made, tmp_path / container, "trl", container, columns=["topic", "n"])
        assert done.rows == 6
    from datasets import load_from_disk

    saved = load_from_disk(str(tmp_path / "datasets"))
    table = pq.read_table(tmp_path / "parquet/train.parquet").to_pylist()
    assert saved.to_list() == table
    assert table[2]["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"of":"Oslo"}'
    assert json.loads(table[4]["topic"]) == {"deep": [1, "x", None, 2**70]}
    assert [row["n"] for row in table[4:]] == ["x", "1.5"]


@pytest.mark.parametrize("container", ["jsonl", "parquet", "datasets"])
def test_the_same_run_is_exported_to_the_same_bytes(
    container: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    for out in ("one", "two"):
        export(runs["conversation"], tmp_path / out, "trl", container)
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}
        for out in ("one", "two")
    ]
    assert files[0] == files[1]


def test_a_run_that_kept_nothing_is_exported_as_no_rows(tmp_path: Path) -> None:
    stage = {"select": "threshold", "by": "length_words", "min": 99}
    made = finished(tmp_path, CHATS, {"score": "length"}, stage)
    for container in ("jsonl", "parquet", "datasets"):
        assert export(made, tmp_path / container, "trl", container).rows == 0


# The card.


def test_the_card_counts_each_source_and_takes_no_name_for_markup(tmp_path: Path) -> None:
    odd = "<img src=x>*|`[a](b)"
    sources = []
    for name, rows in ((odd, [*CHATS, CHATS[0]]), ("plain", [TOOLED])):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n{broken\n")
        sources.append(str(path))
    raw = {"name": "<b>x</b>", "source": sources, "stages": [{"select": "exact_dedup"}]}
    raw["name"] = "a<b>x"
    run(parse(raw), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out", "openrlhf")
    card = (tmp_path / "out/README.md").read_text()
    assert "<img" not in card
    assert "<b>" not in card
    assert f"| {escaped(odd)} | 4 | 1 | 1 | 0 | 2 |" in card
    assert "| plain | 2 | 0 | 1 | 1 | 0 |" in card
    assert "| no\\_place: OpenRLHF" in card or "| no_place: OpenRLHF" in card


@pytest.mark.parametrize("layout", ["trl", "llamafactory"])
def test_the_part_that_a_split_set_aside_leaves_as_the_kept_rows_do(
    layout: str, tmp_path: Path
) -> None:
    rows: list[Row] = [{"messages": turns(f"Q{at}?", f"A{at}")} for at in range(40)]
    folder = finished(tmp_path, rows, {"select": "split", "test_share": 0.3}, name="mix")
    whole = {}
    for part in ("kept", "test"):
        export(folder / f"{part}.parquet", tmp_path / part, layout)
        split = "train" if part == "kept" else "test"
        whole[part] = (tmp_path / part / f"{split}.jsonl").read_bytes().splitlines()
    assert whole["test"]
    assert len({*whole["kept"], *whole["test"]}) == 40
    count = len(whole["test"])
    card = (tmp_path / "test/README.md").read_text()
    assert f"the {count} rows of test.parquet, the part that was set aside" in card
    assert "| source | rows | not in this part |" in card
    assert f"| mix | 40 | {40 - count} | 0 | 0 | {count} |" in card
    assert "```text" not in card  # no command that trains on it
    if layout == "llamafactory":
        info = orjson.loads((tmp_path / "test/dataset_info.json").read_bytes())
        assert info["mix-test"]["file_name"] == "test.jsonl"


def test_what_is_no_run_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = finished(tmp_path, CHATS, {"select": "split"})
    wrong = {
        folder / "ledger.parquet": f"holds no rows .* name the run folder, or {folder}/kept",
        tmp_path
        / "rows.jsonl": "is a file, not a run folder: .*siftune curate ingest .*rows.jsonl",
        tmp_path / "none": "none: no such run folder",
        tmp_path: "is not a finished run",
    }
    for path, words in wrong.items():
        with pytest.raises(UsageError, match=words):
            export(path, tmp_path / "out")
    done = CliRunner().invoke(curate, ["explain", str(folder / "test.parquet"), "rows:1"])
    assert f"is a file of a run: name the run folder, {folder}" in str(done.exception)


def test_names_are_shown_as_they_are_and_never_as_markup() -> None:
    assert escaped("my_file-2.jsonl") == "my_file-2.jsonl"
    assert escaped("a\n# b") == "a \\# b"
    assert escaped("- x") == "\\- x"
    assert escaped("1. x") == "1\\. x"
    assert escaped("http://x") == "http:&#47;/x"
