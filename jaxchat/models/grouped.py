"""Products of rows with the weight of the group that each is in: what a mixture's experts compute.

M rows, sorted by group, I inputs, O outputs, E groups, b rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxchat.mesh import platform

BLOCK = 128  # rows at most that share one read of a weight; with more of them a row costs no less


def grouped(x_MI: jax.Array, w_EIO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    """Every row times its group's weight, (M, O), in the dtype of `x`. The first `sizes_E[0]` rows are the first
    group's, and so on; rows behind the last group's give zeros. No row is dropped, however uneven the groups are.

    On a TPU this is a ragged product. Elsewhere XLA makes a dense product of all rows with every weight of that, so a
    loop goes over blocks of one group's rows (as in Gale et al. 2022, MegaBlocks), as many as there really are.
    """
    if platform() != "tpu":
        return _in_blocks(x_MI, w_EIO, sizes_E)
    inside_M1 = (jnp.arange(len(x_MI)) < jnp.sum(sizes_E))[:, None]
    # What the kernel makes of rows in no group is not said: masked before and after, it reaches no gradient either.
    y_MO = jax.lax.ragged_dot(jnp.where(inside_M1, x_MI, 0), w_EIO, sizes_E, preferred_element_type=x_MI.dtype)
    return jnp.where(inside_M1, y_MO, 0)


@jax.custom_vjp
def _in_blocks(x_MI: jax.Array, w_EIO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    return _products(x_MI, w_EIO, sizes_E)


def _forward(x_MI: jax.Array, w_EIO: jax.Array, sizes_E: jax.Array) -> tuple[jax.Array, tuple]:
    return _products(x_MI, w_EIO, sizes_E), (x_MI, w_EIO, sizes_E)


def _backward(saved: tuple, grad_MO: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    x_MI, w_EIO, sizes_E = saved

    def add(of_w_EIO: jax.Array, block: _Block, x_bI: jax.Array, grad_bO: jax.Array) -> jax.Array:
        own_bO = jnp.where(block.own_b[:, None], grad_bO, 0)
        more_IO = jnp.matmul(x_bI.T, own_bO, preferred_element_type=jnp.float32)
        return jax.lax.dynamic_update_index_in_dim(of_w_EIO, of_w_EIO[block.group] + more_IO, block.group, 0)

    of_w_EIO = _over_blocks(add, jnp.zeros(w_EIO.shape, jnp.float32), sizes_E, x_MI, grad_MO)
    return _products(grad_MO, w_EIO.swapaxes(1, 2), sizes_E), of_w_EIO.astype(w_EIO.dtype), None


_in_blocks.defvjp(_forward, _backward)


def _products(x_MI: jax.Array, w_EIO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    def write(y_MO: jax.Array, block: _Block, x_bI: jax.Array) -> jax.Array:
        # Blocks come in the order of their rows: what one writes behind its group's, the next writes over.
        return jax.lax.dynamic_update_slice_in_dim(y_MO, x_bI @ w_EIO[block.group], block.first, 0)

    M, O = len(x_MI), w_EIO.shape[2]  # noqa: E741
    y_MO = _over_blocks(write, jnp.zeros((M + _rows_of_a_block(M, sizes_E), O), x_MI.dtype), sizes_E, x_MI)[:M]
    return jnp.where((jnp.arange(M) < jnp.sum(sizes_E))[:, None], y_MO, 0)


class _Block(NamedTuple):
    """group: whose rows it holds, `first`: the first of them. own_b: which of its rows are the group's."""

    group: jax.Array
    first: jax.Array
    own_b: jax.Array


def _over_blocks(step: Callable[..., jax.Array], start: jax.Array, sizes_E: jax.Array, *rows: jax.Array) -> jax.Array:
    """`step(carried, block, that block of each of `rows`)`, from `start`, over the blocks that all groups fill."""
    b = _rows_of_a_block(len(rows[0]), sizes_E)
    blocks_E = -(-sizes_E // b)
    row_ends_E, block_ends_E = jnp.cumsum(sizes_E), jnp.cumsum(blocks_E)
    padded = [jnp.pad(array, ((0, b), (0, 0))) for array in rows]

    def body(i: jax.Array, carried: Any) -> Any:
        group = jnp.searchsorted(block_ends_E, i, side="right")
        first = row_ends_E[group] - sizes_E[group] + (i - block_ends_E[group] + blocks_E[group]) * b
        block = _Block(group, first, first + jnp.arange(b) < row_ends_E[group])
        return step(carried, block, *(jax.lax.dynamic_slice_in_dim(array, first, b) for array in padded))

    return jax.lax.fori_loop(0, block_ends_E[-1], body, start)


def _rows_of_a_block(rows: int, sizes_E: jax.Array) -> int:
    """Half of a group's share, so that blocks that are not full waste little."""
    return max(1, min(BLOCK, rows // (2 * len(sizes_E))))
