"""Rows of a table by their ids, where the table's width is split over devices that each have tokens of their own.

Gathering the table would move all of the vocabulary, and its gradient back. Moving the tokens is less: each device
looks up its part of the width for the tokens of all, and hands to each the parts of theirs. The gradient goes the same
way back, and is added up in the table's own float32.

B rows, T tokens, V rows of the table, D width.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxchat.sharding import Rules, names


def lookup(table_VD: jax.Array, tokens_BT: jax.Array, rules: Rules, dtype: jnp.dtype) -> jax.Array:
    """The vectors of the tokens, (B, T, D), of this dtype. table_VD: ("vocab", "embed")."""
    sizes = jax.sharding.get_abstract_mesh().shape
    stored, rows = rules.weight("vocab", "embed"), rules.activation("batch", "sequence")
    vocab, width = (tuple(axis for axis in names(entry) if sizes[axis] > 1) for entry in stored)
    if not set(width) <= set(names(rows[0])):
        # Who share a table have the same tokens: then there are none to exchange.
        table_VD = jax.sharding.reshard(table_VD.astype(dtype), rules.gathered("vocab", "embed"))
        return table_VD.at[tokens_BT].get(out_sharding=rules.activation("batch", "sequence", "embed"))

    @partial(
        jax.shard_map,
        in_specs=(stored, rows),
        out_specs=rules.activation("batch", "sequence", "embed"),
        check_vma=False,
    )
    def local(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
        for axis in width:
            tokens_BT = jax.lax.all_gather(tokens_BT, axis, tiled=True)
        if vocab:
            ids_BT = tokens_BT - jax.lax.axis_index(vocab) * len(table_VD)
            mine_BT1 = ((ids_BT >= 0) & (ids_BT < len(table_VD)))[..., None]
            x_BTD = jnp.where(mine_BT1, table_VD[jnp.clip(ids_BT, 0, len(table_VD) - 1)], 0).astype(dtype)
            x_BTD = jax.lax.psum(x_BTD, vocab)
        else:
            x_BTD = table_VD[tokens_BT].astype(dtype)
        for axis in reversed(width):
            x_BTD = jax.lax.all_to_all(x_BTD, axis, 0, 2, tiled=True)
        return x_BTD

    return local(jax.sharding.reshard(table_VD, stored), jax.sharding.reshard(tokens_BT, rows))
