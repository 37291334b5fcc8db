"""Personal data in a text: e-mail, phone, card, IBAN, IP address, social security number, key."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.rows.chat import Part, part_of

__all__ = ["PII"]


@dataclass(frozen=True)
class PII:
    """The number of pieces of personal data in a conversation's text, and their kinds.

    ``email``, ``phone`` (written in groups, or with ``+``), ``card`` (13 to 19 digits that pass
    Luhn's check), ``iban`` (of a known country's length, checksum right), ``ip`` (v4 or v6, not the
    loopback), ``ssn`` (ddd-dd-dddd that the US could have issued, as a social security or a
    taxpayer number), ``key`` (an API key, token or private key by its well-known form). Names and
    addresses are not looked for. Patterns find form, not truth: a part number can look like a
    phone number. ``pii_kinds`` is sorted and can be given to the flags selector.

    The patterns run in linear time on any text. A row without the text has null.

    Options:
        of: Text that is searched: the prompt, the response, or both.
    """

    of: Part = "both"

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"pii_kinds": ("card", "email", "iban", "ip", "key", "phone", "ssn")}
    adds: ClassVar = {"pii_count": pl.UInt32, "pii_kinds": pl.List(pl.String)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Search one text a row."""
        text = part_of(batch["messages"], self.of).alias("text")
        counts = pl.DataFrame([_count(text, kind) for kind in self.flags["pii_kinds"]])
        kinds = [pl.when(pl.col(kind) > 0).then(pl.lit(kind)) for kind in counts.columns]
        known = pl.Series(text.is_not_null())
        return counts.select(
            pii_count=pl.when(known).then(pl.sum_horizontal(pl.all())).cast(pl.UInt32),
            pii_kinds=pl.when(known).then(pl.concat_list(kinds).list.drop_nulls()),
        )


def _count(text: pl.Series, kind: str) -> pl.Series:
    """Matches of a kind in each text, of which only those that pass its check count."""
    if kind not in _CHECKS:
        return text.str.count_matches(_PATTERNS[kind]).alias(kind)
    check = _CHECKS[kind]
    frame = pl.DataFrame({"found": text.str.extract_all(_PATTERNS[kind])}).with_row_index("row")
    found = frame.filter(pl.col("found").list.len() > 0).explode("found", empty_as_null=False)
    passed = found.filter(pl.Series([check(one) for one in found["found"]], dtype=pl.Boolean))
    counts = passed.group_by("row").len(kind)
    joined = frame.join(counts, on="row", how="left", maintain_order="left")
    return joined.select(pl.col(kind).fill_null(0).cast(pl.UInt32))[kind]


def _is_card(text: str) -> bool:
    """Luhn's check: every second digit from the right is doubled, its digits added.

    >>> _is_card("4111 1111 1111 1111"), _is_card("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(each) for each in text if each.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    """ISO 13616: of its country's length, and 1 modulo 97 once the first four signs go last.

    What follows the number in the text may have been taken along; it is cut off.

    >>> _is_iban("GB82 WEST 1234 5698 7654 32"), _is_iban("GB82 WEST 1234 5698 7654 33")
    (True, False)
    """
    packed = "".join(text.split())
    number = packed[: _IBAN_LENGTHS.get(packed[:2], 0)]
    if len(number) < _IBAN_LENGTHS.get(packed[:2], 1):
        return False
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


_GAP: Final = r"[ .\-]"
_HEX: Final = "[0-9A-Fa-f]{1,4}"

_PATTERNS: Final[Mapping[str, str]] = {
    "email": (
        r"\b[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@"
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}\b"
    ),
    "phone": (
        rf"\+\d{{1,3}}{_GAP}?(?:\(\d{{1,4}}\){_GAP}?)?(?:\d{{1,4}}{_GAP}?){{1,5}}\d{{3,4}}\b"
        rf"|\(\d{{2,5}}\) ?\d{{3,4}}{_GAP}?\d{{3,4}}\b"
        rf"|\b\d{{3}}{_GAP}\d{{3}}{_GAP}\d{{4}}\b"
        rf"|\b0[1-9]\d{{0,3}}[ /\-]\d{{3,4}}[ \-]?\d{{3,4}}\b"
    ),
    "card": r"\b[2-6]\d{3}[ \-]?(?:\d{4}[ \-]?){2}\d{1,7}\b|\b3[47]\d{2}[ \-]?\d{6}[ \-]?\d{5}\b",
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b",
    "ip": rf"\b(?:\d{{1,3}}\.){{3}}\d{{1,3}}\b|(?:{_HEX})?(?:::?{_HEX}){{2,7}}(?:::)?\b",
    "ssn": (
        r"\b(?:00[1-9]|0[1-9]\d|[1-57-9]\d\d|6[0-57-9]\d|66[0-57-9])"
        r"-(?:0[1-9]|[1-9]\d)-(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})\b"
    ),
    "key": (
        r"\bsk-[A-Za-z0-9_\-]{20,200}\b|\bgh[pousr]_[A-Za-z0-9]{36,255}\b"
        r"|\bgithub_pat_[A-Za-z0-9_]{22,255}\b|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
        r"|\bAIza[A-Za-z0-9_\-]{35}|\bxox[abeprs]-[A-Za-z0-9\-]{10,250}\b"
        r"|\bhf_[A-Za-z0-9]{30,100}\b|\b[sr]k_live_[A-Za-z0-9]{20,250}\b"
        r"|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----"
        r"|\beyJ[A-Za-z0-9_\-]{8,4000}\.eyJ[A-Za-z0-9_\-]{8,4000}\.[A-Za-z0-9_\-]{8,2000}"
    ),
}
_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "card": _is_card,
    "iban": _is_iban,
    "ip": _is_ip,
}
_IBAN_COUNTRIES: Final[Mapping[int, str]] = {
    15: "NO",
    16: "BE",
    18: "DK FI NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ",
    24: "AD CZ ES MD PK RO SA SE SK TN",
    25: "PT",
    26: "IS TR",
    27: "FR GR IT MC SM",
    28: "AL AZ CY HU LB PL",
    29: "BR EG QA UA",
    30: "JO KW MU",
    31: "MT",
}
"""Countries by the length of their numbers."""
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    country: length
    for length, countries in _IBAN_COUNTRIES.items()
    for country in countries.split(" ")
}
