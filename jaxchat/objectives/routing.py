"""Losses that keep a mixture's router in order: its experts evenly used, its logits small."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxchat.models.mixture import Routed


@dataclass(frozen=True)
class Routing:
    """What a router's losses weigh beside the language model's, each summed over the layers; of mixtures alone.

    balance: of the load-balancing loss (Fedus et al. 2021, Switch, equations 4 to 6), whose shares are those of the
    whole batch (Qiu et al. 2025). z: of the router's z-loss (Zoph et al. 2022, ST-MoE, equation 5).
    """

    balance: float = 0.01
    z: float = 0.001


ROUTING = Routing()


def penalty(routed: Routed, chosen_LE: jax.Array, routing: Routing) -> jax.Array:
    """The losses of `routed` tokens as a sum over them, float32: divided by their number they are the mean.

    chosen_LE: how often each expert was taken in the whole batch, of which the tokens may be a part. With those counts
    held, the balance loss is a sum over tokens as well, so that a batch may be cut up and nothing changes.
    """
    return routing.balance * jnp.sum(_balances(routed, chosen_LE)) + routing.z * jnp.sum(routed.squares_L)


def balance(routed: Routed, tokens: jax.Array) -> jax.Array:
    """The layers' mean load-balancing loss over `tokens`: 1 where all experts are used alike, at most their number."""
    return jnp.mean(_balances(routed, routed.chosen_LE)) / tokens


def z(routed: Routed, tokens: jax.Array) -> jax.Array:
    """The layers' mean z-loss over `tokens`."""
    return jnp.mean(routed.squares_L) / tokens


def _balances(routed: Routed, chosen_LE: jax.Array) -> jax.Array:
    used_LE = jax.lax.stop_gradient(chosen_LE) / jnp.maximum(jnp.sum(chosen_LE, axis=1, keepdims=True), 1)
    return chosen_LE.shape[1] * jnp.sum(used_LE * routed.shares_LE, axis=1)
