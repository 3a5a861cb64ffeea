"""What a run does about a step whose loss is not a number or jumps, and how it remembers what it did.

RUN/detours.jsonl has a line for every step whose update was left out and for every way back to a checkpoint. A run that
is killed and goes on reads it, and takes the same steps on the same batches as one that was never killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxchat.errors import InputError
from jaxchat.host_memory import fetched
from jaxchat.train.state import TrainState

FILE = "detours.jsonl"


@dataclass(frozen=True)
class Stop:
    """Ends the run; the checkpoints before it stay."""


@dataclass(frozen=True)
class Skip:
    """Leaves that step's update out: parameters and optimizer stay as they were, and the next batch comes."""

    at_most: int = 10
    """Steps left out in all, after which the run ends."""


@dataclass(frozen=True)
class Rewind:
    """Goes back to the newest checkpoint and on from there without the batches around that step (Chowdhery et al. 2022,
    PaLM, section 5.1)."""

    before: int = 0
    """Batches before that step's to leave out as well."""
    after: int = 0
    """Batches after it."""
    at_most: int = 3
    """Ways back in all, after which the run ends."""

    def __post_init__(self) -> None:
        if self.before < 0 or self.after < 0:
            raise InputError(f"before is {self.before} and after {self.after}; set --on-divergence's to 0 or more")


Policy = Stop | Skip | Rewind


@dataclass(frozen=True)
class Detour:
    """What was done at `step`. batches: first and last of those never trained on (they count from 0); None: the step
    was taken, but its update left out."""

    step: int
    why: str
    batches: tuple[int, int] | None = None


class Detours:
    """Those of a run so far, and the order of batches that comes of them."""

    def __init__(self, run: Path, *, writes: bool = True) -> None:
        self._path, self._writes = run / FILE, writes
        self.taken: list[Detour] = []
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    found = json.loads(line)
                except json.JSONDecodeError:
                    continue  # torn by a kill before it was acted on: the step will show itself again
                self.taken.append(Detour(found["step"], found["why"], found["batches"] and tuple(found["batches"])))

    @property
    def skipped(self) -> set[int]:
        return {detour.step for detour in self.taken if detour.batches is None}

    @property
    def rewinds(self) -> int:
        return sum(detour.batches is not None for detour in self.taken)

    def add(self, detour: Detour) -> None:
        """On the disk before it is acted on."""
        if detour in self.taken:
            return
        self.taken.append(detour)
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                if file.tell():
                    file.write("\n")
                file.write(json.dumps(asdict(detour)))
                file.flush()
                os.fsync(file.fileno())

    def batch(self, step: int) -> int:
        """The batch, counted from 0, of `step`, counted from 1."""
        index, past = step - 1, -1
        for first, last in sorted(detour.batches for detour in self.taken if detour.batches):
            first = max(first, past + 1)  # they may overlap
            if first <= min(index, last):
                index += last - first + 1
            past = max(past, last)
        return index

    def batches(self, start: int, stream: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
        """The batches of the steps after `start`, from `stream`, which begins at any and goes on from there."""
        step = start + 1
        while True:
            index = self.batch(step)
            for batch in stream(index):
                if self.batch(step) != index:
                    break
                yield batch
                step, index = step + 1, index + 1


def skipping(step: jax.stages.Wrapped) -> jax.stages.Wrapped:
    """`step` whose update is left out when its loss or gradient is not a number, or the loss is above `limit`."""

    def update(
        state: TrainState, batch: Any, frozen: Any = None, limit: float | jax.Array = jnp.inf
    ) -> tuple[TrainState, Any]:
        after, metrics = step(state, batch, frozen)
        good = jnp.isfinite(metrics.loss) & jnp.isfinite(metrics.grad_norm) & (metrics.loss <= limit)
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, fetched(state))
        return replace(kept, step=after.step), metrics

    return jax.jit(update, donate_argnums=0)
