"""`python -m benchmarks.selections ROWS`: selections from one scoring run, beside random draws.

Three parts, each scored by one run that resumes where it was stopped: ``no_lm``, a selection of all
rows by what needs no language model; ``lm``, of rows drawn by a seed, by what needs a pass of one;
``dear``, of some of these, by what needs many passes, a judge or gradients. Each selection has one
line beside ten random draws of as many rows: length, tokens, topics, fitted quality,
near-duplicates left, Vendi score, coverage. The CPU hours that are expected are printed before a
part is scored, those that it took are written after.

``--head`` is a folder of `siftune curate fit-quality` and ``--targets`` a file of rows that one
wants to do well on; without them the selections that need them are left out. ``--overlaps FILE``
draws which share of their rows the selections have in common.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.selection_figures import Drawn, figures_of, overlaps_svg, table_of
from siftune.curate.core import registry
from siftune.curate.core.progress import Progress
from siftune.curate.files.atomic import digest_of
from siftune.curate.runners.preview import preview
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse

Stages = list[dict[str, Any]]
_DRAWS: Final = 10
_PARTS: Final = ("no_lm", "lm", "dear")
_ABOUT: Final = {
    "no_lm": "by what needs no language model",
    "lm": "by what needs a pass of a language model",
    "dear": "by what needs many passes, a judge or gradients",
}


@dataclass(frozen=True)
class Given:
    """What was asked for on the command line."""

    rows: str
    work: Path
    seed: int
    pools: tuple[int, int]
    kept: tuple[int, int, int]
    model: str
    embedder: str | None
    head: str | None
    targets: str | None
    judge: str | None

    @property
    def embedding(self) -> dict[str, Any]:
        """The stage that embeds rows."""
        model = {} if self.embedder is None else {"model": self.embedder}
        return {"score": "embedding", "cache": str(self.work / "vectors"), **model}

    def keep(self, part: str) -> int:
        """Rows of a selection."""
        return self.kept[_PARTS.index(part)]


def scores(part: str, given: Given, targets: Path | None) -> Stages:
    """The scoring stages of a part."""
    model = {"model": given.model}
    if part == "no_lm":
        found: Stages = [
            {"score": "length", "tokenizer": given.model},
            {"score": "heuristics"},
            {"score": "compression"},
            {"score": "lexical_diversity"},
            given.embedding,
            {"score": "clusters"},
        ]
        if given.head is not None:
            found.append({"score": "fitted_quality", "model": given.head})
        if targets is not None:
            found.append({"score": "dsir", "against": str(targets)})
            found.append({"score": "target_similarity", "against": str(targets)})
        return found
    if part == "lm":
        pool = str(given.work / "no_lm" / "run")
        found = [{"select": "random", "rows": given.pools[0]}]
        found += [{"score": name, **model} for name in ("ifd", "perplexity", "rds")]
        return [*found, {"score": "tss", **model, "against": pool}]
    pool = str(given.work / "no_lm" / "run")
    found = [{"select": "random", "rows": given.pools[1]}]
    found.append({"score": "selectit", **model})
    found.append({"score": "nuggets", **model, "against": pool, "centers": 10})
    if given.judge is not None:
        found.append({"score": "judge_rating", "task": "alpagasus", "judge": given.judge})
    there = registry.names("curate.scorers") if targets is not None else ()
    by_gradients = [name for name in ("less", "gist") if name in there]
    return [*found, *({"score": name, **model, "against": str(targets)} for name in by_gradients)]


def selections(part: str, table: pl.DataFrame, keep: int, targets: Path | None) -> dict[str, Any]:
    """The selectors of each selection that the columns of the table allow, in order."""
    rows = {"rows": keep}
    there = set(table.columns)
    target = {"against": str(targets)}
    listed: dict[str, tuple[str, Stages]] = {
        "longest": ("length_chars", [{"longest": rows}]),
        "most diverse words (MTLD)": (
            "lexical_diversity_mtld",
            [{"top_k": {"by": "lexical_diversity_mtld", **rows}}],
        ),
        "least compressible": ("compression", [{"top_k": {"by": "-compression", **rows}}]),
        "without faults and near-duplicates, then random": (
            "heuristics_flags",
            [{"flags": {}}, {"minhash_dedup": {}}, {"random": rows}],
        ),
        "k-center": ("embedding", [{"k_center": rows}]),
        "facility location": ("embedding", [{"facility_location": rows}]),
        "clusters alike (CaR's k-means)": ("embedding", [{"cluster_balanced": rows}]),
        "NovelSelect": ("embedding", [{"novel_select": rows}]),
        "fitted quality": ("fitted_quality", [{"top_k": {"by": "fitted_quality", **rows}}]),
        "fitted quality, drawn at temperature 1": (
            "fitted_quality",
            [{"top_k": {"by": "fitted_quality", "temperature": 1.0, **rows}}],
        ),
        "facility location weighted by quality": (
            "fitted_quality",
            [{"facility_location": {"by": "fitted_quality", **rows}}],
        ),
        "MMR of quality": ("fitted_quality", [{"mmr": {"by": "fitted_quality", **rows}}]),
        "DEITA's filter by quality": (
            "fitted_quality",
            [{"deita_filter": {"by": "fitted_quality", **rows}}],
        ),
        "Pareto fronts of quality and MTLD": (
            "fitted_quality",
            [{"pareto": {"by": ("fitted_quality", "lexical_diversity_mtld"), **rows}}],
        ),
        "DSIR": ("dsir_mean", [{"top_k": {"by": "dsir_mean", "temperature": 0.5, **rows}}]),
        "target similarity": (
            "target_similarity",
            [{"top_k": {"by": "target_similarity", **rows}}],
        ),
        "Superfiltering (IFD below 1)": (
            "ifd",
            [{"threshold": {"by": "ifd", "max": 1.0}}, {"top_k": {"by": "ifd", **rows}}],
        ),
        "lowest perplexity": ("perplexity", [{"top_k": {"by": "-perplexity", **rows}}]),
        "RDS+ round robin": ("rds", [{"rds_round_robin": {**target, **rows}}]),
        "TSS": ("tss", [{"top_k": {"by": "tss", **rows}}]),
        "SelectIT": ("selectit", [{"top_k": {"by": "selectit", **rows}}]),
        "Nuggets": ("nuggets", [{"top_k": {"by": "nuggets + 0.001 * nuggets_gain", **rows}}]),
        "AlpaGasus' judge": ("judge_rating", [{"top_k": {"by": "judge_rating", **rows}}]),
        "LESS": ("less", [{"top_k": {"by": "less", **rows}}]),
        "GIST": ("gist", [{"top_k": {"by": "gist", **rows}}]),
    }
    own: dict[str, tuple[str, ...]] = {"lm": ("ifd", "perplexity", "rds", "tss")}
    own["dear"] = ("selectit", "nuggets", "judge_rating", "less", "gist")
    later = {*own["lm"], *own["dear"]}
    return {
        name: specs
        for name, (needs, specs) in listed.items()
        if needs in there
        and (needs in own[part] if part != "no_lm" else needs not in later)
        and not (needs == "rds" and targets is None)
    }


def scored(part: str, given: Given, targets: dict[str, Path]) -> tuple[pl.DataFrame, str]:
    """The table of a part with its scores, and what identifies them; stages that are done stay."""
    source = {"no_lm": given.rows}
    source |= {"lm": str(given.work / "no_lm" / "run"), "dear": str(given.work / "lm" / "run")}
    folder = given.work / part
    stages = scores(part, given, targets.get("dear" if part == "dear" else "no_lm"))
    recipe = parse({"name": part, "source": [source[part]], "seed": given.seed, "stages": stages})
    _forecast(recipe, folder, part)
    done = run(recipe, folder / "run", say=Progress())
    hours = _read(folder / "hours.json")
    cpu = sum(one["cpu_seconds"] for one in done.manifest["clock"].values()) / 3600
    _write(folder / "hours.json", {**hours, "took": max(cpu, hours.get("took", 0.0))})
    _say(f"{part}: scored in {cpu:.2f} CPU hours")
    table = pl.read_parquet(done.out / "kept.parquet")
    return table, digest_of([done.manifest["stages"], done.manifest["inputs"]])


def _forecast(recipe: Any, folder: Path, part: str) -> None:
    """Print and write the CPU hours that a part is expected to take, once."""
    if (folder / "hours.json").is_file():
        return
    _, stages = preview(recipe, folder / "run")
    low, high = (sum(one.seconds[at] for one in stages if one.seconds) / 3600 for at in (0, 1))
    unknown = [one.label for one in stages if one.seconds is None]
    _say(f"{part}: {low:.2f} to {high:.2f} CPU hours" + f", and {unknown}" * bool(unknown))
    _write(folder / "hours.json", {"low": low, "high": high, "unknown": unknown})


def drawn(table: pl.DataFrame, key: str, specs: Stages, folder: Path, seed: int) -> Drawn:
    """A selection with its figures, from the folder if it was made there before."""
    path = folder / f"{digest_of([key, specs, seed])}.json"
    if path.is_file():
        known = _read(path)
        return Drawn(tuple(known["ids"]), known["figures"], known["seconds"])
    start = time.process_time()
    kept = table
    for spec in specs:
        ((name, options),) = spec.items()
        takes = registry.options(registry.find("curate.selectors", name))
        own = options | ({"seed": seed} if "seed" in takes else {})
        kept = kept.filter(registry.build("curate.selectors", name, own)(kept)["keep"])
    seconds = time.process_time() - start
    found = Drawn(tuple(kept["id"]), figures_of(kept, table), seconds)
    _write(path, found.as_dict())
    return found


def part_lines(
    part: str, given: Given, targets: dict[str, Path], groups: dict[str, Any]
) -> Iterator[str]:
    """A part as Markdown; its selections are added to ``groups``."""
    table, key = scored(part, given, targets)
    keep, folder = given.keep(part), given.work / part / "selections"
    random = [
        drawn(table, key, [{"random": {"rows": keep}}], folder, given.seed + 1 + at)
        for at in range(_DRAWS)
    ]
    made = {}
    listed = selections(part, table, keep, targets.get("rds" if part == "lm" else "no_lm"))
    for name, specs in listed.items():
        made[name] = drawn(table, key, specs, folder, given.seed)
        _say(f"{part}: {name}: {len(made[name].ids):,} rows, {made[name].seconds:.1f} CPU s")
    groups[part] = (made, table.height)
    hours = _read(given.work / part / "hours.json")
    unknown = f" and {', '.join(hours['unknown'])}" if hours["unknown"] else ""
    yield f"## {part}: {keep:,} of {table.height:,} rows, {_ABOUT[part]}"
    yield ""
    yield (
        f"Scoring: forecast {hours['low']:.2f} to {hours['high']:.2f} CPU hours{unknown}, took "
        f"{hours['took']:.2f}."
    )
    yield ""
    yield from table_of(made, random)
    yield ""


def scored_targets(given: Given) -> dict[str, Path]:
    """Target rows with the vectors that the parts compare: embeddings, and hidden states."""
    if given.targets is None:
        return {}
    found = {"dear": Path(given.targets)}
    for name, stage in (
        ("no_lm", given.embedding),
        ("rds", {"score": "rds", "model": given.model}),
    ):
        out = given.work / "targets" / name
        recipe = {"name": "targets", "source": [given.targets], "stages": [stage]}
        if name == "no_lm" or (given.work / "lm").is_dir():
            found[name] = run(parse(recipe), out).out
    return found


def main(words: list[str] | None = None) -> None:
    """Score, select, and print the tables."""
    given, asked = _asked(words)
    groups: dict[str, Any] = {}
    lines: list[str] = []
    for part in asked.parts.split(","):
        (given.work / part).mkdir(parents=True, exist_ok=True)
        lines += part_lines(part, given, scored_targets(given), groups)
        text = "\n".join(lines)
        if asked.out is not None:
            asked.out.write_text(f"{_HEAD}{text}", encoding="utf-8")
    print(text)
    if asked.overlaps is not None:
        made = {name: one for name, (one, _) in groups.items()}
        pools = {name: height for name, (_, height) in groups.items()}
        asked.overlaps.write_text(overlaps_svg(made, pools), encoding="utf-8")


_HEAD: Final = """# Selections from one scoring run

`python -m benchmarks.selections ROWS` writes this file. Means have a 95 % interval over the rows;
of the ten random draws are shown the mean, and the smallest and the largest. Bold: outside of all
ten draws. Topics are the k-means clusters of the pool that a selection has rows of; near-duplicates
are rows that `minhash_dedup` would drop from the selection; Vendi score, NovelSum and coverage are
those of `siftune curate measure`. Fitted quality is a head fitted to preferences: a selection by it
is the best by construction.

"""


def _asked(words: list[str] | None) -> tuple[Given, argparse.Namespace]:
    listed = ",".join(_PARTS)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows")
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done")
    parser.add_argument("--parts", default="no_lm", help=f"of {listed}; each needs the one before")
    parser.add_argument("--keep", default="1000,300,100", help="rows of a selection, part by part")
    parser.add_argument(
        "--pools", default="3000,1000", help="rows that the last two parts choose from"
    )
    parser.add_argument("--model", default="smollm2", help="language model, and its tokenizer")
    parser.add_argument("--embedder", help="embedding model; the packaged one")
    parser.add_argument("--head", help="folder of a quality head")
    parser.add_argument("--targets", help="rows that one wants to do well on")
    parser.add_argument("--judge", help="judge of the last part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file of the tables")
    parser.add_argument("--overlaps", type=Path, help="SVG file of the overlaps")
    asked = parser.parse_args(words)
    for part in asked.parts.split(","):
        if part not in _PARTS:
            parser.error(f"--parts: expected some of {listed}; got {part!r}")
    pools, kept = (tuple(map(int, text.split(","))) for text in (asked.pools, asked.keep))
    if (len(pools), len(kept)) != (2, 3):
        parser.error("--pools takes two numbers and --keep three, with commas between")
    options = (asked.model, asked.embedder, asked.head, asked.targets, asked.judge)
    return Given(asked.rows, asked.work, asked.seed, pools, kept, *options), asked  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
