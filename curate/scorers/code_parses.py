"""Code that parses: how many code blocks of an answer have no syntax error, and which are cut."""

from __future__ import annotations

import ast
import codeop
import json
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Final, Literal, NamedTuple

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.chat import last_turn
from siftune.curate.text.code_blocks import CodeBlock, code_blocks
from siftune.curate.text.truncated_code import truncated_code

__all__ = ["CodeParses"]

Grammars = Literal["python", "tree_sitter"]


@dataclass(frozen=True)
class CodeParses:
    """Fenced code blocks of the last answer, read by the parser of their language.

    * ``code_parses``: share of the blocks read that have no syntax error; null where none is read
    * ``code_parses_blocks``: number of blocks that are read
    * ``code_parses_error_share``: share of their characters that follow the first syntax error of
      their block, 0 where all parse: a slip in the last line is small, one in the first is not
    * ``code_parses_truncated``: whether a block does not parse and stops before its end: its fence
      is open, its parser asks for more at the end, or, but for Python and JSON, the flag
      ``truncated`` of `heuristics` would be raised for it as an answer of its own
    * ``code_parses_languages``: the languages of the blocks read
    * ``code_parses_first_wrong``: language, line and message of the first error

    Python is read by ``ast``, JSON by ``json``; with ``grammars: tree_sitter`` 25 further languages
    are read by `tree-sitter`'s grammars (pip install 'siftune[code]'; no download at run time). A
    block without a language, in one that has no grammar here, or of more than 100,000 characters is
    not read: null is not wrong.
    Prompts of the Python shell and lines of IPython (``%``, ``!``) are taken out first, a block is
    dedented, and PHP may lack its opening tag. SQL, shells' logs and pseudocode have no grammar
    that is right often enough, and are not read. A row without an answer has null.

    Not for code that is wrong when it runs: parsing finds slips of form, and cut code.

    Options:
        grammars: Languages that are read: python (and JSON), or all by tree_sitter.
        language: Language of blocks that name none, and of an answer without a block, which is then
            read whole; none leaves both unread.
    """

    grammars: Grammars = "python"
    language: str | None = None

    needs: ClassVar = ("messages",)
    adds: ClassVar[dict[str, pl.DataType | type[pl.DataType]]] = {
        "code_parses": pl.Float32,
        "code_parses_blocks": pl.UInt32,
        "code_parses_error_share": pl.Float32,
        "code_parses_truncated": pl.Boolean,
        "code_parses_languages": pl.List(pl.String),
        "code_parses_first_wrong": pl.String,
    }

    def __post_init__(self) -> None:
        if self.language is not None and self._known(self.language) is None:
            known = ", ".join(sorted(_READ if self.grammars == "python" else _ALL))
            raise UsageError(
                f"code_parses: language: expected one that is read with grammars: {self.grammars} "
                f"({known}), got {self.language!r}"
            )

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Read the code of each conversation's last assistant turn."""
        answers = last_turn(batch["messages"])[1].to_list()
        rows = [(None,) * 6 if answer is None else self._row(answer) for answer in answers]
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The version of the grammars, on which the scores depend."""
        if self.grammars == "python":
            return {}
        _parser("javascript")  # names the extra that is missing
        return {"tree-sitter-language-pack": version("tree-sitter-language-pack")}

    def _row(self, answer: str) -> tuple[Any, ...]:
        read = list(self._blocks(answer))
        if not read:
            return (None, 0, None, None, [], None)
        errors = [(language, block, _error(language, block.code)) for language, block in read]
        wrong = [each for each in errors if each[2] is not None]
        size = sum(len(block.code) for _, block in read)
        after = sum(len(block.code) - error.at for _, block, error in wrong if error)
        languages = sorted({language for language, _ in read})
        first = None
        if wrong and (found := wrong[0][2]):
            line = wrong[0][1].code.count("\n", 0, found.at) + 1
            first = f"{wrong[0][0]}, line {line}: {found.message}"
        cut = any(error and _is_cut(language, block, error) for language, block, error in wrong)
        return (
            *(1 - len(wrong) / len(read), len(read), after / size if size else 0.0),
            *(cut, languages, first),
        )

    def _blocks(self, answer: str) -> Iterator[tuple[str, CodeBlock]]:
        blocks = list(code_blocks(answer))
        if not blocks and self.language is not None and answer.strip():
            blocks = [CodeBlock(self.language, answer, True)]
        for block in blocks:
            language = self._known(block.language or self.language or "")
            code = _bare(language or "", block.code)
            if language is not None and code.strip() and len(code) <= _LONGEST:
                yield language, block._replace(code=code)

    def _known(self, name: str) -> str | None:
        """Our name of a language that is read."""
        language = _ALIASES.get(name.lower(), name.lower())
        return language if language in (_READ if self.grammars == "python" else _ALL) else None


_LONGEST: Final = 100_000  # characters; grammars may take seconds to recover from errors in more
_READ: Final = ("json", "python")
_ALL: Final = (
    *(*_READ, "bash", "c", "cpp", "csharp", "css", "dart", "go", "haskell", "html", "java"),
    *("javascript", "julia", "kotlin", "lua", "perl", "php", "r", "ruby", "rust", "scala"),
    *("scss", "swift", "toml", "tsx", "typescript", "yaml"),
)
_ALIASES: Final = {
    **dict.fromkeys(("py", "python3", "py3", "ipython", "pycon", "python-repl"), "python"),
    **dict.fromkeys(("js", "jsx", "node", "mjs"), "javascript"),
    **dict.fromkeys(("sh", "shell", "zsh"), "bash"),
    **dict.fromkeys(("c++", "cc", "cxx", "hpp", "arduino"), "cpp"),
    "ts": "typescript",
    "c#": "csharp",
    "cs": "csharp",
    "golang": "go",
    "rs": "rust",
    "rb": "ruby",
    "kt": "kotlin",
    "yml": "yaml",
    "hs": "haskell",
    "pl": "perl",
    "jl": "julia",
    "htm": "html",
    "sass": "scss",
    "h": "c",
}
_SHELL: Final = re.compile(r"(?:>>>|\.\.\.)(?: |$)")
_MAGIC: Final = re.compile(r"^(\s*)[%!][^\n]*", re.M)


class _Error(NamedTuple):
    at: int  # characters before it
    message: str
    more: bool = False  # the parser asks for more


def _bare(language: str, code: str) -> str:
    r"""The code without prompts of a shell, dedented.

    >>> _bare("python", ">>> x = [\n...   1]\n>>> x\n[1]"), _bare("php", "echo 1;")
    ('x = [\n  1]\nx', '<?php echo 1;')
    """
    code = textwrap.dedent(code)
    if language == "python":
        if _SHELL.match(code.lstrip()):
            lines = [line for line in code.splitlines() if _SHELL.match(line)]
            return "\n".join(line[4:] for line in lines)
        return _MAGIC.sub(r"\1pass", code)
    return f"<?php {code}" if language == "php" and "<?" not in code else code


def _is_cut(language: str, block: CodeBlock, error: _Error) -> bool:
    if not block.closed or error.more:
        return True
    return language not in _READ and bool(truncated_code(pl.Series([block.code])).item())


def _error(language: str, code: str) -> _Error | None:
    """The first syntax error of code; None if it parses."""
    if language == "json":
        return _json_error(code)
    if language == "python":
        return _python_error(code)
    error = _tree_error(language, code)
    if error and language == "typescript" and _tree_error("tsx", code) is None:
        return None  # many blocks are named so and have elements of JSX
    return error


def _json_error(code: str) -> _Error | None:
    try:
        json.loads(code)
    except json.JSONDecodeError as error:
        rest = code[error.pos :].strip()
        more = error.msg.startswith("Unterminated") or rest in _STARTS
        return _Error(error.pos, error.msg, more)
    except (RecursionError, ValueError) as error:
        return _Error(0, type(error).__name__)
    return None


_STARTS: Final = {word[:size] for word in ("true", "false", "null") for size in range(len(word))}
_FLAGS: Final = ast.PyCF_ONLY_AST | codeop.PyCF_ALLOW_INCOMPLETE_INPUT  # type: ignore[attr-defined]


def _python_error(code: str) -> _Error | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts, which are no errors
            compile(code, "<block>", "exec", flags=_FLAGS, dont_inherit=True)
    except SyntaxError as error:
        lines = code.splitlines(keepends=True)
        before = sum(map(len, lines[: max((error.lineno or 1) - 1, 0)]))
        at = min(before + max((error.offset or 1) - 1, 0), len(code))
        rest = code[at:].rstrip()
        more = not rest or (error.msg.startswith("unterminated") and "\n" not in rest)
        return _Error(at, error.msg, more or error.msg.startswith("incomplete input"))
    except (ValueError, MemoryError, RecursionError) as error:  # null bytes, code nested too deeply
        return _Error(0, type(error).__name__)
    return None


def _tree_error(language: str, code: str) -> _Error | None:
    data = code.encode("utf-8", "replace")
    tree = _parser(language).parse(data)
    if not tree.root_node.has_error:
        return None
    node, end = _first_error(tree.root_node), len(data.rstrip())
    at = len(data[: node.start_byte].decode("utf-8", "replace"))
    name = f"{node.type} is missing" if node.is_missing else "syntax error"
    return _Error(at, name, node.is_missing and node.start_byte >= end)


def _first_error(root: Any) -> Any:
    """The first node that is wrong or missing, in the order of the text."""
    left = [root]
    while left:
        node = left.pop()
        if node.is_error or node.is_missing:
            return node
        left += [one for one in reversed(node.children) if one.has_error or one.is_missing]
    return root


def _parser(language: Any) -> Any:  # a text; the package types the names that it has
    try:
        from tree_sitter_language_pack import get_parser
    except ImportError:
        raise UsageError(
            "code_parses: grammars: tree-sitter is not installed: pip install 'siftune[code]', or "
            "take grammars: python"
        ) from None
    return get_parser(language)
