"""Personal data in a text: e-mail, phone, card, IBAN, IP address, national numbers, secrets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.private_data.person_names import NAME_KINDS, NameFinder
from siftune.curate.private_data.personal_data import KINDS, find_personal_data
from siftune.curate.private_data.span_columns import SPAN, span_columns
from siftune.curate.rows.chat import Part

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
    * ``person``, ``location``: names, where ``names_model`` is a token classifier of
      `transformers` with classes such as PER and LOC; it reads one text at a time. Without it they
      are not looked for

    Patterns find form, not truth: a made-up number counts.
    ``pii_kinds`` is sorted and can be given to the flags selector, which then drops rows;
    ``pii_spans`` has ``turn``, ``field``, ``start``, ``end`` (characters) and ``kind`` of each
    piece; ``siftune curate redact`` replaces them. The patterns run in linear time on any text. A
    row without the text has null.

    Not for legal proof that a set is free of personal data: without a model names and places are
    not found, with one some are missed.

    Options:
        of: Text that is searched: the prompt, the response, or both.
        names_model: Token classifier for names of persons and places, as a folder or a name on
            the hub; none looks for no names.
    """

    of: Part = "both"
    names_model: str | None = None

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"pii_kinds": tuple(sorted((*KINDS, *NAME_KINDS)))}
    adds: ClassVar = {
        "pii_count": pl.UInt32,
        "pii_kinds": pl.List(pl.String),
        "pii_spans": pl.List(SPAN),
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Search the turns of each conversation."""
        find = find_personal_data if self.names_model is None else self._with_names
        return span_columns("pii", batch["messages"], self.of, find)

    def describe(self) -> dict[str, Any]:
        """The classifier by its content."""
        return {} if self._finder is None else {"names": self._finder.identity}

    def _with_names(self, texts: pl.Series) -> pl.DataFrame:
        """What patterns find, and the names that overlap none of it."""
        assert self._finder is not None  # the option is set
        found, names = find_personal_data(texts), self._finder(texts)
        both = names.join(found, on="row", suffix="_other", maintain_order="left")
        inside = (pl.col("start") < pl.col("end_other")) & (pl.col("end") > pl.col("start_other"))
        taken = both.filter(inside).select(names.columns)
        rest = names.join(taken, on=names.columns, how="anti", maintain_order="left")
        return pl.concat([found, rest]).sort("row", "start")

    @cached_property
    def _finder(self) -> NameFinder | None:
        return None if self.names_model is None else NameFinder(self.names_model)
