"""Real processes that train as one: stopped together, refused together, and lost together."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/processes.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("processes", TOOLS / "processes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["processes"] = module
    spec.loader.exec_module(module)
    return module


def _tool(name: str, *words: str) -> str:
    """What a tool says; it has to exit with 0."""
    return subprocess.run(
        [sys.executable, str(TOOLS / name), *words], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_two_processes_refuse_what_differs_between_them_and_stop_together(tool: ModuleType, tmp_path: Path):
    config, run = tool.small_run(tmp_path), tmp_path / "run"
    command = tool.train(config, run, "--steps", "40", "--mesh.data", "2")
    with tool.Job(command, 2, tmp_path / "differ", more=lambda process: ["--seed", str(process)]) as job:
        assert job.wait(300) == [2, 2]
        for process in range(2):
            assert [line for line in job.causes(process) if "process 1 has seed 1 and process 0 has 0" in line]
    assert not run.exists()
    with tool.Job(command, 2, tmp_path / "stop") as job:
        tool.wait_for_step(run, 6, job)
        os.kill(job.processes[1].pid, signal.SIGTERM)
        assert job.wait(120) == [143, 143]
        assert ["stopped and saved" in job.said(process) for process in range(2)] == [True, False], "the first speaks"
    stopped = max(tool.losses(run))
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
