"""The computation of a run on a mesh, as functions and shapes: what training runs and what a plan compiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from jaxchat.data.batch import Batch
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.routing import ROUTING, Routing
from jaxchat.train import state as train_state
from jaxchat.train.optim import OptimConfig, learning_rate, make_optimizer
from jaxchat.train.state import TrainState
from jaxchat.train.step import make_step


@dataclass(frozen=True)
class Program:
    """step: one update, jitted. state, batch: what it takes, as shapes with their shardings. start: from parameters,
    which it takes over, to the state before the first step. rows: how the rows of a batch lie. learning_rate: of every
    step, from 0."""

    model: Model
    step: jax.stages.Wrapped
    state: TrainState
    batch: Batch
    start: Callable[[Params], TrainState]
    rows: NamedSharding
    learning_rate: optax.Schedule


def build(
    model: Model,
    optim: OptimConfig,
    mesh: Mesh,
    shape: tuple[int, int],
    steps: int,
    accumulate: int = 1,
    routing: Routing = ROUTING,
) -> Program:
    """The program of a run of `steps` with batches of `shape` (rows, tokens, over all of `mesh`, which is set)."""
    optimizer = make_optimizer(optim, steps)
    rows = NamedSharding(mesh, model.rules.activation("batch", "sequence"))
    ints, floats = (jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for dtype in (np.int32, np.float32))
    return Program(
        model=model,
        step=make_step(model, optimizer, accumulate, routing),
        state=train_state.abstract(model, optimizer),
        batch=Batch(ints, ints, floats, ints, ints),
        start=jax.jit(partial(train_state.start, optimizer=optimizer), donate_argnums=0),
        rows=rows,
        learning_rate=learning_rate(optim, steps),
    )
