"""Personal data in a text: e-mail, phone, card, IBAN, IP address, national numbers, secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.rows.chat import Part
from siftune.curate.text.personal_data import KINDS, find_personal_data
from siftune.curate.text.turn_spans import SPAN, span_columns

__all__ = ["PII"]


@dataclass(frozen=True)
class PII:
    """The number of pieces of personal data in a conversation, their kinds, and where they are.

    * ``email``
    * ``phone``: with ``+`` and a country code (ITU-T E.164), grouped as phone numbers are, or as
      other digits beside a word such as "call"; not in sums, decimals, dates or lists of numbers
    * ``card``: 12 to 19 digits of an issuer that pass Luhn's check
    * ``iban``: of a known country, its check digits right (ISO 13616)
    * ``ip``: v4 or v6; neither the loopback nor the number of a version
    * ``ssn``: ddd-dd-dddd that the US could have issued, as a social security or a taxpayer number
    * ``national_id``: a codice fiscale (IT), DNI or NIE (ES), CPF (BR), NIR (FR), each with right
      check digits, or a national insurance number (GB)
    * ``key``: a secret of any kind that the scorer `secrets` finds

    Names and addresses are not looked for. Patterns find form, not truth: a made-up number counts.
    ``pii_kinds`` is sorted and can be given to the flags selector, which then drops rows;
    ``pii_spans`` has ``turn``, ``field``, ``start``, ``end`` (characters) and ``kind`` of each
    piece; ``siftune curate redact`` replaces them. The patterns run in linear time on any text. A
    row without the text has null.

    Not for legal proof that a set is free of personal data: names and places are not found.

    Options:
        of: Text that is searched: the prompt, the response, or both.
    """

    of: Part = "both"

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"pii_kinds": tuple(sorted(KINDS))}
    adds: ClassVar = {
        "pii_count": pl.UInt32,
        "pii_kinds": pl.List(pl.String),
        "pii_spans": pl.List(SPAN),
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Search the turns of each conversation."""
        return span_columns("pii", batch["messages"], self.of, find_personal_data)
