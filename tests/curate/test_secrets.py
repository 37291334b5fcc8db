"""Secrets: made-up ones of each kind in code and in prose, and what looks like them."""

from __future__ import annotations

import random
import string

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.private_data.secret_patterns import KINDS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.secrets import Secrets

DRAW = random.Random(11)
ALNUM, HEX = string.ascii_letters + string.digits, "0123456789abcdef"


def drawn(size: int, signs: str = ALNUM) -> str:
    return "".join(DRAW.choices(signs, k=size))


MADE = {
    "aws_access_key": lambda: "AKIA" + drawn(16, string.ascii_uppercase + "234567"),
    "github_token": lambda: "ghp_" + drawn(36),
    "gitlab_token": lambda: "glpat-" + drawn(20),
    "slack_token": lambda: f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
    "stripe_key": lambda: "sk_live_" + drawn(24),
    "google_key": lambda: "AIza" + drawn(35),
    "anthropic_key": lambda: "sk-ant-api03-" + drawn(93),
    "openai_key": lambda: "sk-proj-" + drawn(48),
    "huggingface_token": lambda: "hf_" + drawn(34, string.ascii_letters),
    "npm_token": lambda: "npm_" + drawn(36),
    "pypi_token": lambda: "pypi-AgEIcHlwaS5vcmc" + drawn(80),
    "jwt": lambda: f"eyJ{drawn(20)}.eyJ{drawn(40)}.{drawn(43)}",
    "azure_key": lambda: f"AccountKey={drawn(86)}==",
    "twilio_key": lambda: "SK" + drawn(32, HEX),
    "sendgrid_key": lambda: f"SG.{drawn(22)}.{drawn(43)}",
    "mail_key": lambda: "key-" + drawn(32, HEX),
    "telegram_token": lambda: f"{drawn(9, '123456789')}:AA{drawn(33)}",
    "discord_token": lambda: f"M{drawn(23)}.{drawn(6)}.{drawn(27)}",
    "service_token": lambda: "dop_v1_" + drawn(64, HEX),
    "url_password": lambda: f"postgres://app:{drawn(12)}@db.local:5432/shop",
    "private_key": lambda: (
        f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(64)}\n-----END RSA PRIVATE KEY-----"
    ),
    "authorization": lambda: f"Authorization: Bearer {drawn(40)}",
    "aws_secret_key": lambda: f"aws_secret_access_key = {drawn(40)}",
    "assigned": lambda: f'api_key = "{drawn(32)}"',
}
PLACES = (
    "Set it in the shell:\n```\nexport X={}\n```",
    "client = connect('{}')  # do not commit",
    "I pasted {} by mistake, what now?",
    '{{"config": "{}"}}',
)


def found(*texts: str) -> pl.DataFrame:
    rows = [[turn("user", "Look:"), turn("assistant", text)] for text in texts]
    return Secrets(of="response")(pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)}))


def test_there_is_a_made_up_secret_of_each_kind() -> None:
    assert set(MADE) == set(KINDS)
    assert len(MADE) >= 15


def test_each_kind_is_found_in_code_and_in_prose() -> None:
    planted = [(kind, place.format(make())) for kind, make in MADE.items() for place in PLACES]
    kinds = found(*(text for _, text in planted))["secrets_kinds"].to_list()
    missed = [kind for (kind, _), got in zip(planted, kinds, strict=True) if kind not in got]
    assert missed == []


MORE = {
    "atlassian": lambda: f"ATATT3xFfGF0{drawn(120)}={drawn(8, '0123456789ABCDEF')}",
    "figma": lambda: "figd_" + drawn(40),
    "mapbox": lambda: f"sk.eyJ1Ijoi{drawn(60)}.{drawn(22)}",
    "sentry": lambda: "sntrys_eyJ" + drawn(80),
    "putty": lambda: f"PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 2\n{drawn(64)}",
    "curl": lambda: f"curl -s -u deploy:{drawn(14)} https://ci.local",
    "curl, quoted": lambda: f"curl -u admin:'{drawn(14)}' https://ci.local",
    "sas": lambda: f"https://a.blob.local/c?sv=2020-08-04&sig={drawn(43)}%3D&se=2030",
    "hex": lambda: "private key 0x" + drawn(64, HEX),
    "prose": lambda: f"The password of the mail server is {drawn(9)}4!q, please change it.",
}


def test_the_span_of_a_key_has_its_body() -> None:
    lines = f"{drawn(64)}\n{drawn(64)}"
    putty = (
        f"PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 2\n{lines}\nPrivate-MAC: {drawn(40, HEX)}"
    )
    begun = f"-----BEGIN PRIVATE KEY-----\n{lines}"
    for key in (putty, begun):
        (span,) = found(f"{key}\n\nKeep it.")["secrets_spans"].to_list()[0]
        assert (span["start"], span["end"]) == (0, len(key))


def test_further_services_and_passwords_in_prose_are_found() -> None:
    kinds = found(*(make() for make in MORE.values()))["secrets_kinds"].to_list()
    assert [name for name, got in zip(MORE, kinds, strict=True) if not got] == []


@pytest.mark.parametrize(
    "text",
    [
        "The password for the old site is case-sensitive.",
        "The password of the account is required, see page 12.",
        "curl -u user:password https://ci.local",
        "AKIAIOSFODNN7EXAMPLE",
        "api_key = 'YOUR_API_KEY_GOES_HERE'",
        "OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "token: '<insert your token here>'",
        "password = os.environ['DB_PASSWORD_PRODUCTION_2']",
        "password: hunter2hunter2",
        "postgres://user:password@localhost/db and https://$USER:$TOKEN1@host",
        "id = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
        "secret_id = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
        "sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
        "password_hash = '$2b$12$KIXQ4S0m4v1rX0c8H2bL9e'",
        "git checkout 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
        "The secret: water the plants every day. Password managers help, too.",
        "tokens = tokenizer('Some text of 1,024 words', max_tokens=2048)",
        "sk-learn is scikit-learn-contrib-something-long",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ],
)
def test_what_looks_alike_is_none(text: str) -> None:
    assert found(text)["secrets_kinds"].to_list() == [[]]


def test_the_place_is_told_and_the_text_is_not() -> None:
    secret = MADE["github_token"]()
    scores = found(f"Use {secret}.")
    (span,) = scores["secrets_spans"].to_list()[0]
    assert span == {
        "turn": 1,
        "field": "content",
        "start": 4,
        "end": 4 + len(secret),
        "kind": "github_token",
    }
    assert secret not in str(scores.to_dicts())


def test_of_a_name_and_a_url_only_the_value_is_the_secret() -> None:
    value = drawn(24)
    for text in (f'api_key = "{value}"', f"ftp://me:{value}@host/x", f"my password is {value}"):
        (span,) = found(text)["secrets_spans"].to_list()[0]
        assert text[span["start"] : span["end"]] == value


def test_tool_calls_are_searched() -> None:
    calls = '[{{"name": "login", "arguments": {{"key": "{}"}}}}]'.format(MADE["stripe_key"]())
    rows = [[turn("user", "Log in."), turn("assistant", None, tool_calls=calls)]]
    scores = Secrets()(pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)}))
    (span,) = scores["secrets_spans"].to_list()[0]
    assert (span["turn"], span["field"], span["kind"]) == (1, "tool_calls", "stripe_key")
