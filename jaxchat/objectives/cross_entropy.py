"""Cross entropy of hidden states against a vocabulary that may be split over devices, a chunk of tokens at a time.

The logits of all tokens are never held at once. When a gradient is wanted it is made in the same pass (as in Hsu et al.
2024, Liger Kernel), since the weights of the loss are known before it: three matrix products, nothing recomputed.

B rows, T tokens, C tokens of a chunk, D width, V vocabulary, v the vocabulary that one device computes with.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxchat.objectives.vocabulary import Split, devices_of, split_vocabulary, total
from jaxchat.sharding import Rules


class Layout(NamedTuple):
    """Static facts of one call: the axis order of the weight ("VD" tied, "DV" untied), the rules, tokens a chunk, and
    c where logits x become c tanh(x / c)."""

    weight: str
    rules: Rules
    chunk: int
    cap: float | None = None

    @property
    def hidden_spec(self) -> PartitionSpec:
        return self.rules.activation("batch", "sequence", "embed")

    @property
    def rows_spec(self) -> PartitionSpec:
        return self.rules.activation("batch", "sequence")

    @property
    def token_axes(self) -> tuple[str, ...]:
        """Mesh axes over which tokens are split, and over which sums are therefore taken."""
        return tuple(name for entry in self.rows_spec for name in devices_of(entry))

    def split(self, weight: jax.Array, tokens_BT: jax.Array) -> Split:
        """Of the stored weight's vocabulary, where these tokens are all devices' together."""
        sizes = jax.sharding.get_abstract_mesh().shape
        here = tokens_BT.size // math.prod(sizes[axis] for axis in self.token_axes)
        return split_vocabulary(weight, self.weight, self.token_axes, here)


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

    split = layout.split(weight, targets_BT)

    @partial(
        jax.shard_map,
        in_specs=(layout.hidden_spec, split.spec, layout.rows_spec),
        out_specs=layout.rows_spec,
        check_vma=False,
    )
    def local(x_BTD: jax.Array, weight: jax.Array, targets_BT: jax.Array) -> jax.Array:
        weight = split.weight(weight.astype(x_BTD.dtype))

        def step(_: None, chunk: tuple[jax.Array, ...]) -> tuple[None, jax.Array]:
            x_CD, targets_C = chunk
            nll_C, *_ = _chunk_nll(x_CD, targets_C, weight, layout, split)
            return None, nll_C

        tokens = _flat(split, x_BTD, targets_BT)
        _, nll = jax.lax.scan(step, None, _chunks(layout.chunk, *tokens))
        return split.own(nll.reshape(-1)[: len(tokens[0])]).reshape(targets_BT.shape)

    return local(x_BTD, weight, targets_BT)


def _forward(
    x_BTD: Any, weight: Any, targets_BT: Any, weights_BT: Any, layout: Layout
) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
    trained = weight.perturbed  # of an unembedding that stays as it is no gradient is made
    split = layout.split(weight.value, targets_BT.value)

    @partial(
        jax.shard_map,
        in_specs=(layout.hidden_spec, split.spec, layout.rows_spec, layout.rows_spec),
        out_specs=(PartitionSpec(), layout.hidden_spec, split.spec if trained else None),
        check_vma=False,
    )
    def local(
        x_BTD: jax.Array, weight: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        stored_dtype, dtype = weight.dtype, x_BTD.dtype
        weight = split.weight(weight.astype(dtype))

        def step(
            carry: tuple[jax.Array, jax.Array | None], chunk: tuple[jax.Array, ...]
        ) -> tuple[tuple[jax.Array, jax.Array | None], jax.Array]:
            summed, grad = carry
            x_CD, targets_C, weights_C = chunk
            nll_C, exp_Cv, norm_C, hit_Cv, slope_Cv = _chunk_nll(x_CD, targets_C, weight, layout, split)
            wanted_Cv = jnp.where(hit_Cv, weights_C[:, None], 0.0)
            grad_Cv = exp_Cv * (weights_C / norm_C)[:, None] - wanted_Cv
            grad_Cv = (grad_Cv if slope_Cv is None else grad_Cv * slope_Cv).astype(dtype)
            grad_CD = jnp.einsum(f"CV,{layout.weight}->CD", grad_Cv, weight)
            if grad is not None:
                grad += jnp.einsum(f"CV,CD->{layout.weight}", grad_Cv, x_CD, preferred_element_type=jnp.float32)
            return (summed + jnp.sum(nll_C * weights_C), grad), grad_CD

        start = (jnp.zeros((), jnp.float32), jnp.zeros(weight.shape, jnp.float32) if trained else None)
        tokens = _flat(split, x_BTD, targets_BT, weights_BT)
        (summed, grad), grad_x = jax.lax.scan(step, start, _chunks(layout.chunk, *tokens))
        grad_x = split.own_total(grad_x.reshape(-1, x_BTD.shape[-1])[: len(tokens[0])]).reshape(x_BTD.shape)
        if grad is not None:
            # Reduced in the dtype of the activations, as every other weight's gradient is, and before the layers'
            # backward pass begins, which the compiler would hold the whole gradient through.
            grad = split.stored_grad(grad.astype(dtype), layout.token_axes).astype(stored_dtype)
            grad_x, grad = jax.lax.optimization_barrier((grad_x, grad))
        return total(summed / split.team, layout.token_axes), grad_x, grad

    summed, grad_x, grad_weight = local(x_BTD.value, weight.value, targets_BT.value, weights_BT.value)
    return summed, (grad_x, grad_weight)


def _backward(layout: Layout, grads: tuple[jax.Array, jax.Array | None], of_total: jax.Array) -> tuple:
    grad_x, grad_weight = grads
    of_weight = None if grad_weight is None else grad_weight * of_total
    return (grad_x * of_total).astype(grad_x.dtype), of_weight, None, None


weighted_nll.defvjp(_forward, _backward, symbolic_zeros=True)


def _chunk_nll(
    x_CD: jax.Array, targets_C: jax.Array, weight: jax.Array, layout: Layout, split: Split
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Negative log-likelihoods of one chunk, and what their gradient is made of: exponentials, their sums, the hits,
    and the slope of the cap, if there is one."""
    logits_Cv = jnp.einsum(f"CD,{layout.weight}->CV", x_CD, weight, preferred_element_type=jnp.float32)
    slope_Cv = None
    if layout.cap is not None:
        bent_Cv = jnp.tanh(logits_Cv / layout.cap)
        logits_Cv, slope_Cv = layout.cap * bent_Cv, 1 - jnp.square(bent_Cv)
    size = logits_Cv.shape[1]
    hit_Cv = jnp.arange(size)[None, :] == (targets_C - split.first(size))[:, None]
    top_C = split.largest(jnp.max(logits_Cv, axis=1))
    exp_Cv = jnp.exp(logits_Cv - top_C[:, None])
    norm_C, at_target_C = split.total(jnp.sum(exp_Cv, axis=1), jnp.sum(jnp.where(hit_Cv, logits_Cv, 0.0), axis=1))
    return jnp.log(norm_C) + top_C - at_target_C, exp_Cv, norm_C, hit_Cv, slope_Cv


def _flat(split: Split, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """What one team has of each (B, T, ...), token after token."""
    return tuple(split.tokens(x.reshape(-1, *x.shape[2:])) for x in arrays)


def _chunks(chunk: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Tokens as equal chunks of at most `chunk`, padded at the end with zeros (weight 0)."""
    count = len(arrays[0])
    number = math.ceil(count / chunk)
    size = math.ceil(count / number)

    def cut(x: jax.Array) -> jax.Array:
        if number * size > count:
            x = jnp.pad(x, [(0, number * size - count)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(number, size, *x.shape[1:])

    return tuple(map(cut, arrays))
