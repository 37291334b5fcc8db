"""Exact match and containment of answers in normalised text."""

from __future__ import annotations

import re
import unicodedata

from siftune.curate.records.final_answers import final_answer, short_answer

__all__ = ["after_thinking", "contains", "exact_match", "plain"]


def after_thinking(completion: str) -> str:
    """What follows the last ``</think>``; the whole completion where there is none.

    >>> after_thinking("<think>4?</think>5"), after_thinking("<think>4?")
    ('5', '<think>4?')
    """
    return completion.rpartition("</think>")[2]


def plain(text: str) -> str:
    """The normalised text: NFKC, case folded, white space as one blank, no full stop at the end."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .")


def exact_match(said: str, known: str) -> bool:
    r"""Whether an answer equals the known one after normalisation.

    Where that is a number or a formula, only the final answer of a worked solution counts: what
    follows its last ``####`` or is in ``\boxed{}``.

    >>> exact_match("Paris. ", "paris"), exact_match("It is Paris", "Paris")
    (True, False)
    >>> exact_match("6 + 6 is\n#### 12", "12"), exact_match(r"So \boxed{13}.", "12")
    (True, False)
    """
    if short_answer(known):
        said = final_answer(said)
    return plain(said) == plain(known)


def contains(said: str, known: str) -> bool:
    """Whether an answer has the known one in it, as whole words.

    >>> contains("It is Paris, I think.", "Paris"), contains("Parisian", "Paris")
    (True, False)
    """
    words = plain(known)
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", plain(said)) is not None
