"""Secrets in a text: API keys, tokens, private keys and passwords, by form and by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.private_data.secret_patterns import KINDS, find_secrets
from siftune.curate.private_data.span_columns import SPAN, span_columns
from siftune.curate.rows.chat import Part

__all__ = ["Secrets"]


@dataclass(frozen=True)
class Secrets:
    """The number of secrets in a conversation, their kinds, and where they are.

    ``secrets_kinds`` are the names of services (``aws_access_key``, ``github_token``,
    ``openai_key`` …), ``jwt``, ``private_key``, ``url_password`` (``https://user:password@host``),
    ``authorization`` (of an HTTP header), ``service_token`` (of a service with a prefix of its own)
    and ``assigned``: a value of high entropy that a name such as ``api_key`` or ``password`` is
    given. The forms are those of the services' documentation and of the rules of gitleaks and
    detect-secrets (`private_data.secret_patterns`).

    Placeholders (``YOUR_API_KEY``, ``AKIAIOSFODNN7EXAMPLE``), UUIDs, hashes and tokens with too few
    different signs do not count: Shannon entropy of 2.8 bits a sign, 3.2 for values that only a
    name betrays. A password that is a dictionary word is not found.

    ``secrets_spans`` has ``turn``, ``field``, ``start``, ``end`` and ``kind``: no column, log or
    report gets the text of a secret. ``siftune curate redact`` replaces them. The patterns run in
    linear time on any text. A row without the text has null.

    Not for passwords in plain prose: a secret is found by its form or by the name before it.

    Options:
        of: Text that is searched: the prompt, the response, or both.
    """

    of: Part = "both"

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"secrets_kinds": tuple(sorted(KINDS))}
    adds: ClassVar = {
        "secrets_count": pl.UInt32,
        "secrets_kinds": pl.List(pl.String),
        "secrets_spans": pl.List(SPAN),
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Search the turns of each conversation."""
        return span_columns("secrets", batch["messages"], self.of, find_secrets)
