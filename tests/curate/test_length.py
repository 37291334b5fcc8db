"""Length: what is counted, and what has none."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.length import Length
from siftune.curate.text.token_counts import load_tokenizer, tokenizer_hash


def rows(*conversations: list[dict[str, str | None]] | None) -> pl.DataFrame:
    return pl.DataFrame({"messages": pl.Series(conversations, dtype=TURNS)})


def exchange(prompt: str, answer: str | None) -> list[dict[str, str | None]]:
    return [turn("user", prompt), turn("assistant", answer)]


@pytest.fixture
def words_tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of whole words whose file asks for a cut at 2 and padding to 8."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "yes": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_the_answer_is_measured_unless_told_otherwise() -> None:
    batch = rows(exchange("How are you?", "Fine, thanks."))
    assert Length()(batch).row(0) == (13, 2)
    assert Length(of="prompt")(batch).row(0) == (12, 3)
    assert Length(of="both")(batch).row(0) == (13 + 2 + 12, 5)  # a blank line between them


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("   \n", 0),
        ("don't, won’t", 2),
        ("3.14 and 1,000,000", 3),
        ("state-of-the-art", 4),
        ("naïve café", 2),
        ("nai\u0308ve", 1),  # a combining mark does not end a word
        ("你好，世界", 4),
        ("カタカナ と", 5),
        ("สวัสดี", 4),  # four consonants; vowel signs belong to them
        ("안녕 세상", 2),  # Korean has spaces
        ("🙂🙂", 0),
        ("मनुष्य हैं", 2),
    ],
)
def test_words_in_many_scripts(text: str, words: int) -> None:
    assert Length()(rows(exchange("x", text)))["length_words"].item() == words


def test_characters_are_code_points_not_bytes() -> None:
    assert Length()(rows(exchange("x", "é🙂")))["length_chars"].item() == 2


def test_no_text_is_null_and_an_empty_text_is_zero() -> None:
    batch = rows([turn("user", "Hi")], exchange("Hi", None), [], None, exchange("Hi", ""))
    assert Length()(batch)["length_chars"].to_list() == [None, None, None, None, 0]
    alone = rows([turn("assistant", "only an answer")])
    assert Length(of="prompt")(alone)["length_words"].to_list() == [None]


def test_tokens_are_counted_whole_whatever_the_tokenizer_file_asks(words_tokenizer: Path) -> None:
    scorer = Length(tokenizer=str(words_tokenizer))
    batch = rows(exchange("x", "yes yes yes no"), exchange("x", ""), [turn("user", "x")])
    assert scorer(batch)["length_tokens"].to_list() == [4, 0, None]
    assert list(scorer.adds) == scorer(batch).columns


def test_a_name_on_the_hub_is_refused_at_once_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.create_connection", unreachable)
    monkeypatch.setattr("siftune.curate.models.resolve.getproxies", dict)
    monkeypatch.setattr("tokenizers.Tokenizer.from_pretrained", lambda *_: pytest.fail("tried"))
    for name in ("none-of-that-name", "of/nobody"):
        with pytest.raises(UsageError, match=r"is no file or folder here, and .* be reached \(N"):
            load_tokenizer(name)


def test_without_a_tokenizer_there_is_no_token_column() -> None:
    assert "length_tokens" not in Length().adds
    assert "length_tokens" not in Length()(rows(exchange("a", "b"))).columns


def test_the_tokenizer_is_known_by_its_content(words_tokenizer: Path) -> None:
    folder, file = str(words_tokenizer), str(words_tokenizer / "tokenizer.json")
    assert Length(tokenizer=folder).describe() == Length(tokenizer=file).describe()
    assert tokenizer_hash(folder) == tokenizer_hash(file)
    assert Length().describe() == {"tokenizer": None}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", r"the folder .* has no tokenizer\.json: give a model folder"),
        ("none", "no such file or folder: .*none: give a model folder"),
        ("words.json", r"words\.json' cannot be loaded"),
    ],
)
def test_what_is_no_tokenizer_is_refused_by_name(given: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("{}")
    with pytest.raises(UsageError, match=words):
        load_tokenizer(str(tmp_path / given))
    if given != "words.json":  # the content of a file is a key, whatever it is
        with pytest.raises(UsageError, match=words):
            Length(tokenizer=str(tmp_path / given)).describe()


def test_a_damaged_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(UsageError, match=r"tokenizer\.json.*cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_an_unknown_part_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="response"):
        registry.build("curate.scorers", "length", {"of": "answer"})
