"""A run that is stopped, spoilt or damaged loses nothing that was saved, and ends as one that never was."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from jaxchat.errors import InputError
from jaxchat.run import Train
from jaxchat.run.training import train
from jaxchat.train.divergence import Rewind, Skip
from jaxchat.train.session import HeldOut, Samples
from jaxchat.train.watch import DivergedError
from tests.run.runs import fall_over, lines, samples, stop_at


@pytest.mark.parametrize("step", [2, 11])
def test_an_interrupted_run_ends_as_one_never_stopped(
    step: int, config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        stop_at(patch, step, fall_over)
        train(config, run)
    assert len(lines(run)) < len(lines(whole))
    assert train(config, run).step == 16
    assert lines(run) == lines(whole)
    assert samples(run) == samples(whole)


def test_sigterm_saves_and_the_same_command_goes_on(
    config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        stopped = train(config, run)
    assert stopped.exit_code == 143
    assert 6 <= stopped.step < 16
    assert (run / "checkpoints" / str(stopped.step)).is_dir()
    assert train(config, run).exit_code == 0
    assert lines(run) == lines(whole)


def test_a_spoilt_loss_stops_the_run_and_keeps_the_checkpoint_before_it(
    config: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jaxchat.train.session import Session

    observe = Session._observe

    def spoil(self: Session, number: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        observe(self, number, {**metrics, "loss": float("nan")} if number == 7 else metrics, spent)

    monkeypatch.setattr(Session, "_observe", spoil)
    with pytest.raises(DivergedError, match=r"step 7: the loss is nan, on rows \d+, .* checkpoint .*@4 is intact"):
        train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["4"]
    assert max(line["step"] for line in lines(tmp_path / "run")) == 6


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before_it(
    config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):

    run, usage = tmp_path / "run", shutil.disk_usage

    def full_after_one_checkpoint(path: Path):
        return usage(path)._replace(free=1000 if (run / "checkpoints" / "4").exists() else 1 << 40)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", full_after_one_checkpoint)
        with pytest.raises(InputError, match=r"no space left to save the checkpoint of step 8 .* step 4 is intact"):
            train(config, run)
    assert train(config, run).step == 16
    assert lines(run) == lines(whole)


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(
    config: Train, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    largest = max((run / "checkpoints" / "16").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])
    assert train(config, run).step == 16
    assert "going back to step 12" in capsys.readouterr().err
    assert lines(run) == lines(whole)


@pytest.mark.parametrize("policy", [Skip(at_most=50), Rewind(at_most=50)])
def test_a_run_with_detours_takes_the_same_ones_however_often_it_is_stopped(
    policy: Skip | Rewind, config: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jaxchat.train import watch

    for name in ("WINDOW", "ENOUGH"):
        monkeypatch.setattr(watch, name, 2)  # so that the noise of small batches is a spike now and then
    touchy = replace(
        config, steps=24, spike=0.02, on_divergence=policy, samples=Samples(), held_out=HeldOut(every=None)
    )
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(touchy, whole).step == 24
    detours = (whole / "detours.jsonl").read_text().splitlines()
    assert detours
    assert [line["step"] for line in lines(whole)] == list(range(1, 25))
    skipped = [line["step"] for line in lines(whole) if "skipped" in line]
    assert bool(skipped) == isinstance(policy, Skip)
    for step in (7, 14, 22):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError):
            stop_at(patch, step, fall_over)
            train(touchy, run)
    assert train(touchy, run).step == 24
    assert lines(run) == lines(whole)
    assert (run / "detours.jsonl").read_text().splitlines() == detours


# Adapters


def test_a_run_whose_state_waits_in_the_hosts_memory_goes_on_and_ends_as_any_other(
    config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    waiting = replace(config, offload=("optimizer", "parameters"), on_divergence=Skip())
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        stop_at(patch, 11, fall_over)
        train(waiting, run)
    assert train(replace(waiting, offload=("optimizer",)), run).step == 16
    losses, expected = ([line["loss"] for line in lines(each) if "loss" in line] for each in (run, whole))
    assert losses == pytest.approx(expected, rel=1e-5)  # other programs, other rounding
    assert len(lines(run)) == len(lines(whole))
