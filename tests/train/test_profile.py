from __future__ import annotations

import os
import signal
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxchat.errors import InputError
from jaxchat.train.profile import Profile, Profiler


def test_it_is_said_in_words():
    assert Profile.parse(["steps=10:15", "memory=12"]) == Profile((10, 15), (12,))
    for words in (["steps=3"], ["steps=5:4"], ["steps=0:4"], ["memory=x"], ["time=3"]):
        with pytest.raises(InputError, match="--profile"):
            Profile.parse(words)


def test_a_trace_of_the_steps_and_the_memory_after_one_and_on_demand(tmp_path: Path):
    said: list[str] = []
    profiler = Profiler(Profile((2, 3), (1,)), tmp_path, said.append)
    with profiler.listening():
        for step in range(1, 5):
            with profiler.step(step):
                jnp.ones(3).sum().block_until_ready()
            if step == 4:
                os.kill(os.getpid(), signal.SIGUSR1)
            profiler.done(step)
    assert len(list((tmp_path / "tensorboard").rglob("*.xplane.pb"))) == 1
    assert sorted(path.name for path in (tmp_path / "profile").iterdir()) == ["memory-1.pb.gz", "memory-4.pb.gz"]
    assert len(said) == 3


def test_a_trace_that_a_run_ends_in_is_written(tmp_path: Path):
    profiler = Profiler(Profile((1, 9)), tmp_path, lambda text: None)
    with profiler.listening(), profiler.step(1):
        jnp.ones(3).sum().block_until_ready()
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))
