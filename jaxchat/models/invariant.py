"""Products and sums that come out the same for a row, to the bit, whatever other rows are computed beside it.

XLA's CPU backend (of jaxlib 0.10) chooses by the shape in which order a product or a sum adds up, so that a token reads
other low bits alone than in company. What it does not choose anew, measured over shapes of all kinds:

- `w @ x.T` with 2 to 24 tokens and at most 2,048 inputs adds in one order;
- a product with the tokens in front and ones behind, of 9 tokens and more, as well: a sum in a fixed order;
- what is smaller than 16 KB is fused with, and summed as, what reads it: smaller than that nothing may be.

M tokens, I inputs, O outputs, S summands.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

TOKENS = 16  # that are multiplied at once
INPUTS = 2048  # that are summed in one product
FUSED = 4096  # floats that XLA fuses with what reads them when they are fewer (kFusionThresholdBytes)


def product(x_MI: jax.Array, w_OI: jax.Array) -> jax.Array:
    """x @ w.T, (M, O), each row independent of the others."""
    M = len(x_MI)
    if x_MI.shape[1] > INPUTS:
        first = product(x_MI[:, :INPUTS], w_OI[:, :INPUTS])
        return first + product(x_MI[:, INPUTS:], w_OI[:, INPUTS:])
    if M == 1:
        return product(jnp.concatenate([x_MI, x_MI]), w_OI)[:1]
    if M > TOKENS:
        x_NmI = _padded(x_MI, TOKENS).reshape(-1, TOKENS, x_MI.shape[1])
        return jax.lax.map(lambda x_mI: product(x_mI, w_OI), x_NmI).reshape(-1, len(w_OI))[:M]
    # The barriers keep XLA from folding the transpositions into the product.
    y_OM = w_OI @ jax.lax.optimization_barrier(x_MI.T)
    return jax.lax.optimization_barrier(y_OM).T


def total(x: jax.Array) -> jax.Array:
    """The sum over the last axis, which is kept with size one."""
    x_MS = _padded(x.reshape(-1, x.shape[-1]), TOKENS)
    y_M2 = x_MS @ jnp.ones((x.shape[-1], 2), x.dtype)
    return y_M2[: math.prod(x.shape[:-1]), :1].reshape(*x.shape[:-1], 1)


def mean(x: jax.Array) -> jax.Array:
    """The mean over the last axis, which is kept with size one."""
    return total(x) / x.shape[-1]


def _padded(x_MI: jax.Array, times: int) -> jax.Array:
    """With rows of zeros, to a multiple of so many."""
    return jnp.pad(x_MI, ((0, -len(x_MI) % times), (0, 0)))
