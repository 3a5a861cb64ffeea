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
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jaxchat.models import invariant
from jaxchat.models.int8 import Int8, Int8Blocks

FEW = 64  # tokens up to which reading the weight, not arithmetic, takes the time
BLOCK = 512 * 1024  # numbers of a weight that are cast from eight bits at a time: what second-level caches hold
FUSED_BYTES = 16 * 1024  # XLA fuses a vector-matrix product whose vector is smaller than this (kFusionThresholdBytes)


def streamed(x: jax.Array, weight: jax.Array | Int8, inputs: int = 1) -> jax.Array:
    """x (B, T, ...in) times a weight with its outputs in front, (...out, ...in), as (B, T, ...out). On one device.

    inputs: how many axes in are.
    """
    shape = weight.values.shape if isinstance(weight, Int8) else weight.shape
    out, size = shape[: len(shape) - inputs], math.prod(shape[len(shape) - inputs :])
    x_MI = x.reshape(-1, size)
    if isinstance(weight, Int8):
        y_MO = _product_of_int8(x_MI, weight.values.reshape(-1, size))
        y_MO *= weight.scales.reshape(-1).astype(x.dtype)
    else:
        y_MO = _product(x_MI, weight.reshape(-1, size).astype(x.dtype))
    return y_MO.reshape(*x.shape[: x.ndim - inputs], *out)


def streamed_invariantly(x: jax.Array, weight: jax.Array | Int8Blocks, inputs: int = 1) -> jax.Array:
    """The same, of a weight with its inputs in front, (...in, ...out), as models/invariant.py has it."""
    shape = weight.scales.shape if isinstance(weight, Int8Blocks) else weight.shape
    size, out = math.prod(x.shape[x.ndim - inputs :]), shape[inputs:]
    x_MI = x.reshape(-1, size)
    if isinstance(weight, Int8Blocks):
        y_MO = _invariant_product_of_int8(x_MI, weight.values) * weight.scales.reshape(-1).astype(x.dtype)
        y_MO = jax.lax.optimization_barrier(y_MO)  # else it is rounded, or not, before something is added to it
    else:
        y_MO = invariant.product(x_MI, weight.reshape(size, -1).astype(x.dtype))
    return y_MO.reshape(*x.shape[: x.ndim - inputs], *out)


def blocks_of_int8(inputs: int, outputs: int) -> int:
    """Into how many blocks of outputs a weight is cut that `streamed_invariantly` is to read: such as are multiplied at
    full speed, if there are any."""
    found = list(_blocks(inputs * outputs, outputs)) or [1]
    return next((n for n in found if invariant.is_fast(inputs, outputs // n)), found[0])


def _product(x_MI: jax.Array, w_OI: jax.Array) -> jax.Array:
    if len(x_MI) == 1 and x_MI.nbytes < FUSED_BYTES:
        return _alone(x_MI) @ w_OI.T
    if len(x_MI) > FEW:
        return x_MI @ w_OI.T
    # The barriers keep XLA from folding the transpositions into the product, which would make it `x @ w.T` again.
    y_OM = w_OI @ jax.lax.optimization_barrier(x_MI.T)
    return jax.lax.optimization_barrier(y_OM).T


def _product_of_int8(x_MI: jax.Array, w_OI: jax.Array) -> jax.Array:
    """One token's product reads the eight bits and casts them as it goes. For more the weight is cast first, a block of
    outputs after the other, so that it stays in the processor's caches: with 1 to 16 tokens mostly faster than
    float32's product, with 64 up to 3 times slower; a weight of 7 MB that is cast whole is slower at any number."""
    if len(x_MI) == 1 and x_MI.nbytes < FUSED_BYTES:
        return _alone(x_MI) @ w_OI.astype(x_MI.dtype).T
    blocks = next(_blocks(w_OI.size, len(w_OI)), 1)
    if blocks == 1:
        return _product(x_MI, w_OI.astype(x_MI.dtype))
    y_NMb = jax.lax.map(lambda w_bI: _product(x_MI, w_bI.astype(x_MI.dtype)), w_OI.reshape(blocks, -1, w_OI.shape[1]))
    return y_NMb.swapaxes(0, 1).reshape(-1, len(w_OI))


def _invariant_product_of_int8(x_MI: jax.Array, w_NIb: jax.Array) -> jax.Array:
    """The weight is cast block by block here too."""
    y_NMb = jax.lax.map(lambda w_Ib: invariant.product(x_MI, w_Ib.astype(x_MI.dtype)), w_NIb)
    return y_NMb.swapaxes(0, 1).reshape(len(x_MI), -1)


def _blocks(size: int, outputs: int) -> Iterator[int]:
    """Into how many blocks so many outputs can be cut that each is small enough, the fewest first."""
    return (n for n in range(-(-size // BLOCK), outputs + 1) if outputs % n == 0)


def _alone(x: jax.Array) -> jax.Array:
    """`x`, which XLA will not fuse into the product that reads it.

    What is fused into it is computed again for every output: a norm, say, 3072 times. A division is an operation that
    XLA deems too dear for that; of what, the barrier hides from it.
    """
    return x / jax.lax.optimization_barrier(jnp.ones_like(x))
