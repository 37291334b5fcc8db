from __future__ import annotations

from pathlib import Path
from time import perf_counter

import orjson
import polars as pl
import pytest
import zstandard

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.pii import PII

PRESIDIO = Path("../shared/data/pii_presidio_small.jsonl.zst")


def chats(*answers: str | None) -> pl.DataFrame:
    rows = [
        [turn("user", "Tell me."), turn("assistant", a)] if a is not None else [] for a in answers
    ]
    return pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})


def kinds(answer: str) -> list[str]:
    found: list[str] = PII()(chats(answer))["pii_kinds"].to_list()[0]
    return found


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "Write to mira.tolen+news@mail.example.org."),
        ("phone", "Call (202) 555-0134 now"),
        ("phone", "Call 202-555-0134"),
        ("phone", "Ring +44 20 7946 0958 after six"),
        ("phone", "Ring +4930901820"),
        ("phone", "Tel. 030 901820"),
        ("card", "Paid with 4111 1111 1111 1111."),
        ("card", "Paid with 378282246310005."),
        ("card", "Paid with 5555-5555-5555-4444"),
        ("iban", "To GB82 WEST 1234 5698 7654 32 TODAY PLEASE"),
        ("iban", "To DE89370400440532013000."),
        ("ip", "From 203.0.113.9:8080"),
        ("ip", "From 2001:db8::8a2e:370:7334"),
        ("ssn", "It is 987-65-4321"),
        ("ssn", "It is 078-05-1120."),
        ("key", "export KEY=AKIAIOSFODNN7EXAMPLE"),
        ("key", "ghp_" + "a1B2" * 9),
        ("key", "-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_each_kind_is_found(kind: str, text: str) -> None:
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "Meet @mira at noon, or me@home.",
        "In 1987-65 the score was 3-2.",
        "Card 4111 1111 1111 1112 fails Luhn's check.",
        "GB82 WEST 1234 5698 7654 33 fails the checksum.",
        "Version 300.1.2.3 and localhost 127.0.0.1",
        "Nobody has 000-12-3456, 666-12-3456 or 123-00-4567.",
        "At 10:30:45 std::vector<int> was 12:34.",
        "0000 0000 0000 0000",
        "From 1990 to 2010 it grew by 12.5 percent, 1,000,000 in all.",
        "",
    ],
)
def test_what_only_looks_alike_is_not(text: str) -> None:
    assert kinds(text) == []


def test_pieces_are_counted_and_kinds_named_once() -> None:
    scores = PII()(chats("a@b.org, c@d.org and 987-65-4321", None))
    assert scores.to_dict(as_series=False) == {
        "pii_count": [3, None],
        "pii_kinds": [["email", "ssn"], None],
    }


def test_only_the_part_asked_for_is_searched() -> None:
    rows = [[turn("user", "I am a@b.org."), turn("assistant", "Hello.")]]
    batch = pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})
    counts = [PII(of=part)(batch)["pii_count"].item() for part in ("prompt", "response", "both")]
    assert counts == [1, 0, 1]


def test_no_text_makes_it_slow() -> None:
    hostile = ["1" * 200_000, "a." * 100_000 + "@", "AB12 " * 40_000, ":" * 200_000, "+1 " * 60_000]
    start = perf_counter()
    PII()(chats(*hostile))
    assert perf_counter() - start < 5


def test_most_of_what_presidio_planted_is_found() -> None:
    if not PRESIDIO.exists():
        pytest.skip(f"{PRESIDIO} is not there")
    names = {"EMAIL_ADDRESS": "email", "CREDIT_CARD": "card", "IP_ADDRESS": "ip", "US_SSN": "ssn"}
    packed = zstandard.ZstdDecompressor().stream_reader(PRESIDIO.read_bytes())
    lines = packed.read().splitlines()
    rows = [orjson.loads(line) for line in lines]
    found = PII()(chats(*(row["full_text"] for row in rows)))["pii_kinds"].to_list()
    hits = [
        names[span["entity_type"]] in kinds
        for row, kinds in zip(rows, found, strict=True)
        for span in row["spans"]
        if span["entity_type"] in names
    ]
    assert sum(hits) / len(hits) >= 0.9
