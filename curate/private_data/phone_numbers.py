"""Phone numbers in texts: how their digits are grouped, and the words and signs around them."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["PHONE", "phone_span"]

_ASCII: Final = {0xFF0B: "+"} | {0xFF10 + digit: str(digit) for digit in range(10)}
PHONE: Final = (
    r"(?:\+ ?|\b00)?(?:\(\+?\d{1,5}\)|\b\d|\d)(?:[ .\-/()\u00a0\u2011]{0,3}\d){5,17}"
    r"(?: ?(?:x|ext\.? ?|extension )\d{1,6})?\b"
    r"|[+\uff0b] ?[\uff10-\uff19](?:[ .\-()]{0,2}[\uff10-\uff19]){6,14}"
    r"|(?:\b|\+)(?:1[\-. ])?8(?:00|33|44|55|66|77|88)[\-. ][A-Z]{3}[A-Z\-]?[A-Z]{3,4}\b"
)
_LABEL: Final = re.compile(
    r"(?i)\b(?:tel|phone|ph|fax|mobile|cell|sms|call|callto|whats ?app):\s?\Z"
)
_UNIT_AFTER: Final = re.compile(
    r"(?i) (?:points?|people|persons?|users?|voters?|votes?|views?|times|units?|dollars?|euros?"
    r"|pounds?|cents?|francs?|yen|rupees?|kilomet\w+|met(?:re|er)s?|miles?|tons?|tonnes?|grams?|percent"
    r"|years?|months?|days?|hours?|minutes?|seconds?|bytes?|rows?|items?|inhabitants|residents|steps?"
    r"|shares?|copies|marbles|apples|square|cubic)\b"
)
_EXTENSION: Final = re.compile(r" ?(?:x|ext\.? ?|extension )(\d{1,6})$")
_WORDS: Final = re.compile(
    r"(?i)\b(?:(?:tele)?phones?|calls?|called|calling|tel|mobile|cell(?:phone|ular)?|fax|dial|ring|"
    r"text(?:ed|ing)? (?:me|us|him|her|them|to|at)|(?:my|her|his|our|best|new) number|sms"
    r"|whats ?app|hot ?line|landline|voice ?mail|contact|reach|"
    r"pager|handy|telefon\w*|téléphone|teléfono|móvil|numéro|rufnummer|cellulare)\b|☎|📞"
)
_WEAK_WORDS: Final = re.compile(r"(?i)\b(?:numbers?|no\.|nummer|número|at|on|home|office|work)\b")
_OTHER_WORDS: Final = re.compile(
    r"(?i)\b(?:isbn|issn|doi|order|invoice|serial|tracking|account|model|part|version|patent|"
    r"case|ticket|equation|sequence|array|list|digits?|sum|product|binary|date|year|score|zip|"
    r"population|coordinates?|latitude|longitude|credit|card|routing|aba|sort|swift|vin|sku|upc"
    r"|ean|total|passport|licen[cs]e|id|pin|code|nhs|sin|aadhaar)\b"
)
_PLACE_AFTER: Final = re.compile(
    r"(?i)^[ ,;:(\-]{0,3}(?:office|home|work|direct|mobile|cell|fax)\b"
)
_BEFORE: Final = 50  # characters in which a word counts
_AFTER: Final = 25
_DIGIT_BEFORE: Final = re.compile(r"\d[,;.:]? ?\Z")
_SIGN_BEFORE: Final = re.compile(r"[=*×÷^$€£¥#_/\[{]\s?\Z|[\w)\]] ?[-+.:@]\Z")
_AFTER_SIGN: Final = re.compile(
    r" ?[=*×÷^%€£$+]| ?[-/] ?\d|[.,:]\d|,? ?\d|[\w@°²³]|\s?(?:km|kg|USD|EUR)\b"
)
_SENTENCE_END: Final = re.compile(r"[.:;!?)\"'\]]{1,2}(?:\s|\Z)|,? [^\W\d]")
_DATE: Final = re.compile(
    r"(?:19|20)\d\d[-/. ][01]?\d[-/. ][0-3]?\d\b.*|[0-3]?\d[-/. ][0-3]?\d[-/. ](?:19|20)?\d\d"
    r"|(?:1[5-9]|20)\d\d ?[-/] ?(?:1[5-9]|20)\d\d"
)
_NANP: Final = re.compile(
    r"(?:1[ .-])?(?:\((?:[2-9]\d[1-9]|[2-9][1-9]0|[5-9]00)\) ?"
    r"|(?:[2-9]\d[1-9]|[2-9][1-9]0|[5-9]00)[ .-])[2-9]\d\d[ .-]\d{4}"
)
"""North America: area codes and exchanges begin with 2 to 9; 200, 300 and 400 are no area codes."""
_AREA_CODE: Final = re.compile(r"\(\+?\d{1,5}\)[ ./\-]?\d{2,8}(?:[ .\-]?\d{2,5}){0,3}")
_TRUNK: Final = re.compile(r"0\d{1,4}(?:[ /\-]\d{2,8}){1,4}|0\d(?:\.\d\d){4}|0\d(?:-\d\d){4}")
_SHORT: Final = ((4, 4), (2, 2, 2, 2), (3, 2, 3), (1, 3, 4), (3, 4), (3, 5), (2, 6))
_COUNTRIES: Final = frozenset(
    re.findall(
        r"\d+",
        "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 "
        "62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 "
        "225 226 227 228 229 230 231 232 233 234 235 236 237 238 239 240 241 242 243 244 245 246 "
        "248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 266 267 268 269 290 "
        "291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 "
        "378 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 "
        "590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 "
        "683 685 686 687 688 689 690 691 692 800 850 852 853 855 856 870 880 886 960 961 962 963 "
        "964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998",
    )
)
"""Country codes of ITU-T E.164."""


def phone_span(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span if it is a phone number, else None.

    A number with ``+`` needs a country code and 8 to 15 digits, and stands in no sum. One written
    as phone numbers are (``(20) 7946 0958``, ``202-555-0134``, ``030 901820``) needs no more; other
    groups of digits need a word such as "call" nearby.
    """
    if _in_a_number(text, start, end):
        return None
    found = text[start:end].translate(_ASCII)
    if re.search(r"[A-Z]{6}", found.replace("-", "")):  # 1-800-FLOWERS
        return start, end
    if found[0] not in "+(" and text[:start][-1:].isalpha():
        return None
    if found.count("(") != found.count(")"):
        return None
    extension = _EXTENSION.search(found)
    body = found[: extension.start()] if extension else found
    digits = re.sub(r"\D", "", body)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 2:
        return None
    if body.startswith("+"):
        return (start, end) if _is_international(text, start, digits) else None
    if _DATE.fullmatch(body):
        return None
    return (start, end) if _is_national(text, start, end, body, bool(extension)) else None


def _in_a_number(text: str, start: int, end: int) -> bool:
    """Whether a sign or a digit before or after makes it a part of a sum, a list or a decimal."""
    before, after = text[max(0, start - 4) : start], text[end : end + 6]
    if _SIGN_BEFORE.search(before) and not _LABEL.search(text[max(0, start - 12) : start]):
        return True
    if _UNIT_AFTER.match(text[end : end + 20]):
        return True
    if _DIGIT_BEFORE.search(before) and not _NANP.fullmatch(text[start:end]):
        return True
    return bool(_AFTER_SIGN.match(after)) and not _SENTENCE_END.match(after)


def _is_international(text: str, start: int, digits: str) -> bool:
    gap = re.search(r"(\S?)\s*$", text[max(0, start - 4) : start])
    last = gap.group(1) if gap else ""
    if last and (last.isdigit() or last in ")=*/×÷^$€£"):
        return False
    return len(digits) >= 8 and any(digits[:size] in _COUNTRIES for size in (1, 2, 3))


def _is_national(text: str, start: int, end: int, body: str, extended: bool) -> bool:
    groups = re.findall(r"\d+", body)
    before, after = text[max(0, start - _BEFORE) : start], text[end : end + _AFTER]
    named = bool(_WORDS.search(before) or _WORDS.search(after))
    other = bool(_OTHER_WORDS.search(before[-25:]))
    if _is_decimal(body, groups):
        return False
    if other:
        return False
    grouped = _is_grouped(groups, body)
    written_so = _NANP.fullmatch(body) or _AREA_CODE.fullmatch(body) or _TRUNK.fullmatch(body)
    if written_so or (extended and len(groups) >= 2):
        return True
    if body.startswith("00") and len(groups) >= 3 and grouped:
        return True
    if named:
        return grouped or (len(groups) == 1 and len(body) >= 8)
    placed = _WEAK_WORDS.search(before[-20:]) or _PLACE_AFTER.search(after)
    return bool(placed) and _is_phone_like(groups, body)


def _is_decimal(body: str, groups: list[str]) -> bool:
    """A decimal point rather than points between groups."""
    return "." in body and (len(groups) < 3 or len(groups[0]) < 2) and not body.startswith("1.")


def _is_grouped(groups: list[str], body: str) -> bool:
    """Two to six groups, none of them a single digit but the first, as long as a number is."""
    if not 2 <= len(groups) <= 6 or any(len(group) < 2 for group in groups[1:]):
        return False
    sizes = tuple(map(len, groups))
    few = sum(sizes) >= 9 or not set(body) & set(" .") or sizes in _SHORT
    return few and len(set(re.findall(r"(?<=\d)[ .\-/](?=\d)", body))) <= 2


def _is_phone_like(groups: list[str], body: str) -> bool:
    """Three to five groups of two to four digits, nine or more in all."""
    sized = all(2 <= len(group) <= 4 for group in groups)
    return 3 <= len(groups) <= 5 and sized and sum(map(len, groups)) >= 9 and "." not in body
