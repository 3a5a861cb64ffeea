"""Cross entropy of hidden states against a vocabulary that may be split over devices, a chunk of tokens at a time.

The logits of all tokens are never held at once. When a gradient is wanted it is made in the same pass (as in Hsu et al.
2024, Liger Kernel), since the weights of the loss are known before it: three matrix products, nothing recomputed.

B rows, T tokens, C tokens of a chunk, D width, V vocabulary, v the vocabulary on one device.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxchat.sharding import Rules


class Layout(NamedTuple):
    """Static facts of one call: the axis order of the weight ("VD" tied, "DV" untied), the rules, tokens a chunk, and
    c where logits x become c tanh(x / c)."""

    weight: str
    rules: Rules
    chunk: int
    cap: float | None = None

    @property
    def weight_spec(self) -> PartitionSpec:
        return self.rules.weight(*({"V": "vocab", "D": "embed"}[axis] for axis in self.weight))

    @property
    def hidden_spec(self) -> PartitionSpec:
        return self.rules.activation("batch", "sequence", "embed")

    @property
    def rows_spec(self) -> PartitionSpec:
        return self.rules.activation("batch", "sequence")

    def weight_axes(self, axis: str) -> tuple[str, ...]:
        """Mesh axes that split the weight's width (D: gathered here) or vocabulary (V: stays split)."""
        return _names(self.weight_spec[self.weight.index(axis)])

    @property
    def token_axes(self) -> tuple[str, ...]:
        """Mesh axes over which tokens are split, and over which sums are therefore taken."""
        return tuple(name for entry in self.rows_spec for name in _names(entry))


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes of one entry that have more than one device: a collective over one device is still a copy."""
    names = (entry,) if isinstance(entry, str) else tuple(entry or ())
    sizes = jax.sharding.get_abstract_mesh().shape
    return tuple(name for name in names if sizes[name] > 1)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def weighted_nll(
    x_BTD: jax.Array, weight: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array, layout: Layout
) -> jax.Array:
    """Sum over all tokens of weight times negative log-likelihood (natural logarithm), a float32 scalar.

    x_BTD: hidden states. weight: the unembedding as it is stored, float32. targets_BT: int32 ids. weights_BT: float32.
    """
    nll_BT = token_nll(x_BTD, weight, targets_BT, layout)
    return jnp.sum(nll_BT * weights_BT)


def token_nll(x_BTD: jax.Array, weight: jax.Array, targets_BT: jax.Array, layout: Layout) -> jax.Array:
    """Negative log-likelihood of every target, (B, T), float32. For measuring: it holds no gradient."""

    @partial(
        jax.shard_map,
        in_specs=(layout.hidden_spec, layout.weight_spec, layout.rows_spec),
        out_specs=layout.rows_spec,
        check_vma=False,
    )
    def local(x_BTD: jax.Array, weight: jax.Array, targets_BT: jax.Array) -> jax.Array:
        weight = _gather(weight.astype(x_BTD.dtype), layout)

        def step(_: None, chunk: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
            nll_C, *_ = _chunk_nll(*chunk, weight, layout)
            return None, nll_C

        _, nll = jax.lax.scan(step, None, _chunks(layout.chunk, x_BTD, targets_BT))
        return nll.reshape(-1)[: targets_BT.size].reshape(targets_BT.shape)

    return local(x_BTD, weight, targets_BT)


def _forward(
    x_BTD: Any, weight: Any, targets_BT: Any, weights_BT: Any, layout: Layout
) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
    trained = weight.perturbed  # of an unembedding that stays as it is no gradient is made

    @partial(
        jax.shard_map,
        in_specs=(layout.hidden_spec, layout.weight_spec, layout.rows_spec, layout.rows_spec),
        out_specs=(PartitionSpec(), layout.hidden_spec, layout.weight_spec if trained else None),
        check_vma=False,
    )
    def local(
        x_BTD: jax.Array, weight: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        stored_dtype, dtype = weight.dtype, x_BTD.dtype
        weight = _gather(weight.astype(dtype), layout)
        vocab_axes = layout.weight_axes("V")

        def step(
            carry: tuple[jax.Array, jax.Array | None], chunk: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array | None], jax.Array]:
            total, grad = carry
            x_CD, targets_C, weights_C = chunk
            nll_C, exp_Cv, norm_C, hit_Cv, slope_Cv = _chunk_nll(x_CD, targets_C, weight, layout)
            wanted_Cv = jnp.where(hit_Cv, weights_C[:, None], 0.0)
            grad_Cv = exp_Cv * (weights_C / norm_C)[:, None] - wanted_Cv
            grad_Cv = (grad_Cv if slope_Cv is None else grad_Cv * slope_Cv).astype(dtype)
            grad_CD = _sum(jnp.einsum(f"CV,{layout.weight}->CD", grad_Cv, weight), vocab_axes)
            if grad is not None:
                grad += jnp.einsum(f"CV,CD->{layout.weight}", grad_Cv, x_CD, preferred_element_type=jnp.float32)
            return (total + jnp.sum(nll_C * weights_C), grad), grad_CD

        start = (jnp.zeros((), jnp.float32), jnp.zeros(weight.shape, jnp.float32) if trained else None)
        (total, grad), grad_x = jax.lax.scan(step, start, _chunks(layout.chunk, x_BTD, targets_BT, weights_BT))
        grad_x = grad_x.reshape(-1, x_BTD.shape[-1])[: targets_BT.size].reshape(x_BTD.shape)
        grad_weight = None if grad is None else _scatter(grad, layout).astype(stored_dtype)
        return _sum(total, layout.token_axes), grad_x, grad_weight

    total, grad_x, grad_weight = local(x_BTD.value, weight.value, targets_BT.value, weights_BT.value)
    return total, (grad_x, grad_weight)


def _backward(layout: Layout, grads: tuple[jax.Array, jax.Array | None], of_total: jax.Array) -> tuple:
    grad_x, grad_weight = grads
    of_weight = None if grad_weight is None else grad_weight * of_total
    return (grad_x * of_total).astype(grad_x.dtype), of_weight, None, None


weighted_nll.defvjp(_forward, _backward, symbolic_zeros=True)


def _chunk_nll(
    x_CD: jax.Array, targets_C: jax.Array, weight: jax.Array, layout: Layout
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Negative log-likelihoods of one chunk, and what their gradient is made of: exponentials, their sums, the hits,
    and the slope of the cap, if there is one."""
    axes = layout.weight_axes("V")
    logits_Cv = jnp.einsum(f"CD,{layout.weight}->CV", x_CD, weight, preferred_element_type=jnp.float32)
    slope_Cv = None
    if layout.cap is not None:
        bent_Cv = jnp.tanh(logits_Cv / layout.cap)
        logits_Cv, slope_Cv = layout.cap * bent_Cv, 1 - jnp.square(bent_Cv)
    first = _index(axes) * logits_Cv.shape[1]
    hit_Cv = jnp.arange(logits_Cv.shape[1])[None, :] == (targets_C - first)[:, None]
    top_C = _largest(jnp.max(logits_Cv, axis=1), axes)
    exp_Cv = jnp.exp(logits_Cv - top_C[:, None])
    norm_C = _sum(jnp.sum(exp_Cv, axis=1), axes)
    at_target_C = _sum(jnp.sum(jnp.where(hit_Cv, logits_Cv, 0.0), axis=1), axes)
    return jnp.log(norm_C) + top_C - at_target_C, exp_Cv, norm_C, hit_Cv, slope_Cv


def _chunks(chunk: int, x_BTD: jax.Array, *rows: jax.Array) -> Any:
    """One device's tokens as equal chunks of at most `chunk`, padded at the end with zeros (weight 0)."""
    count = x_BTD.shape[0] * x_BTD.shape[1]
    number = math.ceil(count / chunk)
    size = math.ceil(count / number)

    def cut(a: jax.Array, tail: tuple[int, ...]) -> jax.Array:
        flat = a.reshape(count, *tail)
        if number * size > count:
            flat = jnp.pad(flat, [(0, number * size - count)] + [(0, 0)] * len(tail))
        return flat.reshape(number, size, *tail)

    return cut(x_BTD, x_BTD.shape[2:]), *(cut(row, ()) for row in rows)


def _gather(weight: jax.Array, layout: Layout) -> jax.Array:
    axes = layout.weight_axes("D")
    return jax.lax.all_gather(weight, axes, axis=layout.weight.index("D"), tiled=True) if axes else weight


def _scatter(grad: jax.Array, layout: Layout) -> jax.Array:
    """Sums the weight's gradient over all tokens' devices, once, leaving each device the part that it stores."""
    stored = layout.weight_axes("D")
    if stored:
        grad = jax.lax.psum_scatter(grad, stored, scatter_dimension=layout.weight.index("D"), tiled=True)
    return _sum(grad, tuple(axis for axis in layout.token_axes if axis not in stored))


def _sum(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return jax.lax.psum(x, axes) if axes else x


def _largest(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return jax.lax.pmax(x, axes) if axes else x


def _index(axes: tuple[str, ...]) -> jax.Array | int:
    return jax.lax.axis_index(axes) if axes else 0
