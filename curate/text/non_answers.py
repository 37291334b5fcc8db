"""Patterns of non-answers: placeholder, refusal, truncation, echo of the prompt, bad decoding.

Each is a polars expression on the text of the answer (and, for some, of the prompt). The regex
engine of polars is linear in the text for every pattern. The words are English.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = [
    "broken_characters",
    "code_lines",
    "echo",
    "open_slots",
    "placeholder",
    "refusal",
    "truncated",
]

_FENCE: Final = "```"


def _any(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_NOTHING: Final = _any(
    *(r"no[\s_-]?(?:in|out)put", r"n/?a", "none", "null", "nil", "nan", "undefined", "tbd", "todo"),
    *("not (?:applicable|available|specified)", "no (?:answer|response|data)"),
    r"no (?:in|out)put(?: (?:is|was|required|needed|provided|given)){1,3}",
    "(?:your |the )?(?:answer|output|response|input)(?: goes)? here",
)
_PLACEHOLDER: Final = rf"(?i)^\W{{0,4}}{_NOTHING}\W{{0,4}}$"
_NO_INPUT: Final = r"(?im)^\W{0,2}no(?:in|out)put\W{0,2}$"
_MARK: Final = r"(?i)<\s?no[\s_-]?(?:in|out)put\s?>"
_SLOT: Final = r"(?i)" + _any(
    r"\[(?:insert|enter|add|your|put) [^\[\]\n]{1,60}\]",
    r"<(?:insert|enter|add|your) [^<>\n]{1,60}>",
    r"\blorem ipsum\b",
)

_CANNOT: Final = "(?:can ?not|can['’]t)"
_UNABLE: Final = "(?: am|['’]m) (?:unable|not able)"
_LACKS: Final = "do(?: not|n['’]t) have (?:access|the ability|personal|information|the capab)"
_TO_DO: Final = _any(
    *("help", "assist", "answer", "provide", "give", "generate", "create", "write", "fulfil"),
    *("comply", "complete", "perform", "access", "respond", "browse", "display", "draw", "process"),
)
_SORRY: Final = _any(
    "(?:i['’]?m|i am|we['’]?re) (?:very |so |really |terribly )?sorry",
    *("sorry", "unfortunately", "i apologi[sz]e", "my apologies"),
)
_MACHINE: Final = "(?:ai|artificial intelligence|gpt(?:-?\\d)?|(?:large )?language)"
_REFUSAL: Final = r"(?i)" + _any(
    rf"^\W{{0,3}}{_SORRY}[^.!?\n]{{0,120}}\b(?:i|we)(?: {_CANNOT}|{_UNABLE}| {_LACKS})",
    rf"^\W{{0,3}}i {_CANNOT} {_TO_DO}",
    rf"^\W{{0,3}}i{_UNABLE} to {_TO_DO}",
    rf"^\W{{0,3}}i {_LACKS}",
    rf"^\W{{0,3}}(?:this|the|that) (?:request|question|task|instruction) {_CANNOT} be",
    rf"^\W{{0,3}}(?:it|this) is not possible to {_TO_DO}",
)
_OF_MACHINES: Final = r"(?i)" + _any(
    rf"\bas an? {_MACHINE}\b[^.!?\n]{{0,60}}\b(?:{_CANNOT}|do not|don['’]t|am not|unable)\b",
    rf"\b{_MACHINE}(?: language)? models? {_CANNOT}\b",
    rf"\b{_MACHINE}(?: language)? models? (?:is|are) (?:unable|not (?:able|designed))\b",
    rf"\b{_CANNOT} be \w+ by (?:a|an|the) (?:{_MACHINE}|model)\b",
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


def code_lines() -> str:
    """Pattern of code: fenced blocks, and lines that occur in code only."""
    return rf"(?s:{_FENCE}.*?(?:{_FENCE}|\z))|(?m:{_CODE_LINE})"


def placeholder(answer: pl.Expr) -> pl.Expr:
    """The answer is a placeholder (``N/A``, ``Noinput``), or contains the mark ``<nooutput>``."""
    return pl.any_horizontal(
        answer.str.contains(pattern) for pattern in (_PLACEHOLDER, _MARK, _NO_INPUT)
    )


def open_slots(answer: pl.Expr, prompt: pl.Expr) -> pl.Expr:
    """The answer has a slot to fill in (``[Your Name]``) that the prompt does not have.

    In a letter that may be intended.
    """
    slot = answer.str.extract(f"({_SLOT})", 1)
    copied = prompt.str.to_lowercase().str.contains(slot.str.to_lowercase(), literal=True)
    return slot.is_not_null() & ~copied.fill_null(False)


def refusal(answer: pl.Expr, prompt: pl.Expr) -> pl.Expr:
    """The answer starts with a refusal in English.

    Statements that AI models cannot do something also count, unless the prompt mentions models.
    """
    start = answer.str.head(400)
    about_machines = prompt.str.contains(rf"(?i)\b(?:{_MACHINE}|models?)\b").fill_null(False)
    return start.str.contains(_REFUSAL) | (start.str.contains(_OF_MACHINES) & ~about_machines)


def truncated(answer: pl.Expr) -> pl.Expr:
    """The answer is cut off: an open code fence, or prose without the end of a sentence.

    Prose counts only if an earlier sentence has an end, and the last line has six words or more and
    is no list item, code, verse, source of a quotation, link or row of hashtags.
    """
    text = answer.str.strip_chars()
    last = text.str.extract(r"([^\n]*)\z", 1)
    verse = text.str.contains(r"[\p{L}\p{N},;][ \t]*\n+[^\n]*\z")
    other = pl.any_horizontal(last.str.contains(sign) for sign in (_LIST_ITEM, _CODE_LINE, _TAIL))
    prose = ~other & ~verse & (last.str.count_matches(r"\S+") >= 6)
    open_end = text.str.contains(r"[\p{L}\p{N}]\z") & text.str.contains(_SENTENCE_END)
    hanging = text.str.contains(r"[\p{L}\p{N}][,(\[–—-]\z")
    fences = text.str.count_matches(_FENCE, literal=True)
    return (fences % 2 == 1) | (prose & (open_end | hanging))


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
