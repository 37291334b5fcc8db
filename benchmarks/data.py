"""Texts to measure on, recomposed and copied with planted edits: real ones, or made-up ones.

Everything is made from a seed and kept in a temporary folder outside the repository, never in it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import zstandard

from benchmarks import made_up

__all__ = ["RATES", "Data", "compose", "edit", "plant"]

RATES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.20)
"""Share of its words that a planted copy has changed; each rate gets as many copies."""

_WINDOW = 2**27
_CHARACTERS = 1200
_COPIES = 0.2
_LAYOUT = 2  # raise when a change here changes the texts
_SENTENCE = r"(?s)\S.{10,240}?[.!?](?:\s|$)"
_CHUNK = r"(?s)\S.{200,900}(?:\s|$)"
_FIELDS: dict[str, list[tuple[str, ...]]] = {
    "sft_alpaca_52k": [("instruction", "input", "output")],
    "sft_codealpaca": [("instruction", "input", "output")],
    "sft_gpteacher": [("instruction", "input", "output")],
    "gsm8k_train": [("question", "answer")],
    "pref_alpacaeval1_dev": [("response_1",), ("response_2",)],
    "pref_alpacaeval2_dev": [("response_1",), ("response_2",)],
}
"""Of each source, which fields together make a text."""
_BOOKS = ("text_openstax", "text_books_public_domain")


@dataclass(frozen=True)
class Data:
    """The data sets by size; each is made on first use in ``folder``.

    ``source`` is the folder of the real data; None makes the texts up (`benchmarks.made_up`).
    """

    folder: Path
    source: Path | None = None

    @classmethod
    def of(cls, source: Path | None) -> Data:
        """In the system's folder for temporary files, named after the sources' bytes.

        Raises:
            FileNotFoundError: a file is missing in ``source``.
        """
        facts = [(name, _size(source, f"{name}.jsonl.zst")) for name in (*_FIELDS, *_BOOKS)]
        name = hashlib.sha256(repr((_LAYOUT, facts)).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"siftune-benchmarks-{name}"
        folder.mkdir(exist_ok=True)
        return cls(folder, source)

    def texts(self, rows: int) -> Path:
        """Parquet with ``row`` and ``text``: a fifth of them edited copies of others."""
        return self._made(f"texts-{rows}.parquet", lambda path: self._plant(rows, path))

    def jsonl(self, rows: int) -> Path:
        """The same as JSON lines with ``instruction``, ``input`` and ``output``."""
        return self._made(f"rows-{rows}.jsonl", lambda path: self._lines(rows, path))

    def table(self, rows: int) -> Path:
        """The same as a table of ours, read by `siftune curate ingest`."""
        return self._made(f"table-{rows}.parquet", lambda path: _ingest(self.jsonl(rows), path))

    def alpaca(self, rows: int = 52_002) -> Path:
        """The first rows of Alpaca, as JSON lines."""
        return self._made(f"alpaca-{rows}.jsonl", lambda path: self._alpaca(rows, path))

    def alpaca_table(self, rows: int = 52_002) -> Path:
        """The same as a table of ours."""
        made = f"alpaca-table-{rows}.parquet"
        return self._made(made, lambda path: _ingest(self.alpaca(rows), path))

    def sentences(self, rows: int) -> Path:
        """Parquet with ``text``: distinct single sentences, quicker to embed than texts."""

        def make(path: Path) -> None:
            found = _sentences(self._real()).unique(maintain_order=True)
            found.sample(rows, seed=5, shuffle=True).to_frame("text").write_parquet(path)

        return self._made(f"sentences-{rows}.parquet", make)

    def text_bytes(self, rows: int) -> int:
        """Size of the texts."""
        sizes = pl.scan_parquet(self.texts(rows)).select(pl.col("text").str.len_bytes().sum())
        return int(sizes.collect().item())

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(exist_ok=True)
            part = path.with_name(f".{name}")
            make(part)
            part.replace(path)
        return path

    def _plant(self, rows: int, path: Path) -> None:
        real = self._made(
            "real.parquet", lambda to: self._real().to_frame("text").write_parquet(to)
        )
        texts = plant(pl.read_parquet(real)["text"], rows, seed=1)
        pl.DataFrame({"row": np.arange(rows), "text": texts}).write_parquet(path)

    def _lines(self, rows: int, path: Path) -> None:
        first = pl.col("text").str.extract(r"(?s)^(\S+(?:\s+\S+){0,4})")
        pl.read_parquet(self.texts(rows)).select(
            instruction=first,
            input=pl.lit(""),
            output=pl.col("text").str.slice(first.str.len_chars()).str.strip_chars_start(),
        ).write_ndjson(path)

    def _alpaca(self, rows: int, path: Path) -> None:
        whole = self._read("sft_alpaca_52k").select("instruction", "input", "output")
        whole.filter(pl.col("output").str.len_chars() > 0).head(rows).write_ndjson(path)

    def _real(self) -> pl.Series:
        """All distinct texts of at least eight words in the sources, in a fixed order.

        What a text has beyond the cut is a text of its own, like the sections of a book.
        """
        parts = []
        for name, texts in _FIELDS.items():
            rows = self._read(name)
            for fields in texts:
                joined = rows.select(text=pl.concat_str(*fields, separator="\n")).to_series()
                beyond = _sections(joined.str.slice(_CHARACTERS))
                parts += [joined.str.slice(0, _CHARACTERS), beyond]
        parts += [_sections(self._read(name)["text"]) for name in _BOOKS]
        whole = pl.concat(parts).drop_nulls().str.strip_chars()
        whole = whole.filter(whole.str.count_matches(r"\S+") >= 8)
        return whole.unique(maintain_order=True)

    def _read(self, name: str) -> pl.DataFrame:
        if self.source is None:
            fields = dict.fromkeys(one for text in _FIELDS.get(name, [("text",)]) for one in text)
            return made_up.table(name, tuple(fields))
        with (self.source / f"{name}.jsonl.zst").open("rb") as stream:
            reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(stream)
            return pl.read_ndjson(reader.read(), infer_schema_length=None)


def plant(real: pl.Series, rows: int, seed: int) -> pl.Series:
    """``rows`` texts: four fifths distinct, a fifth copies of some at the `RATES`, shuffled.

    Where there are too few real texts, the rest is composed of their sentences.
    """
    random = np.random.default_rng(seed)
    copies = int(rows * _COPIES)
    wanted = rows - copies
    own = real.gather(random.permutation(len(real))[:wanted])
    if len(own) < wanted:
        own = pl.concat(
            [own, compose(_sentences(real).unique(maintain_order=True), wanted - len(own), random)]
        )
    chosen = own.gather(random.integers(0, len(own), copies))
    words = real.head(5000).str.extract_all(r"\S+").explode().unique(maintain_order=True)
    edited = [
        edit(chosen.gather_every(len(RATES), at), rate, words, random)
        for at, rate in enumerate(RATES)
    ]
    whole = pl.concat([own, *edited])
    return whole.gather(random.permutation(len(whole)))


def edit(texts: pl.Series, rate: float, words: pl.Series, random: np.random.Generator) -> pl.Series:
    """The texts, each word replaced with probability ``rate`` by a random one of ``words``."""
    if rate == 0 or not len(texts):
        return texts
    parts = [
        _edit(texts[at : at + 20_000], rate, words, random) for at in range(0, len(texts), 20_000)
    ]
    return pl.concat(parts)


def compose(sentences: pl.Series, count: int, random: np.random.Generator) -> pl.Series:
    """Texts of three to twelve sentences at random, cut like the real ones.

    Every sentence is used once before any is used again, so that texts share as few as possible.
    """
    sizes = random.integers(3, 13, count)
    rounds = -(-int(sizes.sum()) // len(sentences))
    order = np.concatenate([random.permutation(len(sentences)) for _ in range(rounds)])
    drawn = sentences.gather(order[: sizes.sum()])
    frame = pl.DataFrame({"at": np.repeat(np.arange(count), sizes), "sentence": drawn})
    joined = frame.group_by("at", maintain_order=True).agg(pl.col("sentence").str.join(" "))
    return joined["sentence"].str.slice(0, _CHARACTERS).alias("text")


def _edit(
    texts: pl.Series, rate: float, words: pl.Series, random: np.random.Generator
) -> pl.Series:
    frame = texts.to_frame("text").with_row_index("at")
    long = frame.with_columns(pl.col("text").str.split(" ")).explode("text")
    other = words.gather(random.integers(0, len(words), long.height))
    change = pl.Series(random.random(long.height) < rate)
    edited = long.with_columns(text=pl.when(change).then(other).otherwise("text"))
    joined = edited.group_by("at", maintain_order=True).agg(pl.col("text").str.join(" "))
    return joined["text"].alias(texts.name)


def _size(source: Path | None, name: str) -> int | None:
    return None if source is None else (source / name).stat().st_size


def _sections(texts: pl.Series) -> pl.Series:
    return texts.drop_nulls().unique(maintain_order=True).str.extract_all(_CHUNK).explode()


def _sentences(texts: pl.Series) -> pl.Series:
    return texts.str.extract_all(_SENTENCE).explode().drop_nulls().str.strip_chars_end()


def _ingest(source: Path, path: Path) -> None:
    from siftune.curate.io.ingest import ingest

    folder = path.with_name(f"{path.name}.folder")
    got = ingest([str(source)], folder)
    if got.quarantined:
        raise ValueError(f"{source}: {got.quarantined} rows were quarantined; expected none")
    (folder / "rows.parquet").replace(path)
    (folder / "quarantine.jsonl").unlink()
    folder.rmdir()
