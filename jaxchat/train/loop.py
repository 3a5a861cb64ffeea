"""The training loop: dispatches step N, then looks at step N-1 while the device works.

It knows no model and no data: state, batches, evaluation, sampling and saving come from outside. Nothing but the
state is needed to go on after a kill, since the batch of a step is a pure function of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import jax

from jaxchat.train.clock import Clock

State = TypeVar("State")
Observe = Callable[[int, dict[str, float], dict[str, float]], None]


@dataclass(frozen=True)
class Occasion(Generic[State]):
    """What is done now and then between steps: every `every` steps (None: never) and, if `last`, after the last.
    name: the cause that its time is booked to."""

    name: str
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
    observe: told each step's number, metrics (scalars of the host) and the seconds by cause since the step before, in
        order, once; raises to stop.
    occasions: evaluation, samples, in the order they happen.
    save: comes after them, every `save_every` steps and at the end.
    stop_requested: asked after every dispatch.
    lookahead: whether step N is dispatched before step N-1 is looked at.
    clock: stands at `compute` while steps are dispatched and waited for, at `input`, `checkpoint` and the names of
        occasions for the rest.
    """

    train_step: Callable[[State, Any], tuple[State, Any]]
    batches: Iterator[Any]
    observe: Observe
    save: Callable[[int, State], None]
    save_every: int
    occasions: tuple[Occasion[State], ...] = ()
    stop_requested: Callable[[int], bool] = field(default=lambda step: False)
    lookahead: bool = True
    clock: Clock = field(default_factory=lambda: Clock("compute"))

    def run(self, state: State, start: int, steps: int) -> tuple[State, int]:
        """Trains from `start` steps done to `steps` done; returns the state and the steps done when it ended.

        Nothing is evaluated, sampled or saved before the metrics of every step that led to it were observed, so a state
        that went wrong is never saved. The state that it ends with is saved.
        """
        with self.clock.on("compute"):
            return self._run(state, start, steps)

    def _run(self, state: State, start: int, steps: int) -> tuple[State, int]:
        unseen: tuple[int, Any] | None = None
        for step in range(start + 1, steps + 1):
            with self.clock.on("input"):
                batch = next(self.batches)
            state, metrics = self.train_step(state, batch)
            if unseen is not None:
                self._observe(*unseen)
            unseen = step, metrics
            stopping = self.stop_requested(step)
            occasions = [] if stopping else [o for o in self.occasions if o.due(step, steps)]
            saving = stopping or step == steps or step % self.save_every == 0
            if not self.lookahead or occasions or saving:
                self._observe(*unseen)
                unseen = None
            for occasion in occasions:
                with self.clock.on(occasion.name):
                    occasion.do(step, state)
            if saving:
                with self.clock.on("checkpoint"):
                    self.save(step, state)
            if stopping:
                return state, step
        return state, max(start, steps)

    def _observe(self, step: int, metrics: Any) -> None:
        fetched = jax.device_get(vars(metrics))
        values = {name: value.item() for name, value in fetched.items() if value is not None}
        self.observe(step, values, self.clock.take())
