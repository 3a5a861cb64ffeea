from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from jaxchat.train.loop import Loop, Occasion


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Metrics:
    loss: jax.Array


def _step(state: jax.Array, batch: int) -> tuple[jax.Array, _Metrics]:
    return state + batch, _Metrics(jnp.float32(batch))


class _Diary:
    """Writes down what the loop did, in order."""

    def __init__(self, start: int = 0, stop_at: int | None = None, fail_at: int | None = None) -> None:
        self.lines: list[str] = []
        self.stop_at, self.fail_at = stop_at, fail_at
        self.batches: Iterator[int] = itertools.count(start)

    def loop(self, save_every: int, evaluate_every: int | None = None, lookahead: bool = True) -> Loop:
        def step(state, batch):
            self.lines.append(f"dispatch {batch + 1}")
            return _step(state, batch)

        def observe(number, metrics, spent):
            assert spent["compute"] > 0
            if number == self.fail_at:
                raise ArithmeticError(f"step {number}")
            self.lines.append(f"observe {number} {metrics['loss']:g}")

        return Loop(
            train_step=step,
            batches=self.batches,
            observe=observe,
            save=lambda number, state: self.lines.append(f"save {number} {state}"),
            save_every=save_every,
            occasions=(
                Occasion(
                    "eval", lambda number, state: self.lines.append(f"evaluate {number}"), evaluate_every, last=True
                ),
            ),
            stop_requested=lambda number: number == self.stop_at,
            lookahead=lookahead,
        )


def test_a_step_is_dispatched_before_the_one_before_it_is_looked_at():
    diary = _Diary()
    _, done = diary.loop(save_every=100).run(jnp.int32(0), 0, 3)
    assert done == 3
    assert diary.lines == [
        "dispatch 1", "dispatch 2", "observe 1 0", "dispatch 3", "observe 2 1", "observe 3 2", "evaluate 3", "save 3 3",
    ]  # fmt: skip


def test_without_lookahead_every_step_is_looked_at_first():
    diary = _Diary()
    diary.loop(save_every=100, lookahead=False).run(jnp.int32(0), 0, 2)
    assert diary.lines == ["dispatch 1", "observe 1 0", "dispatch 2", "observe 2 1", "evaluate 2", "save 2 1"]


def test_going_on_from_a_save_does_the_remaining_steps_alone():
    whole, rest = _Diary(), _Diary(start=4)
    end, _ = whole.loop(save_every=4).run(jnp.int32(0), 0, 10)
    end_of_rest, _ = rest.loop(save_every=4).run(jnp.int32(sum(range(4))), 4, 10)
    assert end == end_of_rest
    assert whole.lines[whole.lines.index("save 4 6") + 1 :] == rest.lines


@pytest.mark.parametrize("fail_at", [3, 4, 5])
def test_nothing_is_saved_from_a_step_that_went_wrong_on(fail_at: int):
    diary = _Diary(fail_at=fail_at)
    with pytest.raises(ArithmeticError, match=f"step {fail_at}"):
        diary.loop(save_every=2, evaluate_every=1).run(jnp.int32(0), 0, 10)
    saved = [line for line in diary.lines if line.startswith("save")]
    assert saved == [f"save {step} {sum(range(step))}" for step in range(2, fail_at, 2)]
    assert f"evaluate {fail_at}" not in diary.lines


def test_a_stop_saves_at_once_and_evaluates_nothing():
    diary = _Diary(stop_at=3)
    _, done = diary.loop(save_every=100, evaluate_every=3).run(jnp.int32(0), 0, 10)
    assert done == 3
    assert diary.lines[-2:] == ["observe 3 2", "save 3 3"]


def test_a_finished_run_does_nothing():
    diary = _Diary()
    state, done = diary.loop(save_every=1).run(jnp.int32(7), 5, 5)
    assert (state, done, diary.lines) == (7, 5, [])
