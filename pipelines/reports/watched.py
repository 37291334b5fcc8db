"""What the watch saw of a training: one sentence, alarms, reward beside KL, answers over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.curate.files.atomic import read_json
from siftune.finetune.watch.history import WATCH_FILE, History, Point
from siftune.pipelines.reports.charts import Chart, beside

__all__ = ["watched"]

_COLUMNS: Final = 4  # answers of one prompt, side by side
_PROMPTS: Final = 12
_PAIRS: Final = (
    ("score", "reward", "kl", "KL, nats an answer"),
    ("score", "reward", "held_out/gold", "gold score of held-out prompts"),
    ("margins", "reward margin", "kl", "KL, nats a token"),
    ("loss", "training loss", "held_out/loss", "held-out loss"),
    ("length", "words of an answer", "entropy", "entropy, nats a token"),
)
"""Series that are drawn in one chart, each with its words."""


def watched(folder: Path) -> dict[str, Any] | None:
    """``sentence``, ``alarms``, ``charts`` and ``prompts`` of a model folder; None without a watch.

    Of each prompt ``prompts`` has the question, the answers at some checkpoints with their steps,
    and whether each differs from the one before it.
    """
    if not (folder / WATCH_FILE).is_file() or not (folder / "alarms.json").is_file():
        return None
    history, found = History.read(folder / WATCH_FILE), read_json(folder / "alarms.json")
    answers = _answers(folder)
    return {
        "sentence": _sentence(history, answers, found["alarms"]),
        "action": found["action"],
        "alarms": found["alarms"],
        "charts": _charts(history, found["alarms"]),
        "steps": [step for step, _ in _shown(answers)],
        "prompts": _prompts(answers),
    }


def _answers(folder: Path) -> list[tuple[int, dict[str, dict[str, Any]]]]:
    """Of each checkpoint its step and the answers by the id of the row."""
    found = []
    for path in sorted((folder / "watch").glob("step-*.jsonl")):
        rows = map(orjson.loads, path.read_bytes().splitlines())
        found.append((int(path.stem.removeprefix("step-")), {row["id"]: row for row in rows}))
    return found


def _shown(answers: Sequence[Any]) -> list[Any]:
    """The first and the last checkpoint, and some between them at even distances."""
    if len(answers) <= _COLUMNS:
        return list(answers)
    return [answers[round(at * (len(answers) - 1) / (_COLUMNS - 1))] for at in range(_COLUMNS)]


def _prompts(answers: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    shown = _shown(answers)
    if not shown:
        return []
    found = []
    for key, first in list(shown[0][1].items())[:_PROMPTS]:
        texts = [_text(rows.get(key)) for _, rows in shown]
        each = [
            {"step": step, "text": text, "changed": at > 0 and text != texts[at - 1]}
            for at, ((step, _), text) in enumerate(zip(shown, texts, strict=True))
        ]
        found.append({"question": first.get("question") or "", "answers": each})
    return found


def _text(row: Mapping[str, Any] | None) -> str:
    if row is None or row.get("completion") is None:
        return "no answer: the prompt does not fit"
    return str(row["completion"]).strip() or "(nothing)"


def _charts(history: History, alarms: Sequence[Mapping[str, Any]]) -> list[Chart]:
    steps = sorted({int(one["step"]) for one in alarms})
    charts, drawn = [], set[str]()
    for left, left_words, right, right_words in _PAIRS:
        series = history.points(left), history.points(right)
        if min(map(len, series)) < 2 or right in drawn:
            continue
        drawn |= {left, right}
        pairs = ((left_words, _line(series[0])), (right_words, _line(series[1])))
        charts.append(beside(pairs, steps))
    return charts


def _line(points: Sequence[Point]) -> list[tuple[float, float]]:
    return [(float(point.step), point.mean) for point in points]


def _sentence(
    history: History,
    answers: Sequence[tuple[int, Mapping[str, Any]]],
    alarms: Sequence[Mapping[str, Any]],
) -> str:
    """What happened, in one sentence."""
    names = (("score", "the reward"), ("margins", "the margin"), ("loss", "the loss"))
    parts = [_course(history.points(name), words) for name, words in names]
    found = [part for part in parts if part][:1]
    if history.points("kl"):
        found.append(f"the KL to the reference ended at {history.points('kl')[-1].mean:.3g} nats")
    if len(answers) > 1:
        before, after = answers[0][1], answers[-1][1]
        changed = sum(_text(before[key]) != _text(after.get(key)) for key in before)
        found.append(f"{changed} of {len(before)} watched prompts got another answer than at first")
    if alarms:
        first = alarms[0]
        more = f", the first of {len(alarms)} alarms" if len(alarms) > 1 else ""
        found.append(f"at step {first['step']} {first['message']}{more}")
    else:
        found.append("no alarm was raised")
    text = "; ".join(found)
    return f"{text[0].upper()}{text[1:]}."


def _course(points: Sequence[Point], words: str) -> str | None:
    """Means of the first and of the last tenth of a series, in words.

    >>> _course([Point(1, 0.5), Point(2, 1.5)], "the reward")
    'the reward rose from 0.5 to 1.5'
    """
    if len(points) < 2:
        return None
    part = max(len(points) // 10, 1)
    first, last = (sum(p.mean for p in some) / part for some in (points[:part], points[-part:]))
    verb = "rose" if last > first else "fell" if last < first else "stayed"
    return f"{words} {verb} from {first:.3g} to {last:.3g}"
