"""Products and sums that come out the same for a row, to the bit, whatever other rows are computed beside it.

XLA's CPU backend (of jaxlib 0.10) chooses by the shape in which order a product or a sum adds up, so that a token reads
other low bits alone than in company. How it chooses, measured over shapes of all kinds, for `x @ w`, inputs in front:

- every output is summed on its own, one product after the other, none of them rounded before it is added;
- with one token up to 512 inputs are summed in one go;
- with 2 to 24 tokens and a power of two of inputs, or three times one, they are summed in two or three parts, and the
  parts in turn; but for the last outputs, where these do not fill a block of 32,768 weights of a part;
- what is smaller than 16 KB is fused with, and summed as, what reads it: smaller than that nothing may be.

So the inputs are cut into groups of whole parts, and many tokens are multiplied a few at a time. Where the outputs fill
their blocks, one token is multiplied part by part, at full speed; elsewhere it is computed twice.

M tokens, I inputs, O outputs, N parts or groups of the inputs, S summands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp

TOKENS = 16  # that are multiplied at once
BLOCK = 32768  # weights of a part that XLA computes together
FUSED = 4096  # floats that XLA fuses with what reads them when they are fewer (kFusionThresholdBytes)


def product(x_MI: jax.Array, w_IO: jax.Array) -> jax.Array:
    """x @ w, (M, O), each row independent of the others."""
    M, inputs = x_MI.shape
    group, part = _cut(inputs)
    if not part:
        return _mapped(lambda x_mI: _by_parts(x_mI, w_IO, inputs, inputs), x_MI, TOKENS)
    if M == 1 and is_fast(*w_IO.shape):
        return _by_parts(x_MI, w_IO, group, part)
    if M == 1:
        return product(jnp.concatenate([x_MI, x_MI]), w_IO)[:1]
    if M > TOKENS:
        return _mapped(lambda x_mI: _by_parts(x_mI, w_IO, group, group), x_MI, TOKENS)
    return _by_parts(x_MI, w_IO, group, group)


def is_fast(inputs: int, outputs: int) -> bool:
    """Whether one token is multiplied by a weight of this shape at full speed."""
    part = _cut(inputs)[1]
    return part > 0 and part * outputs % BLOCK == 0


def total(x: jax.Array) -> jax.Array:
    """The sum over the last axis, which is kept with size one."""
    x_MS = _padded(x.reshape(-1, x.shape[-1]), TOKENS)
    y_M2 = x_MS @ jnp.ones((x.shape[-1], 2), x.dtype)
    return y_M2[: math.prod(x.shape[:-1]), :1].reshape(*x.shape[:-1], 1)


def mean(x: jax.Array) -> jax.Array:
    """The mean over the last axis, which is kept with size one."""
    return total(x) / x.shape[-1]


def _cut(inputs: int) -> tuple[int, int]:
    """Inputs of a group and of a part; zeros where there is no such group."""
    sizes = ((times << n, 1 << n) for n in range(9, 4, -1) for times in (3, 2))
    return next((cut for cut in sizes if inputs % cut[0] == 0), (0, 0))


def _by_parts(x_MI: jax.Array, w_IO: jax.Array, group: int, part: int) -> jax.Array:
    """The product part by part: parts are added up to groups, and those to all."""
    N = len(w_IO) // part
    # The barriers keep XLA from fusing what is small with the product.
    x_NMi = jax.lax.optimization_barrier(x_MI.reshape(-1, N, part).swapaxes(0, 1))
    y_NMO = jax.lax.optimization_barrier(x_NMi @ w_IO.reshape(N, part, -1))
    each = group // part
    groups = [reduce(add, y_NMO[n : n + each]) for n in range(0, N, each)]
    return jax.lax.optimization_barrier(reduce(add, groups))


def _mapped(function: Callable[[jax.Array], jax.Array], x_MI: jax.Array, rows: int) -> jax.Array:
    """A function of so many rows, of all rows."""
    x_NmI = _padded(x_MI, rows).reshape(-1, rows, x_MI.shape[1])
    if len(x_NmI) == 1:
        return function(x_NmI[0])[: len(x_MI)]
    y_NmO = jax.lax.map(function, x_NmI)
    return y_NmO.reshape(-1, y_NmO.shape[2])[: len(x_MI)]


def _padded(x_MI: jax.Array, times: int) -> jax.Array:
    """With rows of zeros, to a multiple of so many."""
    return jnp.pad(x_MI, ((0, -len(x_MI) % times), (0, 0)))
