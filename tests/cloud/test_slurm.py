"""A run by launch.sh on a real slurmctld and slurmd of this machine, with two processes that train as one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def on_slurm(*command, **env):
    """Runs a command beside a Slurm of its own; skips where none is installed, or none can be started by this user."""
    words = ["bash", "tools/slurm_loopback.sh", *command]
    # One device a process, whatever the tests of this process are given.
    env = os.environ | {"JAXCHAT_CLOUD_PAUSE": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | env
    ended = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    if ended.returncode == 77:
        pytest.skip(ended.stderr.strip().splitlines()[-1])
    return ended


def launch(tmp_path, *words):
    venv = Path(shutil.which("jaxchat")).parents[1]
    options = ("--on", "slurm", "--name", "demo", "--venv", str(venv), "--out", str(tmp_path / "run"))
    return ("bash", "cloud/launch.sh", *options, *words)


@pytest.mark.skipif(os.getuid() != 0, reason="slurmd needs root")
def test_a_slurm_that_does_not_come_up_is_a_failure_and_not_an_absence(tmp_path):
    for program in ("munged", "slurmctld", "slurmd", "sbatch", "munge"):
        (tmp_path / program).write_text(f"#!/bin/sh\necho {program} is broken >&2\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    ended = on_slurm("touch", str(tmp_path / "ran"), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == 1 and not (tmp_path / "ran").exists()
    assert "Slurm did not come up" in ended.stderr and "munged is broken" in ended.stderr


SMALL = ("configs/smoke_cpu.py", "--steps", "4", "--checkpoint.every", "2", "--held-out.every", "4")


@pytest.mark.slow
def test_two_tasks_train_as_one_and_what_they_refuse_is_said(tmp_path):
    state = {"JAXCHAT_CLOUD_STATE": str(tmp_path / "state")}
    ended = on_slurm(*launch(tmp_path, "--tasks", "2", *SMALL, "--mesh.fsdp", "2"), **state)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]
    assert len(re.findall("trained 4 steps", ended.stdout)) == 1  # the first process speaks for both

    ended = on_slurm(*launch(tmp_path, "--tasks", "2", *SMALL, "--mesh.fsdp", "3"), **state)
    assert ended.returncode == 2, ended.stderr + ended.stdout
    assert "the run refused its input (exit code 2)" in ended.stderr


@pytest.mark.slow
def test_a_job_that_saved_because_it_was_told_to_goes_back_into_the_queue(tmp_path):
    (tmp_path / "bin").mkdir()
    run = tmp_path / "bin/jaxchat"
    run.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, signal, sys, time\n"
        f"seen = pathlib.Path({str(tmp_path / 'attempts')!r})\n"
        "seen.open('a').write('x')\n"
        "if len(seen.read_text()) == 1:\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "    time.sleep(60)\n"
    )
    run.chmod(0o755)
    # The scheduler's notice before the time is up, sent by hand.
    notice = f"""
        until [[ -s {tmp_path}/attempts ]]; do sleep 0.2; done; sleep 1
        scancel --signal=TERM $(squeue --noheader --format %i)
    """
    words = " ".join(launch(tmp_path, *SMALL)).replace(str(Path(shutil.which("jaxchat")).parents[1]), str(tmp_path))
    ended = on_slurm("bash", "-c", f"({notice}) & {words}", JAXCHAT_CLOUD_STATE=str(tmp_path / "state"))
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "goes back into the queue" in ended.stdout
    assert (tmp_path / "attempts").read_text() == "xx"
