"""One update: gradients of sums over micro-batches, one division, one optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxchat.data.batch import Batch
from jaxchat.host_memory import fetched
from jaxchat.models.config import Mixture
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives import routing as routers
from jaxchat.objectives.language_model import Losses, losses
from jaxchat.objectives.routing import ROUTING, Routing
from jaxchat.train.state import TrainState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """loss: mean negative log-likelihood a trained token, natural. weight: trained tokens, by weight. grad_norm: before
    clipping. All float32 scalars. tokens: those of the batch that are not padding, an int32 scalar. balance_loss,
    router_z_loss: of a mixture's routers, the layers' mean over these tokens, not weighed."""

    loss: jax.Array
    weight: jax.Array
    grad_norm: jax.Array
    tokens: jax.Array
    balance_loss: jax.Array | None = None
    router_z_loss: jax.Array | None = None


Step = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]
# The parameters that a model computes with, from those that stay as they are (None: none do) and the trained ones.
Attach = Callable[[Any, Params], Params]


def alone(frozen: Params | None, params: Params) -> Params:
    """The Attach of a model that is trained whole."""
    return params


def make_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
    routing: Routing = ROUTING,
    attach: Attach = alone,
) -> jax.stages.Wrapped:
    """The update of one step, (state, batch, frozen = None) -> (state, metrics), jitted, its state donated.

    Gradients are made of the state's parameters and of nothing else; `attach` puts them beside the frozen ones.
    accumulate: micro-batches that the batch's rows are cut into, one after the other. Memory falls with it; the update
    does not change, since losses and gradients stay sums until all micro-batches are in. routing: what the losses of a
    mixture's routers weigh; since their balance is the whole batch's, accumulation first reads it once to count.
    """

    def update(state: TrainState, batch: Batch, frozen: Params | None = None) -> tuple[TrainState, StepMetrics]:
        tokens = jnp.sum(batch.segments_BT > 0, dtype=jnp.int32)
        summed, grads = _gradients(model, partial(attach, frozen), state.params, batch, accumulate, routing)
        scale = jnp.where(summed.weight > 0, 1 / jnp.maximum(summed.weight, 1e-9), 0.0)
        grads = jax.tree.map(lambda g: g * scale, fetched(grads))
        old = fetched(state.params)
        updates, opt_state = optimizer.update(grads, fetched(state.opt_state), old)
        params = optax.apply_updates(old, updates)
        metrics = StepMetrics(summed.total * scale, summed.weight, optax.global_norm(grads), tokens)
        if summed.routed is not None:
            balance, z = (of(summed.routed, jnp.maximum(tokens, 1)) for of in (routers.balance, routers.z))
            metrics = replace(metrics, balance_loss=balance, router_z_loss=z)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(update, donate_argnums=0)


def _gradients(
    model: Model,
    whole: Callable[[Params], Params],
    params: Params,
    batch: Batch,
    accumulate: int,
    routing: Routing,
) -> tuple[Losses, Params]:
    # The mean over tokens of the routers' losses, beside a sum that is divided by the batch's weight at the end.
    share = jnp.sum(batch.weights_BT) / jnp.maximum(jnp.sum(batch.segments_BT > 0), 1)

    def total(params: Params, rows: Batch, chosen_LE: jax.Array | None = None) -> tuple[jax.Array, Losses]:
        summed = losses(model, whole(params), rows)
        if summed.routed is None:
            return summed.total, summed
        chosen_LE = summed.routed.chosen_LE if chosen_LE is None else chosen_LE
        return summed.total + share * routers.penalty(summed.routed, chosen_LE, routing), summed

    if accumulate == 1:
        grads, summed = jax.grad(total, has_aux=True)(params, batch)
        return summed, grads

    parts = _micro_batches(batch, accumulate, model)
    grad = jax.grad(partial(total, chosen_LE=_chosen(model, whole(params), parts)), has_aux=True)

    def add(carry: tuple[Losses, Params], rows: Batch) -> tuple[tuple[Losses, Params], None]:
        grads, summed = grad(params, rows)
        return jax.tree.map(jnp.add, carry, (summed, grads)), None

    first = jax.tree.map(lambda rows: rows[0], parts)
    zero = _zeros(jax.eval_shape(partial(losses, model), whole(params), first)), jax.tree.map(jnp.zeros_like, params)
    (summed, grads), _ = jax.lax.scan(add, zero, parts)
    return summed, grads


def _chosen(model: Model, params: Params, parts: Batch) -> jax.Array | None:
    """How often each layer's experts are taken in all micro-batches; None without experts."""
    if not isinstance(model.config.mlp, Mixture):
        return None

    def add(chosen_LE: jax.Array, rows: Batch) -> tuple[jax.Array, None]:
        _, routed = model.read(params, rows.tokens_BT, rows.positions_BT, rows.segments_BT)
        assert routed is not None
        return chosen_LE + routed.chosen_LE, None

    return jax.lax.scan(add, jnp.zeros((model.config.layers, model.config.mlp.experts)), parts)[0]


def _zeros(shapes: Losses) -> Losses:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _micro_batches(batch: Batch, accumulate: int, model: Model) -> Batch:
    """(B, T) rows as (accumulate, B / accumulate, T), every device keeping the rows that it has."""
    spec = model.rules.activation("batch", None, "sequence")

    def cut(rows_BT: jax.Array) -> jax.Array:
        B, T = rows_BT.shape
        return rows_BT.reshape(B // accumulate, accumulate, T, out_sharding=spec).swapaxes(0, 1)

    return jax.tree.map(cut, batch)
