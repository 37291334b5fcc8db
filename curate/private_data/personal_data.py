"""Spans of personal data in texts: patterns, checksums and the words around them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from siftune.curate.private_data.pattern_spans import Check, Span, find_all
from siftune.curate.private_data.phone_numbers import PHONE, phone_span
from siftune.curate.private_data.secret_patterns import find_secrets

__all__ = ["KINDS", "find_personal_data"]

_AROUND: Final = 60  # characters in which a word of the context counts


def find_personal_data(texts: pl.Series, kinds: Iterable[str] | None = None) -> pl.DataFrame:
    """Spans of personal data in each text (`pattern_spans.SPANS`); ``key`` is any secret."""
    wanted = set(KINDS if kinds is None else kinds)
    found = find_all(texts, _PATTERNS, [kind for kind in _PATTERNS if kind in wanted])
    if "key" not in wanted:
        return found
    keys = find_secrets(texts).with_columns(kind=pl.lit("key"))
    other = found.join(keys, on="row", how="left", suffix="_key", maintain_order="left")
    overlaps = (pl.col("start") < pl.col("end_key")) & (pl.col("end") > pl.col("start_key"))
    taken = other.filter(overlaps).select(found.columns)
    rest = found.join(taken, on=found.columns, how="anti", maintain_order="left")
    return pl.concat([rest, keys]).sort("row", "start")


def _near(text: str, start: int, end: int, words: re.Pattern[str]) -> bool:
    return bool(words.search(text[max(0, start - _AROUND) : end + _AROUND]))


def _in_a_number(text: str, start: int, end: int) -> bool:
    """Whether the digits go on, in a decimal, a sum, a path or a range."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    return bool(_BEFORE_DIGITS.search(before) or _AFTER_DIGITS.match(after))


def _email(text: str, start: int, end: int) -> Span | None:
    """An address; ``git@`` and the like are no persons, ``a@2x.png`` is a file."""
    name, _, domain = text[start:end].partition("@")
    if name in ("git", "ssh", "svn") or domain.lower().endswith(_FILE_ENDINGS):
        return None
    return start, end


def _card(text: str, start: int, end: int) -> Span | None:
    """12 to 19 digits of an issuer that pass Luhn's check; of unusual lengths, beside a word."""
    if _in_a_number(text, start, end):
        return None
    digits = [int(each) for each in text[start:end] if each.isdecimal()]
    if not is_luhn(digits) or len(set(digits)) < 2:
        return None
    usual = len(digits) == 16 or (len(digits) == 15 and digits[0] == 3)
    return (start, end) if usual or _near(text, start, end, _CARD_WORDS) else None


def is_luhn(digits: list[int]) -> bool:
    """Luhn's check: every second digit from the right is doubled, its digits added.

    >>> is_luhn([4] + [1] * 15), is_luhn([4] + [1] * 14 + [2])
    (True, False)
    """
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str, start: int, end: int) -> Span | None:
    """ISO 13616: 1 modulo 97 once the first four signs go last, of its country's length.

    What follows the number in the text may have been taken along; it is cut off. A number in one
    piece may be a sign too long or too short, as those of generators and typists are.
    """
    signs = [at for at in range(start, end) if text[at].isalnum()]
    packed = "".join(text[at] for at in signs).upper()
    length = _IBAN_LENGTHS.get(packed[:2])
    if length is None:
        return None
    one_piece = len(text[start:end].split()[0])
    for size in (length, one_piece):
        right = len(packed) >= size and abs(size - length) <= 1 and is_iban(packed[:size])
        if right and not text[signs[size - 1] + 1 :][:1].isalnum():
            return start, signs[size - 1] + 1
    return None


def is_iban(number: str) -> bool:
    """Whether the check digits are right.

    >>> is_iban("GB82WEST12345698765432"), is_iban("GB82WEST12345698765433")
    (True, False)
    """
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def _ip(text: str, start: int, end: int) -> Span | None:
    """An address, neither the loopback nor the version of a program."""
    found = text[start:end]
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    if _VERSION.search(text[max(0, start - 60) : start]) or text[end : end + 2].startswith("::"):
        return None
    if _VERSIONS.search(text[max(0, start - 60) : start]) and not _near(
        text, start, end, _IP_WORDS
    ):
        return None
    if ":" not in found and max(address.packed) < 10 and not _near(text, start, end, _IP_WORDS):
        return None  # the number of a section, a formula
    named = ":" not in found or (any(each.isdigit() for each in found) and len(found) >= 7)
    return (start, end) if named else None


def _ssn(text: str, start: int, end: int) -> Span | None:
    """ddd-dd-dddd that the US could have issued; with other separators or none, beside a word."""
    found = text[start:end]
    if _in_a_number(text, start, end):
        return None
    digits = re.sub(r"\D", "", found)
    if digits[:3] in ("000", "666") or digits[3:5] == "00" or digits[5:] == "0000":
        return None
    dashed = found.count("-") == 2
    return (start, end) if dashed or _near(text, start, end, _SSN_WORDS) else None


def _national_id(text: str, start: int, end: int) -> Span | None:
    """A number of a country's register, its check digits right; bare digits beside its name."""
    found = re.sub(r"[ .\-]", "", text[start:end]).upper()
    named = any(_near(text, start, end, word) and check(found) for word, check in _NAMED_REGISTERS)
    return (start, end) if named or any(check(found) for check in _REGISTERS) else None


def _is_codice_fiscale(number: str) -> bool:
    """Italy: signs at odd places by a table, the others by their order; the sum modulo 26.

    >>> _is_codice_fiscale("RSSMRA85T10A562S"), _is_codice_fiscale("RSSMRA85T10A562T")
    (True, False)
    """
    if not re.fullmatch(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", number):
        return False
    order = [int(sign) if sign.isdigit() else ord(sign) - 65 for sign in number]
    odd = sum(_ODD_VALUES[value] for value in order[0:15:2])
    return (odd + sum(order[1:15:2])) % 26 == order[15]


def _is_dni(number: str) -> bool:
    """Spain: eight digits, or X, Y or Z and seven, and the letter of the remainder by 23.

    >>> _is_dni("12345678Z"), _is_dni("12345678A"), _is_dni("X1234567L")
    (True, False, True)
    """
    if not re.fullmatch(r"[XYZ\d]\d{7}[A-Z]", number):
        return False
    digits = number[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == number[-1]


def _is_cpf(number: str) -> bool:
    """Brazil: eleven digits, of which the last two are weighted sums modulo 11.

    >>> _is_cpf("52998224725"), _is_cpf("52998224726")
    (True, False)
    """
    if not re.fullmatch(r"\d{11}", number) or len(set(number)) == 1:
        return False
    for size in (9, 10):
        total = sum(int(number[at]) * (size + 1 - at) for at in range(size))
        if (10 * total) % 11 % 10 != int(number[size]):
            return False
    return True


def _is_nir(number: str) -> bool:
    """France: thirteen digits and 97 less their remainder by 97.

    >>> _is_nir("255081416802538"), _is_nir("255081416802539")
    (True, False)
    """
    return bool(re.fullmatch(r"[12]\d{14}", number)) and 97 - int(number[:13]) % 97 == int(
        number[13:]
    )


def _is_nino(number: str) -> bool:
    """United Kingdom: two letters that are in use, six digits, and A to D; it has no check digit.

    >>> _is_nino("AB123456C"), _is_nino("DA123456C"), _is_nino("GB123456A")
    (True, False, False)
    """
    if not re.fullmatch(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]", number):
        return False
    return number[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _is_nhs(number: str) -> bool:
    """England: ten digits; the first nine times 10 to 2 and the last add up to 0 modulo 11.

    >>> _is_nhs("9434765919"), _is_nhs("9434765918")
    (True, False)
    """
    digits = [int(sign) for sign in number if sign.isdigit()]
    weights = range(10, 0, -1)
    return len(digits) == 10 and sum(map(int.__mul__, weights, digits)) % 11 == 0


def _is_sin(number: str) -> bool:
    """Canada: nine digits that pass Luhn's check."""
    return len(number) == 9 and number.isdigit() and is_luhn([int(sign) for sign in number])


def _is_aadhaar(number: str) -> bool:
    """India: twelve digits, the first 2 to 9; the check digit is not looked at."""
    return bool(re.fullmatch(r"[2-9]\d{11}", number))


_BEFORE_DIGITS: Final = re.compile(r"[/=_#.,+*^$€£-]$")
_AFTER_DIGITS: Final = re.compile(r"[/=_#+*^%$€£]|[-.,:]\w| \d")
_FILE_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".css", ".js")
_CARD_WORDS: Final = re.compile(
    r"(?i)\b(?:cards?|visa|master ?card|maestro|amex|american express|diners|discover|jcb|credit|"
    r"debit|payments?|charged?|karte|carte|tarjeta|carta|cartão)\b"
)
_SSN_WORDS: Final = re.compile(r"(?i)\b(?:ssns?|social security|tax ?payer|itin)\b")
_IP_WORDS: Final = re.compile(
    r"(?i)\b(?:ip|ips|ipv4|address(?:es)?|dns|servers?|host\w*|ping|router|networks?|connect\w*"
    r"|logs?|logged|login|requests?|clients?|firewall|subnet|gateway|nameserver|ports?|ssh|proxy"
    r"|packets?)\b"
)
_VERSION: Final = re.compile(
    r"(?i)\b(?:v|(?:versions?|releases?|ver\.?|builds?|firmware|sections?|chapters?)"
    r"(?:(?:,? (?:and|or|to|from|than|through|with)|,)? ?v?\d+(?:\.\d+)+){0,3}"
    r"(?:,? (?:and|or|to|from|than|through|is|was)|,)?) ?v?$"
)
_VERSIONS: Final = re.compile(r"(?i)\b(?:versions?|releases?|builds?|firmware) ")
_ODD_VALUES: Final = (
    *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
)
_REGISTERS: Final = (_is_codice_fiscale, _is_dni, _is_cpf, _is_nir, _is_nino)
_LETTERS: Final = r"A-Za-z\u{c0}-\u{24f}\u{370}-\u{52f}"  # Latin, Greek and Cyrillic
_NAMED_REGISTERS: Final = (
    (re.compile(r"\bNHS\b"), _is_nhs),
    (re.compile(r"\bSIN\b|(?i:\bsocial insurance\b)"), _is_sin),
    (re.compile(r"(?i)\baadhaar\b"), _is_aadhaar),
)
_HEX: Final = "[0-9A-Fa-f]{1,4}"

_PATTERNS: Final[Mapping[str, tuple[str, Check]]] = {
    "email": (
        rf"\b[{_LETTERS}0-9][{_LETTERS}0-9._%+'\-]{{0,63}}@"
        rf"(?:[{_LETTERS}0-9](?:[{_LETTERS}0-9\-]{{0,61}}[{_LETTERS}0-9])?\.){{1,6}}"
        rf"[{_LETTERS}]{{2,24}}\b",
        _email,
    ),
    "iban": (r"(?i)\b[A-Z]{2}\d{2}(?:[ \-]?[A-Z0-9]){11,30}\b", _iban),
    "card": (
        r"\b(?:[2-6]\d{3}|1800|0604)(?:[ \-]?\d{4}){2}(?:[ \-]?\d{1,4})?(?:[ \-]?\d{1,3})?\b"
        r"|\b3\d{3}[ \-]?\d{6}[ \-]?\d{4,5}\b",
        _card,
    ),
    "ssn": (r"\b\d{3}-\d{2}-\d{4}\b|\b\d{3} \d{2} \d{4}\b|\b\d{9}\b", _ssn),
    "national_id": (
        r"(?i)\b[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]\b"
        r"|\b[XYZ\d][ .\-]?\d{2}\.?\d{3}\.?\d{2,3}[ \-]?"
        r"[A-Z]\b|\b\d{3}\.\d{3}\.\d{3}-\d\d\b|\b[12] \d\d \d\d \d\d \d{3} \d{3} \d\d\b"
        r"|\b[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"
        r"|\b\d{3}[ \-]?\d{3}[ \-]?\d{3,4}\b|\b\d{4}[ \-]?\d{4}[ \-]?\d{4}\b",
        _national_id,
    ),
    "ip": (
        rf"\b(?:\d{{1,3}}\.){{3}}\d{{1,3}}\b|(?:{_HEX})?(?:::?{_HEX}){{2,7}}(?:::)?\b"
        rf"|\b{_HEX}::{_HEX}\b",
        _ip,
    ),
    "phone": (PHONE, phone_span),
}
KINDS: Final = ("key", *_PATTERNS)
"""The kinds, in the order in which one is preferred to another at the same place."""

_IBAN_COUNTRIES: Final[Mapping[int, str]] = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
"""Countries by the length of their numbers, of the registry of ISO 13616."""
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    country: length
    for length, countries in _IBAN_COUNTRIES.items()
    for country in countries.split(" ")
}
