"""One update: gradients of sums over micro-batches, one division, one optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jaxchat.data.batch import Batch
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import Losses, losses
from jaxchat.train.state import TrainState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """loss: mean negative log-likelihood a trained token, natural. weight: trained tokens, by weight. grad_norm: before
    clipping. All float32 scalars. tokens: those of the batch that are not padding, an int32 scalar."""

    loss: jax.Array
    weight: jax.Array
    grad_norm: jax.Array
    tokens: jax.Array


Step = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]


def make_step(model: Model, optimizer: optax.GradientTransformation, accumulate: int = 1) -> jax.stages.Wrapped:
    """The update of one step, jitted, its state donated.

    accumulate: micro-batches that the batch's rows are cut into, one after the other. Memory falls with it; the update
    does not change, since losses and gradients stay sums until all micro-batches are in.
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        summed, grads = _gradients(model, state.params, batch, accumulate)
        scale = jnp.where(summed.weight > 0, 1 / jnp.maximum(summed.weight, 1e-9), 0.0)
        grads = jax.tree.map(lambda g: g * scale, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        tokens = jnp.sum(batch.segments_BT > 0, dtype=jnp.int32)
        metrics = StepMetrics(summed.total * scale, summed.weight, optax.global_norm(grads), tokens)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(update, donate_argnums=0)


def _gradients(model: Model, params: Params, batch: Batch, accumulate: int) -> tuple[Losses, Params]:
    def total(params: Params, rows: Batch) -> tuple[jax.Array, Losses]:
        summed = losses(model, params, rows)
        return summed.total, summed

    grad = jax.grad(total, has_aux=True)
    if accumulate == 1:
        grads, summed = grad(params, batch)
        return summed, grads

    def add(carry: tuple[Losses, Params], rows: Batch) -> tuple[tuple[Losses, Params], None]:
        grads, summed = grad(params, rows)
        return jax.tree.map(jnp.add, carry, (summed, grads)), None

    zero = (Losses(jnp.zeros(()), jnp.zeros(())), jax.tree.map(jnp.zeros_like, params))
    (summed, grads), _ = jax.lax.scan(add, zero, _micro_batches(batch, accumulate, model))
    return summed, grads


def _micro_batches(batch: Batch, accumulate: int, model: Model) -> Batch:
    """(B, T) rows as (accumulate, B / accumulate, T), every device keeping the rows that it has."""
    spec = model.rules.activation("batch", None, "sequence")

    def cut(rows_BT: jax.Array) -> jax.Array:
        B, T = rows_BT.shape
        return rows_BT.reshape(B // accumulate, accumulate, T, out_sharding=spec).swapaxes(0, 1)

    return jax.tree.map(cut, batch)
