"""Code blocks that parse: shares by hand, what is cut, what is not read, further languages."""

from __future__ import annotations

import sys

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.code_parses import _ALL, CodeParses, _bare, _error

NO_PATHS = ["language"]
OPTIONS = [{}, {"language": "python"}]


def scored(answer: str | None, **options: object) -> dict[str, object]:
    messages = [[turn("user", "Write it."), turn("assistant", answer)]]
    scorer = CodeParses(**options)  # type: ignore[arg-type]
    return scorer(pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)})).row(0, named=True)


def fenced(code: str, language: str = "python") -> str:
    return f"Here:\n```{language}\n{code}\n```\nThat is all."


def test_shares_by_hand() -> None:
    answer = fenced("x = 12") + fenced("y 2 (3)")  # 6 and 7 characters, an error at the second's 2
    found = scored(answer)
    assert found["code_parses"] == 0.5
    assert found["code_parses_blocks"] == 2
    assert found["code_parses_languages"] == ["python"]
    assert found["code_parses_truncated"] is False
    assert found["code_parses_first_wrong"] == "python, line 1: invalid syntax"
    assert found["code_parses_error_share"] == pytest.approx(5 / 13)


def test_the_error_share_counts_from_the_first_error() -> None:
    found = scored(fenced('{"a": 1,\n "b" 2}', "json"))  # 16 characters, a colon is missing at 14
    assert found["code_parses_error_share"] == pytest.approx(2 / 16)
    assert found["code_parses_first_wrong"] == "json, line 2: Expecting ':' delimiter"
    assert not found["code_parses_truncated"]


@pytest.mark.parametrize(
    "code",
    [
        ">>> x = [\n...     1]\n>>> x\n[1]",
        "%matplotlib inline\n!pip install numpy\nimport numpy",
        "    def f(self):\n        return 1",
        "async def f():\n    await g()",
        "pattern = '\\d'",
    ],
)
def test_python_that_parses(code: str) -> None:
    assert scored(fenced(code))["code_parses"] == 1


@pytest.mark.parametrize(
    ("code", "cut"),
    [
        ("def area(r):\n    return 3.14 * (r", True),
        ("for each in rows:", True),
        ("text = '''never closed", True),
        ("name = 'nev", True),
        ("total = 1 +", True),
        ("print 'old'\nx = 1", False),
        ("x = 1\n  y = 2\nz = 3", False),
        ("def f(:\n    pass\n\nf()", False),
    ],
)
def test_code_that_does_not_parse_is_cut_or_wrong(code: str, cut: bool) -> None:
    found = scored(fenced(code))
    assert (found["code_parses"], found["code_parses_truncated"]) == (0, cut)


def test_an_open_fence_is_cut_only_where_the_code_does_not_parse() -> None:
    assert scored("```python\nx = f(1,")["code_parses_truncated"]
    assert not scored("```python\nx = f(1)")["code_parses_truncated"]


def test_what_has_no_code_or_no_grammar_is_not_read() -> None:
    other = fenced("SELECT FROM WHERE", "sql") + fenced("x = ((", "")
    for answer in ("No code at all.", other, fenced("  "), fenced("x = ((" + " " * 100_000 + "(")):
        found = scored(answer)
        assert (found["code_parses"], found["code_parses_blocks"]) == (None, 0)
        assert found["code_parses_truncated"] is None
    assert scored(None)["code_parses_blocks"] is None


def test_the_language_of_bare_code_is_given() -> None:
    assert scored(fenced("x = ((", ""), language="python")["code_parses"] == 0
    assert scored("x = 1\ny = 2", language="py")["code_parses"] == 1
    assert scored("x = 1", language="python")["code_parses_languages"] == ["python"]
    with pytest.raises(UsageError, match="with grammars: python \\(json, python\\), got 'rust'"):
        CodeParses(language="rust")


@pytest.mark.parametrize("nested", ["(" * 500, "[" * 5000 + "]" * 5000, "a\0b", "-" * 20000 + "1"])
def test_code_that_no_parser_takes_is_an_error(nested: str) -> None:
    assert scored(fenced(nested))["code_parses"] == 0


def test_a_grammar_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tree_sitter_language_pack", None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[code\]'"):
        CodeParses("tree_sitter").describe()


RIGHT = {
    "bash": "for f in *; do echo $f; done",
    "cpp": "std::vector<int> v = {1};",
    "javascript": "const f = async (a) => ({...a, b: 1});",
    "java": "public int f(int a) { return a; }",
    "php": "echo 1;",
    "rust": 'fn main() { println!("{}", 1); }',
    "tsx": "const a: number = 1; const b = <p>{a}</p>;",
    "typescript": "const a = <T>(b: T): T => b; const c = <string>d;",
    "yaml": "a:\n  - b: 1\n",
}


def test_further_languages_are_read_by_their_grammars() -> None:
    pytest.importorskip("tree_sitter_language_pack")
    assert [name for name in _ALL if _error(name, "") is not None] == ["json"]
    for language, code in RIGHT.items():
        assert _error(language, _bare(language, code)) is None, language
    assert _error("typescript", "const a: JSX.Element = <p>{b}</p>;") is None  # as tsx is
    found = scored(fenced("function f(a) {\n  return a +", "js"), grammars="tree_sitter")
    assert (found["code_parses"], found["code_parses_truncated"]) == (0, True)
    assert found["code_parses_languages"] == ["javascript"]
    slip = scored(
        fenced("int f() { return 0 0; }\nint g() { return 1; }", "c"), grammars="tree_sitter"
    )
    assert (slip["code_parses"], slip["code_parses_truncated"]) == (0, False)
