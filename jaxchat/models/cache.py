"""Keys and values of what has been read, one slot a position.

L layers, B rows, T new tokens, K key-value heads, S slots, H head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxchat.sharding import Rules


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Slot p of a row holds the token at position p. Keys lie as their product with one query reads them, slots last.

    Where the model's layers lie apart so do theirs: each a tuple of L arrays, which are written in place.
    """

    k_LBKHS: jax.Array | tuple[jax.Array, ...]
    v_LBKSH: jax.Array | tuple[jax.Array, ...]

    @property
    def slots(self) -> int:
        """How many tokens a row can hold."""
        return jax.tree.leaves(self.v_LBKSH)[0].shape[-2]


def write(
    k_BKHS: jax.Array,
    v_BKSH: jax.Array,
    new_k_BTKH: jax.Array,
    new_v_BTKH: jax.Array,
    positions_BT: jax.Array,
    rules: Rules,
) -> tuple[jax.Array, jax.Array]:
    """One layer's keys and values with T new tokens at their positions, row by row; position -1 writes nothing."""
    k_spec = rules.activation("batch", "kv_heads", "head", "keys")
    v_spec = rules.activation("batch", "kv_heads", "keys", "head")
    new_spec = rules.activation("batch", "keys", "kv_heads", "head")
    rows_spec = rules.activation("batch", "keys")
    slots = v_BKSH.shape[2]

    # Every device holds whole rows of whole heads, so each writes its own: a scatter over a sharded array, which the
    # partitioner cannot be trusted with, becomes one that knows nothing of shards.
    @partial(jax.shard_map, in_specs=(k_spec, v_spec, new_spec, new_spec, rows_spec), out_specs=(k_spec, v_spec))
    def scatter(
        k_BKHS: jax.Array, v_BKSH: jax.Array, new_k_BTKH: jax.Array, new_v_BTKH: jax.Array, positions_BT: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        if positions_BT.size == 1:
            # A single token is written twice, the second time nowhere: XLA turns a scatter of one into an update that
            # its CPU backend then fuses with what reads the cache, and makes twice, in two fresh copies.
            new_k_BTKH, new_v_BTKH = (jnp.concatenate([new, new], axis=1) for new in (new_k_BTKH, new_v_BTKH))
            positions_BT = jnp.concatenate([positions_BT, jnp.full_like(positions_BT, -1)], axis=1)
        rows_B1 = jnp.arange(len(positions_BT))[:, None]
        slots_BT = jnp.where(positions_BT < 0, slots, positions_BT)  # out of range, and "drop" leaves such writes out
        return (
            k_BKHS.at[rows_B1, :, :, slots_BT].set(new_k_BTKH, mode="drop"),
            v_BKSH.at[rows_B1, :, slots_BT].set(new_v_BTKH, mode="drop"),
        )

    new_k_BTKH, new_v_BTKH = (jax.sharding.reshard(new, new_spec) for new in (new_k_BTKH, new_v_BTKH))
    return scatter(k_BKHS, v_BKSH, new_k_BTKH, new_v_BTKH, jax.sharding.reshard(positions_BT, rows_spec))
