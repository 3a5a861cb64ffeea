"""Memory of a device by kind, from shapes alone: what a step holds for certain, and what it is likely to need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxchat.host_memory import is_away
from jaxchat.plan.work import Phase, Tree


def on_device(tree: Tree) -> int:
    """Bytes that the arrays of these shapes and shardings take in one device's memory."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree) if not is_away(leaf))


def on_host(tree: Tree) -> int:
    """Bytes that they take in the host's memory for one device."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree) if is_away(leaf))


def _bytes(leaf: Any) -> int:
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
    return math.prod(shape) * np.dtype(leaf.dtype).itemsize


def kept(loss: Callable[..., jax.Array], params: Tree, *rest: Tree) -> list[Any]:
    """The shapes of what the forward pass of `loss` keeps for its gradient, the parameters themselves excepted."""
    pulled = jax.eval_shape(lambda params, *rest: jax.vjp(lambda p: loss(p, *rest), params)[1], params, *rest)
    known = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((params, rest))]
    found = []
    for leaf in jax.tree.leaves(pulled):
        if (leaf.shape, leaf.dtype) in known:
            known.remove((leaf.shape, leaf.dtype))
        elif leaf.dtype != jax.dtypes.float0:
            found.append(leaf)
    return found


def least(phase: Phase) -> dict[str, int]:
    """What is in memory at some moment of a step whatever the compiler does, by kind, bytes on a device.

    All that it takes, and beside it either what the forward pass keeps or, when the optimizer begins, all gradients:
    clipping needs their norm before the first of them is used up.
    """
    held = {kind: on_device(tree) for kind, tree in phase.holds.items()}
    if phase.name != "train":
        return held
    gradients, activations = on_device(phase.holds["parameters"]), on_device(phase.kept())
    more = {"gradients": gradients} if gradients > activations else {"activations": activations}
    return held | more
