"""Trainings in processes of their own, one or several together, that may be killed on the way."""

from __future__ import annotations

import multiprocessing
import signal
import socket
from pathlib import Path
from typing import Any

__all__ = ["run_apart", "tree"]

_APART = multiprocessing.get_context("forkserver")  # of a process that has run nothing yet
_APART.set_forkserver_preload(["tests.finetune.rl.killed"])


def run_apart(
    trainer: Any, rows: Path, out: Path, phase: str = "", at: int = -1, processes: int = 1
) -> tuple[bool, dict[str, int]]:
    """Train; the first process is killed at the call ``at`` of a phase, if it has so many.

    Returns:
        Whether it was killed, and how many calls each phase had in it.
    """
    from tests.finetune.rl.killed import train  # all that trains: dear where tests are collected

    out.parent.mkdir(exist_ok=True)
    calls = [out.parent / f"calls.{rank}" for rank in range(processes)]
    ranks = []
    for rank, environ in enumerate(_environments(processes)):
        given = (trainer, rows, out, calls[rank], "" if rank else phase, at, environ)
        ranks.append(_APART.Process(target=train, args=given))
    for process in ranks:
        process.start()
    ranks[0].join(600)
    dead = ranks[0].exitcode == -signal.SIGKILL
    for process in ranks[1:]:
        if ranks[0].exitcode:  # they would wait for it
            process.kill()
        process.join(300)
    assert (phase and dead) or [process.exitcode for process in ranks] == [0] * processes
    found = calls[0].read_text()
    for file in calls:
        file.unlink()
    return dead, {"rollout": found.count("r"), "update": found.count("u")}


def _environments(processes: int) -> list[dict[str, str]]:
    """What a launcher puts into the environment of each process."""
    if processes == 1:
        return [{}]
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return [{**shared, "RANK": str(at), "LOCAL_RANK": str(at)} for at in range(processes)]


def tree(folder: Path) -> dict[str, bytes]:
    """The bytes of each file under a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
