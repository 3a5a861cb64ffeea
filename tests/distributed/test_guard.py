"""Guards of workers that train nothing: each ends its worker, says why, and exits with the status a launcher knows."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# A worker in short: tells its guard where the others' guards are, as member.py does after joining, and then does what
# it is told. It finds the others through files.
WORKER = """
import json, os, signal, socket, sys, time
from pathlib import Path
from jaxchat.distributed.guard import VARIABLE
place, number, count, does = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
channel = socket.socket(fileno=int(os.environ[VARIABLE]))
def send(message): channel.sendall(json.dumps(message).encode() + b"\\n")
send({"bind": "127.0.0.1"})
port = next(line for line in map(json.loads, channel.makefile()) if "port" in line)["port"]
(place / f"{number}.part").write_text(str(port))
(place / f"{number}.part").rename(place / f"{number}.port")
while len(list(place.glob("*.port"))) < count: time.sleep(0.05)
peers = [[f"host{i}", "127.0.0.1", int((place / f"{i}.port").read_text())] for i in range(count)]
send({"joined": {"number": number, "token": "t", "peers": peers}})
(place / f"{number}.joined").touch()
while not all((place / f"{i}.joined").exists() for i in range(count)): time.sleep(0.05)
if does == "abort": send({"joining": "process 0 has not met the others"}); os.abort()
if does == "refuse": send({"ending": [2, "the data are not there"]}); sys.exit(2)
if does == "fail": sys.exit(1)
if does == "stall": send({"beat": ["compute", 1e6]})
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
while does != "end":
    send({"beat": ["", 0.0]}) if does != "stall" else None
    time.sleep(0.3)
"""
GUARD = """
import sys
from jaxchat.distributed.guard import run_guarded
from jaxchat.distributed.place import Distributed, Place
place = Place("flags", "h:1", int(sys.argv[4]), int(sys.argv[3]))
sys.exit(run_guarded([sys.executable, "-c", *sys.argv[1:]], place, Distributed(heartbeat_timeout=4)))
"""


class Guards:
    def __init__(self, place: Path, does: list[str]) -> None:
        self.place, self.does = place, does
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", GUARD, WORKER, str(place), str(i), str(len(does)), what],
                stderr=subprocess.PIPE,
                text=True,
            )
            for i, what in enumerate(does)
        ]

    def joined(self) -> None:
        while len(list(self.place.glob("*.joined"))) < len(self.does):
            time.sleep(0.05)
        time.sleep(1)

    def worker(self, number: int) -> int:
        guard = self.processes[number].pid
        return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])

    def ends(self) -> list[tuple[int, str]]:
        """Exit status and last words of each."""
        said = [process.communicate(timeout=120)[1] for process in self.processes]
        return [(process.returncode, text.strip()) for process, text in zip(self.processes, said, strict=True)]


@contextlib.contextmanager
def guards(place: Path, *does: str) -> Iterator[Guards]:
    started = Guards(place, list(does))
    try:
        yield started
    finally:
        for process in started.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()


def test_all_that_end_well_end_with_nothing_said(tmp_path: Path):
    with guards(tmp_path, "end", "end", "end") as three:
        assert three.ends() == [(0, "")] * 3


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "was killed (SIGKILL"), (signal.SIGSTOP, "has been stopped (SIGSTOP)")]
)
def test_a_worker_that_is_taken_away_ends_all(number: signal.Signals, words: str, tmp_path: Path):
    with guards(tmp_path, "work", "work", "work") as three:
        three.joined()
        lost = three.worker(1)
        os.kill(lost, number)
        for status, said in three.ends():
            assert status == 75
            assert f"process 1 of 3 ({socket.gethostname()}, pid {lost}) {words}" in said
    assert not Path(f"/proc/{lost}").exists()


def test_a_guard_that_falls_silent_ends_all_others(tmp_path: Path):
    with guards(tmp_path, "work", "work", "work") as three:
        three.joined()
        three.processes[2].send_signal(signal.SIGSTOP)
        for process in three.processes[:2]:
            said = process.communicate(timeout=120)[1]
            assert process.returncode == 75
            assert "has heard nothing of process 2 of 3 (host2)" in said
        three.processes[2].send_signal(signal.SIGCONT)
        said = three.processes[2].communicate(timeout=120)[1]
        assert three.processes[2].returncode == 75


def test_what_one_refuses_no_restart_mends(tmp_path: Path):
    with guards(tmp_path, "work", "refuse") as two:
        (waiting, said), (refusing, nothing) = two.ends()
    assert (waiting, refusing, nothing) == (2, 2, "")  # the worker that refused has said it itself
    assert "refused its input: the data are not there" in said


def test_an_error_and_a_step_that_does_not_end_are_named(tmp_path: Path):
    with guards(tmp_path, "work", "fail") as two:
        assert all(status == 1 and "process 1 of 2" in said and "exit status 1" in said for status, said in two.ends())
    (tmp_path / "other").mkdir()
    with guards(tmp_path / "other", "stall", "work") as two:
        assert all(status == 75 and "waiting for a step to end" in said for status, said in two.ends())


def test_a_worker_that_never_meets_the_others_says_where_it_waited(tmp_path: Path):
    with guards(tmp_path, "abort") as one:
        ((status, said),) = one.ends()
    assert status == 75
    assert said.endswith(
        "jaxchat: process 0 has not met the others; all processes stop, and the same command goes on "
        "from the newest checkpoint (exit status 75)"
    )


def test_being_asked_to_stop_is_passed_on(tmp_path: Path):
    with guards(tmp_path, "work", "end") as two:
        two.joined()
        two.processes[0].send_signal(signal.SIGINT)
        assert two.ends() == [(130, ""), (0, "")]
