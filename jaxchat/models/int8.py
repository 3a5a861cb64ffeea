"""Weights in eight bits, each output's with a scale of its own: in a quarter of float32's memory.

Activations stay as they are, and what a weight is multiplied by is exact in float32, so that the only loss is the
rounding of the weight, half of a 127th of its output's largest. (Libraries do the same and more, but dequantise before
the product, where a CPU would write all of the weight to memory again; here its product reads the eight bits.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import EllipsisType
from typing import Self

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8:
    """A weight: values, int8, times scales, float32, whose axes of inputs have size one. It stands in a parameter where
    an array would, and becomes one where it is cast."""

    values: jax.Array
    scales: jax.Array

    def __getitem__(self, all: EllipsisType) -> Self:
        return self

    def astype(self, dtype: jnp.dtype) -> jax.Array:
        return (self.values.astype(jnp.float32) * self.scales).astype(dtype)

    def rows(self, tokens_BT: jax.Array, dtype: jnp.dtype, spec: PartitionSpec) -> jax.Array:
        """Rows of a table, which are its outputs."""
        values, scales = (x.at[tokens_BT].get(out_sharding=spec) for x in (self.values, self.scales))
        return (values.astype(jnp.float32) * scales).astype(dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Blocks:
    """The same weight with its inputs in front, its N blocks of outputs one after the other in memory: values, int8,
    (N, inputs, outputs / N); scales as above."""

    values: jax.Array
    scales: jax.Array

    def __getitem__(self, all: EllipsisType) -> Self:
        return self

    def columns(self, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Outputs of a table, (B, T, inputs)."""
        size = self.values.shape[2]
        values_BTD = self.values[tokens_BT // size, :, tokens_BT % size]
        return (values_BTD.astype(jnp.float32) * self.scales[0, tokens_BT][..., None]).astype(dtype)


def in_blocks(weight: Int8, inputs: int, count: int) -> Int8Blocks:
    """A weight whose first `inputs` axes are summed over, cut into `count` blocks of outputs."""
    size = math.prod(weight.values.shape[:inputs])
    return Int8Blocks(weight.values.reshape(size, count, -1).swapaxes(0, 1), weight.scales)


def quantise(weight: jax.Array, inputs: tuple[int, ...]) -> Int8:
    """A weight in eight bits. inputs: its axes that are summed over."""
    weight = weight.astype(jnp.float32)
    scales = jnp.max(jnp.abs(weight), axis=inputs, keepdims=True) / 127
    return Int8(jnp.round(weight / jnp.maximum(scales, 1e-30)).astype(jnp.int8), scales)
