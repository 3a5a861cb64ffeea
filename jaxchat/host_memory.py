"""Arrays that lie in the memory of a device's host while nothing computes with them, beside the device's own, which is
far smaller. Their types say where they lie, so that what computes asks for them by `fetched` and need not know.

On a CPU both are one memory: the same program, the same figures, nothing gained.
"""

from __future__ import annotations

from typing import Any

import jax

Tree = Any
KIND = "pinned_host"  # reached by the device without its host's help


def in_host(shapes: Tree) -> Tree:
    """The shapes and shardings of a tree, its arrays in the host's memory. Scalars stay: a device reads them as it
    runs."""
    return jax.tree.map(_in_host, shapes)


def _in_host(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return leaf.update(sharding=leaf.sharding.with_memory_kind(KIND)) if leaf.ndim else leaf


def put(tree: Tree) -> Tree:
    """Inside a jitted function: the arrays of a tree into the host's memory."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, jax.memory.Space.Host) if leaf.ndim else leaf, tree)


def sent(tree: Tree) -> Tree:
    """The same outside of one, an array at a time."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, leaf.sharding.with_memory_kind(KIND)), tree)


def fetched(tree: Tree) -> Tree:
    """The arrays of a tree on the device, those that lie in the host's memory brought there."""
    return jax.tree.map(_fetched, tree)


def _fetched(leaf: Any) -> Any:
    away = isinstance(leaf, jax.Array) and jax.typeof(leaf).memory_space == jax.memory.Space.Host
    return jax.device_put(leaf, jax.memory.Space.Device) if away else leaf


def is_away(leaf: Any) -> bool:
    """Whether an array of this shape and sharding lies in the host's memory."""
    return getattr(leaf.sharding, "memory_kind", None) == KIND
