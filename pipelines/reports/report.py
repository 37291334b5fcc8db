"""The report of a run as one offline HTML file: rows, models, evaluations, arms."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from siftune.curate.core.errors import UsageError, reading
from siftune.curate.files.atomic import read_json
from siftune.curate.files.output_marker import generator_tag
from siftune.curate.files.outputs import check_page, whole_page
from siftune.curate.profiling.pages import as_html
from siftune.finetune.core.intervals import as_text
from siftune.finetune.models.loading import read_facts
from siftune.finetune.runs.summary import WORDS
from siftune.pipelines.reports.before_after import comparison
from siftune.pipelines.reports.charts import Chart, arms_chart, curve, rounds_chart
from siftune.pipelines.reports.judge_report import BIASES, by_round, judged_steps, stop_texts
from siftune.pipelines.reports.selection_data import Selection
from siftune.pipelines.reports.watched import watched

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["write_report"]

_COMMAND = "report"
_MOST_SAMPLES = 12
_CURVES = (
    "loss",
    "eval_loss",
    "rewards/margins",
    "rewards/accuracies",
    "objective/kl",
    "score/mean",
)


@dataclass
class _Charts:
    """Figures of the page, by the id of the element they are drawn in."""

    figures: dict[str, Chart] = field(default_factory=dict)

    def add(self, chart: Chart) -> str:
        name = f"chart-{len(self.figures)}"
        self.figures[name] = chart
        return name


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a curate or pipeline run; returns the file.

    Raises:
        UsageError: ``run`` holds no finished run, ``out`` is not an earlier report, or the `report`
            extra is not installed.
    """
    path = out or run / "report.html"
    check_page(path, _COMMAND, [run])
    charts = _Charts()
    content = {
        "name": _name(run),
        "selections": [_selection(path, charts) for path in _selections(run)],
        "models": [_model(*folders, charts) for folders in _models(run)],
        "arms": _arms(run, charts),
        "comparison": _compared(run),
        "profile": _profile(run),
        **_judged(run, charts),
    }
    if not (content["selections"] or content["models"] or content["profile"]):
        raise UsageError(f"{run} holds no finished run: expected manifest.json of a run in it")
    content["words"] = WORDS
    with reading(run):
        page = _page(content, charts.figures)
    whole_page(path, page, _COMMAND)
    return path


def _name(run: Path) -> str:
    """The recipe's name, or the folder's."""
    with reading(run / "manifest.json"):
        recipe = (_optional_json(run / "manifest.json") or {}).get("recipe", {})
        return str(recipe.get("name") or run.resolve().name)


@cache
def _template() -> Template:
    """The page; to compile it takes longer than to fill it in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("siftune.pipelines"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return pages.get_template("report.html")


def _page(content: Mapping[str, Any], figures: Mapping[str, Chart]) -> str:
    try:
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs

        page = _template()
    except ImportError as error:
        raise UsageError(f"{error.name} is missing: pip install 'siftune[report]'") from None
    scripts = [get_plotlyjs(), _drawing(figures)]
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    marks = {"generator": Markup(generator_tag(_COMMAND)), "hashes": hashes}
    return page.render(scripts=scripts, **marks, **content)


def _drawing(figures: Mapping[str, Chart]) -> str:
    """The script that draws the charts; data cannot end it, for every ``<`` in it is escaped."""
    data = orjson.dumps(figures).decode()
    for mark in "<>&\u2028\u2029":
        data = data.replace(mark, f"\\u{ord(mark):04x}")
    draw = "Plotly.newPlot(id,f.data,f.layout,{responsive:true,displayModeBar:false})"
    return f"for(const [id,f] of Object.entries({data}))if(document.getElementById(id)){draw};"


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _selections(run: Path) -> list[Path]:
    places = [run, run / "rows", run / "pairs"]
    return [path for path in places if _is_selection(path)]


def _is_selection(path: Path) -> bool:
    """Whether the folder is one of a curate run, even with files missing."""
    manifest = path / "manifest.json"
    with reading(manifest):
        return "stages" in dict(_optional_json(manifest) or {}) or (
            (path / "ledger.parquet").exists()
        )


def _selection(path: Path, charts: _Charts) -> dict[str, Any]:
    selection = Selection(path)
    drawn = selection.map()
    return {
        "name": selection.manifest["recipe"]["name"],
        "manifest": selection.manifest,
        "stages": selection.stages(),
        "reasons": selection.reasons(),
        "histograms": [(name, charts.add(chart)) for name, chart in selection.histograms()],
        "map": None if drawn is None else {"chart": charts.add(drawn[0]), "sentence": drawn[1]},
        "duplicates": selection.duplicates(),
        "quarantined": selection.quarantined(),
    }


def _models(run: Path) -> list[tuple[Path, Path, Path | None]]:
    """Model folders, their evaluations and their judgements of held-out pairs, if there are any.

    They are in the order they were made; arms have their table.
    """
    manifest = run / "manifest.json"
    with reading(manifest):
        listed = read_json(manifest).get("models", []) if manifest.is_file() else []
        if not listed and (run / "siftune.json").is_file():
            return [(run, run, None)]
        return [
            (
                run / model["path"],
                run / model.get("evaluation", model["path"]),
                run / model["judgement"] if "judgement" in model else None,
            )
            for model in listed
            if not model.get("arm")
        ]


def _model(path: Path, tested: Path, judged: Path | None, charts: _Charts) -> dict[str, Any]:
    return {
        "name": path.name,
        "facts": read_facts(path),
        "curves": [charts.add(curve(name, lines)) for name, lines in _curves(path)],
        "evaluation": _evaluation(tested),
        "judged": {} if judged is None else _evaluation(judged),
        "samples": _samples(tested),
        "watched": _watched(path, charts),
    }


def _watched(path: Path, charts: _Charts) -> dict[str, Any] | None:
    """What the watch saw of a training, with the names of its charts."""
    with reading(path):
        found = watched(path)
        return found and {**found, "charts": [charts.add(one) for one in found["charts"]]}


def _evaluation(path: Path) -> dict[str, str]:
    """The last means of an evaluation with their intervals, as text."""
    with reading(path / "evaluation.json"):
        last = (_optional_json(path / "evaluation.json") or {}).get("last") or {}
        numbers = {name: one for name, one in last.items() if isinstance(one, int | float)}
        return as_text(numbers)


def _curves(path: Path) -> Iterator[tuple[str, dict[str, list[tuple[float, float]]]]]:
    logged = _lines(path / "metrics.jsonl")
    for name in _CURVES:
        with reading(path / "metrics.jsonl"):
            found = ((line["step"], line[name]) for line in logged if {name, "step"} <= line.keys())
            points = [(float(step), float(value)) for step, value in found if value is not None]
        if len(points) > 1:
            yield name, {name: points}


def _samples(path: Path) -> list[dict[str, Any]]:
    written = [*sorted((path / "evaluation").glob("step-*.jsonl")), *path.glob("rows.jsonl")]
    answers = _lines(written[-1]) if written else []
    return [line for line in answers if "completion" in line][:_MOST_SAMPLES]


def _arms(run: Path, charts: _Charts) -> dict[str, Any] | None:
    with reading(run / "arms.json"):
        table: dict[str, Any] | None = _optional_json(run / "arms.json")
        if table is None:
            return None
        return table | {"chart": charts.add(arms_chart(table["arms"], table["metric"]))}


def _judged(run: Path, charts: _Charts) -> dict[str, Any]:
    """What the judges of steps measured, by round too, and why rounds were ended."""
    manifest = run / "manifest.json"
    with reading(manifest):
        facts = _optional_json(manifest) or {}
        drift = [charts.add(rounds_chart(name, one)) for name, one in by_round(facts).items()]
        steps = judged_steps(facts)
        return {
            "judged": steps,
            "stopped": stop_texts(facts),
            "drift": drift,
            "bias_names": [x for x in BIASES.values() if any(x in one["biases"] for one in steps)],
        }


def _profile(run: Path) -> str | None:
    """The profile of a folder of `siftune curate profile`, as HTML."""
    path = run / "profile.json"
    with reading(path):
        facts = _optional_json(path)
        ours = isinstance(facts, dict) and {"formats", "not_looked_at", "cost"} <= facts.keys()
        return as_html(facts) if ours else None


def _compared(run: Path) -> dict[str, Any] | None:
    with reading(run / "evaluations"):
        return comparison(run)


def _optional_json(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with reading(path):
        return [dict(orjson.loads(line)) for line in path.read_bytes().splitlines()]
