"""Attention backends, and what every one of them may see.

A backend is called with q_BTKGH, k_BKSH, v_BKSH, a Sight, the rules, `scale` (of the products of queries and keys) and
`soft_cap` (c: scores s become c tanh(s / c); None: they stay), and returns (B, T, K, G, H) in the dtype of `v`.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from jaxchat.sharding import Rules

SAVED = "attention"  # the name under which the remat policy "dots" keeps what attention's backward pass needs


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sight:
    """Which keys each query sees, in every form that a backend may want; XLA drops what none reads.

    mask_BTS: by pairs. queries_BT, keys_BT: both sides' segment ids in packed rows, None through a cache.
    window: a query sees itself and the `window - 1` tokens before it; None: all before it.
    """

    mask_BTS: jax.Array
    queries_BT: jax.Array | None
    keys_BT: jax.Array | None
    window: int | None = field(metadata={"static": True})

    @classmethod
    def packed(cls, queries_BT: jax.Array, keys_BT: jax.Array, window: int | None = None) -> Sight:
        """Of packed rows, from both sides' segment ids; see packed_mask."""
        return cls(packed_mask(queries_BT, keys_BT, window), queries_BT, keys_BT, window)

    @classmethod
    def cached(cls, positions_BT: jax.Array, slots: int, window: int | None = None) -> Sight:
        """Through a cache of `slots` tokens, for queries at these positions; see cache_mask."""
        return cls(cache_mask(positions_BT, slots, window), None, None, window)


def packed_mask(queries_BT: jax.Array, keys_BT: jax.Array, window: int | None = None) -> jax.Array:
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
    mask_BTT = same_BTT & (t[None, :, None] >= t[None, None, :])
    return mask_BTT if window is None else mask_BTT & (t[None, :, None] - t[None, None, :] < window)


def cache_mask(positions_BT: jax.Array, slots: int, window: int | None = None) -> jax.Array:
    """Who may see whom through a cache, (B, T, S): a query at position p sees slots 0 to p; padding (-1), slot 0."""
    slots_11S, last_BT1 = jnp.arange(slots)[None, None, :], jnp.maximum(positions_BT, 0)[:, :, None]
    mask_BTS = slots_11S <= last_BT1
    return mask_BTS if window is None else mask_BTS & (slots_11S > last_BT1 - window)


@dataclass(frozen=True)
class Dot:
    """Plain matrix products with one layer's scores held whole: the reference, right on every platform.

    A group's queries are rows of one matrix product with their shared keys, twice as fast on a CPU as broadcasting the
    keys over the group. The backward pass is written out (after Dao 2023, FlashAttention-2): it keeps one number a
    query instead of its probabilities, and every product stands in the order that needs no transposed copy of them.
    """

    def __call__(
        self,
        q_BTKGH: jax.Array,
        k_BKSH: jax.Array,
        v_BKSH: jax.Array,
        sight: Sight,
        rules: Rules,
        *,
        scale: float,
        soft_cap: float | None = None,
    ) -> jax.Array:
        """Scaled dot-product attention; softmax in float32."""
        q_BKTGH = (q_BTKGH * scale).transpose(0, 2, 1, 3, 4)
        return _attend(q_BKTGH, k_BKSH, v_BKSH, sight.mask_BTS, rules, soft_cap).transpose(0, 2, 1, 3, 4)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q_BKTGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array, rules: Rules, soft_cap: float | None
) -> jax.Array:
    return _forward(q_BKTGH, k_BKSH, v_BKSH, mask_BTS, rules, soft_cap)[0]


def _scores(q_BKTGH: jax.Array, k_BKSH: jax.Array, soft_cap: float | None) -> jax.Array:
    scores_BKTGS = _dot(q_BKTGH, k_BKSH, (4, 3), jnp.float32)
    return scores_BKTGS if soft_cap is None else soft_cap * jnp.tanh(scores_BKTGS / soft_cap)


def _masked(scores_BKTGS: jax.Array, mask_BTS: jax.Array) -> jax.Array:
    return jnp.where(mask_BTS[:, None, :, None, :], scores_BKTGS, jnp.finfo(jnp.float32).min)


def _forward(
    q_BKTGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array, rules: Rules, soft_cap: float | None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    scores_BKTGS = _masked(_scores(q_BKTGH, k_BKSH, soft_cap), mask_BTS)
    top_BKTG1 = jnp.max(scores_BKTGS, axis=-1, keepdims=True)
    exp_BKTGS = jnp.exp(scores_BKTGS - top_BKTG1)
    norm_BKTG1 = jnp.sum(exp_BKTGS, axis=-1, keepdims=True)
    out_BKTGH = _dot(exp_BKTGS.astype(v_BKSH.dtype), v_BKSH, (4, 2), jnp.float32) / norm_BKTG1
    out_BKTGH = checkpoint_name(out_BKTGH.astype(v_BKSH.dtype), SAVED)
    log_norm_BKTG1 = checkpoint_name(top_BKTG1 + jnp.log(norm_BKTG1), SAVED)
    return out_BKTGH, (q_BKTGH, k_BKSH, v_BKSH, mask_BTS, out_BKTGH, log_norm_BKTG1)


def _backward(rules: Rules, soft_cap: float | None, saved: tuple[jax.Array, ...], grad_BKTGH: jax.Array) -> tuple:
    q_BKTGH, k_BKSH, v_BKSH, mask_BTS, out_BKTGH, log_norm_BKTG1 = saved
    dtype, keys_spec = v_BKSH.dtype, rules.activation("batch", "kv_heads", "keys", "head")
    scores_BKTGS = _scores(q_BKTGH, k_BKSH, soft_cap)
    probs_BKTGS = jnp.exp(_masked(scores_BKTGS, mask_BTS) - log_norm_BKTG1)
    of_probs_BKTGS = _dot(grad_BKTGH, v_BKSH, (4, 3), jnp.float32)
    inner_BKTG1 = jnp.sum((grad_BKTGH * out_BKTGH).astype(jnp.float32), axis=-1, keepdims=True)
    of_scores_BKTGS = probs_BKTGS * (of_probs_BKTGS - inner_BKTG1)
    if soft_cap is not None:
        of_scores_BKTGS *= 1 - jnp.square(scores_BKTGS / soft_cap)
    of_scores_BKTGS = of_scores_BKTGS.astype(dtype)
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
