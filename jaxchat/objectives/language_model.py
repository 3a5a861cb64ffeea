"""Next-token prediction: supervised fine-tuning and language modelling, told apart by the batch's weights alone."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxchat.data.batch import Batch
from jaxchat.models.decoder import Model, Params
from jaxchat.models.mixture import Routed
from jaxchat.objectives.cross_entropy import Layout, token_nll, weighted_nll

CHUNK = 512  # tokens a device unembeds at once; 512 x 128k logits in float32 are 260 MB


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Losses:
    """total: weighted sum of negative log-likelihoods (natural). weight: sum of weights. Their quotient is the loss,
    taken once at the very end, after all rows, micro-batches and devices are added up. routed: what a mixture's routers
    did, sums as well."""

    total: jax.Array
    weight: jax.Array
    routed: Routed | None = None


def losses(model: Model, params: Params, batch: Batch, chunk: int = CHUNK) -> Losses:
    """The batch's loss as a sum and a count, differentiable in `params`."""
    x_BTD, routed = model.read(params, batch.tokens_BT, batch.positions_BT, batch.segments_BT)
    weight, layout = _unembedding(model, params, chunk)
    with jax.named_scope("loss"):
        total = weighted_nll(x_BTD, weight, batch.targets_BT, batch.weights_BT, layout)
    return Losses(total, jnp.sum(batch.weights_BT), routed)


def nll(model: Model, params: Params, batch: Batch, chunk: int = CHUNK) -> jax.Array:
    """Negative log-likelihood of every target, (B, T), natural, float32, whatever its weight."""
    x_BTD = model.hidden(params, batch.tokens_BT, batch.positions_BT, batch.segments_BT)
    weight, layout = _unembedding(model, params, chunk)
    return token_nll(x_BTD, weight, batch.targets_BT, layout)


def _unembedding(model: Model, params: Params, chunk: int) -> tuple[jax.Array, Layout]:
    if model.config.tied:
        return params["embed"]["table"], Layout("VD", model.rules, chunk, model.config.logit_cap)
    return params["unembed"]["kernel"], Layout("DV", model.rules, chunk, model.config.logit_cap)
