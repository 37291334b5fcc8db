"""Pass rates of prompts as files have them: by id, how many answers were checked, how many passed.

``siftune finetune sample`` with a reward writes `FILE` into its folder. Any other table with the
columns ``id`` and ``pass_rate`` serves as well; ``pass_rate_samples`` says of how many answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.atomic import hash_file

__all__ = ["FILE", "pass_rates", "rates_hashes", "read_pass_rates"]

FILE: Final = "pass_rates.parquet"
_SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".csv")
_COLUMNS: Final[Mapping[str, type[pl.DataType]]] = {
    "pass_rate": pl.Float64,
    "pass_rate_variance": pl.Float64,
    "pass_rate_samples": pl.UInt32,
}


def pass_rates(
    passed: Sequence[float] | pl.Series, samples: Sequence[int] | pl.Series
) -> pl.DataFrame:
    """``p = passed / samples``, its variance ``p (1 - p)`` and the samples; null of no sample.

    >>> pass_rates([1, 0], [4, 0]).rows()
    [(0.25, 0.1875, 4), (None, None, 0)]
    """
    counts = pl.DataFrame({"passed": passed, "samples": samples})
    share = pl.when(pl.col("samples") > 0).then(pl.col("passed") / pl.col("samples"))
    found = counts.select(pass_rate=share, pass_rate_samples="samples")
    variance = pl.col("pass_rate") * (1 - pl.col("pass_rate"))
    columns = found.select("pass_rate", variance.alias("pass_rate_variance"), "pass_rate_samples")
    return columns.cast(pl.Schema(_COLUMNS))


def read_pass_rates(source: str) -> pl.DataFrame:
    """``id``, ``pass_rate`` and ``pass_rate_samples`` (1 where a file has none) of a source.

    Prompts of which no answer was checked are left out.

    Raises:
        DataError: there is no such file, a column is missing, an id is there twice, or a rate is
            no share.
    """
    file = _file(source)
    table = _read(file)
    lacking = [name for name in ("id", "pass_rate") if name not in table.columns]
    if lacking:
        raise DataError(
            f"{file}: expected the columns id and pass_rate, as `siftune finetune sample --reward "
            f"...` writes them; {lacking[0]} is not there, there are {', '.join(table.columns)}"
        )
    if "pass_rate_samples" not in table.columns:
        table = table.with_columns(pass_rate_samples=pl.lit(1))
    names = {name: _COLUMNS[name] for name in ("pass_rate", "pass_rate_samples")}
    try:
        read = table.select(
            pl.col("id").cast(pl.String), *(pl.col(n).cast(t) for n, t in names.items())
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file}: pass_rate and pass_rate_samples: {reason}") from None
    read = read.with_columns(pl.col("pass_rate").fill_nan(None)).drop_nulls()
    read = read.filter(pl.col("pass_rate_samples") > 0)
    _check(file, read)
    return read


def rates_hashes(sources: Sequence[str]) -> list[str]:
    """The content hashes of the files of sources, for keys of stages."""
    return [hash_file(_file(source)) for source in sources]


def _file(source: str) -> Path:
    path = Path(source)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{file} is not there: expected a folder that `siftune finetune sample --reward ...` "
            "wrote, or a file with the columns id and pass_rate"
        )
    if file.suffix not in _SUFFIXES:
        raise UsageError(f"{file}: expected one of {', '.join(_SUFFIXES)}")
    return file


def _read(file: Path) -> pl.DataFrame:
    readers: dict[str, Callable[[Path], pl.DataFrame]]
    readers = {".parquet": pl.read_parquet, ".csv": pl.read_csv}
    try:
        return readers.get(file.suffix, pl.read_ndjson)(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file} cannot be read as {file.suffix[1:]} ({reason})") from None


def _check(file: Path, read: pl.DataFrame) -> None:
    twice = read.filter(pl.col("id").is_duplicated())
    if twice.height:
        raise DataError(f"{file}: the id {twice['id'][0]!r} is there more than once")
    odd = read.filter(~pl.col("pass_rate").is_between(0, 1))
    if odd.height:
        raise DataError(
            f"{file}: pass_rate: expected a share from 0 to 1, got {odd['pass_rate'][0]} of "
            f"{odd['id'][0]!r}"
        )
