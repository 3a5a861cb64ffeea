"""Keys and values of what has been read, one slot a position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxchat.sharding import Rules


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """k, v: (L layers, B rows, K key-value heads, S slots, H head size). Slot p of a row holds position p's token."""

    k_LBKSH: jax.Array
    v_LBKSH: jax.Array

    @property
    def slots(self) -> int:
        """How many tokens a row can hold."""
        return self.k_LBKSH.shape[3]


def write(cache_BKSH: jax.Array, new_BTKH: jax.Array, positions_BT: jax.Array, rules: Rules) -> jax.Array:
    """One layer's keys or values with T new tokens at their positions, row by row; position -1 writes nothing."""
    cache_spec = rules.activation("batch", "kv_heads", "keys", "head")
    new_spec = rules.activation("batch", "keys", "kv_heads", "head")
    rows_spec = rules.activation("batch", "keys")

    # Every device holds whole rows of whole heads, so each writes its own: a scatter over a sharded array, which the
    # partitioner cannot be trusted with, becomes one that knows nothing of shards.
    @partial(jax.shard_map, in_specs=(cache_spec, new_spec, rows_spec), out_specs=cache_spec)
    def scatter(cache_BKSH: jax.Array, new_BTKH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        B, _, S, _ = cache_BKSH.shape
        slots_BT = jnp.where(positions_BT < 0, S, positions_BT)  # S is out of range, and "drop" leaves such writes out
        return cache_BKSH.at[jnp.arange(B)[:, None], :, slots_BT].set(new_BTKH, mode="drop")

    return scatter(cache_BKSH, jax.sharding.reshard(new_BTKH, new_spec), jax.sharding.reshard(positions_BT, rows_spec))
