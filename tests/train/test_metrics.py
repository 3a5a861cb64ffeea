from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxchat.train.metrics import MetricsLog, read_metrics


def _record(step: int, loss: float = 1.0) -> dict:
    return {"step": step, "loss": loss}


def _steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_restart_keeps_the_lines_through_the_restored_step_and_no_others(tmp_path: Path):
    with MetricsLog(tmp_path, restored=None) as log:
        for step in range(1, 8):
            log.write(_record(step))
    with MetricsLog(tmp_path, restored=4) as log:
        assert [record["step"] for record in log.kept] == [1, 2, 3, 4]
        for step in range(5, 8):
            log.write(_record(step))
    assert _steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


def test_a_run_that_begins_anew_keeps_nothing(tmp_path: Path):
    with MetricsLog(tmp_path, restored=None) as log:
        log.write({"step": 0, "eval": {"loss": 2.0}})
    with MetricsLog(tmp_path, restored=None) as log:
        log.write({"step": 0, "eval": {"loss": 2.0}})
    assert _steps(tmp_path) == [0]


def test_a_line_torn_by_a_kill_is_dropped(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    with MetricsLog(tmp_path, restored=1) as log:
        log.write(_record(2))
    assert _steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_floats_come_back_bit_for_bit(tmp_path: Path, seed: int):
    losses = np.random.default_rng(seed).lognormal(size=100).astype(np.float32)
    with MetricsLog(tmp_path, restored=None) as log:
        for step, loss in enumerate(losses):
            log.write(_record(step, loss.item()))
    read = np.array([record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl")], np.float32)
    assert (read.view(np.uint32) == losses.view(np.uint32)).all()


def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path):
    with MetricsLog(tmp_path, restored=None) as log, pytest.raises(ValueError):
        log.write(_record(1, float("nan")))


def test_tensorboard_gets_the_numbers_of_steps_and_of_held_out_lines(tmp_path: Path):
    with MetricsLog(tmp_path, restored=None) as log:
        log.write(_record(1, 2.5))
        log.write({"step": 1, "eval": {"loss": 3.5, "tokens": 10}})
    (events,) = (tmp_path / "tensorboard").iterdir()
    written = events.read_bytes()
    for name in (b"train/loss", b"eval/loss", b"eval/tokens"):
        assert name in written


def test_only_the_first_process_writes(tmp_path: Path):
    with MetricsLog(tmp_path, restored=None) as log:
        log.write(_record(1))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with MetricsLog(tmp_path, restored=1, writes=False) as log:
        log.write(_record(2))
        log.sync()
        assert [record["step"] for record in log.kept] == [1]
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
