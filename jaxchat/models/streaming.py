"""A few tokens times a large weight, as XLA's CPU backend does it fastest: the product that decoding consists of.

With a handful of tokens a product is as fast as its weight can be read from memory. What XLA (of jaxlib 0.10) makes of
the same product written in different ways, for a (3072, 576) weight on two cores:

- one token, `x @ w.T` with the outputs in front, fused: cut over the outputs among all cores, read at full speed;
- one token, `w @ x`, or `x @ w` with the inputs in front: one core only, at half to two thirds of the speed;
- one token of 16 KB or more: no such fusion is made, `x @ w.T` transposes all of the weight first, 20 times slower;
- 2 to 64 tokens, `w @ x.T`: both cores, 1.4 to 1.8 times faster than `x @ w.T` and 1.2 than `x @ w`;
- more: `x @ w.T`, where nothing needs to be transposed and arithmetic decides.

M tokens, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxchat.models.int8 import Int8
from jaxchat.models.invariant import product as invariant_product

Product = Callable[[jax.Array, jax.Array], jax.Array]

FEW = 64  # tokens up to which reading the weight, not arithmetic, takes the time
BLOCK = 512 * 1024  # numbers of a weight that are cast from eight bits at a time: what second-level caches hold
FUSED_BYTES = 16 * 1024  # XLA fuses a vector-matrix product whose vector is smaller than this (kFusionThresholdBytes)


def streamed(x: jax.Array, weight: jax.Array | Int8, inputs: int = 1, invariant: bool = False) -> jax.Array:
    """x (B, T, ...in) times a weight with its outputs in front, (...out, ...in), as (B, T, ...out). On one device.

    inputs: how many axes in are. invariant: as that module has it, for some speed.
    """
    product = invariant_product if invariant else _product
    shape = weight.values.shape if isinstance(weight, Int8) else weight.shape
    outer, split = x.shape[: x.ndim - inputs], len(shape) - inputs
    out, size = shape[:split], math.prod(shape[split:])
    x_MI = x.reshape(-1, size)
    if isinstance(weight, Int8):
        y_MO = _product_of_int8(x_MI, weight.values.reshape(-1, size), product)
        y_MO *= weight.scales.reshape(-1).astype(x.dtype)
    else:
        y_MO = product(x_MI, weight.reshape(-1, size).astype(x.dtype))
    return y_MO.reshape(*outer, *out)


def _product(x_MI: jax.Array, w_OI: jax.Array) -> jax.Array:
    if len(x_MI) == 1 and x_MI.nbytes < FUSED_BYTES:
        return _alone(x_MI) @ w_OI.T
    if len(x_MI) > FEW:
        return x_MI @ w_OI.T
    # The barriers keep XLA from folding the transpositions into the product, which would make it `x @ w.T` again.
    y_OM = w_OI @ jax.lax.optimization_barrier(x_MI.T)
    return jax.lax.optimization_barrier(y_OM).T


def _product_of_int8(x_MI: jax.Array, w_OI: jax.Array, product: Product) -> jax.Array:
    """One token's product reads the eight bits and casts them as it goes. For more the weight is cast first, a block of
    outputs after the other, so that it stays in the processor's caches: with 1 to 16 tokens mostly faster than
    float32's product, with 64 up to 3 times slower; a weight of 7 MB that is cast whole is slower at any number."""
    if product is _product and len(x_MI) == 1 and x_MI.nbytes < FUSED_BYTES:
        return _alone(x_MI) @ w_OI.astype(x_MI.dtype).T
    blocks = next((n for n in range(-(-w_OI.size // BLOCK), len(w_OI) + 1) if len(w_OI) % n == 0), 1)
    if blocks == 1:
        return product(x_MI, w_OI.astype(x_MI.dtype))
    y_NMb = jax.lax.map(lambda w_bI: product(x_MI, w_bI.astype(x_MI.dtype)), w_OI.reshape(blocks, -1, w_OI.shape[1]))
    return y_NMb.swapaxes(0, 1).reshape(-1, len(w_OI))


def _alone(x: jax.Array) -> jax.Array:
    """`x`, which XLA will not fuse into the product that reads it.

    What is fused into it is computed again for every output: a norm, say, 3072 times. A division is an operation that
    XLA deems too dear for that; of what, the barrier hides from it.
    """
    return x / jax.lax.optimization_barrier(jnp.ones_like(x))
