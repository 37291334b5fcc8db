"""Code that stops before its end: open brackets, texts, tags, blocks, statements or names.

Only an answer that is mostly code is judged. Comments and texts in quotes are taken out first, so
that brackets in them do not count. Code that stops between two statements of the outermost level
looks whole and is not found.
"""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from siftune.curate.text.non_answers import code_line

__all__ = ["truncated_code"]

_TEXT_OR_COMMENT: Final = (
    r'(?s:(")""(?:[^\\]|\\.)*?"""|'
    r"(')''(?:[^\\]|\\.)*?''')"
    r'|(")(?:[^"\\\n]|\\.)*"|'
    r"(')(?:[^'\\\n]|\\.)*'|(`)[^`]*`"
    r"|(?s:/\*.*?\*/|<!--.*?-->)|(?m:^[ \t]*--.*$)|(?m:^[ \t]*//.*$)"
    r"|(?m:(?:^|[ \t;{}(),])(?:// ?[A-Za-z]|#[ !]).*$)|(?m:(;)[ \t]*//.*$)"
)
_MARK: Final = "\x01"
_REGEX_LITERAL: Final = r"([=(,:] ?)/(?:[^/\\\n]|\\.)+/[gimsuy]*"
_CODE: Final = (
    rf"(?m)(?:{code_line()}|^[ \t]{{2,}}\S.*$|^[\w.$\[\]]+ ?\(.*$|^[ \t]*return\b.*$|^\s*(?:#"
    rf"|//).*$"
    r"|^[\w.$\[\]\"']+(?:, ?\w+)* ?[-+*/|:]?= ?\S.*$|^(?:echo|read|fi|done|then|do|end|puts"
    r"|let) ?.*$"
    r"|^[ \t]*(?:for|if|while|else|elif|try|with|except)\b.*:$)"
)
_WORDS_AT_END: Final = (
    "and or not in if return def import class new const var let public private static void extends "
    "SELECT FROM WHERE AND OR BY SET INTO VALUES ON JOIN then do"
)
_UNFINISHED: Final = (
    r"(?:[=,(\[{+*&|^<\\-]| [/%]|=>|->|\b(?:" + _WORDS_AT_END.replace(" ", "|") + r"))\z"
)
_BLOCK_HEAD: Final = (
    r"(?:^|\n)[ \t]*(?:async )?(?:def|class|for|while|if|elif|else|try|except|finally|with)\b"
    r"[^\n{};]*:\z"
)
_HEAD_WITHOUT_COLON: Final = (
    r"(?:^|\n)[ \t]*(?:"
    r"(?:async )?def \w*(?: ?\((?:[^\n()]|\([^\n()]*\))*(?:\)[^\n:={]*)?)?"
    r"|(?:for|elif|while|if|with) [^\n:({;]*|class \w*|(?:const|let|var) \w+|else|try)\z"
)
_TAG_AT_END: Final = r"<[/!]?[a-zA-Z][^<>\n]*\z"
_LINE_OF_INDENT: Final = r"\n[ \t]+\z"
_PROSE: Final = r"(?:^|\n)(?:[^\s;{}()=<>\[\]]+ +){4,}[^\s;{}()=<>\[\]]+[.!?]\z"
_STATEMENT: Final = r"(?m);[ \t]*$"
_NO_STATEMENT: Final = r"(?m)(?:^[ \t]*[)\]}]+|[{}(\[,]|^[ \t]*(?:#|@).*)[ \t]*$"
_TAGS: Final = (
    *(
        "html",
        "head",
        "body",
        "div",
        "table",
        "ul",
        "ol",
        "form",
        "script",
        "style",
        "title",
        "nav",
    ),
    *("header", "footer", "section", "span", "button", "select", "label", "h1", "h2", "h3", "a"),
    *("tr", "svg"),
)
_PAIRS: Final = (("(", ")"), ("[", "]"), ("{", "}"))
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_LAST_WORDS: Final = ("end", "fi", "done", "pass", "break", "continue", "return", "esac", "exit")


def truncated_code(answers: pl.Series) -> pl.Series:
    """Whether each answer is mostly code, and is cut off; null where there is no answer."""
    raw = pl.col("raw")
    frame = answers.to_frame("raw").with_row_index("row").with_columns(text=raw.str.strip_chars())
    text = pl.col("text")
    lines = text.str.count_matches(r"(?m)^.*\S.*$")
    mostly_code = 2 * text.str.count_matches(_CODE) >= lines
    other = text.str.contains("```", literal=True) | text.str.contains(_PROSE)
    code = frame.filter(mostly_code & ~other)
    if code.is_empty():
        return frame.select(pl.when(raw.is_not_null()).then(False)).to_series()
    marked = text.str.replace_all(_TEXT_OR_COMMENT, f"{_MARK}$1$2$3$4$5$6")
    bare = marked.str.replace_all(f"{_MARK}[\"'`]", " 0 ").str.replace_all(_MARK, "")
    bare = bare.str.replace_all(_REGEX_LITERAL, "${1}0")
    code = code.with_columns(bare=bare.str.strip_chars_end())
    cut = code.select(pl.any_horizontal(*_signs())).to_series()
    shell = code["text"].str.starts_with("#!")  # a command there may be a single word
    names = pl.Series([_cut_name(each) for each in code["bare"]], dtype=pl.Boolean) & ~shell
    raised = frame["row"].is_in(code["row"].filter(cut | names).implode())
    return frame.select(pl.when(raw.is_not_null()).then(raised)).to_series()


def _signs() -> list[pl.Expr]:
    text, bare = pl.col("text"), pl.col("bare")
    statements = bare.str.count_matches(_STATEMENT)
    lines = bare.str.count_matches(r"(?m)^.*\S.*$") - bare.str.count_matches(_NO_STATEMENT)
    open_pairs = [
        bare.str.count_matches(first, literal=True) > bare.str.count_matches(last, literal=True)
        for first, last in _PAIRS
    ]
    ends = [bare.str.contains(one) for one in (_UNFINISHED, _BLOCK_HEAD, _HEAD_WITHOUT_COLON)]
    return [
        *open_pairs,
        *ends,
        bare.str.extract(r"([^\n]*)\z", 1).str.contains(r"[\"']"),
        (statements >= 2) & (3 * statements >= 2 * (lines - 1)) & bare.str.contains(r"[\w\])]\z"),
        *(_open_tags(text, name) for name in _TAGS),
        text.str.contains(_TAG_AT_END),
        pl.col("raw").str.contains(_LINE_OF_INDENT) & bare.str.contains(r"(?m)^[ \t]+\S.*\z"),
    ]


def _open_tags(text: pl.Expr, name: str) -> pl.Expr:
    opened = text.str.count_matches(rf"<{name}(?: [^<>]*[^/<>])?>")
    return opened > text.str.count_matches(f"</{name}>", literal=True)


def _cut_name(code: str) -> bool:
    r"""The last name occurs nowhere else, and is the start of another or alone on its line.

    >>> _cut_name("number = 3\nprint(num"), _cut_name("number = 3\nnum = number"), _cut_name("x")
    (True, False, False)
    """
    names = _NAME.findall(code)
    last_line = code.rpartition("\n")[2].strip()
    if not names or not code.endswith(names[-1]) or names[-1] in _LAST_WORDS:
        return False
    last, earlier = names[-1], set(names[:-1])
    if last in earlier:
        return False
    starts = any(name.startswith(last) for name in earlier)
    return starts or (last == last_line and len(earlier) > 1)
