"""The report: one file, whole without the network, and deaf to markup in the data."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import write_json
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from siftune.pipelines.reports.report import _drawing, write_report

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "[click](javascript:alert(1)) <a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }} {% for x in y %}",
    "\u202egnp.exe",
    "nul\u0000byte",
    "line\u2028separator\u2029",
    "<style>body{display:none}</style>",
    '<meta http-equiv="refresh" content="0;url=http://example.com">',
]
STAGES = [{"score": "length"}, {"select": "exact_dedup"}, {"select": "longest", "rows": 10}]


class Page(HTMLParser):
    """Elements and attributes of a page, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: Counter = Counter()
        self.links: list[str] = []
        self.said: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.found[tag] += 1
        self.found.update(f"{tag}.{name}" for name, _ in attrs)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.said.append(data)


def page_of(folder: Path, texts: list[str]) -> tuple[Page, str]:
    rows = folder / "rows.jsonl"
    lines = [json.dumps({"prompt": text, "completion": text}) for text in [*texts, *texts]]
    rows.write_text("\n".join([*lines, '{"prompt": 3}', "{<b>not json"]) + "\n")
    run(parse({"source": str(rows), "stages": STAGES}), folder / "run")
    model = folder / "run" / "model"
    (model / "evaluation").mkdir(parents=True)
    write_json(
        model / "siftune.json",
        {"stage": "sft", "method": texts[0], "hash": "0", "base": {}, "data": {}},
    )
    samples = [{"prompt": t, "completion": t, "reference": t} for t in texts]
    lines = [json.dumps(sample) for sample in samples]
    (model / "evaluation" / "step-000001.jsonl").write_text("\n".join(lines))
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    write_json(folder / "run" / "manifest.json", manifest | {"models": [{"path": "model"}]})
    html = write_report(folder / "run").read_text(encoding="utf-8")
    return Page(html), html


def test_text_from_the_data_adds_no_element_and_no_attribute(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "hostile").mkdir()
    plain, _ = page_of(tmp_path / "plain", ["text" + " word" * i for i in range(len(PAYLOADS))])
    hostile, html = page_of(tmp_path / "hostile", PAYLOADS)
    assert hostile.found == plain.found
    assert "<script>alert(1)</script>" in "".join(hostile.said)
    assert "alert(1)</script>" not in html.replace("&lt;/script&gt;", "")


def test_nothing_is_fetched_and_only_our_scripts_may_run(tmp_path):
    page, html = page_of(tmp_path, ["one", "two"])
    assert all(link.startswith("#") for link in page.links)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src ")
    assert policy.count("sha256-") == page.found["script"] == 2
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_counts_and_duplicates_can_be_read_without_scripts(tmp_path):
    page, _ = page_of(tmp_path, ["one", "two"])
    said = "".join(page.said)
    assert re.search(r"2:exact_dedup\s*dropped\s*exact_duplicate\s*2", " ".join(said.split()))
    assert "stands for 1 dropped row" in said
    assert "rows:5" in said  # a quarantined line, by file and line


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no finished run"):
        write_report(tmp_path)


@pytest.mark.parametrize("text", PAYLOADS)
def test_text_in_a_chart_cannot_end_the_script_it_stands_in(text):
    script = _drawing({"map": {"data": [{"text": [text]}], "layout": {}}})
    data = script.partition("Object.entries(")[2].partition("))if(document")[0]
    assert not set("<>&\u2028\u2029") & set(script.replace("=>", ""))
    assert json.loads(data)["map"]["data"][0]["text"] == [text]
