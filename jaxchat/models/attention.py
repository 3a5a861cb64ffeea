"""Attention backends, and the masks that every one of them must keep.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp


def packed_mask(queries_BT: jax.Array, keys_BT: jax.Array) -> jax.Array:
    """Who may see whom in packed rows, (B, T, T), from the segment ids of both sides: one conversation, and not the future.

    With segments [1 1 2 2 0]::

        1 . . . .      a conversation's first token sees itself
        1 1 . . .
        . . 1 . .      the second conversation never sees the first
        . . 1 1 .
        . . . . 1      padding (0) sees itself alone or other padding, which keeps its softmax finite; it carries no loss
    """
    same_BTT = queries_BT[:, :, None] == keys_BT[:, None, :]
    t = jnp.arange(queries_BT.shape[1])
    return same_BTT & (t[None, :, None] >= t[None, None, :])


def cache_mask(positions_BT: jax.Array, slots: int) -> jax.Array:
    """Who may see whom through a cache, (B, T, S): a query at position p sees slots 0 to p. Padding (-1) sees slot 0."""
    return jnp.arange(slots)[None, None, :] <= jnp.maximum(positions_BT, 0)[:, :, None]


@dataclass(frozen=True)
class Dot:
    """Plain matrix products with the scores held whole: the reference, right on every platform."""

    def __call__(
        self, q_BTKGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array
    ) -> jax.Array:
        """Scaled dot-product attention, (B, T, K, G, H) in the dtype of `v`; softmax in float32."""
        # A group's queries are rows of one matrix product with their shared keys: on a CPU twice as fast as
        # broadcasting the keys over the group.
        q_BTKGH = q_BTKGH * q_BTKGH.shape[-1] ** -0.5
        scores_BKTGS = jnp.einsum("BTKGH,BKSH->BKTGS", q_BTKGH, k_BKSH, preferred_element_type=jnp.float32)
        scores_BKTGS = jnp.where(mask_BTS[:, None, :, None, :], scores_BKTGS, jnp.finfo(jnp.float32).min)
        probs_BKTGS = jax.nn.softmax(scores_BKTGS, axis=-1).astype(v_BKSH.dtype)
        return jnp.einsum("BKTGS,BKSH->BTKGH", probs_BKTGS, v_BKSH)
