"""The training loop: dispatches step N, then looks at step N-1 while the device works.

It knows no model and no data: state, batches, evaluation, sampling and saving come from outside. Nothing but the
state is needed to go on after a kill, since the batch of a step is a pure function of the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import jax

State = TypeVar("State")
Observe = Callable[[int, dict[str, float], float], None]


@dataclass(frozen=True)
class Occasion(Generic[State]):
    """What is done now and then between steps: every `every` steps (None: never) and, if `last`, after the last."""

    do: Callable[[int, State], None]
    every: int | None = None
    last: bool = False

    def due(self, step: int, steps: int) -> bool:
        return (self.every is not None and step % self.every == 0) or (self.last and step == steps)


@dataclass(frozen=True)
class Loop(Generic[State]):
    """How to go from one state to the last.

    train_step: one update, (state, batch) -> (state, metrics), metrics a dataclass of scalars on the device (or None).
    batches: those of the steps that are missing, on the device.
    observe: told each step's number, metrics (scalars of the host) and seconds, in order, once; raises to stop.
    occasions: evaluation, samples, in the order they happen.
    save: comes after them, every `save_every` steps and at the end.
    stop_requested: asked after every dispatch.
    lookahead: whether step N is dispatched before step N-1 is looked at.
    """

    train_step: Callable[[State, Any], tuple[State, Any]]
    batches: Iterator[Any]
    observe: Observe
    save: Callable[[int, State], None]
    save_every: int
    occasions: tuple[Occasion[State], ...] = ()
    stop_requested: Callable[[int], bool] = field(default=lambda step: False)
    lookahead: bool = True

    def run(self, state: State, start: int, steps: int) -> tuple[State, int]:
        """Trains from `start` steps done to `steps` done; returns the state and the steps done when it ended.

        Nothing is evaluated, sampled or saved before the metrics of every step that led to it were observed, so a state
        that went wrong is never saved. The state that it ends with is saved.
        """
        clock = _Clock()
        unseen: tuple[int, Any] | None = None
        for step in range(start + 1, steps + 1):
            state, metrics = self.train_step(state, next(self.batches))
            if unseen is not None:
                self._observe(*unseen, clock)
            unseen = step, metrics
            stopping = self.stop_requested(step)
            occasions = [] if stopping else [o for o in self.occasions if o.due(step, steps)]
            saving = stopping or step == steps or step % self.save_every == 0
            if not self.lookahead or occasions or saving:
                self._observe(*unseen, clock)
                unseen = None
            for occasion in occasions:
                occasion.do(step, state)
            if saving:
                self.save(step, state)
            if occasions or saving:
                clock.restart()
            if stopping:
                return state, step
        return state, max(start, steps)

    def _observe(self, step: int, metrics: Any, clock: _Clock) -> None:
        fetched = jax.device_get(vars(metrics))
        values = {name: value.item() for name, value in fetched.items() if value is not None}
        self.observe(step, values, clock.lap())


class _Clock:
    """Seconds between steps; what happens between a lap and a restart is nobody's step."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return seconds
