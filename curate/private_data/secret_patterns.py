"""Secrets in texts: keys, tokens and passwords, by their form and by the name they are given to.

The forms are those that the services document; most are listed, too, by gitleaks (its rules of
2026-03, MIT) and by the plugins of Yelp's detect-secrets (1.5.0, Apache-2.0). detect-secrets itself
is not used: its patterns run in an engine whose time may grow exponentially with the text, and it
has none for Anthropic, Google or Hugging Face. These run in linear time.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from siftune.curate.private_data.pattern_spans import Check, Span, find_all

__all__ = ["KINDS", "find_secrets"]

_PLACEHOLDER: Final = re.compile(
    r"(?i)example|your|x{4}|placeholder|change.?me|dummy|sample|fake|redacted|insert|replace|"
    r"\*{3}|\.{3}|…|<|>|\{|\}|\$\(|%\(|abcdef|123456|foobar|lorem|todo|secret.?here|key.?here"
    r"|pass?w[o0]rd|p[@4]ss|secret\d|user\d|"
    r"token.?here|my.?(?:secret|password|token|api)|0{6}|a{6}"
)
_NO_VALUE: Final = re.compile(
    r"(?i)^(?:password|passwd|secret|token|none|null|true|false|undefined|string|test\w*|hunter2.*|"
    r"admin|qwerty\w*|letmein|correct horse.*|[a-z]+(?:[-_. ][a-z]+)*|\d{1,7}|.*(?:environ|getenv|"
    r"process\.env|config|settings|input|request|self\.|this\.|args\.|params|\(|\)|\[).*)$"
)
_UUID: Final = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME_OF_OTHER: Final = re.compile(
    r"(?i)hash|digest|checksum|(?:_|\b)id$|name|url|uri|path|file|type|count|len|field|label"
    r"|column|"
    r"regex|pattern|csrf|xsrf|public|policy|hint|prompt|message|error|format|max|min|num|limit"
)
_LEAST_BITS: Final = 2.8  # of entropy a sign, of a token's body
_LEAST_BITS_ASSIGNED: Final = 3.2


def find_secrets(texts: pl.Series, kinds: Iterable[str] | None = None) -> pl.DataFrame:
    """Spans of secrets in each text (`pattern_spans.SPANS`)."""
    return find_all(texts, _PATTERNS, KINDS if kinds is None else kinds)


def _bits(text: str) -> float:
    """Shannon entropy of the signs of a text, in bits a sign.

    >>> _bits("abab"), _bits("abcd")
    (1.0, 2.0)
    """
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)


def _token(text: str, start: int, end: int) -> Span | None:
    """The match, unless its body is a placeholder or has too few different signs."""
    body = re.sub(r"^(?:[A-Za-z0-9]{1,8}[_\-.])*?(?=[A-Za-z0-9_\-./+=]{12})", "", text[start:end])
    if _PLACEHOLDER.search(text[start:end]) or _bits(body or "a") < _LEAST_BITS:
        return None
    return start, end


_PUTTY_REST: Final = re.compile(r"(?s).*?(?:\nPrivate-MAC: ?[0-9A-Fa-f]+|(?=\n\s*\n)|\Z)")
_LINES: Final = re.compile(r"(?:\s{0,4}[A-Za-z0-9+/=]{16,})*")


def _block(text: str, start: int, end: int) -> Span | None:
    """A private key with its body, as far as the text has it."""
    if text[start:end].lower().startswith("private"):
        return _token(text, end - 66, end)
    if text[start:end].startswith("PuTTY"):
        rest = _PUTTY_REST.match(text, end)
        return start, rest.end() if rest else end
    close = re.compile(r"-----END [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----").search(text, end)
    body = text[end : close.start() if close else end + 200]
    if "..." in body[:80] or _PLACEHOLDER.search(body[:60].replace("\n", "")):
        return None
    lines = _LINES.match(text, end)
    return start, close.end() if close else (lines.end() if lines else end)


def _url(text: str, start: int, end: int) -> Span | None:
    """The password between ``://user:`` and ``@``."""
    found = text[start:end]
    password = found[found.index(":", found.index("://") + 3) + 1 : -1]
    plain = re.fullmatch(r"(?i)pass(?:word|wd)?|pwd|secret|user\w*|port|\$\w+|%\w|xxx+", password)
    if plain or _PLACEHOLDER.search(password):
        return None
    return end - 1 - len(password), end - 1


def _assigned(text: str, start: int, end: int) -> Span | None:
    """The value that a name such as ``api_key`` is given, if it looks drawn at random."""
    found = _ASSIGNMENT.fullmatch(text[start:end])
    told = None if found else _IN_PROSE.match(text[start:end])
    if told:
        value = told["value"]
        drawn = re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and len(value) >= 8
        known = _PLACEHOLDER.search(value) or _NO_VALUE.match(value)
        good = drawn and not known and _bits(value) >= _LEAST_BITS
        return (start + told.start("value"), start + told.end("value")) if good else None
    if found is None or _NAME_OF_OTHER.search(found["name"]):
        return None
    value = found["quoted"] or found["bare"].rstrip(".")
    if _UUID.fullmatch(value) or _PLACEHOLDER.search(value) or _NO_VALUE.match(value):
        return None
    kinds = sum(bool(re.search(each, value)) for each in ("[a-z]", "[A-Z]", r"\d", r"[^\w]"))
    word = re.search(r"(?i)pass|pwd", found["name"])
    if kinds < 2 or _bits(value) < (_LEAST_BITS if word else _LEAST_BITS_ASSIGNED):
        return None
    if not word and not (len(value) >= 16 and re.search(r"\d", value)):
        return None
    at = start + found.start("quoted" if found["quoted"] else "bare")
    return at, at + len(value)


_ASSIGNED: Final = (
    r"(?i)[\w.\-]{0,30}(?:api[_\-]?key|secret|token|passw(?:or)?d|passwd|passphrase|pwd"
    r"|access[_\-]?"
    r"key|auth[_\-]?key|account[_\-]?key|client[_\-]?secret|encryption[_\-]?key|credentials?)"
    r"[\w.\-]{0,20}[\"']?[\])]?(?:(?: {0,3}(?::=|=>|=|:) {0,3}| is |, ?"
    r"| )[\"'][^\s\"'`]{8,150}[\"']|"
    r"(?: {0,3}(?::=|=>|=|:) {0,3}| is )[A-Za-z0-9_\-./+=!@#%^&*~$]{8,150})"
    r"|\b(?:password|passphrase)(?: \w+){1,5}? (?:is|was):? "
    r"[\"'`]?[A-Za-z0-9_\-./+=!@#%^&*~$]{8,60}"
)
_IN_PROSE: Final = re.compile(
    r"(?i)(?P<name>pass\w+)(?: \w+){1,5}? (?:is|was):? [\"'`]?(?P<value>\S*[\w!@#%^&*~$=])"
)
_ASSIGNMENT: Final = re.compile(
    r"(?P<name>[\w.\-]+)[\"']?[\])]?(?: {0,3}(?::=|=>|=|:) {0,3}| is |, ?| )"
    r"(?:[\"'](?P<quoted>[^\s\"'`]{8,150})[\"']|(?P<bare>[A-Za-z0-9_\-./+=!@#%^&*~$]{8,150}))"
)

_PATTERNS: Final[Mapping[str, tuple[str, Check]]] = {
    "private_key": (
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----"
        r"|\bPuTTY-User-Key-File-\d: |(?i)\bprivate[_ \-]?key\W{1,4}(?:is )?0x[0-9a-f]{64}\b",
        _block,
    ),
    "aws_access_key": (r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", _token),
    "aws_secret_key": (
        r"(?i)aws.{0,30}(?:secret|key).{0,20}[=:] {0,3}[\"']?[A-Za-z0-9/+]{40}\b",
        lambda text, start, end: _token(text, end - 40, end),
    ),
    "github_token": (r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_\w{22,255}\b", _token),
    "gitlab_token": (r"\bgl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt)-[\w\-]{20,64}", _token),
    "slack_token": (
        r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,250}|\bxapp-\d-[A-Za-z0-9\-]{20,250}"
        r"|https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{30,80}",
        _token,
    ),
    "stripe_key": (
        r"\b[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,250}\b|\bwhsec_[\w+/=]{24,}",
        _token,
    ),
    "google_key": (
        r"\bAIza[\w\-]{35}|\bGOCSPX-[\w\-]{28}|\bya29\.[\w\-]{20,500}",
        _token,
    ),
    "anthropic_key": (r"\bsk-ant-[\w\-]{20,200}", _token),
    "openai_key": (r"\bsk-(?:proj-|svcacct-|admin-|or-v1-)?[\w\-]{20,250}", _token),
    "huggingface_token": (r"\bhf_[A-Za-z0-9]{30,100}\b|\bapi_org_[A-Za-z]{34}\b", _token),
    "npm_token": (r"\bnpm_[A-Za-z0-9]{36}\b", _token),
    "pypi_token": (r"\bpypi-[\w\-]{50,300}", _token),
    "jwt": (r"\beyJ[\w\-]{8,4000}\.eyJ[\w\-]{8,4000}\.[\w\-]{8,2000}", _token),
    "azure_key": (
        r"(?i)account_?key[=:] {0,3}[\"']?[A-Za-z0-9+/]{86}==|\b\w{3}\dQ~[\w.~\-]{31,34}"
        r"|[?&]sig=[A-Za-z0-9%+/]{40,70}(?:%3D|=)",
        _token,
    ),
    "twilio_key": (r"\bSK[0-9a-f]{32}\b", _token),
    "sendgrid_key": (r"\bSG\.[\w\-]{16,32}\.[\w\-]{16,64}", _token),
    "mail_key": (r"\bkey-[0-9a-f]{32}\b|\b[0-9a-f]{32}-us\d{1,2}\b", _token),
    "telegram_token": (r"\b\d{8,10}:AA[\w\-]{33}", _token),
    "discord_token": (
        r"\b[MNO][A-Za-z\d_\-]{23,27}\.[\w\-]{6}\.[\w\-]{27,38}"
        r"|https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w\-]{60,80}",
        _token,
    ),
    "service_token": (
        r"\bdo[opr]_v1_[a-f0-9]{64}\b|\bdapi[0-9a-f]{32}\b|\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b"
        r"|\bsq0(?:atp|csp)-[\w\-]{22,43}|\bdp\.(?:pt|st|sa)\.[A-Za-z0-9]{40,44}\b"
        r"|\blin_api_[A-Za-z0-9]{40}\b|\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b|\bNRAK-[A-Z0-9]{27}\b"
        r"|\bglsa_\w{32,64}|\bhv[sbr]\.[\w\-]{24,200}|\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"
        r"|\brubygems_[a-f0-9]{48}\b|\bdckr_pat_[\w\-]{27}|\bgsk_[A-Za-z0-9]{48,60}\b"
        r"|\br8_[A-Za-z0-9]{37}\b|\bpplx-[A-Za-z0-9]{48}\b|\bxai-[A-Za-z0-9]{70,90}\b"
        r"|\bnvapi-[\w\-]{60,70}|\bsbp_[a-f0-9]{40}\b|\bpscale_(?:tkn|pw)_[\w\-.]{32,64}"
        r"|\bsecret_[A-Za-z0-9]{43}\b|\bntn_[A-Za-z0-9]{43,50}\b|\bEAA[A-Za-z0-9]{60,250}\b"
        r"|\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}\b|\b[A-Za-z0-9]{14}\.atlasv1\.[\w\-]{60,70}"
        r"|\bATATT3[\w\-]{20,250}(?:=[0-9A-F]{8})?|\bfigd_[\w\-]{30,60}"
        r"|\bsk\.eyJ[\w\-]{20,200}\.[\w\-]{20,30}|\bsntry[su]_[\w\-=+/]{40,250}",
        _token,
    ),
    "url_password": (
        r"\b[a-zA-Z][a-zA-Z0-9+.\-]{1,15}://[^\s/:@\"'<>]{0,60}:[^\s/:@\"'<>]{3,100}@",
        _url,
    ),
    "authorization": (
        r"(?i)\bauthorization[\"']?[:=, ]{1,3}[\"']?(?:basic|bearer"
        r"|token) [A-Za-z0-9_\-.+/=]{16,400}"
        r"|\bcurl (?:\S+ ){0,6}?(?:-u|--user) [\"']?[\w.\-]{1,40}:[\"']?[^\s\"'$<>{}]{8,80}",
        lambda text, start, end: _token(text, text.rindex(" ", start, end) + 1, end),
    ),
    "assigned": (_ASSIGNED, _assigned),
}
KINDS: Final = tuple(_PATTERNS)
"""The kinds, in the order in which one is preferred to another at the same place."""
