"""What a training run is at one moment: all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxchat.models.decoder import Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """step: int32 scalar, updates made so far. params: what is trained, float32: the model's own, or an adapter's.
    opt_state: Optax's."""

    step: jax.Array
    params: Params
    opt_state: Any


def start(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step. Jit it so that moments are born sharded like their parameters."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def abstract(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state's shapes, dtypes and shardings, from those of what is trained: what a restore fills in."""
    return jax.eval_shape(lambda params: start(params, optimizer), params)
