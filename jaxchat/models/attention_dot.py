"""Attention as plain matrix products: the reference, and what runs where no better kernel does.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size, N parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from jaxchat.models import invariant
from jaxchat.models.attention_sight import HELD, Sight, shards
from jaxchat.sharding import Rules

SAVED = "attention"  # the name under which the remat policy "dots" keeps what attention's backward pass needs
Total = Callable[[jax.Array], jax.Array]  # a sum over the last axis, which is kept
Places = tuple[jax.Array, jax.Array | None]  # places_BT and queries_BT of a Sight
QUARTERS = 4  # stretches of a long row, each of which looks at no keys behind it


@dataclass(frozen=True)
class Dot:
    """Plain matrix products, right on every platform. Up to 1,024 tokens a row, one layer's scores are held whole;
    longer rows are computed in parts, and keys that a part cannot see are left out by the stretch.

    A group's queries are rows of one matrix product with their shared keys, twice as fast on a CPU as broadcasting the
    keys over the group. The backward pass is written out (after Dao 2023, FlashAttention-2): it keeps one number a
    query instead of its probabilities, and every product stands in the order that needs no transposed copy of them.

    invariant: a query's result does not depend, in any bit, on what else is computed beside it, nor on how many slots
    are looked at behind it, on a CPU; without a gradient of its own.
    """

    invariant: bool = False

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
        if self.invariant:
            return _invariant(q_BKTGH, k_BKSH, v_BKSH, sight, rules, soft_cap).transpose(0, 2, 1, 3, 4)
        T = q_BKTGH.shape[2]
        if sight.held_BTS is not None or sight.queries_BT is None or T % QUARTERS or shards(rules) > 1:
            return _attend(q_BKTGH, k_BKSH, v_BKSH, sight, rules, soft_cap).transpose(0, 2, 1, 3, 4)
        mixed = []
        for begin in range(0, T, T // QUARTERS):
            end = begin + T // QUARTERS
            first = 0 if sight.window is None else max(0, begin + 1 - sight.window)
            seen = _between(sight, begin, end, first)
            keys, values = k_BKSH[:, :, first:end], v_BKSH[:, :, first:end]
            mixed.append(_attend(q_BKTGH[:, :, begin:end], keys, values, seen, rules, soft_cap))
        return jnp.concatenate(mixed, axis=2).transpose(0, 2, 1, 3, 4)


def _between(sight: Sight, begin: int, end: int, first: int) -> Sight:
    """That of the queries `begin` to `end` of packed rows, which see keys from `first` on at most."""
    assert sight.queries_BT is not None and sight.keys_BT is not None
    return replace(
        sight,
        places_BT=sight.places_BT[:, begin:end] - first,
        queries_BT=sight.queries_BT[:, begin:end],
        keys_BT=sight.keys_BT[:, first:end],
        slots=end - first,
    )


def _invariant(
    q_BKTGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, sight: Sight, rules: Rules, soft_cap: float | None
) -> jax.Array:
    """What is small is computed several times: XLA fuses few scores, and multiplies one query, or those of a single row
    and head, in other ways."""
    B, K, T, G, _ = q_BKTGH.shape
    if B * K == 1:
        q_BKTGH, k_BKSH, v_BKSH = (jnp.concatenate([x, x]) for x in (q_BKTGH, k_BKSH, v_BKSH))
    scores = q_BKTGH[..., 0].size * k_BKSH.shape[2]
    times = max(-(-invariant.FUSED // scores), 1 + (T * G == 1))
    q_BKTgH = jnp.tile(q_BKTGH, (1, 1, 1, times, 1))
    return _forward(q_BKTgH, k_BKSH, v_BKSH, sight, rules, soft_cap, invariant.total)[0][:B, :, :, :G]


def _total(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=-1, keepdims=True)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q_BKTGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, sight: Sight, rules: Rules, soft_cap: float | None
) -> jax.Array:
    return _forward(q_BKTGH, k_BKSH, v_BKSH, sight, rules, soft_cap, _total)[0]


def _forward(
    q_BKTGH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    sight: Sight,
    rules: Rules,
    soft_cap: float | None,
    total: Total,
) -> tuple[jax.Array, tuple]:
    parts = _Parts.of(sight, rules)
    if parts.count == 1:
        out_BKTGH, log_norm_BKTG1 = _look(q_BKTGH, k_BKSH, v_BKSH, sight.mask, soft_cap, total)
    else:

        def body(_: None, part: tuple[jax.Array, Places]) -> tuple[None, tuple[jax.Array, jax.Array]]:
            q_BKTGH, places = part
            return None, _look(q_BKTGH, k_BKSH, v_BKSH, parts.sight(sight, places).mask, soft_cap, total)

        _, stacked = jax.lax.scan(body, None, (parts.cut(q_BKTGH), parts.places(sight)))
        out_BKTGH, log_norm_BKTG1 = map(parts.whole, stacked)
    out_BKTGH = checkpoint_name(out_BKTGH, SAVED)
    log_norm_BKTG1 = checkpoint_name(log_norm_BKTG1, SAVED)
    return out_BKTGH, (q_BKTGH, k_BKSH, v_BKSH, sight, out_BKTGH, log_norm_BKTG1)


def _backward(rules: Rules, soft_cap: float | None, saved: tuple, grad_BKTGH: jax.Array) -> tuple:
    q_BKTGH, k_BKSH, v_BKSH, sight, out_BKTGH, log_norm_BKTG1 = saved
    keys_spec = rules.activation("batch", "kv_heads", "keys", "head")
    parts = _Parts.of(sight, rules)
    back = partial(_look_back, k_BKSH=k_BKSH, v_BKSH=v_BKSH, soft_cap=soft_cap, keys_spec=keys_spec)
    if parts.count == 1:
        grads = back(q_BKTGH, out_BKTGH, log_norm_BKTG1, grad_BKTGH, mask_BTS=sight.mask, keys_dtype=v_BKSH.dtype)
        return *grads, None

    def body(sums: tuple[jax.Array, jax.Array], part: tuple) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        *queries, places = part
        mask_BTS = parts.sight(sight, places).mask
        of_q, of_k, of_v = back(*queries, mask_BTS=mask_BTS, keys_dtype=jnp.float32)
        return (sums[0] + of_k, sums[1] + of_v), of_q

    zeros = jnp.zeros(k_BKSH.shape, jnp.float32, out_sharding=keys_spec)
    queries = (parts.cut(x) for x in (q_BKTGH, out_BKTGH, log_norm_BKTG1, grad_BKTGH))
    (of_k_BKSH, of_v_BKSH), of_q = jax.lax.scan(body, (zeros, zeros), (*queries, parts.places(sight)))
    return parts.whole(of_q), of_k_BKSH.astype(k_BKSH.dtype), of_v_BKSH.astype(v_BKSH.dtype), None


_attend.defvjp(partial(_forward, total=_total), _backward)


def _look(
    q_BKTGH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    mask_BTS: jax.Array,
    soft_cap: float | None,
    total: Total,
) -> tuple[jax.Array, jax.Array]:
    """What the queries gather, in the dtype of `v`, and the logarithms of their softmaxes' denominators."""
    scores_BKTGS = _masked(_scores(q_BKTGH, k_BKSH, soft_cap), mask_BTS)
    top_BKTG1 = jnp.max(scores_BKTGS, axis=-1, keepdims=True)
    exp_BKTGS = jnp.exp(scores_BKTGS - top_BKTG1)
    norm_BKTG1 = total(exp_BKTGS)
    out_BKTGH = _dot(exp_BKTGS.astype(v_BKSH.dtype), v_BKSH, (4, 2), jnp.float32) / norm_BKTG1
    return out_BKTGH.astype(v_BKSH.dtype), top_BKTG1 + jnp.log(norm_BKTG1)


def _look_back(
    q_BKTGH: jax.Array,
    out_BKTGH: jax.Array,
    log_norm_BKTG1: jax.Array,
    grad_BKTGH: jax.Array,
    *,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    mask_BTS: jax.Array,
    soft_cap: float | None,
    keys_spec: PartitionSpec,
    keys_dtype: jnp.dtype,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of queries, keys and values, from that of what the queries gathered."""
    dtype = v_BKSH.dtype
    scores_BKTGS = _scores(q_BKTGH, k_BKSH, soft_cap)
    probs_BKTGS = jnp.exp(_masked(scores_BKTGS, mask_BTS) - log_norm_BKTG1)
    of_probs_BKTGS = _dot(grad_BKTGH, v_BKSH, (4, 3), jnp.float32)
    inner_BKTG1 = jnp.sum((grad_BKTGH * out_BKTGH).astype(jnp.float32), axis=-1, keepdims=True)
    of_scores_BKTGS = probs_BKTGS * (of_probs_BKTGS - inner_BKTG1)
    if soft_cap is not None:
        of_scores_BKTGS *= 1 - jnp.square(scores_BKTGS / soft_cap)
    of_scores_BKTGS = of_scores_BKTGS.astype(dtype)
    of_q_BKTGH = _dot(of_scores_BKTGS, k_BKSH, (4, 2), dtype)
    of_k_BKSH = _over_queries(of_scores_BKTGS, q_BKTGH, keys_spec, keys_dtype)
    of_v_BKSH = _over_queries(probs_BKTGS.astype(dtype), grad_BKTGH, keys_spec, keys_dtype)
    return of_q_BKTGH, of_k_BKSH, of_v_BKSH


def _scores(q_BKTGH: jax.Array, k_BKSH: jax.Array, soft_cap: float | None) -> jax.Array:
    scores_BKTGS = _dot(q_BKTGH, k_BKSH, (4, 3), jnp.float32)
    return scores_BKTGS if soft_cap is None else soft_cap * jnp.tanh(scores_BKTGS / soft_cap)


def _masked(scores_BKTGS: jax.Array, mask_BTS: jax.Array) -> jax.Array:
    return jnp.where(mask_BTS[:, None, :, None, :], scores_BKTGS, jnp.finfo(jnp.float32).min)


def _dot(left_BKTGx: jax.Array, right_BKyz: jax.Array, axes: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """Head by head, one axis of `left` against one of `right`."""
    left, right = axes
    return jax.lax.dot_general(
        left_BKTGx, right_BKyz, (((left,), (right,)), ((0, 1), (0, 1))), preferred_element_type=dtype
    )


def _over_queries(left_BKTGS: jax.Array, right_BKTGH: jax.Array, spec: PartitionSpec, dtype: jnp.dtype) -> jax.Array:
    """Head by head, summed over every query of a group, (B, K, S, H)."""
    return jax.lax.dot_general(
        left_BKTGS,
        right_BKTGH,
        (((2, 3), (2, 3)), ((0, 1), (0, 1))),
        preferred_element_type=dtype,
        out_sharding=spec,
    )


@dataclass(frozen=True)
class _Parts:
    """Queries in `count` parts, every device's own tokens in each part: T is (shards, count, tokens of a part)."""

    count: int
    shards: int
    rules: Rules

    @classmethod
    def of(cls, sight: Sight, rules: Rules) -> _Parts:
        """The fewest equal parts whose scores are few enough to be held."""
        split = shards(rules)
        here = sight.places_BT.shape[1] // split
        least = min(here, math.ceil(here * sight.slots / HELD))
        return cls(next(n for n in range(least, here + 1) if here % n == 0), split, rules)

    def cut(self, x_BKTGz: jax.Array) -> jax.Array:
        return self._cut(x_BKTGz, 2, ("batch", "kv_heads", "sequence", "group", None))

    def whole(self, x_NBKTGz: jax.Array) -> jax.Array:
        """The parts side by side again, in the queries' own order."""
        N, B, K, T, G, z = x_NBKTGz.shape
        spec = self.rules.activation
        split = spec(None, "batch", "kv_heads", "sequence", None, "group", None)
        x = x_NBKTGz.reshape((N, B, K, self.shards, -1, G, z), out_sharding=split).transpose(1, 2, 3, 0, 4, 5, 6)
        return x.reshape((B, K, N * T, G, z), out_sharding=spec("batch", "kv_heads", "sequence", "group", None))

    def places(self, sight: Sight) -> Places:
        """What a sight knows of each query, in parts."""
        places = self._cut(sight.places_BT, 1, (None if len(sight.places_BT) == 1 else "batch", "sequence"))
        queries = None if sight.queries_BT is None else self._cut(sight.queries_BT, 1, ("batch", "sequence"))
        return places, queries

    def sight(self, sight: Sight, places: Places) -> Sight:
        """That of one part."""
        return replace(sight, places_BT=places[0], queries_BT=places[1], held_BTS=None)

    def _cut(self, x: jax.Array, axis: int, axes: tuple[str | None, ...]) -> jax.Array:
        before, length, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        split = self.rules.activation(*axes[: axis + 1], None, None, *axes[axis + 1 :])
        x = x.reshape((*before, self.shards, self.count, -1, *after), out_sharding=split)
        x = jnp.moveaxis(x, axis + 1, 0)
        shape = (self.count, *before, length // self.count, *after)
        return x.reshape(shape, out_sharding=self.rules.activation(None, *axes))
