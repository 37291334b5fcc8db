"""Docstrings' first lines, messages and help describe code in plain words, without metaphors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PLAIN = ("benchmarks", "curate", "examples", "finetune", "pipelines", "siftune")
"""Folders whose texts are plain: all of them."""

METAPHORS = re.compile(
    r"(?i)\b(?:"
    r"tells?|told|telling|foretells?|foretold|says?|said|saying|speaks?|spoken|hears?|heard"
    r"|knows?|knew|believes?|believed|meets?|met|meeting|strangers?"
    r"|stands?(?! for\b)|stood|standing|goes|went|at hand|whoever"
    r"|purse|sieve|tally|tallied|exam|worth|dear(?:er|est)?"
    r"|asked of|held? against|what came of|underneath|(?:that|what) (?:it|\w+ function) answers"
    r")\b"
)
"""Words that describe no code: texts, rows, models and files do none of these things."""

NAMES = re.compile(r"``[^`]*``|`[^`]*`")
"""Code inside a text."""

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
HELP = ("help", "short_help", "epilog")
SHOWN_BY_HELP = re.compile(r"\.(command|group)\(|dataclass")


def lines_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The first docstring line; all lines, where ``--help`` of a command or component has them."""
    text = ast.get_docstring(node, clean=False)
    if text is None:
        return
    decorators = " ".join(map(ast.unparse, getattr(node, "decorator_list", [])))
    public = not getattr(node, "name", "_").startswith("_")
    lines = text.splitlines()
    if not (public and SHOWN_BY_HELP.search(decorators)):
        lines = lines[:1]
    yield from enumerate(lines, node.body[0].lineno)


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings of two words or more that functions hold, and those of ``help=`` anywhere."""
    left: list[tuple[ast.AST, bool]] = [(tree, False)]
    while left:
        node, shown = left.pop()
        help_text = isinstance(node, ast.keyword) and node.arg in HELP
        shown = shown or help_text or isinstance(node, FUNCTIONS)
        text = node.value if isinstance(node, ast.Constant) else None
        if shown and isinstance(text, str) and " " in text.strip():
            yield node.lineno, text
        children = ast.iter_child_nodes(node)
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            children = (child for child in children if child is not node.body[0])
        left += [(child, shown) for child in children]


def metaphors(code: str) -> list[str]:
    """Each metaphor in the texts of a module, as ``line: word: text``."""
    if not METAPHORS.search(code):  # nor is there one in its texts
        return []
    tree = ast.parse(code)
    nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    texts = {*messages(tree), *(line for node in nodes for line in lines_of(node))}
    return [
        f"{number}: {found[0]}: {text.strip()}"
        for number, text in sorted(texts)
        for found in METAPHORS.finditer(NAMES.sub("", text))
    ]


@pytest.mark.parametrize("plain", PLAIN)
def test_texts_have_no_metaphors(plain: str) -> None:
    path = ROOT / plain
    files = [path] if path.suffix else sorted(path.rglob("*.py"))
    found = [
        f"{file.relative_to(ROOT)}:{line}" for file in files for line in metaphors(file.read_text())
    ]
    assert files
    assert not found, "write what is computed, read or written:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('"""What a text says."""', ["1: says: What a text says."]),
        ('"""Held-out examples; NaN stands for a missing score."""', []),
        ('def f():\n    """Metrics.\n\n    Tells more.\n    """', []),
        (
            '@dataclass\nclass A:\n    """A.\n\n    Told by itself.\n    """',
            ["5: Told: Told by itself."],
        ),
        ('@curate.command()\ndef f():\n    """A.\n\n    It goes.\n    """', ["5: goes: It goes."]),
        ('def f():\n    raise DataError(f"{x} stands twice")', ["2: stands: stands twice"]),
        ('option("--a", help="Held against it.")', ["1: Held against: Held against it."]),
        ('def f():\n    return text == "says"', []),
        ('def f():\n    """Pass ``told`` on to `heard`."""', []),
    ],
)
def test_metaphors_are_found_in_texts_that_users_read(code: str, found: list[str]) -> None:
    assert metaphors(code) == found
