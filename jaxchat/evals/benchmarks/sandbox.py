"""Runs programs that nobody has read, each in a process that can reach nothing (see jail.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks import jail

FOLDER_BYTES = 1 << 26  # of all files together
LOOK_EVERY = 0.02
_SHOWN = 1 << 16  # bytes of what it printed that are read

Outcome = Literal["ended", "failed", "timeout", "killed"]


@dataclass(frozen=True)
class Ran:
    """outcome: "ended" by itself with status 0, "failed" with another, "timeout", or "killed" by a limit. output: what
    it printed, the end of it. reason: the last line of its errors."""

    outcome: Outcome
    output: str
    reason: str


@dataclass(frozen=True)
class Sandbox:
    """seconds: of a program, by the clock. memory: its address space, bytes. contained: False runs programs with those
    limits alone, free to write, delete and connect as whoever runs jaxchat is."""

    seconds: float = 10.0
    memory: int = 1 << 30
    contained: bool = True

    def check(self) -> None:
        """Raises InputError where this machine cannot contain programs."""
        if self.contained:
            self.run("")

    def run(self, program: str) -> Ran:
        """Runs the source of a Python program. Raises InputError where this machine cannot contain it."""
        with tempfile.TemporaryDirectory(prefix="jaxchat-program-", ignore_cleanup_errors=True) as made:
            outside = Path(made).resolve()
            folder = outside / "folder"
            folder.mkdir()
            (outside / "program.py").write_text(program, encoding="utf-8", errors="replace")
            said, errors = outside / "output", outside / "errors"
            with said.open("wb") as out, errors.open("wb") as err:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-B", jail.__file__, str(outside / "program.py"), str(folder)),
                        *(str(int(self.seconds) + 1), str(self.memory), *(() if self.contained else ("unsafe",))),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=folder,
                    env={"HOME": str(folder), "TMPDIR": str(folder), "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
                    start_new_session=True,
                )
                try:
                    outcome = self._wait(process, folder)
                finally:
                    _kill(process)
            reason = next(iter(_end(errors).strip().splitlines()[::-1]), "")
            if process.returncode == jail.NO_JAIL:
                raise InputError(
                    f"programs cannot be contained on this machine: {reason}; "
                    "give --unsafe to run them with limits of time and memory alone"
                )
            return Ran(outcome, _end(said), reason)

    def _wait(self, process: subprocess.Popen[bytes], folder: Path) -> Outcome:
        until = time.monotonic() + self.seconds
        while True:
            try:
                status = process.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                if time.monotonic() > until:
                    return "timeout"
                if sum(_sizes(folder)) > FOLDER_BYTES:
                    return "killed"
                continue
            if status == -signal.SIGXCPU:
                return "timeout"
            return "ended" if status == 0 else "killed" if status < 0 else "failed"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a program and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(place, name)).st_size
            except OSError:  # it was removed meanwhile
                pass


def _end(file: Path) -> str:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _SHOWN))
        return opened.read().decode("utf-8", "replace")
