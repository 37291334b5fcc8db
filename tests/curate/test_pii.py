"""Personal data: each kind, what looks like it, where it is, and rows with planted pieces."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import orjson
import polars as pl
import pytest
import zstandard

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.private_data.personal_data import find_personal_data
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
        ("phone", "<a href='tel:+4930901820'>"),
        ("phone", "Ring ＋１ ４１５ ５５５ ２６７１"),
        ("phone", "Dial 1-800-GARDENS today"),
        ("phone", "Call 100-200-3000"),
        ("email", "Write to jürgen@bücher.example"),
        ("ip", "The log names 1.2.3.4 twice."),
        ("card", "Paid with 4111 1111 1111 1111."),
        ("card", "Paid with 378282246310005."),
        ("card", "Paid with 5555-5555-5555-4444"),
        ("iban", "To GB82 WEST 1234 5698 7654 32 TODAY PLEASE"),
        ("iban", "To DE89370400440532013000."),
        ("ip", "From 203.0.113.9:8080"),
        ("ip", "From 2001:db8::8a2e:370:7334"),
        ("ssn", "It is 987-65-4321"),
        ("ssn", "It is 078-05-1120."),
        ("ssn", "social security number 987 65 4321"),
        ("phone", "Call me at 986.291.2294x751"),
        ("phone", "My number is 21 212 133 2727"),
        ("phone", "12 High Street\n69 987 88 37 office"),
        ("phone", "Ring 001-420-335-7509x38548"),
        ("phone", "Appelez le 01 23 45 67 89"),
        ("card", "my card is 676201234561"),
        ("iban", "iban fr14-2004-1010-0505-0001-3m02-606"),
        ("national_id", "Codice fiscale RSSMRA85T10A562S"),
        ("national_id", "DNI 12345678Z"),
        ("national_id", "NHS number 943 476 5919"),
        ("national_id", "SIN 046 454 286"),
        ("national_id", "Aadhaar 2345 6789 0124"),
        ("national_id", "CPF 529.982.247-25"),
        ("national_id", "NI number AB 12 34 56 C"),
        ("key", "export KEY=AKIAQ3EGRKTWBXN5V7LD"),
        ("key", "ghp_" + "a1B2c3D4e5F6g7H8i9" * 2),
        ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow"),
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
        "He has 50000+50000=100000 and 2000000 +50000000 more.",
        "50000 - 20000 - 10000 = 20000, and 1990-2010 is 20 years.",
        "<<12345678*2=24691356>>24691356 dollars",
        "Pick 10 20 30 40 50 60, or 12, 345, 678, 901.",
        "On 2024-05-17 10:20:30 and 17.05.2024 it was 0.9234362745.",
        "The dental formula is 2.1.2.3; release 10.2.0.14 came later.",
        "Walk 100-200-3000 or 300-400-5000 steps, then 123-456-7890.",
        "It has +1234567890 points and 415 555 2671 people.",
        "Between versions 10.2.0.14 and 10.2.0.15 it broke.",
        "Version 10.2.0.14 has the fault, which 10.2.0.15 has not.",
        "NHS number 943 476 5918 and SIN 046 454 287 fail their checks.",
        "Order 123 456 7890 and ISBN 978-3-16-148410-0 arrived.",
        "export KEY=AKIAIOSFODNN7EXAMPLE",
        "card 676201234562, DNI 12345678A, CPF 529.982.247-26",
        "From 1990 to 2010 it grew by 12.5 percent, 1,000,000 in all.",
        "",
    ],
)
def test_what_only_looks_alike_is_not(text: str) -> None:
    assert kinds(text) == []


def test_pieces_are_counted_and_kinds_named_once() -> None:
    scores = PII()(chats("a@b.org, c@d.org and 987-65-4321", None, "None."))
    assert scores["pii_count"].to_list() == [3, None, 0]
    assert scores["pii_kinds"].to_list() == [["email", "ssn"], None, []]


def test_each_piece_has_its_place() -> None:
    said = [turn("user", "Ich heiße Zoë: zoe@b.org"), turn("assistant", "Tel. 030 901820, a@b.org")]
    spans = PII()(pl.DataFrame({"messages": pl.Series([said], dtype=TURNS)}))["pii_spans"].item()
    places = [
        (one["kind"], said[one["turn"]][one["field"]][one["start"] : one["end"]]) for one in spans
    ]
    assert places == [("email", "zoe@b.org"), ("phone", "030 901820"), ("email", "a@b.org")]


def test_no_arithmetic_of_gsm8k_is_a_phone_number() -> None:
    file = PRESIDIO.with_name("gsm8k_train.jsonl.zst")
    if not file.exists():
        pytest.skip(f"{file} is not there")
    packed = zstandard.ZstdDecompressor().stream_reader(file.read_bytes())
    rows = [orjson.loads(line) for line in packed.read().splitlines()]
    assert find_personal_data(pl.Series([row["answer"] for row in rows])).height == 0


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
    names = {
        "EMAIL_ADDRESS": "email",
        "CREDIT_CARD": "card",
        "IP_ADDRESS": "ip",
        "US_SSN": "ssn",
        "PHONE_NUMBER": "phone",
    }
    packed = zstandard.ZstdDecompressor().stream_reader(PRESIDIO.read_bytes())
    rows = [orjson.loads(line) for line in packed.read().splitlines()]
    spans = PII(of="response")(chats(*(row["full_text"] for row in rows)))["pii_spans"]
    found = {
        (row, one["kind"], one["start"], one["end"])
        for row, listed in enumerate(spans.to_list())
        for one in listed
    }
    planted = {
        (row, names[one["entity_type"]], one["start_position"], one["end_position"])
        for row, record in enumerate(rows)
        for one in record["spans"]
        if one["entity_type"] in names
    }
    assert len(found & planted) >= 0.96 * len(planted)
    assert len(found & planted) >= 0.99 * len(found)


NAMES = {"ada": 1, "lovelace": 2, "turing": 1, "london": 3}  # B-PER, I-PER, B-PER, B-LOC


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token classifier that goes by the word alone: embeddings, and a head on them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tagger")
    words = ["[PAD]", "[UNK]", *NAMES]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        max_position_embeddings=8,
        id2label={0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"},
    )
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for weight in model.bert.embeddings.parameters():
            weight.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1.0)
        layer = model.bert.encoder.layer[0]
        for dense in (layer.attention.output.dense, layer.output.dense):  # it adds nothing
            dense.weight.zero_()
            dense.bias.zero_()
        for at, word in enumerate(words):
            model.bert.embeddings.word_embeddings.weight[at, NAMES.get(word, 0)] = 1.0
        model.classifier.weight.copy_(torch.eye(4))
        model.classifier.bias.zero_()
    model.save_pretrained(folder)
    return folder


def test_names_by_a_model_are_spans_beside_those_of_patterns(tagger: Path) -> None:
    text = "write to ada lovelace at ada@example.org or call turing in london , and london only"
    found = PII(names_model=str(tagger))(chats(text)).row(0, named=True)
    spans = {(text[s["start"] : s["end"]], s["kind"]) for s in found["pii_spans"]}
    names = {("ada lovelace", "person"), ("turing", "person"), ("london", "location")}
    assert spans == names | {("ada@example.org", "email")}
    assert found["pii_count"] == 5  # the second london is in another window of 8 tokens
    assert found["pii_kinds"] == ["email", "location", "person"]
    assert PII()(chats(text))["pii_kinds"].to_list() == [["email"]]


def test_a_model_without_names_is_refused(tagger: Path, tmp_path: Path) -> None:
    import json
    import shutil

    other = shutil.copytree(tagger, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {str(at): f"LABEL_{at}" for at in range(4)}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="expected a token classifier with a class such as PER"):
        PII(names_model=str(other))(chats("ada"))
