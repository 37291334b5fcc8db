"""A user's own function, class or object is a component, and its mistakes are one line."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
import torch
from click.testing import CliRunner

from siftune.curate.cli import curate as command
from siftune.curate.core import registry
from siftune.curate.core.custom import component, name_and_options
from siftune.curate.core.errors import BadRow, UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.runners.plan import plan
from siftune.curate.runs.recipe import parse

SCORERS = '''"""Scorers of a user."""
from dataclasses import dataclass
from typing import ClassVar
import polars as pl

def letters(response: str, times: int = 1) -> int:
    """Letters of the response."""
    return times * len(response)

def shouting(batch):
    return batch["response"].str.count_matches("!")

@dataclass(frozen=True)
class Marks:
    """How often a mark stands in a response."""
    mark: str
    needs: ClassVar = ("messages",)
    adds: ClassVar = {"marks": pl.Int64}

    def __call__(self, batch):
        return pl.DataFrame({"marks": [self.mark.count("!")] * batch.height})

class Plain:
    needs = ("messages",)
    adds = {"plain": pl.Float64}

    def __init__(self, value: float = 2.0):
        self.value = value

    def __call__(self, batch):
        return pl.DataFrame({"plain": [self.value] * batch.height})

class Idle:
    """Does nothing."""

def clash(response, sides="both"):
    return 1.0
'''


def chats() -> pl.DataFrame:
    said = [[turn("user", "Hey"), turn("assistant", answer)] for answer in ("Hello!", "No!!")]
    return pl.DataFrame({"messages": [*said, [turn("user", "Hm")]]}, schema={"messages": TURNS})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SCORERS)
    return path


def test_functions_and_classes_of_a_file_are_scorers(file: Path) -> None:
    made = {
        "letters": {"times": 2},
        "shouting": {},
        "Marks": {"mark": "!!"},
        "Plain": {"value": 3},
    }
    scores = {
        name: component("curate.scorers", f"{file}:{name}", given)(chats()).to_series().to_list()
        for name, given in made.items()
    }
    assert scores == {
        "letters": [12, 8, None],
        "shouting": [1.0, 2.0, None],
        "Marks": [2, 2, 2],
        "Plain": [3.0, 3.0, 3.0],
    }


def test_options_of_a_file_are_checked_like_ours(file: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.py:letters has no option 'time'; did you mean"):
        registry.build("curate.scorers", f"{file}:letters", {"time": 2})
    with pytest.raises(UsageError, match=r"letters: times: .*valid integer.*got 'two'"):
        registry.build("curate.scorers", f"{file}:letters", {"times": "two"})
    with pytest.raises(UsageError, match="needs the option 'mark'"):
        registry.build("curate.scorers", f"{file}:Marks", {})


def test_an_object_of_python_is_a_component() -> None:
    @dataclass(frozen=True)
    class Fixed:
        value: int = 1
        needs: ClassVar = ("messages",)
        adds: ClassVar = {"fixed": pl.Int64}

        def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
            return pl.DataFrame({"fixed": [self.value] * batch.height})

    one = Fixed(4)
    assert component("curate.scorers", one) is one
    assert component("curate.scorers", Fixed, {"value": 3})(chats())["fixed"].to_list() == [3] * 3
    name, options = name_and_options(one)
    again = registry.build("curate.scorers", name, options)
    assert again(chats())["fixed"].to_list() == [4] * 3
    assert component("curate.scorers", "length").adds  # one of ours, by its name


class Letters:
    """A scorer whose objects are called with a text."""

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def __call__(self, response: str) -> int:
        return self.times * len(response)


def test_a_class_is_what_its_objects_are() -> None:
    both = [
        component("curate.scorers", Letters(2)),
        component("curate.scorers", Letters, {"times": 2}),
    ]
    for made in both:
        assert made(chats())["Letters"].to_list() == [12, 8, None]
        assert made.adds == {"Letters": pl.Int64}
    with pytest.raises(UsageError, match="has no option 'time'; did you mean times"):
        component("curate.scorers", Letters, {"time": 2})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "adds = 'c'",
            r"its `adds` are 'c'; expected a type for each column, such as {\"name\": fl",
        ),
        ("adds = {'c': 'float'}", "its `adds` are {'c': 'float'}; expected a type for each column"),
        ("adds = {'c': float}; needs = 'messages'", "its `needs` are 'messages'; expected names"),
        ("adds = property(lambda self: ['c'])", r"its `adds` are \['c'\]; expected a type"),
        ("adds = {'c': float}; __init__ = lambda self: 1 / 0", "line 3: ZeroDivisionError: divi"),
    ],
)
def test_what_a_class_declares_is_checked(tmp_path: Path, body: str, told: str) -> None:
    call = "    def __call__(self, frame): return [1.0] * len(frame)\n"
    (tmp_path / "own.py").write_text(f"class C:\n    needs = ('messages',)\n    {body}\n{call}")
    with pytest.raises(UsageError, match=told) as caught:
        registry.build("curate.scorers", f"{tmp_path}/own.py:C", {})
    assert "\n" not in str(caught.value)


def test_an_annotation_that_only_checkers_can_resolve_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import TYPE_CHECKING, ClassVar\n"
        "if TYPE_CHECKING:\n    from nowhere import Thing\n"
        "def f(response: str, n: int, thing: Thing = None) -> str: return repr((n, thing))\n"
        "@dataclass(frozen=True)\nclass D:\n    n: int\n    thing: Thing = None\n"
        "    needs: ClassVar = ('messages',)\n    adds: ClassVar = {'D': str}\n"
        "    def __call__(self, frame): return [repr((self.n, self.thing))] * len(frame)\n"
    )
    for name in ("f", "D"):
        made = registry.build("curate.scorers", f"{tmp_path}/own.py:{name}", {"n": "5"})
        assert made(chats())[name][0] == "(5, None)"
        with pytest.raises(UsageError, match="n: Input should be a valid integer"):
            registry.build("curate.scorers", f"{tmp_path}/own.py:{name}", {"n": "x"})


def test_two_functions_of_one_name_are_two() -> None:
    def one(value: int) -> Any:
        return lambda table: table["n"] > value

    names = [name_and_options(one(value))[0] for value in (1, 2)]
    table = pl.DataFrame({"n": [1, 2, 3]})
    kept = [registry.build("curate.selectors", name, {})(table)["keep"].sum() for name in names]
    assert kept == [2, 1]


def test_a_rule_may_be_a_mask_an_expression_a_list_or_a_frame() -> None:
    table = pl.DataFrame({"n": [1, None, 3]})
    rules = {
        "mask": lambda t: t["n"] > 2,
        "expression": lambda t: pl.col("n") > 2,
        "listed": lambda t: [False, None, True],
    }
    for name, rule in rules.items():
        decided = component("curate.selectors", rule)(table)
        assert decided["keep"].to_list() == [False, False, True], name
        assert decided["reason"].to_list() == ["not_lambda", "not_scored", "passed"]

    def whole(t: pl.DataFrame) -> pl.DataFrame:
        return t.select(keep=pl.col("n").fill_null(0) > 2, reason=pl.lit("too_small"))

    decided = component("curate.selectors", whole)(table)
    assert decided["reason"].to_list() == ["too_small"] * 3
    assert decided["detail"].null_count() == 3


def test_a_rule_of_texts_is_called_row_by_row() -> None:
    def short(response: str, most: int = 5) -> bool:
        return len(response) <= most

    rows = chats().with_columns(kind=pl.lit("conversation"))
    decided = component("curate.selectors", short)(rows)
    assert decided["reason"].to_list() == ["not_short", "passed", "not_scored"]


def half(batch: pl.DataFrame) -> int:
    return [1, 0.5, None]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        (lambda batch: [1.0], "expected a score for each of the 3 rows, got 1"),
        (lambda batch: None, "expected a score for each of the 3 rows, got NoneType"),
        (lambda batch: ["a", "b", "c"], "expected numbers in .*, got String; annotate"),
        (lambda batch: batch["ifd"], r"\"ifd\" not found; it is given messages, prompt, response"),
        (lambda batch: 1 / 0, r"test_custom\.py:lambda.*: line \d+: ZeroDivisionError: division"),
        (half, r"expected whole numbers in 'half', got 0\.5; annotate .*`-> float`"),
        (lambda batch: batch.select("response"), "expected a frame of 3 rows with lambda"),
    ],
)
def test_a_wrong_answer_of_a_scorer_is_one_line(scorer: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        component("curate.scorers", scorer)(chats())
    assert "\n" not in str(caught.value)


def kept(*details: str) -> pl.DataFrame:
    return pl.DataFrame({"keep": [True] * 3, "detail": [None, details[0], details[-1]]})


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (lambda table: [True], "expected true or false for each of the 3 rows, got 1"),
        (lambda table: [1, 2, 3], "expected true or false for each row, got Int64"),
        (lambda table: pl.DataFrame({"reason": ["a"] * 3}), "with keep, got 3 rows with reason"),
        (lambda table: pl.DataFrame({"keep": [True, None, None]}), "2 rows have no `keep`"),
        (lambda table: kept("no json"), "expected JSON objects in 'detail', got 'no json'"),
        (lambda table: kept('{"a": 1}', "[1]"), r"expected JSON objects in 'detail', got '\[1\]'"),
    ],
)
def test_a_wrong_answer_of_a_rule_is_one_line(rule: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        component("curate.selectors", rule)(chats())


def test_tensors_are_numbers_with_a_gradient_or_not() -> None:
    weights = torch.ones(3, requires_grad=True)
    assert component("curate.scorers", lambda batch: 2 * weights)(chats()).to_series().sum() == 6

    def one(response: str) -> torch.Tensor:
        return weights[0] * len(response)

    assert component("curate.scorers", one)(chats())["one"].to_list() == [6, 4, None]


def test_a_file_that_cannot_be_used_is_named_with_its_line(file: Path, tmp_path: Path) -> None:
    wrong = {
        f"{tmp_path}/none.py:a": "there is no file",
        str(file): rf"name what is meant, as {file}:NAME; there are: letters, shouting, Marks",
        f"{file}:leters": r"mine\.py has no 'leters'; did you mean letters\?",
        f"{file}:Idle": "the class has no 'needs', which its group needs",
        f"{file}:clash": "its parameter 'sides' is called as an option that every stage has",
        f"{file}:SCORERS": "has no 'SCORERS'",
    }
    for text, told in (
        ("def f(:\n", "line 1: invalid syntax"),
        ("x = 1\nimport no_such_module\n", "line 2: ModuleNotFoundError: .* looked for in what is"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
        ("f = 3\n", "expected a function or a class, got 3"),
    ):
        path = tmp_path / f"broken{len(wrong)}.py"
        path.write_text(text)
        wrong[f"{path}:f"] = told
    for name, told in wrong.items():
        with pytest.raises(UsageError, match=told) as caught:
            registry.find("curate.scorers", name)
        assert "\n" not in str(caught.value)


def test_a_changed_file_is_read_again(file: Path) -> None:
    name = f"{file}:letters"
    assert registry.build("curate.scorers", name, {})(chats())["letters"][0] == 6
    file.write_text(SCORERS.replace("times * len(response)", "-times"))
    assert registry.build("curate.scorers", name, {})(chats())["letters"][0] == -1


@pytest.mark.parametrize("inits", [[], ["inner"], ["", "inner"]])
def test_a_file_of_a_package_imports_by_relative_names(inits: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "lib" / "inner"
    folder.mkdir(parents=True)
    for one in inits:
        (tmp_path / "lib" / one / "__init__.py").write_text("from . import packed\n" * bool(one))
    (tmp_path / "lib" / "far.py").write_text("K = 3\n")
    code = folder / "packed.py"
    far = "..far" if "" in inits else ".near"
    code.write_text(
        f"from .near import K\nfrom {far} import K as FAR\n"
        "def size(response: str) -> int:\n    return 10 * FAR + K\n"
    )
    for number in (1, 2):
        (folder / "near.py").write_text(f"K = {number}\n" + "#" * number)
        score = component("curate.scorers", f"{code}:size")._function("")
        assert score == (30 + number if "" in inits else 11 * number)
    code.write_text("from .absent import K\n")
    with pytest.raises(UsageError, match=r"packed.py: line 1: ModuleNotFoundError"):
        component("curate.scorers", f"{code}:size")
    assert "near" not in sys.modules


def test_modules_beside_the_file_may_be_imported_and_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("FACTOR = 7\n")
    (tmp_path / "polars.py").write_text("raise RuntimeError\n")
    path = tmp_path / "user.py"
    path.write_text(
        "import polars\nfrom beside_it import FACTOR\ndef seven(response: str) -> int:\n"
        "    return FACTOR\n"
    )
    made = component("curate.scorers", f"{path}:seven")
    assert made(chats())["seven"].to_list() == [7, 7, None]


def test_each_file_has_the_modules_of_its_own_folder_as_they_are_now(tmp_path: Path) -> None:
    def score(name: str, value: int) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "shared_name.py").write_text(f"VALUE = {value}\n")
        user = "from shared_name import VALUE\ndef fixed(response):\n    return VALUE\n"
        (folder / "user.py").write_text(user)
        return component("curate.scorers", f"{folder}/user.py:fixed")(chats())["fixed"][0]

    assert [score("a", 1), score("b", 2), score("a", 3)] == [1, 2, 3]


def test_two_files_have_their_own_packages_of_one_name_as_they_are_now(tmp_path: Path) -> None:
    """Also where one is imported when the function is called."""
    user = """from pk import leaf
from pk.leaf import VALUE
def at_first(response): return VALUE
def when_called(response):
    import lazy_name
    return lazy_name.VALUE + leaf.VALUE
"""

    def put(name: str, value: int) -> Path:
        folder = tmp_path / name
        (folder / "pk").mkdir(parents=True, exist_ok=True)
        (folder / "pk/__init__.py").touch()
        for file in ("pk/leaf.py", "lazy_name.py"):
            (folder / file).write_text(f"VALUE = {value}" + "0" * value)
        (folder / "mine.py").write_text(user)
        return folder / "mine.py"

    def scores() -> list[list[int]]:
        return [[one(chats())[name][0] for name, one in both.items()] for both in made]

    names = ("at_first", "when_called")
    files = [put("a", 1), put("b", 2)]
    made = [{one: component("curate.scorers", f"{file}:{one}") for one in names} for file in files]
    assert scores() == [[10, 20], [200, 400]]
    put("a", 3)
    made[0] = {one: component("curate.scorers", f"{files[0]}:{one}") for one in names}
    assert scores() == [[3000, 6000], [200, 400]]
    assert scores() == [[3000, 6000], [200, 400]]


def test_a_file_imports_from_the_project_as_the_script_and_the_module_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/other_rules.py").write_text("X = 1\n")
    (tmp_path / "common_rules.py").write_text("Y = 10\n")
    own = "from rules.other_rules import X\nfrom common_rules import Y\nimport other_rules\n"
    (tmp_path / "rules/u.py").write_text(own + "def both(response): return X + Y\n")
    monkeypatch.chdir(tmp_path)
    name, keys = "rules/u.py:both", set()
    for path in (["", *sys.path], sys.path[:]):
        monkeypatch.setattr(sys, "path", path)
        assert component("curate.scorers", name)(chats())["both"][0] == 11
        keys.add(registry.code_of("curate.scorers", name))
        assert sys.path[0] == path[0]
    assert len(keys) == 1
    for file in ("rules/other_rules.py", "common_rules.py"):
        (tmp_path / file).write_text("X = Y = 200\n")
        keys.add(registry.code_of("curate.scorers", name))
    assert len(keys) == 3
    assert component("curate.scorers", name)(chats())["both"][0] == 400


def test_a_module_of_the_script_stays_what_it_is(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "script_name.py").write_text("VALUE = 5\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/script_name.py").write_text("VALUE = 66\n")
    (tmp_path / "a/mine.py").write_text(
        "from script_name import VALUE as v\ndef f(response): return v\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    theirs = importlib.import_module("script_name")
    monkeypatch.syspath_prepend("")
    sys.path.remove(str(tmp_path))
    assert component("curate.scorers", f"{tmp_path}/a/mine.py:f")(chats())["f"][0] == 66
    assert sys.modules.pop("script_name") is theirs


def test_it_survives_pickling(file: Path) -> None:
    for name, given in (("letters", {"times": 2}), ("Marks", {"mark": "!"}), ("Plain", {})):
        made = registry.build("curate.scorers", f"{file}:{name}", given)
        again = pickle.loads(pickle.dumps(made))
        assert type(again).__name__ == name
        assert again(chats()).equals(made(chats()))


RULES = '''from beside_rules import LEAST

def letters(response: str, times: int = 1) -> int:
    """Letters of the response."""
    return times * len(response)

def long(table, most: int = 9):
    return (table["letters"] >= LEAST) & (table["letters"] <= most)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "beside_rules.py").write_text("LEAST = 2\n")
    lines = [f'{{"prompt": "a", "completion": "{"b" * count}"}}' for count in (1, 2, 30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def curate(*words: str) -> Any:
    return CliRunner().invoke(command, [*words, "--no-cache"], catch_exceptions=False)


def test_commands_and_recipes_take_files(project: Path) -> None:
    scored = curate("score", "rows.jsonl", "rules.py:letters", "--times", "3", "--out", "scored")
    assert scored.exit_code == 0
    assert pl.read_parquet("scored/kept.parquet")["letters"].to_list() == [3, 6, 90]
    raw = {"source": "rows.jsonl", "stages": [{"score": "rules.py:letters"}]}
    raw["stages"] += [{"select": "rules.py:long", "most": 20}, {"select": "exact_dedup"}]
    Path("recipe.yaml").write_text(json.dumps(raw))
    assert curate("run", "recipe.yaml", "--out", "run").exit_code == 0
    ledger = pl.read_parquet("run/ledger.parquet")
    assert ledger["stage"].unique().sort().to_list() == ["2:long", "3:exact_dedup"]
    assert pl.read_parquet("run/kept.parquet")["letters"].to_list() == [2]
    assert "1:letters" in curate_explain("run", "rows:2")


def test_an_option_that_the_command_has_too_is_refused(project: Path) -> None:
    Path("rules.py").write_text("def f(response, limit=1, seed=2): return limit\n")
    told = r"rules\.py:f: --limit is an option of the command: name the parameter 'limit' otherwise"
    with pytest.raises(UsageError, match=told):
        curate("score", "rows.jsonl", "rules.py:f", "--out", "scored")
    assert registry.build("curate.scorers", "rules.py:f", {"limit": 3})(chats())["f"][0] == 3


def curate_explain(*words: str) -> str:
    return str(CliRunner().invoke(command, ["explain", *words]).output)


def test_the_help_of_a_file_is_that_of_its_function(project: Path) -> None:
    shown = CliRunner().invoke(command, ["score", "rules.py:letters", "--help"]).output
    assert "Letters of the response." in shown
    assert "--times" in shown
    with pytest.raises(UsageError, match=r"rules\.py has no 'leters'; did you mean letters"):
        curate("score", "rows.jsonl", "rules.py:leters", "--out", "out")


def test_a_changed_file_remakes_its_stages(project: Path) -> None:
    stages = [{"score": "rules.py:letters"}, {"score": "length"}, {"select": "rules.py:long"}]
    recipe = parse({"source": "rows.jsonl", "stages": stages})

    def keys() -> list[str]:
        return [step.key for step in plan(recipe, project / "out").steps]

    before = keys()
    (project / "rules.py").write_text(RULES.replace("def letters", "# a comment\ndef letters"))
    assert keys() == before
    (project / "beside_rules.py").write_text("LEAST = 3\n")
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [False, True, False]


def test_a_changed_function_of_a_session_has_another_key() -> None:
    codes = []
    for bound in (1, 2):
        space: dict[str, Any] = {"bound": bound}
        exec("def rule(table):\n    return table['n'] > bound\n", space)  # as a notebook has it
        name, _ = name_and_options(space["rule"])
        codes.append(registry.code_of("curate.selectors", name))
    assert codes[0] != codes[1]


@pytest.mark.parametrize(
    "name", ["python:gone", "python#2:gone", "rules.py#2:letters", "rules.py:lambda"]
)
def test_what_only_an_earlier_process_had_is_one_line(project: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"of an earlier Python process.*give it itself once more"):
        plan(parse({"source": "rows.jsonl", "stages": [{"select": name}]}), project / "out")


def test_a_script_that_asks_for_its_own_function_from_its_top_is_one_line(project: Path) -> None:
    Path("script.py").write_text(
        "from siftune.curate.core.registry import build\n"
        "def rule(table): return table['n'] > 1\n"
        "build('curate.selectors', 'script.py:rule', {})\n"
    )
    with pytest.raises(UsageError, match=r"script\.py is run from its top .* __name__ =="):
        registry.build("curate.selectors", "script.py:rule", {})


LAYOUTS = """def asked(record):
    return {"prompt": record["Q"], "completion": record["A"]}

def pair(record):
    return {"prompt": record["Q"], "chosen": record["A"], "rejected": record["B"]}
pair.kind = "preference"

def turns(record):
    return {"count": len(record["messages"])}

def wrong(record):
    return 3

def odd(record):
    return record
odd.kind = "chat"

class Tree:
    kind, over, many = "text", ("messages",), True
    def matches(self, row):
        return "leaves" in row
    def read(self, row):
        return [{"messages": [{"role": "assistant", "content": leaf}]} for leaf in row["leaves"]]
"""


def test_functions_are_formats_and_exports(project: Path) -> None:
    (project / "layouts.py").write_text(LAYOUTS)
    Path("raw.jsonl").write_text('{"Q": "a", "A": "b", "B": "c"}\n{"Q": "d"}\n')
    curate("ingest", "raw.jsonl", "--format", "layouts.py:asked", "--out", "one")
    rows = pl.read_parquet("one/kept.parquet")
    assert [turn["content"] for turn in rows["messages"][0]] == ["a", "b"]
    aside = json.loads(Path("one/quarantine.jsonl").read_text())
    assert aside["reason"] == "format_failed"
    assert aside["detail"] == "layouts.py:asked: line 2: KeyError: 'A'"
    curate("ingest", "raw.jsonl", "--format", "layouts.py:pair", "--out", "two")
    assert pl.read_parquet("two/kept.parquet")["kind"].to_list() == ["preference"]
    given = ["export", "one", "--out", "out", "--overwrite", "--format"]
    assert CliRunner().invoke(command, [*given, "layouts.py:turns"]).exit_code == 0
    assert Path("out/train.jsonl").read_text() == '{"count":2}\n'
    for name, told in (("wrong", "expected a dict for each record, got int"), ("nine", "has no")):
        with pytest.raises(UsageError, match=told):
            CliRunner().invoke(command, [*given, f"layouts.py:{name}"], catch_exceptions=False)
    with pytest.raises(UsageError, match=r"kind: expected one of conversation, .* got 'chat'"):
        curate("ingest", "raw.jsonl", "--format", "layouts.py:odd", "--out", "three")


def test_a_class_is_a_format_with_what_it_declares(project: Path) -> None:
    (project / "layouts.py").write_text(LAYOUTS)
    made = registry.build("curate.formats", "layouts.py:Tree", {})
    assert (made.kind, made.over, made.many) == ("text", ("messages",), True)
    assert len(made.read({"leaves": ["a", "b"]})) == 2
    with pytest.raises(BadRow, match="writes no records"):
        made.write({})
