"""Signs of a prompt injection in a text: verdicts, control tokens, fences, orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.rows.chat import Part, part_of

__all__ = ["Injection"]

_NAMES: Final = "(?:(?:final|overall|total|educational) )?(?:score|rating|verdict)"
_LABEL: Final = r"(?:\d+(?:\.\d+)?(?:\s?/\s?\d+)?|\[*[A-D]\]*|yes|no|tie)"
_LINE_END: Final = "\r\n?|[\u2028\u2029\u0085]"
_SIGNS: Final = {
    "control_token": (
        r"<[|｜][^|｜<>\n]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|</s>|<(?:start|end)_of_turn>"
    ),
    "fence": r"(?i)\[(?:begin|end) (?:answer|verdict|instruction|data)\b",
    "hidden": (
        "[\u202a-\u202e\u2066-\u2069\\x{E0000}-\\x{E007F}]"
        "|[\\p{Latin}\\p{N}]\u200b[\\p{Latin}\\p{N}]\u200b"
    ),
    "master_key": (
        r"(?i)^\s*(?:[\p{P}\p{Sm}\p{Sc}\p{Sk}]{1,3}"
        r"|(?:thought process|solution|step by step)\s*[:.]?)\s*$"
    ),
    "order": (
        r"(?i)\b(?:ignore|disregard|forget) (?:all |any |the |your )*(?:previous|above|prior|rules|"
        r"instructions)|\b(?:rules|instructions) above are void"
    ),
    "verdict": (
        rf"(?im)^[\s>*#_]{{0,6}}{_NAMES}\s?[:=]\s?\**{_LABEL}[\s*_.]{{0,4}}$"
        rf"|[\"']{_NAMES}[\"']\s?:\s?[\"']?{_LABEL}\b|\[\[[A-C]\]\]"
    ),
}


@dataclass(frozen=True)
class Injection:
    """``injection_signs``: what in a text may be meant for a judge or a model that reads it.

    * ``control_token``: of chat templates, such as ``<|im_end|>``, ``[INST]`` or ``</s>``
    * ``fence``: a mark such as ``[END answer]``
    * ``hidden``: characters that reorder or hide text, or zero-width ones between letters
    * ``master_key``: nothing but a mark such as ``:`` or a phrase such as "Thought process:", for
      which judges give good scores (arXiv:2507.08794)
    * ``order``: "ignore all previous instructions" and the like; English only
    * ``verdict``: a line such as ``Score: 5``, a JSON score, or ``[[A]]``

    A judge of ours takes no verdict out of the data, whatever it holds; the signs are for reading
    such rows, or dropping them by the flags selector. Texts about chat templates or grades have
    them, too. A row without the text has null. The patterns run in linear time.

    Not for proof that a text is safe: an attack in other words is not found.

    Options:
        of: Text that is searched: the prompt, the response, or both.
    """

    of: Part = "response"

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"injection_signs": tuple(_SIGNS)}
    adds: ClassVar = {"injection_signs": pl.List(pl.String)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Search one text a row."""
        text = part_of(batch["messages"], self.of).str.replace_all(_LINE_END, "\n").alias("text")
        found = [
            pl.when(pl.col("text").str.contains(pattern)).then(pl.lit(name))
            for name, pattern in _SIGNS.items()
        ]
        signs = pl.concat_list(found).list.drop_nulls()
        return text.to_frame().select(
            injection_signs=pl.when(pl.col("text").is_not_null()).then(signs)
        )
