"""What a person sees while a command works: how far it is, and how long it will take."""

from __future__ import annotations

import threading
from io import StringIO

from siftune.curate.core.progress import Progress, announcing, if_slow


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_count_tells_the_time_left_by_its_own_rate() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream, clock)
    progress.count("2:ifd", 0, 1000)
    assert stream.getvalue() == ""
    clock.now += 40
    progress.count("2:ifd", 200, 1000)
    assert "2:ifd: 200 of 1,000 rows, about 3 min left" in stream.getvalue()
    clock.now += 1
    progress.count("3:embedding", 10, 1000)  # another label, another clock
    clock.now += 10
    progress.count("3:embedding", 110, 1000)
    assert stream.getvalue().endswith("3:embedding: 110 of 1,000 rows, about 1 min left")


def test_no_time_is_told_without_a_total_a_rate_or_anything_left() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream, clock)
    progress.count("ingest", 10)
    clock.now += 50
    progress.count("ingest", 20)
    progress.count("score", 10, 20)
    clock.now += 1
    progress.count("score", 15, 20)
    clock.now += 50
    progress.count("score", 20, 20)
    assert "left" not in stream.getvalue()


def test_away_from_a_terminal_a_line_comes_every_ten_seconds() -> None:
    stream, clock = StringIO(), Clock()
    progress = Progress(stream, clock)
    for done in range(60):
        progress.count("score", done, 100)
        clock.now += 1
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[-1] == "score: 56 of 100 rows, about 44 s left"


def test_what_takes_long_is_announced_on_any_thread_and_what_does_not_is_not() -> None:
    lines: list[str] = []
    told = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        told.set()

    def load() -> None:
        with if_slow("loading a model", after=0.01):
            told.wait(10)

    with announcing(lines.append), announcing(say):
        with if_slow("nothing", after=60):
            pass
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    with if_slow("nobody listens", after=0.0):
        pass
    assert lines == ["loading a model"]
