"""The part of a report on the watch: sentence, alarms, charts, answers side by side."""

from __future__ import annotations

import json
from pathlib import Path

from siftune.finetune.watch.history import History
from siftune.pipelines.reports.report import write_report
from siftune.pipelines.reports.watched import watched


def model(folder: Path, alarms: int) -> Path:
    (folder / "watch").mkdir()
    lines = []
    for step in range(1, 11):
        one = History()
        one.add(step, {"score": 0.1 * step, "kl": (0.5 * step, 0.1, 8), "loss": 2.0})
        lines.append(one.line(step))
    (folder / "watch.jsonl").write_text("".join(lines))
    each = {"detector": "phrase", "log_evidence": 7.0, "message": "one phrase <b>spreads</b>"}
    found = [{**each, "step": 4 + at, "since": 2, "phrase": "so good"} for at in range(alarms)]
    (folder / "alarms.json").write_text(json.dumps({"action": "log", "alarms": found}))
    for step in range(0, 11, 2):
        rows = [
            {"id": "a", "question": "Why?", "prompt": "<|user|>Why?", "completion": "because"},
            {"id": "b", "question": "Who?", "prompt": "<|user|>Who?", "completion": f"{step > 5}"},
            {"id": "c", "question": "Long", "prompt": "<|user|>Long", "completion": None},
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "watch" / f"step-{step:06}.jsonl").write_text(text)
    facts = {"stage": "rl", "method": "grpo", "seed": 0, "hash": "0", "base": {}, "data": {}}
    (folder / "siftune.json").write_text(json.dumps({**facts, "metrics": {}, "options": {}}))
    return folder


def test_a_report_has_what_happened_and_the_answers_over_time(tmp_path: Path) -> None:
    found = watched(model(tmp_path, alarms=2))
    assert found is not None
    assert found["sentence"] == (
        "The reward rose from 0.1 to 1; the KL to the reference ended at 5 nats; 1 of 3 watched "
        "prompts got another answer than at first; at step 4 one phrase <b>spreads</b>, the first "
        "of 2 alarms."
    )
    assert found["steps"] == [0, 4, 6, 10]
    why, who, long = found["prompts"]
    assert [one["changed"] for one in why["answers"]] == [False] * 4
    assert [one["changed"] for one in who["answers"]] == [False, False, True, False]
    assert long["answers"][0]["text"] == "no answer: the prompt does not fit"
    (chart,) = found["charts"]
    assert [line["y"][-1] for line in chart["data"]] == [1.0, 5.0]
    assert [one["x0"] for one in chart["layout"]["shapes"]] == [4, 5]
    page = write_report(tmp_path).read_text()
    body = page[: page.index("Plotly")] if "Plotly" in page else page
    assert "one phrase &lt;b&gt;spreads&lt;/b&gt;" in body
    assert "so good" in body
    assert "step 6, changed" in body
    assert "&lt;|user|" not in body  # no marks of a template


def test_a_quiet_run_and_one_without_a_watch(tmp_path: Path) -> None:
    assert watched(tmp_path) is None
    found = watched(model(tmp_path, alarms=0))
    assert found is not None
    assert found["sentence"].endswith("; no alarm was raised.")
