"""A real `transformers serve` process with SmolLM2: answers that parse or not, kills, decisions."""

import io
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest

from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import Answer, Item, Question
from siftune.curate.judge_tasks.deita_quality import DeitaQuality
from siftune.curate.judge_tasks.pairwise import Pairwise
from siftune.curate.judges.decision_server import DecisionServer
from siftune.curate.judges.local_model import LocalModel
from siftune.curate.models.cache import state
from siftune.curate.models.catalog import CATALOG
from siftune.curate.models.resolve import model_folder
from siftune.pipelines.recipe import PACKAGED, load
from siftune.pipelines.run import run
from tests.pipelines.test_judge_recipes import SMALL, WORDS
from tests.tiny_models import language_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"
ROWS = int(os.environ.get("JUDGE_ROWS", "200"))
LONGEST = 200  # characters of a prompt or an answer, about 50 tokens

JUDGE = """
import json, sys
from dataclasses import replace
from pathlib import Path
from siftune.curate.core.registry import build
from siftune.curate.judges.server import Server
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import Item
class Short(Server):
    async def ask(self, question):
        return await super().ask(replace(question, max_tokens=8))
url, task, options, cache, rows, replay = sys.argv[1:]
items = [
    Item((("user", prompt),), tuple(answers))
    for prompt, answers in json.loads(Path(rows).read_text())
]
judge = Judge(
    Short(url, "smollm2", key_variable="NONE"),
    build("curate.judge_tasks", task, json.loads(options)),
    cache=Path(cache), in_flight=1, timeout=1800, ask_again=0, replay=replay == "replay",
)
verdicts = [[one.values, one.error, one.asked, one.cached] for one in judge.verdicts(items)]
print(json.dumps(verdicts))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of smollm2; it is killed at the end."""
    for module in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install siftune[dev]")
    if state(CATALOG["smollm2"]) != "in the cache":
        pytest.skip("smollm2 is not in the cache: siftune models get smollm2")
    folder = tmp_path_factory.mktemp("served")
    (folder / "smollm2").symlink_to(model_folder("smollm2"))
    port = free_port()
    words = ["serve", "smollm2", "--device", "cpu", "--dtype", "bfloat16", "--port", str(port)]
    command = [str(Path(sys.executable).with_name("transformers")), *words, "--host", "127.0.0.1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


class Proxy:
    """Forwards requests to a server, and counts them by their text.

    ``kill`` is called in place of forwarding the request after ``until`` of them.
    """

    def __init__(self, target: str) -> None:
        self.asked: Counter[bytes] = Counter()
        self.statuses: Counter[int] = Counter()
        self.until, self.kill = sys.maxsize, lambda: None
        outer, self.lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with outer.lock:
                    if outer.asked.total() >= outer.until:
                        outer.kill()
                        self.close_connection = True
                        return
                    outer.asked[body] += 1
                request = urllib.request.Request(
                    target + self.path, body, {"content-type": "application/json"}
                )
                try:
                    with urllib.request.urlopen(request, timeout=1800) as given:
                        status, answer = given.status, given.read()
                except urllib.error.HTTPError as error:
                    status, answer = error.code, error.read()
                outer.statuses[status] += 1
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def proxy(served: str) -> Iterator[Proxy]:
    counting = Proxy(served)
    yield counting
    counting.http.shutdown()
    counting.http.server_close()


def data_rows(name: str) -> Iterator[dict[str, Any]]:
    import zstandard

    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not here (../shared/data)")
    with path.open("rb") as packed:
        reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            yield json.loads(line)


def ratings() -> list[Any]:
    """Prompts with one answer: Alpaca."""
    rows = (
        [" ".join((row["instruction"], row["input"])).strip(), [row["output"]]]
        for row in data_rows("sft_alpaca_52k.jsonl.zst")
        if 0 < len(row["output"].strip()) <= LONGEST
    )
    return chosen(rows)


def pairs() -> list[Any]:
    """Prompts with two answers: AlpacaEval."""
    rows = (
        [row["prompt"], [row["response_1"], row["response_2"]]]
        for row in data_rows("pref_alpacaeval1_dev.jsonl.zst")
        if all(0 < len(row[key].strip()) <= LONGEST for key in ("response_1", "response_2"))
    )
    return chosen(rows)


def chosen(rows: Iterator[Any]) -> list[Any]:
    """The first distinct rows with a short prompt."""
    found: dict[str, Any] = {}
    for row in rows:
        if 0 < len(row[0].strip()) <= LONGEST and len({*row[1]}) == len(row[1]):
            found.setdefault(json.dumps(row), row)
        if len(found) == ROWS:
            break
    return list(found.values())


def command(proxy: Proxy, task: str, options: dict[str, Any], folder: Path, how: str) -> list[str]:
    words = [proxy.url, task, json.dumps(options), str(folder / "judge.sqlite")]
    return [sys.executable, "-c", JUDGE, *words, str(folder / "rows.json"), how]


@pytest.mark.parametrize(
    ("task", "options", "rows", "calls"),
    [
        ("alpagasus", {"explanation": False}, ratings, 1),
        ("pairwise", {"ties": False}, pairs, 2),
    ],
)
def test_200_rows_are_judged_and_after_a_kill_nothing_is_asked_twice(
    task: str,
    options: dict[str, Any],
    rows: Any,
    calls: int,
    proxy: Proxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(given := rows()))
    start = time.monotonic()
    proxy.until = len(given) * calls // 3
    killed = subprocess.Popen(command(proxy, task, options, tmp_path, "ask"))
    proxy.kill = killed.kill  # SIGKILL
    assert killed.wait() == -9
    assert proxy.asked.total() == proxy.until

    proxy.until = sys.maxsize
    verdicts = judged(command(proxy, task, options, tmp_path, "ask"))
    assert max(proxy.asked.values()) == 1  # on the server, over both runs
    assert proxy.asked.total() == len(given) * calls == sum(one[2] + one[3] for one in verdicts)
    assert sum(one[3] for one in verdicts) == len(given) * calls // 3
    assert set(proxy.statuses) == {200}

    scored = [values for values, error, *_ in verdicts if error is None]
    failed = Counter(error for _, error, *_ in verdicts if error is not None)
    assert len(verdicts) == len(given) == len(scored) + failed.total()
    assert all(values is None for values, error, *_ in verdicts if error is not None)
    assert failed.keys() <= {"unparsed", "out_of_range", "refused", "cut"}
    if task == "alpagasus":
        assert all(0 <= values["rating"] <= 5 for values in scored)
        spread = Counter(values["rating"] for values in scored)
    else:
        assert all(values["preference"] in (0, 0.5, 1) for values in scored)
        spread = Counter((values["winner"], values["consistent"]) for values in scored)

    assert judged(command(proxy, task, options, tmp_path, "replay")) == [
        [values, error, 0, calls] for values, error, *_ in verdicts
    ]
    assert proxy.asked.total() == len(given) * calls
    with capsys.disabled():
        sys.stdout.write(
            f"\n{task}: {len(given)} rows, {len(scored)} scored {dict(spread)}, "
            f"{failed.total()} unscored {dict(failed)}, {time.monotonic() - start:.0f} s\n"
        )


def test_the_decision_endpoint_scores_200_rows(
    served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ratings of real rows: numbers that differ, all on the scale; the same in a second order."""
    items = [Item((("user", prompt),), tuple(answers)) for prompt, answers in ratings()]
    server = DecisionServer(served, "smollm2", key_variable="NONE")
    start = time.monotonic()

    def scores(asked: Sequence[Item]) -> list[float]:
        judge = Judge(server, DeitaQuality(), in_flight=1, timeout=1800, ask_again=0)
        verdicts = [*judge.verdicts(asked)]
        assert [one.error for one in verdicts] == [None] * len(asked)
        return [float((one.values or {})["quality"]) for one in verdicts]

    found = scores(items)
    seconds = time.monotonic() - start
    assert len(found) == len(items) == ROWS
    assert all(math.isfinite(one) and 1 <= one <= 6 for one in found)
    assert pstdev(found) > 0.01
    assert scores(items[9::-1]) == pytest.approx(found[9::-1], abs=1e-3)
    with capsys.disabled():
        sys.stdout.write(
            f"\ndeita_quality, decision endpoint: {len(found)} rows scored, "
            f"mean {fmean(found):.3f}, standard deviation {pstdev(found):.3f}, "
            f"{min(found):.3f} … {max(found):.3f}, "
            f"{seconds:.0f} s\n"
        )


def test_the_recipe_rlaif_runs_against_the_server_by_changing_one_line(
    served: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """8 prompts with 4 answers each of a tiny model: judged, a reward model on the labels, PPO."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"instruction": f"say {w}", "output": w}) + "\n" for w in WORDS)
    )
    given = [f"base={language_model(tmp_path / 'base')}", "rows.source=rows.jsonl"]
    given += ["heldout=null", "rows.stages.4.rows=8", *SMALL["rlaif"]]
    given += ["train.3.judge.timeout=1800"]  # of a machine that does other work, too
    one_line = f"judge=decision+{served}#smollm2"
    manifest = run(load(PACKAGED.file(Path("rlaif")), [*given, one_line]), tmp_path / "out")
    assert [one["label"] for one in manifest["models"]] == ["sft", "reward", "ppo"]
    facts = manifest["made"][-1]["judged"]
    assert facts["judge"] == "decision_server:smollm2"
    assert facts["asked"] > 0
    assert facts["kept"] == manifest["made"][-1]["rows"] > 0
    assert facts["unscored"] == {}
    assert facts["cost"] is None  # prices of the server are not known
    with capsys.disabled():
        sys.stdout.write(f"\nrlaif: {facts['asked']} calls, {facts['kept']} pairs labelled\n")


def judged(words: Sequence[str]) -> list[Any]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_decision_endpoint_gives_the_probabilities_of_the_same_model_here(served: str) -> None:
    """20 pairs: the server's prompt, written out for `LocalModel`, has the same answer in bf16."""
    task = Pairwise(ties=False)
    items = [Item((("user", prompt),), tuple(answers)) for prompt, answers in pairs()[:20]]
    asked = [question for item in items for question in task.questions(item)]
    closing = "A. A\nB. B\nAnswer with the letter of the option that fits best (A to B) only."
    written = [
        replace(question, messages=(("user", "\n\n".join((*texts(question), closing))),))
        for question in asked
    ]
    here = LocalModel("smollm2", precision="bf16").answer(written)
    server = DecisionServer(served, "smollm2", key_variable="NONE")

    class Raw(Pairwise):
        def parse(self, item: Item, question: int, answer: Any) -> Any:
            return answer

        def verdict(self, item: Item, parsed: Any) -> Any:
            return {"answers": parsed}

    verdicts = [*Judge(server, Raw(ties=False), in_flight=1, timeout=1800).verdicts(items)]
    there = [answer for verdict in verdicts for answer in (verdict.values or {})["answers"]]
    assert len(here) == len(there) == 40
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, Answer)
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)
        assert one.input_tokens == other.input_tokens


def texts(question: Question) -> list[str]:
    return [text for _, text in question.messages]
