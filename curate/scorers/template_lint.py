"""Leftovers of chat templates and of data pipelines in a text: tokens, turn marks, fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.rows.chat import Part, part_of

__all__ = ["TemplateLint"]

_CODE: Final = r"(?s)```.*?(?:```|\z)|`[^`\n]*`"
_SIGNS: Final = {
    "control_token": (
        r"<[|｜][a-z_A-Z▁ ]{2,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?s>(?:\s|$)|\[(?:PAD|CLS|SEP|MASK"
        r"|UNK)\]"
        r"|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
    ),
    "literal_escape": r"\A[^\n]*[\p{L}.!?,]\\n(?:\\n)?[\p{L}\d*-][^\n]*\z|\\u00[0-9a-f]{2}",
    "prompt_header": r"(?m)^#{2,3} ?(?:Instruction|Response|Input|Human|Assistant|User|System) ?:",
    "template_code": (
        r"\{%-? ?\w+|\{\{ ?(?:messages?|content|role|prompt|instruction|input|output)\b"
    ),
    "turn_mark": r"(?m)^(?:Human|Assistant|User|ASSISTANT|USER|HUMAN|Chatbot|<human>|<bot>) ?: \S",
    "field_name": r"\A\s*(?i:output|response|answer|completion|assistant)\s*:\s*\S",
    "html_entity": r"&(?:amp|lt|gt|quot|nbsp|#39|#x27|apos);",
}


@dataclass(frozen=True)
class TemplateLint:
    """``template_lint_signs``: what in a text looks like a rest of a chat template or a pipeline.

    A model that is trained on such text writes it. Code in fences and backticks is left out.

    * ``control_token``: a token of templates (``<|im_end|>``, ``[INST]``, ``</s>``, ``[PAD]``)
    * ``field_name``: the text begins with ``Output:``, ``Response:`` or the like
    * ``html_entity``: ``&amp;``, ``&#39;`` and the like
    * ``literal_escape``: a backslash and an n in place of all line ends, or an escaped character
    * ``prompt_header``: a line such as ``### Response:``, of Alpaca's and Vicuna's prompts
    * ``template_code``: Jinja (``{% if``, ``{{ messages``)
    * ``turn_mark``: a line that begins with ``Human:`` or ``Assistant:``, a turn within a turn

    A play has turn marks and a page about HTML has entities: read some rows before dropping them
    with the flags selector. The patterns run in linear time. A row without the text has null.

    Not for rows about templates or HTML, where such text is the topic.

    Options:
        of: Text that is searched: the prompt, the response, or both.
    """

    of: Part = "response"

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"template_lint_signs": tuple(sorted(_SIGNS))}
    adds: ClassVar = {"template_lint_signs": pl.List(pl.String)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Search one text a row."""
        text = part_of(batch["messages"], self.of).alias("text").to_frame()
        bare = text.select(pl.col("text").str.replace_all(_CODE, " "))
        signs = [
            pl.when(pl.col("text").str.contains(_SIGNS[name])).then(pl.lit(name))
            for name in sorted(_SIGNS)
        ]
        found = pl.concat_list(signs).list.drop_nulls()
        return bare.select(template_lint_signs=pl.when(pl.col("text").is_not_null()).then(found))
