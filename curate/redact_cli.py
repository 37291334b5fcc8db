"""``siftune curate redact``: rows without the personal data and secrets that patterns find."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from siftune.curate.commands.output_commands import OutOption, WritingCommand, command_name
from siftune.curate.commands.shared_options import json_option, layout_option, limit_option
from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_folder

__all__ = ["redact"]


@click.command(cls=WritingCommand)
@click.argument("rows")
@click.option("--out", cls=OutOption, check=check_folder, required=True, help="Folder of the rows.")
@click.option(
    "--kinds",
    metavar="KIND[,KIND]",
    help="Kinds to replace, as the scorer pii names them.  [default: all]",
)
@layout_option
@limit_option
@json_option("the counts")
def redact(
    rows: str, out: Path, kinds: str | None, layout: str | None, limit: int | None, as_json: bool
) -> None:
    """Replace personal data and secrets in ROWS by the names of their kinds, such as [EMAIL].

    What the scorer pii finds is replaced in every turn, in tool calls and in the fields kept
    beside. OUT/rows.parquet has all rows, with new digests where they changed and without score
    columns, which belong to the text as it was; OUT/redactions.jsonl has, for each row that
    changed, both digests and the place and kind of each piece, and nothing of its text.

    Example: siftune curate redact chats.jsonl --kinds email,phone --out clean
    """
    import orjson

    from siftune.curate.core.registry import closest
    from siftune.curate.files.outputs import whole_folder
    from siftune.curate.io.ingest import read_rows
    from siftune.curate.private_data.personal_data import KINDS
    from siftune.curate.runners.redact import redact as replace

    wanted = tuple(KINDS) if kinds is None else tuple(one.strip() for one in kinds.split(","))
    for kind in wanted:
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise UsageError(
                f"--kinds: {kind!r} is no kind; {closest(kind, KINDS)} (kinds: {known})"
            )
    table, aside = read_rows(rows, format=layout, limit=limit)
    done = replace(table, wanted)
    with whole_folder(out, command_name()) as part:
        done.rows.write_parquet(part / "rows.parquet", compression="zstd")
        lines = [orjson.dumps(change) + b"\n" for change in done.changes]
        (part / "redactions.jsonl").write_bytes(b"".join(lines))
        if aside:
            lines = [orjson.dumps(line) + b"\n" for line in aside]
            (part / "quarantine.jsonl").write_bytes(b"".join(lines))
    counted = {"rows": table.height, "changed": len(done.changes), "replaced": done.counts}
    if as_json:
        echo_json({**counted, "quarantined": len(aside), "score_columns_left_out": done.left_out})
    else:
        pieces = ", ".join(f"{count:,} {kind}" for kind, count in done.counts.items())
        echo(f"{table.height:,} rows, {len(done.changes):,} changed: {pieces or 'nothing found'}")
        if done.left_out:
            echo(f"left out, as they are of the old text: {', '.join(done.left_out)}")
        echo(f"written to {out / 'rows.parquet'}")
    if aside:
        raise Exit(PARTIAL)
