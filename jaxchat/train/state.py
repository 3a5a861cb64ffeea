"""What a training run is at one moment: all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxchat.models.decoder import Model, Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """step: int32 scalar, updates made so far. params: float32. opt_state: Optax's."""

    step: jax.Array
    params: Params
    opt_state: Any


def start(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step. Jit it so that moments are born sharded like their parameters."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def abstract(model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """The state's shapes, dtypes and shardings: what a restore fills in."""
    return jax.eval_shape(lambda: start(model.init(jax.random.key(0)), optimizer))
