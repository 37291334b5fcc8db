"""Refusals in English: an answer that declines, lectures or sends elsewhere in place of helping.

An answer is cut into clauses, and each clause is put into one of a few classes by its words: a
refusal ("I can't help with that"), a verdict on the request ("this request is harmful"), a moral
statement, an exhortation, a redirection, an apology. What is left over is help. A clause that
refuses counts only while help is the smaller part, so that an answer which begins like a refusal
and then does what was asked is none.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from siftune.curate.text import refusal_phrases as phrases
from siftune.curate.text.brief_refusals import brief_refusals

__all__ = ["refusals"]


_BEGINNING, _READ = 500, 800  # characters in which a refusal begins, and of which it is judged
_NEARLY_ALL, _LARGELY, _MOSTLY, _HARDLY = 0.75, 0.6, 0.5, 0.2  # shares of words that help
_FEW, _SENTENCE, _BRIEF = 10, 30, 90  # words

_CLASSES: Final = {
    "verdict": phrases.VERDICT,
    "exhorts": phrases.EXHORTS,
    "sends_away": phrases.SENDS_AWAY,
    "other_subject": phrases.CHANGES_SUBJECT,
    "offers": phrases.OFFERS,
    "apology": phrases.APOLOGY,
    "blames": phrases.BLAMES,
    "virtue": phrases.VIRTUE,
    "negated": phrases.NEGATED,
}
_EARLY: Final = f"{phrases.REFUSES}|{phrases.ABOUT_MODELS}|{phrases.VERDICT}"
_BARE: Final = "|".join(
    (phrases.EXHORTS, phrases.SENDS_AWAY, phrases.JUDGES, phrases.BLAMES, phrases.NEGATED)
)
_HINTS: Final = (
    *("can", "n't", "n’t", "not", "never", "unable", "unwilling", "declin", "refus", "have no"),
    *("no way", "rather", "prefer", "reluctant", "beyond", "outside", "against", "prohibit"),
    "legal",
    *("ethical", "harm", "appropriate", "offens", "danger", "wrong", "crim", "violat", "hate"),
    *("programmed", "instructed", "pass", "say no", "should", "must", "please", "important"),
    "crucial",
    *("essential", "vital", "urge", "advise", "encourage", "recommend", "suggest", "best", "you"),
    *("instead", "cruel", "fair", "fraud", "just", "disrespect", "stereotyp", "generali", "remind"),
    *("abuse", "hurt", "risk", "death", "poison", "kill", "bully", "suffer", "racis", "sexis"),
    *(
        "count me",
        "leave me",
        "forget it",
        "no deal",
        "no dice",
        "place to",
        "one for",
        "how about",
        "something",
        "topic",
        "subject",
        "switch",
    ),
    *("consequence", "tragedy", "honest", "prejudice", "mock", "emphasi", "caution", "arson"),
    "threat",
)
"""Pieces of which the patterns below need one: a cheap test first."""


def refusals(prompts: pl.Series, answers: pl.Series) -> pl.Series:
    """Whether each answer is a refusal in English; null where there is no answer.

    Statements that AI models cannot do something count, unless the prompt mentions models.
    """
    rows = pl.DataFrame({"prompt": prompts.fill_null(""), "answer": answers}).with_row_index("row")
    answer = pl.col("answer")
    rows = rows.with_columns(answer.str.replace_all(phrases.CONCESSION, "$1;"))
    delivered = answer.str.contains(phrases.DELIVERS) & ~answer.str.contains(phrases.HERE_IS_WHY)
    judged = rows.filter(~delivered & ~pl.col("prompt").str.contains(phrases.WANTS_REFUSAL))
    hints = judged.filter(answer.str.contains_any(list(_HINTS), ascii_case_insensitive=True))
    found = _refusing(hints) if hints.height else hints["row"]
    brief = brief_refusals(judged.filter(~pl.col("row").is_in(found.implode())))
    raised = pl.col("row").is_in(pl.concat([found, brief]).implode())
    return rows.select(pl.when(answer.is_not_null()).then(raised)).to_series()


def _refusing(rows: pl.DataFrame) -> pl.Series:
    """Numbers of the rows with a refusal."""
    answer = pl.col("answer")
    letter = answer.str.contains(r"(?i)^\W*(?:dear|subject:) ")
    brief = (answer.str.len_chars() <= _READ) & answer.str.contains(_BARE)
    some = rows.filter((answer.str.head(_BEGINNING).str.contains(_EARLY) | brief) & ~letter)
    return some.filter(_decide(some, _clauses(some)))["row"] if some.height else some["row"]


def _clauses(rows: pl.DataFrame) -> pl.DataFrame:
    """The clauses of each answer, with a column for each class of phrases."""
    text = pl.col("answer").str.head(_READ).str.replace_all(phrases.QUOTED, " … ")
    text = text.str.replace_all(phrases.NO_REFUSAL, " … ")
    marked = text.str.replace_all(f"({phrases.CLAUSE_END})", "$1\x1f").str.split("\x1f")
    clauses = rows.select("row", "prompt", clause=marked).explode("clause", empty_as_null=False)
    clause, prompt = pl.col("clause"), pl.col("prompt")
    clauses = clauses.with_columns(
        begins=clause.str.len_chars().cum_sum().over("row") - clause.str.len_chars(),
        words=clause.str.count_matches(phrases.WORD),
    ).filter(pl.col("words") > 0)
    machines = prompt.str.contains(rf"(?i)\b(?:{phrases.MACHINE}|models?)\b")
    of_task = clause.str.contains(phrases.OF_THE_TASK) | ~prompt.str.contains(phrases.FICTION)
    refuses = clause.str.contains(phrases.REFUSES) & of_task
    refuses |= clause.str.contains(phrases.ABOUT_MODELS) & ~machines
    reason = (
        clause.str.extract(f"({phrases.REASON})", 1).str.count_matches(phrases.WORD).fill_null(0)
    )
    return clauses.with_columns(
        refuses=refuses,
        words=pl.when(refuses).then(pl.col("words") - reason).otherwise("words"),
        **{name: clause.str.contains(pattern) for name, pattern in _CLASSES.items()},
    )


def _decide(rows: pl.DataFrame, clauses: pl.DataFrame) -> pl.Series:
    helps = ~pl.any_horizontal("refuses", *_CLASSES)
    content = helps | ~pl.any_horizontal(
        "refuses", *(set(_CLASSES) - {"blames", "virtue", "negated"})
    )
    early, clause, words = pl.col("begins") < _BEGINNING, pl.col("clause"), pl.col("words")
    totals = clauses.group_by("row").agg(
        all=words.sum(),
        help=words.filter(helps).sum(),
        content=words.filter(content).sum(),
        strong=((pl.col("refuses") | pl.col("verdict")) & early).any(),
        flat=(pl.col("refuses") & clause.str.contains(phrases.FLAT) & early).any(),
        negated=pl.col("negated").any(),
        other_subject=(pl.col("other_subject") & early).any(),
        exhorts=pl.col("exhorts").any(),
        sends_away=pl.col("sends_away").any(),
        blames=clause.str.count_matches(phrases.BLAMES).sum(),
        virtues=clause.str.count_matches(phrases.VIRTUE).sum(),
        ends=pl.col("exhorts").sort_by("begins").last(),
        sorry=clause.str.contains(r"(?i)\bsorry\b|\bapologi[sz]e\b").any(),
        starts=helps.sort_by("begins").first().not_(),
    )
    joined = rows.join(totals, on="row", how="left", maintain_order="left")
    prompt, answer, size = pl.col("prompt"), pl.col("answer"), pl.col("all")
    share, content = pl.col("help") / size, pl.col("content") / size
    transforms = prompt.str.contains(phrases.TRANSFORMS)
    written = prompt.str.contains(phrases.FICTION)
    payload = transforms & ~answer.str.contains(phrases.OF_THE_REQUEST)
    most = pl.when(pl.col("flat")).then(_NEARLY_ALL).otherwise(_MOSTLY)
    declines = pl.col("strong") & ~((content >= most) & (pl.col("content") >= _FEW)) & ~payload
    bare = (share <= _HARDLY) & pl.col("starts") & ~transforms & (size <= _BRIEF)
    on_morals = prompt.str.contains(phrases.ASKED_ADVICE) | prompt.str.contains(phrases.YES_OR_NO)
    blames, virtues, urges = pl.col("blames"), pl.col("virtues"), pl.col("exhorts")
    lecture = ((blames > 0) & (blames + virtues + urges >= 2)) | (urges & (virtues > 0))
    judges = (blames > 0) & answer.str.contains(phrases.JUDGES) & (size <= _SENTENCE)
    ends = (share <= _LARGELY) & pl.col("ends") & (blames + virtues > 0) & (size <= 2 * _SENTENCE)
    lectures = ~on_morals & ((bare & (lecture | judges)) | (ends & ~transforms))
    crisis = answer.str.contains(phrases.CRISIS) & ~prompt.str.contains(phrases.SEEKS_CRISIS_LINE)
    seeks_help = prompt.str.contains(phrases.SEEKS_HELP) & ~crisis
    leaves = pl.col("other_subject") & pl.col("starts") & (share <= _MOSTLY) & (size <= _SENTENCE)
    away = bare | (crisis & pl.col("starts") & (share <= _LARGELY) & (size <= _BRIEF))
    redirects = away & pl.col("sends_away") & ~seeks_help
    negated = bare & pl.col("negated") & ~written & (~on_morals | pl.col("sorry"))
    return joined.select(
        (declines | lectures | redirects | negated | (leaves & ~written & ~transforms)).fill_null(
            False
        )
    ).to_series()
