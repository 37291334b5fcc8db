"""Patterns of non-answers: placeholder, truncation, echo, bad decoding; and of empty inputs.

Each is a polars expression on the text of the answer (and, for some, of the prompt). The regex
engine of polars is linear in the text for every pattern. The words are English.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = [
    "broken_characters",
    "code_line",
    "code_lines",
    "echo",
    "no_input",
    "open_slots",
    "placeholder",
    "truncated",
    "url_input",
]

_FENCE: Final = "```"


def _any(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_NONE: Final = (
    *(r"no[\s_-]?(?:in|out)puts?", r"n[/.]?a", "none", "null", "nil", "nan", "tbd"),
    *("undefined", "unspecified"),
    "todo",
)
_NOTHING: Final = _any(
    *_NONE,
    *("not (?:applicable|available|specified)", "no (?:answer|response|data)"),
    r"no (?:in|out)put(?: (?:is|was|required|needed|provided|given)){1,3}",
    "(?:your |the )?(?:answer|output|response|input)(?: goes)? here",
)
_PLACEHOLDER: Final = rf"(?i)^\W{{0,4}}{_NOTHING}\W{{0,4}}$"
_NO_INPUT: Final = r"(?im)^\W{0,2}no(?:in|out)put\W{0,2}$"
_MARK: Final = r"(?i)<\s?no[\s_-]?(?:in|out)put\s?>"
_ONLY_SLOT: Final = r"(?i)\A\s*[\[<](?:insert|enter|add|your|put) [^\[\]<>\n]{1,60}[\]>]\W*\z"
_TO_INSERT: Final = r"(?i)" + _any(
    r"\[(?:insert|enter|add|put) [^\[\]\n]{1,60}\]",
    r"<(?:insert|enter|add|your) [^<>\n]{1,60}>",
    r"(?:^|[^\\{])\{\{ ?[a-z][a-z_ ]{1,40} ?\}\}",
    r"\blorem ipsum\b",
)
_YOURS: Final = r"(?i)\[(?:your|my|recipient|sender|company|name|date)\b[^\[\]\n,]{0,60}\]"
_SLOT_SIGNS: Final = ("[", "<", "{", "lorem", "todo")
_BLANK: Final = r"(?i)" + _any(
    r"(?m:^\s*(?:\d+[.)]|[-*•]) *(?:\[[a-z][a-z ]+\]|<[a-z][a-z ]+>)[ \t]*$)",
    r"\A\s*<(?:answer|response|output|text|solution|result|summary)>\s*\z",
    r"\A\s*todo:? ",
)
_BRACE_SLOT: Final = (
    r"\b(?:is|are|was|were|of|by|on|in|at|the|to) (\{[a-z][a-z_]+\})(?:[.,;!?\s]|\z)"
)
_OF_CODE: Final = r"[`\\$=;]|f\"|f'|print\(|format|string|variable|(?:^|\W)list\W"
_FORM_LETTER: Final = (
    r"(?i)\b(?:dear|sincerely|regards|best wishes|yours|thank you for|hello|hi) ?[,\[A-Z]"
    r"|\btemplate"
    r"|\b(?:letter|e-?mail|note|message|invitation|memo|resume|cover|form|contract|script|invoice"
    r"|press release|card|proposal|statement|application|placeholder|survey|speech)s?\b"
)

_NO_CONTENT: Final = _any(
    *(*_NONE, "empty", "blank", "left blank", r"[<\[{]input[>\]}]"),
    "(?:none|not|nothing) (?:is |was )?(?:needed|required|necessary|given|provided|available)",
    *("not (?:applicable|available|specified|provided|given|needed|required)", "nothing"),
    r"(?:there (?:is|was|are|were) )?(?:no|without|<no>) ?(?:additional |further |specific )?"
    r"(?:inputs?|context|data|text|information)"
    r"(?: (?:is|was|required|needed|necessary|provided|given|available|specified|for this task))*",
    r"(?:the |this )?input (?:is |was )?(?:not (?:required|needed|provided|given|applicable)|empty"
    r"|blank|none)",
    r"(?:this )?(?:instruction|task|question) (?:does not|doesn['’]t) (?:require|need"
    r"|have)(?: an?| any)?"
    r" input",
)
_SIGNS_ONLY: Final = r"\n[ \t]*\n\s*(?:[-–—_]{1,5}|\.{1,6}|…|\?{1,3}|\"\"|''|“”)\s*\z"
_BLANK_LINE: Final = r"\n[ \t]*\n"
_BARE_ADDRESSES: Final = (
    *(".com/", ".org/", ".net/", ".edu/", ".gov/", ".io/", ".co/", ".uk/", ".de/", ".fr/"),
    *(".info/", ".tv/", ".ly/", ".be/", ".news/", ".eu/", ".ai/"),
)
_URL: Final = (
    r"(?i)(?:<img [^<>]{0,80})?(?:!?\[[^\[\]]*\]\()?(?:(?:https?|ftp)://|\bwww\."
    r"|\b[a-z0-9\-]+(?:\.[a-z0-9\-]+)*\.(?:com|org|net|edu|gov|io|co|uk|de|fr|info|tv|ly|be|news"
    r"|eu|ai)/)[^\s<>\"]+"
    r"(?: \"[^\"]*\")?\)?"
)
_URL_LABEL: Final = (
    r"(?i)\b(?:(?:web)?(?:site|page)|url|link|article|source|image|picture|photo|video|input"
    r"|address"
    r"|document|file|blog|post|news|here|see|read|text|paper|of|to|the|this|an?|is|name|company"
    r"|example|figure|photograph|logo|alt|src)\b"
)
_ABOUT_TEXT: Final = (
    r"(?i)\b(?:summar\w+|articles?|main (?:idea|point|theme)|headline|review|describe|caption"
    r"|anal\w+"
    r"|transcri\w+|image|picture|photo|video|movie|contents?|key (?:points|ideas)|read|paraphrase"
    r"|translate|extract|rewrite|page|paper|passage|title|topic|author|argument)\b"
)

_CODE_LINE: Final = _any(
    *(r"^[ \t]*(?:def|class|import|elif|public|private|static) \w.*$", r"^[ \t]*#include.*$"),
    *(r"^[ \t]*from [\w.]+ import.*$", r"^[ \t]*(?:for|if|while|print) ?\(.*$"),
    *(r"^[ \t]*return\b.*[;)]$", r"^[ \t]*(?:var|let|const) \w+ ?=.*$", r"^[ \t]*\$\w+ ?=.*$"),
    *(r"^[ \t]*function\b.*[({].*$", r"^[ \t]*</?[a-zA-Z][\w-]*[ >/].*$"),
    *(r"^[ \t]*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|FROM|WHERE) .*$", r"^[ \t]*console\..*$"),
    *(r"^[ \t]*\w+ ?= ?[\[{(\"'\d].*$", r"^.*[;{}][ \t]*$", r"^[ \t]*[)}\]]+[;,]?[ \t]*$"),
)

_SENTENCE_END: Final = r"[.!?。！？।…][\"'”’)\]]{0,3}(?:\s|$)"
_LIST_ITEM: Final = r"^[ \t]*(?:[-*•–#>|+]|\(?\w{1,3}[.):])"
_TAIL: Final = _any(
    *(r"https?://\S*\z", r"[#@] ?\w[^.!?]*\z", r"\d[.)] [^.!?]*\z"),
    r"[\"”.!?'’)] *[-–—~] *\p{L}.{0,40}\z",
)
_MOJIBAKE: Final = "\ufffd|Ã[\u0080-\u00bf]|â€[\u0080-\u00bf™œ\u009d]|Â[\u00a0-\u00bf]|ï¿½"


def code_line() -> str:
    """Pattern of a line that occurs in code only."""
    return _CODE_LINE


def code_lines() -> str:
    """Pattern of code: fenced blocks, and lines that occur in code only."""
    return rf"(?s:{_FENCE}.*?(?:{_FENCE}|\z))|(?m:{_CODE_LINE})"


def placeholder(answer: pl.Expr) -> pl.Expr:
    """The answer is a placeholder (``N/A``, ``[insert poem]``), or has the mark ``<nooutput>``."""
    return pl.any_horizontal(
        answer.str.contains(pattern) for pattern in (_PLACEHOLDER, _MARK, _NO_INPUT, _ONLY_SLOT)
    )


def open_slots(answer: pl.Expr, prompt: pl.Expr) -> pl.Expr:
    """The answer has a slot to fill in (``<insert date>``, ``{{name}}``) that the prompt has not.

    Items of a list that are slots alone, and ``TODO`` at the start, count as slots.

    In a letter, a form or a template slots are right, as is ``[Your Name]`` in anything alike.
    """
    answer = pl.when(answer.str.contains_any(list(_SLOT_SIGNS), ascii_case_insensitive=True)).then(
        answer
    )
    slot = pl.coalesce(
        answer.str.extract(f"({_TO_INSERT})", 1),
        answer.str.extract(f"({_YOURS})", 1),
        answer.str.extract(f"({_BLANK})", 1),
        pl.when(~answer.str.contains(_OF_CODE)).then(answer.str.extract(_BRACE_SLOT, 1)),
    )
    to_do = prompt.str.contains(r"(?i)to-?do") & slot.str.contains(r"(?i)todo")
    copied = prompt.str.to_lowercase().str.contains(slot.str.to_lowercase(), literal=True)
    meant = prompt.str.contains(_FORM_LETTER) | answer.str.contains(_FORM_LETTER)
    return (
        slot.is_not_null()
        & ~copied.fill_null(False)
        & ~to_do.fill_null(False)
        & ~meant.fill_null(False)
    )


def no_input(prompt: pl.Expr) -> pl.Expr:
    """The last line of the prompt, where its input would be, is ``No input``, ``N/A`` or alike.

    So it is where the second of two blocks is a dash, dots, a question mark or empty quotes.
    """
    named = prompt.str.contains(
        rf"(?i)(?:\A|\n)\W{{0,4}}(?:input\W{{1,3}})?{_NO_CONTENT}\W{{0,4}}\z"
    )
    blocks = prompt.str.strip_chars().str.count_matches(_BLANK_LINE)
    return named | ((blocks == 1) & prompt.str.contains(_SIGNS_ONLY))


def url_input(prompt: pl.Expr) -> pl.Expr:
    """What the prompt asks about is given as an address only, so that an answer can but guess.

    The last paragraph is nothing but an address and a label (``Article: https://…``), or a short
    request for a summary, a review or the like of a text or picture ends with one.
    """
    prompt = pl.when(prompt.str.contains_any(["://", "www.", *_BARE_ADDRESSES])).then(
        prompt
    )  # the rest is null
    last = prompt.str.strip_chars().str.extract(r"(?s)(?:.*\n[ \t]*\n)?(.*)\z", 1)
    rest = last.str.replace_all(_URL, " ").str.replace_all(_URL_LABEL, " ")
    apart = last.str.len_chars() < prompt.str.strip_chars().str.len_chars()
    words = rest.str.count_matches(r"[\p{L}\p{N}]+")
    alone = last.str.contains(_URL) & (words <= apart.cast(pl.UInt32))
    asked = prompt.str.replace_all(_URL, " ").str.count_matches(r"\S+") <= 25
    about = asked & prompt.str.contains(_ABOUT_TEXT) & prompt.str.contains(rf"{_URL}\W*\z")
    return alone | about


def truncated(answer: pl.Expr) -> pl.Expr:
    """The answer is cut off: an open code fence, or prose without the end of a sentence.

    Prose counts only if an earlier sentence has an end, and the last line has six words or more and
    is no list item, code, verse, source of a quotation, link or row of hashtags.
    """
    text = answer.str.strip_chars()
    open_end = text.str.contains(r"[\p{L}\p{N}]\z") & text.str.contains(_SENTENCE_END)
    open_end |= text.str.contains(r"[\p{L}\p{N}][,(\[–—-]\z")
    few = pl.when(open_end).then(text)  # the rest is null: the patterns below are slow
    last = few.str.extract(r"([^\n]*)\z", 1)
    verse = few.str.contains(r"[\p{L}\p{N},;][ \t]*\n+[^\n]*\z")
    other = pl.any_horizontal(last.str.contains(sign) for sign in (_LIST_ITEM, _CODE_LINE, _TAIL))
    prose = ~other & ~verse & (last.str.count_matches(r"\S+") >= 6)
    fences = text.str.count_matches(_FENCE, literal=True)
    return (fences % 2 == 1) | (prose & open_end)


def echo(answer: pl.Expr, prompt: pl.Expr) -> pl.Expr:
    """The answer starts with the whole prompt, ignoring white space and case.

    Prompts under 20 characters do not count: answers often start like them.
    """
    reply, request = (
        text.str.to_lowercase().str.replace_all(r"\s+", " ") for text in (answer, prompt)
    )
    request = request.str.strip_chars()
    begins = reply.str.strip_chars().str.starts_with(request)
    return begins.fill_null(False) & (request.str.len_chars() >= 20).fill_null(False)


def broken_characters(answer: pl.Expr) -> pl.Expr:
    """Decoding errors: replacement characters, UTF-8 read as Latin-1."""
    return answer.str.contains(_MOJIBAKE)
