"""Runs in processes of their own: killed, and several as one."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jaxchat.data.config import Folder
from jaxchat.run import Train
from jaxchat.run.training import train
from jaxchat.train.metrics import read_metrics
from jaxchat.train.session import CheckpointConfig, HeldOut
from tests.run.runs import lines

COMMAND = """
import sys
from pathlib import Path
from jaxchat.config_file import load_config
from jaxchat.run import Train
from jaxchat.run.training import train
sys.exit(train(load_config(sys.argv[1], Train), Path(sys.argv[2])).exit_code)
"""


def _command(config: Train, place: Path, run: Path) -> list[str]:
    """The command of a run of `config`, which is written to a config file in `place`."""
    file = place / "config.py"
    source, cache = config.data.sources[0], config.data.cache
    assert isinstance(source, Folder)
    file.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\n"
        "from jaxchat.data.config import DataConfig, Folder\nfrom jaxchat.models.presets import tiny\n"
        "from jaxchat.run import NewTokenizer, Train\n"
        "from jaxchat.train.optim import OptimConfig\nfrom jaxchat.train.session import CheckpointConfig, HeldOut\n\n"
        "def config():\n"
        f"    data = DataConfig((Folder(Path({str(source.path)!r})),), 8, 64, 0.1, cache=Path({str(cache)!r}))\n"
        "    return Train(replace(tiny(), vocab_size=320), data=data, tokenizer=NewTokenizer(),\n"
        "        optim=OptimConfig(peak_lr=1e-2),\n"
        f"        checkpoint=CheckpointConfig({config.checkpoint.every}), held_out=HeldOut({config.held_out.every}),\n"
        f"        steps={config.steps})\n"
    )
    return [sys.executable, "-c", COMMAND, str(file), str(run)]


def _kill_at_random_moments(command: list[str], run: Path, moments: list[float], steps: int) -> int:
    """Runs `command` once for each moment (a share of the whole run) and kills it there; then lets it end."""
    kills = 0
    for moment in moments:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            done = [line["step"] for line in read_metrics(run / "metrics.jsonl")]
            if done and done[-1] >= moment * steps:
                time.sleep(random.Random(moment).uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        kills += process.wait() == -signal.SIGKILL
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    return kills


def test_a_killed_process_goes_on_to_the_same_losses(config: Train, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert _kill_at_random_moments(_command(config, tmp_path, run), run, [0.6], steps=16) == 1
    assert lines(run) == lines(whole)


@pytest.mark.slow
def test_forty_steps_killed_again_and_again_have_the_losses_of_forty_never_killed(config: Train, tmp_path: Path):
    forty = replace(config, steps=40, checkpoint=CheckpointConfig(every=3), held_out=HeldOut(every=7))
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(forty, whole).exit_code == 0
    moments = sorted(random.Random(time.time_ns()).uniform(0.05, 0.9) for _ in range(7))
    kills = _kill_at_random_moments(_command(forty, tmp_path, run), run, moments, steps=40)
    assert kills >= 5, f"only {kills} of {moments} came in time"
    assert lines(run) == lines(whole)


TWO_PROCESSES = """
import sys
from dataclasses import replace
from pathlib import Path
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[3]}", 2, int(sys.argv[4]))
from jaxchat.config_file import load_config
from jaxchat.mesh import MeshConfig
from jaxchat.run import Train
from jaxchat.run.training import train
train(replace(load_config(sys.argv[1], Train), mesh=MeshConfig(data=2, fsdp=2)), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_train_as_one(config: Train, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    file = _command(config, tmp_path, run)[3]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, file, str(run), port, str(i)], env=environment)
        for i in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    for found, wanted in zip(lines(run), lines(whole), strict=True):
        assert found["step"] == wanted["step"]
        if "loss" in wanted:
            assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
            assert found["tokens"] == wanted["tokens"]
