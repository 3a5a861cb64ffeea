"""Steps left out and ways back: recorded, and the same however often a run is killed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.train.divergence import FILE, Detour, Detours, skipping
from jaxchat.train.state import TrainState


def test_batches_left_out_never_come_and_all_others_do_in_order(tmp_path: Path):
    detours = Detours(tmp_path)
    for batches in ((7, 9), (3, 4), (12, 12)):
        detours.add(Detour(1, "spike", batches))
    assert [detours.batch(step) for step in range(1, 12)] == [0, 1, 2, 5, 6, 10, 11, 13, 14, 15, 16]
    for start in range(8):
        coming = detours.batches(start, lambda first: itertools.count(first))
        expected = [detours.batch(step) for step in range(start + 1, start + 7)]
        assert list(itertools.islice(coming, 6)) == expected


def test_a_way_back_leaves_the_batches_before_it_as_they_were(tmp_path: Path):
    detours = Detours(tmp_path)
    detours.add(Detour(20, "spike", (17, 19)))
    before = [detours.batch(step) for step in range(1, 16)]
    detours.add(Detour(20, "spike", (detours.batch(16), detours.batch(20))))
    assert [detours.batch(step) for step in range(1, 16)] == before
    assert detours.batch(16) == detours.batch(15) + 9


def test_they_are_read_again_but_for_a_line_that_a_kill_tore(tmp_path: Path):
    detours = Detours(tmp_path)
    detours.add(Detour(5, "the loss is nan"))
    detours.add(Detour(5, "the loss is nan"))
    detours.add(Detour(9, "spike", (6, 8)))
    with (tmp_path / FILE).open("a") as file:
        file.write('\n{"step": 12, "wh')
    again = Detours(tmp_path)
    assert again.taken == [Detour(5, "the loss is nan"), Detour(9, "spike", (6, 8))]
    assert (again.skipped, again.rewinds) == ({5}, 1)
    again.add(Detour(13, "spike"))
    assert Detours(tmp_path).taken == again.taken


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Metrics:
    loss: jax.Array
    grad_norm: jax.Array


@jax.jit
def _step(state: TrainState, batch: tuple[float, float], frozen: None) -> tuple[TrainState, _Metrics]:
    moved = jax.tree.map(lambda x: x + batch[0], state.params)
    return TrainState(state.step + 1, moved, state.opt_state + 1), _Metrics(*map(jnp.float32, batch))


@pytest.mark.parametrize(
    ("loss", "norm", "limit", "taken"),
    [
        (2.0, 1.0, math.inf, True),
        (2.0, 1.0, 2.0, True),
        (2.1, 1.0, 2.0, False),
        (math.nan, 1.0, math.inf, False),
        (math.inf, 1.0, math.inf, False),
        (2.0, math.nan, math.inf, False),
        (2.0, 1.0, -math.inf, False),
    ],
)
def test_a_step_that_is_left_out_changes_nothing_but_the_count(loss: float, norm: float, limit: float, taken: bool):
    state = TrainState(jnp.int32(4), {"w": jnp.arange(3.0)}, jnp.int32(7))
    after, metrics = skipping(_step)(state, (loss, norm), None, np.float32(limit))
    assert after.step == 5
    assert np.array_equal(after.params["w"], np.arange(3.0) + (loss if taken else 0))
    assert after.opt_state == 7 + taken
    assert np.array_equal(metrics.loss, np.float32(loss), equal_nan=True)
