"""A day's work on the command line: three kinds of raw files, curated, exported, SFT, DPO, judged.

    python -m examples.days_work [--out FOLDER] [--model smollm2]
    python -m examples.days_work --instructions FILE --chats FILE --pairs FILE --held-out FILE

Each step is a command of `siftune` as a user types it, and is printed before it runs; its messages
(stderr) are written to FOLDER/logs. Dry runs come before true runs, a stage is killed and resumed,
training is stopped and resumed, and each result is checked: rows in = kept + dropped + set aside,
exports are read back, what was killed ends in the bytes of a run that was not. Without files the
rows are made up (`examples.days_work.rows`), and so is a model where none is named: offline.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from examples.days_work.rows import Raw, make
from siftune.curate.files.atomic import hash_file

ROWS: Final = Path(__file__).with_name("instructions.yaml")
PAIRS: Final = Path(__file__).with_name("pairs.yaml")
AGAINST, MODEL, QUOTA = "stages.5.against", "stages.11.model", "stages.13.rows"  # of ROWS
RANDOM: Final = "stages.8.rows"  # of PAIRS
SCORES: Final = "11:perplexity: running"  # the stage of ROWS that is killed
FINE, SET_ASIDE, STOPPED, WRONG = 0, 4, 130, 2  # exit codes of siftune
SFT: Final = shlex.split(
    "--held-out 0.1 --patience 3 --keep best --on-bad drop --epochs 3 --lr 2e-3 --batch-size 4"
    " --save-every 20 --log-every 5 --max-length 512"
)
DPO: Final = shlex.split(
    "--lora 8 --adapter both --lr 5e-4 --held-out 0.2 --on-bad drop --max-length 512"
)
MADE: Final = "base"  # the folder of a model that is made here
SMALL: Final = shlex.split(
    "--hidden 96 --layers 2 --vocab-size 1000 --context 512 --batch-size 4 --steps 120"
)


class Wrong(Exception):
    """A command ended with another exit code than expected, or a result is wrong."""


@dataclass
class Siftune:
    """The command line in one folder; ``logs`` get the stderr of each command."""

    folder: Path
    ran: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, *words: object, shown: bool = True) -> str:
        """Run a command and give its stdout, which is ``shown``, or else its last line.

        Raises:
            Wrong: it ended with another exit code.
        """
        start = time.monotonic()
        with self._log(words).open("w") as log:
            done = subprocess.run(
                self._line(words), cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.ran.append((" ".join(map(str, words[:2])), time.monotonic() - start))
        lines = done.stdout.splitlines()
        print("\n".join(lines if shown else lines[-1:]), flush=True)
        if done.returncode not in (FINE, SET_ASIDE):
            raise Wrong(f"exit code {done.returncode}:\n{self.stderr()[-1500:]}")
        return done.stdout

    def stopped(self, number: signal.Signals, at: str, *words: object) -> int:
        """Run a command, send it a signal once a line of its stderr holds ``at``; its exit code.

        Raises:
            Wrong: it ended before such a line came.
        """
        with (
            self._log(words).open("w") as log,
            subprocess.Popen(
                self._line(words),
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            sent = False
            for line in process.stderr or ():
                log.write(line)
                if at in line and not sent:
                    print(f"  {line.rstrip()}\n  ({number.name} sent)", flush=True)
                    process.send_signal(number)
                    sent = True
        if not sent:
            raise Wrong(f"no line with {at!r} came before the command ended:\n{self.stderr()}")
        return process.returncode

    def stderr(self) -> str:
        """The stderr of the last command."""
        return max(self._logs().iterdir()).read_text()

    def _line(self, words: Sequence[object]) -> list[str]:
        """The command, printed as it is typed and run by this very Python."""
        print(f"\n$ siftune {shlex.join(map(str, words))}", flush=True)
        entry = (
            "import sys; from siftune.pipelines.cli import main; sys.argv[0] = 'siftune'; main()"
        )
        return [sys.executable, "-c", entry, *map(str, words)]

    def _log(self, words: Sequence[object]) -> Path:
        name = "-".join(str(word) for word in words[:2] if "/" not in str(word))
        return self._logs() / f"{len(list(self._logs().iterdir())) + 1:02}-{name}.txt"

    def _logs(self) -> Path:
        folder = self.folder / "logs"
        folder.mkdir(exist_ok=True)
        return folder


def main(words: Sequence[str] | None = None) -> int:
    """Run all steps; returns the exit code."""
    asked = _asked(words)
    folder = asked.out.resolve()
    if folder.exists() and any(folder.iterdir()):
        print(f"days_work: {asked.out} is not empty: give another --out", file=sys.stderr)
        return WRONG
    folder.mkdir(parents=True, exist_ok=True)
    siftune = Siftune(folder)
    try:
        raw, model = _given(asked, siftune)
        _curate(siftune, raw, model, asked.keep, asked.chats_format)
        _export(siftune)
        _train(siftune, model)
    except Wrong as wrong:
        print(f"days_work: {wrong}", file=sys.stderr)
        return 1
    print("\n".join(["", *_numbers(siftune)]))
    return 0


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.days_work", description=__doc__)
    for name, told in (
        ("instructions", "instruction rows, in any layout that siftune reads"),
        ("chats", "chats of several turns"),
        ("held-out", "rows whose prompts must not be learned"),
    ):
        parser.add_argument(f"--{name}", type=Path, help=f"{told}; by default made up")
    parser.add_argument(
        "--pairs", type=Path, nargs="+", help="files of preference pairs; by default two, made up"
    )
    parser.add_argument("--chats-format", help="their layout, where it cannot be recognised")
    parser.add_argument("--model", help="a folder or a name; by default a small one is made")
    parser.add_argument("--rows", type=int, default=400, help="how many instructions are made up")
    parser.add_argument(
        "--keep", type=int, default=150, help="rows kept of each file, and pairs of all"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/days-work"), help="a new folder")
    return parser.parse_args(words)


def _given(asked: argparse.Namespace, siftune: Siftune) -> tuple[Raw, str]:
    """The raw files, made up where they are not given, and the model to begin with."""
    made = make(siftune.folder / "raw", asked.rows)

    def path(own: Path | None, made_up: Path) -> Path:
        return own.resolve() if own else made_up.relative_to(siftune.folder)

    pairs = [path(own, own) for own in asked.pairs or ()]
    raw = Raw(
        path(asked.instructions, made.instructions),
        path(asked.chats, made.chats),
        tuple(pairs or (path(None, pair) for pair in made.pairs)),
        path(asked.held_out, made.held_out),
    )
    if asked.model:
        return raw, str(Path(asked.model).resolve() if Path(asked.model).exists() else asked.model)
    siftune("finetune", "init", "raw/world/facts.jsonl", *SMALL, "--out", MADE)
    return raw, MADE


def _curate(siftune: Siftune, raw: Raw, model: str, keep: int, layout: str | None) -> None:
    """Look at the files, then run both recipes: dry, killed, again, and elsewhere."""
    _first_look(siftune, "instructions", raw.instructions)
    _first_look(siftune, "chats", raw.chats, *(["--format", layout] if layout else []))
    chats = f"{{path: {raw.chats}, format: {layout}}}" if layout else raw.chats
    given = [f"source=[{raw.instructions}, {chats}]", f"{AGAINST}={raw.held_out}"]
    given += [f"{MODEL}={model}", f"{QUOTA}={keep}"]
    rows = ["curate", "run", ROWS, *_set(given)]
    siftune(*rows, "--out", "rows", "--dry-run")
    _held(not (siftune.folder / "rows").exists(), "a dry run writes nothing")
    code = siftune.stopped(signal.SIGKILL, SCORES, *rows, "--out", "rows")
    _held(code == -signal.SIGKILL, "the run was killed amid a stage")
    _held(not (siftune.folder / "rows" / "kept.parquet").exists(), "a killed run shows no rows")
    siftune(*rows, "--out", "rows")
    _held("done before" in siftune.stderr(), "stages that were finished are not done again")
    siftune(*rows, "--out", "elsewhere", shown=False)
    found = siftune.stderr().count("done in another run of this project")
    _held(found == 14, "a run in another folder finds every stage done")
    siftune(*rows, "--out", "uninterrupted", "--no-cache", shown=False)
    for other in ("elsewhere", "uninterrupted"):
        _same(siftune.folder / "rows", siftune.folder / other)
    _whole(siftune.folder / "rows")
    given = [f"source=[{', '.join(map(str, raw.pairs))}]", f"{RANDOM}={keep}"]
    pairs = ["curate", "run", PAIRS, *_set(given)]
    siftune(*pairs, "--out", "pairs", "--dry-run")
    siftune(*pairs, "--out", "pairs")
    _whole(siftune.folder / "pairs")
    siftune("report", "rows")


def _set(given: Sequence[str]) -> list[str]:
    return [word for key in given for word in ("-o", key)]


def _first_look(siftune: Siftune, out: str, source: Path, *layout: str) -> None:
    """Read a file and flag its non-answers, by single commands."""
    siftune("curate", "ingest", source, *layout, "--out", out)
    siftune("curate", "score", out, "heuristics", "--out", f"{out}-scored")
    siftune("curate", "select", f"{out}-scored", "flags", "--out", f"{out}-flagged")
    for run in (out, f"{out}-scored", f"{out}-flagged"):
        _whole(siftune.folder / run)


def _export(siftune: Siftune) -> None:
    """Write rows and pairs for trainers, read them back, and explain why a row was dropped."""
    _read_back(siftune, "rows", "trl", "--with", "source,perplexity")
    _read_back(siftune, "pairs", "trl")
    _read_back(siftune, "rows", "llamafactory", "--with", "id")
    ledger = pl.read_parquet(siftune.folder / "rows" / "ledger.parquet")
    dropped = ledger.filter(pl.col("decision") == "dropped")
    near = dropped.filter(pl.col("reason") == "near_duplicate")
    for row in (near if near.height else dropped)["id"].head(1):
        told = siftune("curate", "explain", "rows", row)
        _held("dropped by" in told, "explain names the stage that dropped a row")


def _read_back(siftune: Siftune, run: str, layout: str, *more: str) -> None:
    out = f"{run}-{layout}"
    siftune("curate", "export", run, "--format", layout, *more, "--out", out)
    lines = (siftune.folder / out / "train.jsonl").read_bytes().splitlines()
    rows = [orjson.loads(line) for line in lines]
    kept = pl.read_parquet(siftune.folder / run / "kept.parquet").height
    _held(0 < len(rows) <= kept, f"{out} holds {len(rows)} of {kept} kept rows")
    wanted = set(more[-1].split(",")) if more else set()
    _check(all(wanted <= row.keys() for row in rows), f"each row of {out} has {sorted(wanted)}")


def _train(siftune: Siftune, model: str) -> None:
    """SFT, stopped by Ctrl-C and resumed; DPO on top; both evaluated on held-out prompts.

    A model that was made here has never seen the end of an answer: all its weights are trained.
    """
    lora = [] if model == MADE else ["--lora", 16]
    sft = ["finetune", "sft", "rows", "--model", model, *lora, *SFT, "--out", "sft"]
    code = siftune.stopped(signal.SIGINT, "step 5 of", *sft)
    _held(code == STOPPED, f"Ctrl-C ends a training with exit code {STOPPED}")
    _held("run the same command again" in siftune.stderr(), "Ctrl-C leaves a checkpoint")
    siftune(*sft)
    _held("going on from" in siftune.stderr(), "the training resumed from its checkpoint")
    siftune("finetune", "dpo", "pairs", "--model", "sft", *DPO, "--out", "dpo")
    for part in ("model.safetensors", "adapter/adapter_model.safetensors", "README.md"):
        _held((siftune.folder / "dpo" / part).is_file(), f"dpo/{part} is there")
    asked = ["rows/test.parquet", "--limit", 16, "--max-new-tokens", 32]
    for name in ("sft", "dpo"):
        siftune("finetune", "evaluate", *asked, "--model", name, "--out", f"{name}-evaluated")
    if _evaluated(siftune, "dpo")["ended"] == 0:  # an answer that was cut off is no sample
        print("\nno sample is drawn: the model ended none of its answers", flush=True)
        return
    reward = ["--reward", "exact_match", "--count", 4]
    siftune("finetune", "sample", *asked, "--model", "dpo", *reward, "--out", "sampled")


def _evaluated(siftune: Siftune, model: str) -> Mapping[str, float]:
    """The means of an evaluation."""
    judged = orjson.loads((siftune.folder / f"{model}-evaluated/evaluation.json").read_bytes())
    means: Mapping[str, float] = judged["last"]
    return means


def _whole(run: Path) -> None:
    """Rows in = kept + dropped + set aside; at each stage, and in the ledger.

    Raises:
        Wrong: a row is lost, or counted twice.
    """
    manifest = orjson.loads((run / "manifest.json").read_bytes())
    counts, stages = manifest["counts"], manifest["stages"]
    rest = counts["kept"] + counts["dropped"] + counts["quarantined"]
    read = stages[0]["kept"] + counts["quarantined"]  # of trees, several rows a record
    _check(rest == counts["rows"] == read, f"{run.name} lost no row: {counts}")
    left = stages[0]["kept"]
    for stage in stages[1:]:
        _check(stage["rows"] == left, f"{run.name}: {stage['stage']} was given what was left")
        if "kept" in stage:
            told = sum(stage["reasons"].values())
            _check(told == left, f"{run.name}: {stage['stage']} has a reason for each row")
            left = stage["kept"]
    _check(pl.read_parquet(run / "kept.parquet").height == left, f"{run.name} kept {left} rows")
    ids = pl.read_parquet(run / "ledger.parquet")["id"].n_unique()
    _check(ids == counts["rows"], f"the ledger of {run.name} has each row")
    print(
        f"  holds: {run.name}: {counts['rows']} rows = {counts['kept']} kept + {counts['dropped']}"
        f" dropped + {counts['quarantined']} set aside, at each of {len(stages)} stages"
    )


def _same(one: Path, other: Path) -> None:
    for name in ("kept.parquet", "ledger.parquet", "test.parquet", "quarantine.jsonl"):
        same = hash_file(one / name) == hash_file(other / name)
        _check(same, f"{one.name}/{name} and {other.name}/{name} are the same bytes")
    print(f"  holds: {one.name} and {other.name} are the same bytes")


def _held(holds: bool, what: str) -> None:
    _check(holds, what)
    print(f"  holds: {what}", flush=True)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(f"does not hold: {what}")


def _numbers(siftune: Siftune) -> Iterator[str]:
    """Print the figures of the day."""
    for run in ("rows", "pairs"):
        counts: Mapping[str, Any] = orjson.loads(
            (siftune.folder / run / "manifest.json").read_bytes()
        )["counts"]
        yield f"{run}: {counts['rows']:,} read, {counts['kept']:,} kept for training"
    for name in ("sft", "dpo"):
        means = _evaluated(siftune, name)
        loss, low, high = (means[key] for key in ("loss", "loss_low", "loss_high"))
        told = f"loss on held-out answers {loss:.3f} ({low:.3f} … {high:.3f}) nats a token"
        yield f"{name}: {told}, {means['contains']:.0%} of answers contain the known one"
    yield f"report: {siftune.folder / 'rows' / 'report.html'}"
    slowest = sorted(siftune.ran, key=lambda one: -one[1])[:3]
    yield f"time: {sum(took for _, took in siftune.ran):.0f} s in {len(siftune.ran)} commands; " + (
        "longest: " + ", ".join(f"{name} {took:.0f} s" for name, took in slowest)
    )


if __name__ == "__main__":
    sys.exit(main())
