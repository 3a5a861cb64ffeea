"""Keys and values of what has been read, one slot a position.

L layers, B rows, R rows of them that are read or written now, T new tokens, K key-value heads, S slots, H head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

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
    new_k_RTKH: jax.Array,
    new_v_RTKH: jax.Array,
    positions_RT: jax.Array,
    rules: Rules,
    rows_R: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """One layer's keys and values with T new tokens at their positions, row by row; position -1 writes nothing.

    rows_R: which rows they are of, counted on each device among its own; None: of all, in order.
    """
    k_spec = rules.activation("batch", "kv_heads", "head", "keys")
    v_spec = rules.activation("batch", "kv_heads", "keys", "head")
    new_spec = rules.activation("batch", "keys", "kv_heads", "head")
    tokens_spec, rows_spec = rules.activation("batch", "keys"), rules.activation("batch")
    slots = v_BKSH.shape[2]

    # Every device holds whole rows of whole heads, so each writes its own: a scatter over a sharded array, which the
    # partitioner cannot be trusted with, becomes one that knows nothing of shards.
    @partial(
        jax.shard_map,
        in_specs=(k_spec, v_spec, new_spec, new_spec, tokens_spec, rows_spec),
        out_specs=(k_spec, v_spec),
    )
    def scatter(
        k_BKHS: jax.Array,
        v_BKSH: jax.Array,
        new_k_RTKH: jax.Array,
        new_v_RTKH: jax.Array,
        positions_RT: jax.Array,
        rows_R: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        if positions_RT.size == 1:
            # A single token is written twice, the second time nowhere: XLA turns a scatter of one into an update that
            # its CPU backend then fuses with what reads the cache, and makes twice, in two fresh copies.
            new_k_RTKH, new_v_RTKH = (jnp.concatenate([new, new], axis=1) for new in (new_k_RTKH, new_v_RTKH))
            positions_RT = jnp.concatenate([positions_RT, jnp.full_like(positions_RT, -1)], axis=1)
        rows_R1 = (jnp.arange(len(positions_RT)) if rows_R is None else rows_R)[:, None]
        slots_RT = jnp.where(positions_RT < 0, slots, positions_RT)  # out of range, and "drop" leaves such writes out
        return (
            k_BKHS.at[rows_R1, :, :, slots_RT].set(new_k_RTKH, mode="drop"),
            v_BKSH.at[rows_R1, :, slots_RT].set(new_v_RTKH, mode="drop"),
        )

    new_k_RTKH, new_v_RTKH = (jax.sharding.reshard(new, new_spec) for new in (new_k_RTKH, new_v_RTKH))
    return scatter(k_BKHS, v_BKSH, new_k_RTKH, new_v_RTKH, jax.sharding.reshard(positions_RT, tokens_spec), rows_R)


def view(
    k_BKHS: jax.Array, v_BKSH: jax.Array, span: int, rules: Rules, rows_R: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The first `span` slots of one layer's rows, (R, K, span, H) each. rows_R: as `write` has them."""
    k_BKHS, v_BKSH = k_BKHS[..., :span], v_BKSH[:, :, :span]
    if rows_R is not None:
        k_BKHS = take(k_BKHS, rows_R, rules.activation("batch", "kv_heads", "head", "keys"))
        v_BKSH = take(v_BKSH, rows_R, rules.activation("batch", "kv_heads", "keys", "head"))
    return k_BKHS.swapaxes(2, 3), v_BKSH


def take(x_B: jax.Array, rows_R: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Rows of an array that lies as `spec` says, each device those among its own."""
    return jax.shard_map(lambda x_B, rows_R: x_B[rows_R], in_specs=(spec, PartitionSpec(spec[0])), out_specs=spec)(
        x_B, rows_R
    )
