"""`siftune curate judge` in a test's folder: judges that a file defines, rows, what was asked."""

import json
import random

from click.testing import CliRunner

from siftune.pipelines.cli import siftune

JUDGE = """
import random
from pathlib import Path

from siftune.curate.judge_calls.types import Answer

ASKED = Path(__file__).with_name("asked")


def rate(question):
    with ASKED.open("a") as file:
        file.write("1\\n")
    text = question.messages[1][1]
    draw = random.Random(text)
    size = len(text.encode()) // 4 + 11  # its tokens; the price of an answer is at random
    return Answer("4", input_tokens=size, output_tokens=2, cost=round(draw.uniform(5e4, 9e5)))


def longer(messages):
    text = messages[1]["content"]
    if "torn" in text:
        return "A"
    first, second = (text.find(word) for word in ("long", "short"))
    return "C" if first < 0 or second < 0 else "A" if first < second else "B"
"""


def write(folder, records, name="rows.jsonl"):
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))


def siftune_curate(*words, code=0):
    done = CliRunner().invoke(siftune, ["curate", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def rows(number):
    draw = random.Random(3)
    return [
        {"prompt": f"q{n}", "response": "word " * draw.randrange(1, 300)} for n in range(number)
    ]


def asked(folder):
    path = folder / "asked"
    return len(path.read_text().split()) if path.exists() else 0
