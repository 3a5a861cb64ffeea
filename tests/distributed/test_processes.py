"""Real processes that train as one: stopped together, refused together, and lost together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tool import TOOLS, tool

PROCESSES = tool("processes")


def _tool(name: str, *words: str) -> str:
    """What a tool says; it has to exit with 0."""
    return subprocess.run(
        [sys.executable, str(TOOLS / name), *words], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_two_processes_refuse_what_differs_between_them_and_stop_together(tmp_path: Path):
    config, run = PROCESSES.small_run(tmp_path), tmp_path / "run"
    command = PROCESSES.train(config, run, "--steps", "40", "--mesh.data", "2")
    with PROCESSES.Job(command, 2, tmp_path / "differ", more=lambda process: ["--seed", str(process)]) as job:
        assert job.wait(300) == [2, 2]
        for process in range(2):
            assert [line for line in job.causes(process) if "process 1 has seed 1 and process 0 has 0" in line]
    assert not run.exists()
    with PROCESSES.Job(command, 2, tmp_path / "stop") as job:
        PROCESSES.wait_for_step(run, 6, job)
        os.kill(job.processes[1].pid, signal.SIGTERM)
        assert job.wait(120) == [143, 143]
        assert ["stopped and saved" in job.said(process) for process in range(2)] == [True, False], "the first speaks"
    stopped = max(PROCESSES.losses(run))
    assert (run / "checkpoints" / str(stopped)).is_dir() and stopped < 40


@pytest.mark.slow
def test_a_run_of_four_that_loses_one_is_finished_by_four_and_by_one(tmp_path: Path):
    said = _tool("lose_processes.py", "--out", str(tmp_path), "--ways", "kill", "--finish", "4,1", "--steps", "12")
    assert "was killed (SIGKILL" in said and "the same bits" in said


@pytest.mark.slow
def test_a_run_killed_three_times_is_the_run_never_killed(tmp_path: Path):
    said = _tool("kill_runs.py", "--out", str(tmp_path), "--kills", "3", "--steps", "40")
    assert "all those of the run never killed" in said and "goodput" in said


@pytest.mark.slow
def test_saves_killed_five_times_leave_the_newest_whole_checkpoint(tmp_path: Path):
    assert "read back to the bit each time" in _tool("kill_saves.py", "--out", str(tmp_path), "--kills", "5")


@pytest.mark.slow
def test_a_run_of_two_that_starts_again_compiles_nothing_in_any_process(tmp_path: Path):
    said = _tool("start_again.py", "--out", str(tmp_path), "--processes", "2")
    assert said.count(", 0 compiled") == 2, said
