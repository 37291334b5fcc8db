"""A judge's run that is killed, restarted, or shares its cache with another process."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from siftune.curate.judge_calls.answer_cache import AnswerCache, key_of
from siftune.curate.judge_calls.spending import BILLION
from siftune.curate.judge_calls.types import Item
from siftune.curate.judge_tasks.alpagasus import AlpaGasus
from tests.judge_server import JudgeServer, completion, number_of

ROWS = 120
IN_FLIGHT = 8
TASK = AlpaGasus(explanation=False)

RUN = f"""
import sys
from pathlib import Path
from siftune.curate.judge_tasks.alpagasus import AlpaGasus
from siftune.curate.judges.server import Server
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import Item

items = [Item((("user", f"question {{n}}"),), (f"answer {{n}}",)) for n in range({ROWS})]
judge = Judge(
    Server(sys.argv[1], "m"),
    AlpaGasus(explanation=False),
    cache=Path(sys.argv[2]),
    in_flight={IN_FLIGHT},
    max_cost=float(sys.argv[3]),
    prices=Prices(most_per_call=0.01),
)
for verdict in judge.verdicts(items):
    print(verdict.values, verdict.error, flush=True)
print(judge.totals.asked, judge.totals.cached)
"""


def run(server, cache, most):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, server.url, str(cache), str(most)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def question(number):
    item = Item((("user", f"question {number}"),), (f"answer {number}",))
    return TASK.questions(item)[0]


def committed(cache):
    """The messages, as the server gets them, of the questions that the cache has answers to."""
    answers = AnswerCache(cache, "", "server:m")
    found = {
        orjson.dumps([{"role": role, "content": text} for role, text in one.messages])
        for one in map(question, range(ROWS))
        if answers.get(key_of("server:m", one, 0)) is not None
    }
    answers.close()
    return found


def paid(server, chance, billed):
    def reply(body):
        dollars = round(chance.uniform(0.0001, 0.01), 9)
        with server.lock:
            billed.append(round(dollars * BILLION))
        time.sleep(0.005)
        return completion(str(number_of(body)), cost=dollars)

    return reply


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_killed_run_never_asks_an_answered_question_twice(tmp_path, seed):
    chance, billed = random.Random(seed), []
    with JudgeServer() as server:
        server.reply = paid(server, chance, billed)
        killed = run(server, tmp_path / "c", 5)
        until = chance.randrange(5, ROWS - 10)
        while sum(server.answered.values()) < until and killed.poll() is None:
            time.sleep(0.001)
        killed.kill()
        killed.communicate()
        before = committed(tmp_path / "c")
        asked = Counter(server.times)
        assert 0 < len(before) < ROWS
        with JudgeServer(reply=server.reply) as other:  # the same model elsewhere
            ended = run(other, tmp_path / "c", 5)
            lines = ended.communicate(timeout=120)[0].splitlines()
    assert ended.returncode == 0
    assert [line.rpartition(" ")[2] for line in lines[:ROWS]] == ["None"] * ROWS
    assert before.isdisjoint(other.times)
    again = set(asked) & set(other.times)
    assert len(again) <= IN_FLIGHT  # their answers were on the wire when the run was killed
    assert len(other.bodies) == ROWS - len(before)
    assert sum(billed) <= 5 * BILLION


@pytest.mark.slow
def test_a_program_that_ends_amid_its_verdicts_ends(tmp_path):
    with JudgeServer() as server:
        code = RUN.partition("for verdict")[0] + "found = judge.verdicts(items); next(found)"
        ended = subprocess.run(
            [sys.executable, "-c", code, server.url, str(tmp_path / "c"), "5"],
            cwd=Path(__file__).parents[2],
            timeout=60,
        )
    assert ended.returncode == 0


@pytest.mark.slow
def test_the_cap_holds_over_killed_runs(tmp_path):
    chance, billed = random.Random(9), []
    with JudgeServer() as server:
        server.reply = paid(server, chance, billed)
        for until in (10, 30, 50):
            killed = run(server, tmp_path / "c", 0.4)
            while sum(server.answered.values()) < until and killed.poll() is None:
                time.sleep(0.001)
            killed.kill()
            killed.communicate()
        lines = run(server, tmp_path / "c", 0.4).communicate(timeout=120)[0].splitlines()
    assert sum(billed) <= 0.4 * BILLION
    assert any("over_budget" in line for line in lines)


@pytest.mark.slow
def test_two_processes_share_a_cache_and_a_cap(tmp_path):
    chance, billed = random.Random(5), []
    with JudgeServer() as server:
        server.reply = paid(server, chance, billed)
        both = [run(server, tmp_path / "c", 0.4) for _ in range(2)]
        outputs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum(billed) <= 0.4 * BILLION
    assert all("over_budget" in output for output in outputs)
