"""The tree in the README, made from the first lines of the modules.

``python -m tests.readme_tree`` writes it anew; a test holds the README to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START, END = "<!-- tree -->\n```text\n", "```\n<!-- end of tree -->"
PACKAGES = ("curate", "finetune", "pipelines", "examples", "benchmarks")


def lines(folder: Path, depth: int = 0) -> Iterator[str]:
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    yield _line(f"{folder.name}/", _first_line(folder / "__init__.py"), depth)
    for path in modules:
        yield _line(path.name, _first_line(path), depth + 1)
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        yield from lines(inner, depth + 1)


def tree() -> str:
    return "".join(f"{line}\n" for package in PACKAGES for line in lines(ROOT / package))


def with_tree(text: str) -> str:
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + tree() + END + after


def _line(name: str, says: str, depth: int) -> str:
    return f"{'  ' * depth + name:<28} {says}".rstrip()


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    README.write_text(with_tree(README.read_text(encoding="utf-8")), encoding="utf-8")
