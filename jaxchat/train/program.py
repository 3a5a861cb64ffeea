"""The computation of a run on a mesh, as functions and shapes: what training runs and what a plan compiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from jaxchat.data.batch import Batch
from jaxchat.errors import InputError
from jaxchat.mesh import platform
from jaxchat.models import lora
from jaxchat.models.decoder import Model, Params
from jaxchat.models.lora import LoRA
from jaxchat.objectives.routing import ROUTING, Routing
from jaxchat.train import state as train_state
from jaxchat.train.optim import OptimConfig, learning_rate, make_optimizer
from jaxchat.train.state import TrainState
from jaxchat.train.step import Attach, alone, make_step
from jaxchat.xla_flags import Flag, flags


@dataclass(frozen=True)
class Program:
    """step: one update, jitted. state, batch, frozen: what it takes, as shapes with their shardings; frozen is what an
    adapter leaves as it is, None where the model is trained whole. start: from the parameters to be trained, which it
    takes over, to the state before the first step. attach: what the model computes with, from the frozen parameters
    and the trained ones. rows: how the rows of a batch lie. learning_rate: of every step, from 0.
    flags: what XLA is told when the step is compiled."""

    model: Model
    step: jax.stages.Wrapped
    state: TrainState
    batch: Batch
    frozen: Params | None
    attach: Attach
    start: Callable[[Params], TrainState]
    rows: NamedSharding
    learning_rate: optax.Schedule
    flags: dict[str, Flag]


def build(
    model: Model,
    optim: OptimConfig,
    mesh: Mesh,
    shape: tuple[int, int],
    steps: int,
    accumulate: int = 1,
    routing: Routing = ROUTING,
    adapter: LoRA | None = None,
    xla: Sequence[str] = (),
) -> Program:
    """The program of a run of `steps` with batches of `shape` (rows, tokens, over all of `mesh`, which is set)."""
    if adapter is not None and optim.matrices is not None:
        raise InputError("optim.matrices is for weights that are trained whole; with an adapter set it to None")
    optimizer = make_optimizer(optim, steps)
    rows = NamedSharding(mesh, model.rules.activation("batch", "sequence"))
    ints, floats = (jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for dtype in (np.int32, np.float32))
    trained, frozen, attach = model.abstract(), None, alone
    if adapter is not None:
        frozen = jax.eval_shape(partial(lora.held, model=model, bits=adapter.base), trained)
        trained = jax.eval_shape(partial(lora.init, model, adapter, key=jax.random.key(0)), frozen)
        attach = partial(lora.attached, config=adapter)
    return Program(
        model=model,
        step=make_step(model, optimizer, accumulate, routing, attach),
        state=train_state.abstract(trained, optimizer),
        batch=Batch(ints, ints, floats, ints, ints),
        frozen=frozen,
        attach=attach,
        start=jax.jit(partial(train_state.start, optimizer=optimizer), donate_argnums=0),
        rows=rows,
        learning_rate=learning_rate(optim, steps),
        flags=flags(platform(), xla),
    )
