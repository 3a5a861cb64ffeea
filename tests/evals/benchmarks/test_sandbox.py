"""Programs that nobody has read, run for real: what they try stays where it is tried."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks import jail
from jaxchat.evals.benchmarks.sandbox import Ran, Sandbox

BOX = Sandbox(seconds=60)  # on a busy machine, too

pytestmark = pytest.mark.usefixtures("contained")


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """No process and no folder outlives its run."""
    yield
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if jail.__file__.encode() in read(path)]
    assert running == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""


def test_it_runs_what_is_harmless():
    program = """
import fcntl
fcntl.fcntl(1, fcntl.F_GETFL)
import collections, hashlib, itertools, json, math, random, re, string, typing
open("mine", "w").write("kept")
print(open("mine").read(), math.gcd(12, 18))
"""
    assert BOX.run(program) == Ran("ended", "kept 6\n", "")


def test_an_error_is_told():
    assert BOX.run("raise ValueError('no')") == Ran("failed", "", "ValueError: no")
    assert BOX.run("def f(:").reason.startswith("SyntaxError")
    assert BOX.run("import os; os._exit(3)").outcome == "failed"


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_an_endless_loop_ends(program: str):
    assert Sandbox(seconds=1.5).run(program).outcome == "timeout"


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])",
        "import threading\nwhile True: threading.Thread(target=input).start()",
        "import ctypes\nassert ctypes.CDLL(None).fork() >= 0, 'PermissionError: the C library may not either'",
        "import os; os.posix_spawn('/bin/sh', ['sh'], {})",
        "import os; os.execv('/bin/sh', ['sh'])",
    ],
)
def test_a_fork_bomb_does_not_go_off(program: str):
    ran = BOX.run(program)
    assert ran.outcome == "failed"
    assert "PermissionError" in ran.reason or "can't start new thread" in ran.reason


def test_ten_gigabytes_are_not_given():
    assert BOX.run("x = bytearray(10 * 2**30)") == Ran("failed", "", "MemoryError")
    assert BOX.run("import mmap; mmap.mmap(-1, 10 * 2**30)").outcome == "failed"


@pytest.mark.parametrize(
    "program",
    [
        "open({path!r}, 'w').write('mine now')",
        "open('../program.py', 'w')",
        "open('../../elsewhere', 'w')",
        "import os; os.truncate({path!r}, 0)",
        "import os; os.remove({path!r})",
        "import os; os.rename({path!r}, 'taken')",
        "import os; os.chmod({path!r}, 0)",
        "import os; os.utime({path!r}, (0, 0))",
        "import os; os.symlink({path!r}, 'link'); open('link', 'w')",
        "import os; os.mkdir({path!r} + '-folder')",
        "open('/dev/shm/jaxchat-test', 'w')",
        "open('/proc/self/oom_score_adj', 'w').write('0')",
        "print(open({path!r}).read())",
    ],
)
def test_nothing_outside_its_folder_is_written_or_read(program: str, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    before = outside.stat()
    ran = BOX.run(program.format(path=str(outside)))
    assert ran.outcome == "failed" and "PermissionError" in ran.reason and "as it was" not in ran.output
    assert outside.read_text() == "as it was" and outside.stat().st_mode == before.st_mode
    assert outside.stat().st_mtime == before.st_mtime and [path.name for path in tmp_path.iterdir()] == ["outside"]


def test_the_network_is_not_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls: list[bool] = []
        server.settimeout(3)

        def listen() -> None:
            try:
                server.accept()
                calls.append(True)
            except TimeoutError:
                pass

        listening = threading.Thread(target=listen)
        listening.start()
        port = server.getsockname()[1]
        for program in (
            f"import socket; socket.create_connection(('127.0.0.1', {port}))",
            f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}')",
            "import socket; socket.socket(socket.AF_UNIX).connect('/run/x')",
        ):
            ran = BOX.run(program)
            assert ran.outcome == "failed" and "not permitted" in ran.reason
        listening.join()
        assert calls == []


def test_other_processes_are_not_reached():
    for call in (
        "os.kill(os.getppid(), 9)",
        f"os.kill({os.getpid()}, 15)",
        "os.setpgid(0, 0)",
        "os.sched_setaffinity(os.getppid(), {0})",
        "fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid())",
    ):
        ran = BOX.run(f"import fcntl, os; {call}")
        assert ran.outcome == "failed" and "PermissionError" in ran.reason


@pytest.mark.parametrize(
    "program",
    [
        "while True: print('x' * 4096)",
        "open('big', 'w').write('x' * 2**25)",
        "i = 0\nwhile True: open(str(i), 'w').write('x' * 2**23); i += 1",
    ],
)
def test_the_disk_is_not_filled(program: str):
    assert BOX.run(program).outcome in ("failed", "killed")


def test_a_machine_that_cannot_is_refused_in_one_sentence_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    unable = tmp_path / "jail.py"
    unable.write_text(Path(jail.__file__).read_text().replace('sys.platform != "linux"', "True"))
    monkeypatch.setattr(jail, "__file__", str(unable))
    with pytest.raises(InputError, match=r"cannot be contained on this machine: .*; give --unsafe"):
        BOX.check()
    assert Sandbox(contained=False).run("print(1)").output == "1\n"
    assert Sandbox(seconds=1, contained=False).run("while True: pass").outcome == "timeout"
    assert Sandbox(contained=False).run("x = bytearray(10 * 2**30)").reason == "MemoryError"
