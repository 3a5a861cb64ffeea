"""Attention backends, and the masks that every one of them must keep.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from jaxchat.sharding import Rules

SAVED = "attention"  # the name under which the remat policy "dots" keeps what attention's backward pass needs


def packed_mask(queries_BT: jax.Array, keys_BT: jax.Array) -> jax.Array:
    """Who may see whom in packed rows, (B, T, T), from both sides' segment ids: one conversation, and not the future.

    With segments [1 1 2 2 0]::

        1 . . . .      a conversation's first token sees itself
        1 1 . . .
        . . 1 . .      the second conversation never sees the first
        . . 1 1 .
        . . . . 1      padding (0) sees padding alone, which keeps its softmax finite; it carries no loss
    """
    same_BTT = queries_BT[:, :, None] == keys_BT[:, None, :]
    t = jnp.arange(queries_BT.shape[1])
    return same_BTT & (t[None, :, None] >= t[None, None, :])


def cache_mask(positions_BT: jax.Array, slots: int) -> jax.Array:
    """Who may see whom through a cache, (B, T, S): a query at position p sees slots 0 to p; padding (-1), slot 0."""
    return jnp.arange(slots)[None, None, :] <= jnp.maximum(positions_BT, 0)[:, :, None]


@dataclass(frozen=True)
class Dot:
    """Plain matrix products with one layer's scores held whole: the reference, right on every platform.

    A group's queries are rows of one matrix product with their shared keys, twice as fast on a CPU as broadcasting the
    keys over the group. The backward pass is written out (after Dao 2023, FlashAttention-2): it keeps one number a
    query instead of its probabilities, and every product stands in the order that needs no transposed copy of them.
    """

    def __call__(
        self, q_BTKGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array, rules: Rules
    ) -> jax.Array:
        """Scaled dot-product attention, (B, T, K, G, H) in the dtype of `v`; softmax in float32."""
        q_BKTGH = (q_BTKGH * q_BTKGH.shape[-1] ** -0.5).transpose(0, 2, 1, 3, 4)
        return _attend(q_BKTGH, k_BKSH, v_BKSH, mask_BTS, rules).transpose(0, 2, 1, 3, 4)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q_BKTGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array, rules: Rules) -> jax.Array:
    return _forward(q_BKTGH, k_BKSH, v_BKSH, mask_BTS, rules)[0]


def _scores(q_BKTGH: jax.Array, k_BKSH: jax.Array, mask_BTS: jax.Array) -> jax.Array:
    scores_BKTGS = _dot(q_BKTGH, k_BKSH, (4, 3), jnp.float32)
    return jnp.where(mask_BTS[:, None, :, None, :], scores_BKTGS, jnp.finfo(jnp.float32).min)


def _forward(
    q_BKTGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array, rules: Rules
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    scores_BKTGS = _scores(q_BKTGH, k_BKSH, mask_BTS)
    top_BKTG1 = jnp.max(scores_BKTGS, axis=-1, keepdims=True)
    exp_BKTGS = jnp.exp(scores_BKTGS - top_BKTG1)
    norm_BKTG1 = jnp.sum(exp_BKTGS, axis=-1, keepdims=True)
    out_BKTGH = _dot(exp_BKTGS.astype(v_BKSH.dtype), v_BKSH, (4, 2), jnp.float32) / norm_BKTG1
    out_BKTGH = checkpoint_name(out_BKTGH.astype(v_BKSH.dtype), SAVED)
    log_norm_BKTG1 = checkpoint_name(top_BKTG1 + jnp.log(norm_BKTG1), SAVED)
    return out_BKTGH, (q_BKTGH, k_BKSH, v_BKSH, mask_BTS, out_BKTGH, log_norm_BKTG1)


def _backward(rules: Rules, saved: tuple[jax.Array, ...], grad_BKTGH: jax.Array) -> tuple:
    q_BKTGH, k_BKSH, v_BKSH, mask_BTS, out_BKTGH, log_norm_BKTG1 = saved
    dtype, keys_spec = v_BKSH.dtype, rules.activation("batch", "kv_heads", "keys", "head")
    probs_BKTGS = jnp.exp(_scores(q_BKTGH, k_BKSH, mask_BTS) - log_norm_BKTG1)
    of_probs_BKTGS = _dot(grad_BKTGH, v_BKSH, (4, 3), jnp.float32)
    inner_BKTG1 = jnp.sum((grad_BKTGH * out_BKTGH).astype(jnp.float32), axis=-1, keepdims=True)
    of_scores_BKTGS = (probs_BKTGS * (of_probs_BKTGS - inner_BKTG1)).astype(dtype)
    of_q_BKTGH = _dot(of_scores_BKTGS, k_BKSH, (4, 2), dtype)
    of_k_BKSH = _over_queries(of_scores_BKTGS, q_BKTGH, keys_spec)
    of_v_BKSH = _over_queries(probs_BKTGS.astype(dtype), grad_BKTGH, keys_spec)
    return of_q_BKTGH, of_k_BKSH, of_v_BKSH, None


_attend.defvjp(_forward, _backward)


def _dot(left_BKTGx: jax.Array, right_BKyz: jax.Array, axes: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """Head by head, one axis of `left` against one of `right`."""
    left, right = axes
    return jax.lax.dot_general(
        left_BKTGx, right_BKyz, (((left,), (right,)), ((0, 1), (0, 1))), preferred_element_type=dtype
    )


def _over_queries(left_BKTGS: jax.Array, right_BKTGH: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Head by head, summed over every query of a group, (B, K, S, H)."""
    return jax.lax.dot_general(left_BKTGS, right_BKTGH, (((2, 3), (2, 3)), ((0, 1), (0, 1))), out_sharding=spec)
