"""What blocks are made of. Every weight is float32 and is cast to the activations' dtype where it is used.

B rows, T tokens, D width, H head size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from jaxchat.models.streaming import streamed
from jaxchat.sharding import Rules

Layout = Literal["training", "decoding"]
A = TypeVar("A", jax.Array, np.ndarray)


def normal(key: jax.Array, shape: tuple[int, ...], std: float, spec: PartitionSpec) -> jax.Array:
    """A float32 weight drawn from a normal distribution, born where `spec` stores it."""
    return _place(std * jax.random.normal(key, shape, jnp.float32), spec)


def _place(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return jax.sharding.reshard(x, spec) if any(axis is not None for axis in spec) else x


@dataclass(frozen=True)
class Fetch:
    """Brings a stored weight into use: cast, then gathered over fsdp. Its gradient goes back to where it is stored."""

    rules: Rules
    axes: tuple[str, ...]

    def __call__(self, weight: nnx.Param[jax.Array], dtype: jnp.dtype) -> jax.Array:
        return jax.sharding.reshard(weight[...].astype(dtype), self.rules.gathered(*self.axes))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def linear(
    x: jax.Array, weight: jax.Array, x_spec: PartitionSpec, weight_spec: PartitionSpec, out_spec: PartitionSpec
) -> jax.Array:
    """Every token's vector times a weight: x (B, T, ...in), weight (...in, ...out), result (B, T, ...out).

    The backward pass names its own products: differentiated by the book, the weight's gradient is made from a
    transposed copy of the activations, which on a CPU costs as much as the product itself.
    """
    inputs = x.ndim - 2
    return jax.lax.dot_general(x, weight, ((_axes(2, x.ndim), _axes(0, inputs)), ((), ())), out_sharding=out_spec)


def _linear_forward(
    x: jax.Array, weight: jax.Array, x_spec: PartitionSpec, weight_spec: PartitionSpec, out_spec: PartitionSpec
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return linear(x, weight, x_spec, weight_spec, out_spec), (x, weight)


def _linear_backward(
    x_spec: PartitionSpec,
    weight_spec: PartitionSpec,
    out_spec: PartitionSpec,
    saved: tuple[jax.Array, jax.Array],
    grad: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    # Both products read these: without the barrier each would recompute what made them, in its own order.
    x, grad = jax.lax.optimization_barrier((x, grad))
    out_axes = _axes(x.ndim - 2, weight.ndim)
    of_x = jax.lax.dot_general(grad, weight, ((_axes(2, grad.ndim), out_axes), ((), ())), out_sharding=x_spec)
    of_weight = jax.lax.dot_general(x, grad, (((0, 1), (0, 1)), ((), ())), out_sharding=weight_spec)
    return of_x, of_weight


linear.defvjp(_linear_forward, _linear_backward)


def _axes(first: int, end: int) -> tuple[int, ...]:
    return tuple(range(first, end))


@dataclass(frozen=True)
class Linear:
    """How a weight with these logical axes, `inputs` of them contracted, is made and multiplied; it holds no array.

    layout: "training" has the inputs in front, as `axes` name them; "decoding" the outputs.
    """

    rules: Rules
    axes: tuple[str, ...]
    inputs: int = 1
    layout: Layout = "training"

    def init(self, key: jax.Array, shape: tuple[int, ...], scale: float = 1.0) -> nnx.Param[jax.Array]:
        """A weight that keeps the variance of what it multiplies, times `scale` squared. `shape` is in the order of
        `axes`; the parameter remembers `inputs`, for who lays it out anew."""
        std = scale * math.prod(shape[: self.inputs]) ** -0.5
        weight = normal(key, shape, std, self.rules.weight(*self.axes))
        if self.layout == "decoding":
            weight = outputs_first(weight, self.inputs)
        return nnx.Param(weight, inputs=self.inputs)

    def __call__(self, x: jax.Array, weight: nnx.Param[jax.Array]) -> jax.Array:
        if self.layout == "decoding":
            return streamed(x, weight[...].astype(x.dtype), self.inputs)
        rules = self.rules
        return linear(
            x,
            Fetch(rules, self.axes)(weight, x.dtype),
            rules.activation("batch", "sequence", *self.axes[: self.inputs]),
            rules.gathered(*self.axes),
            rules.activation("batch", "sequence", *self.axes[self.inputs :]),
        )


def joined(**parts: nnx.Param[jax.Array]) -> nnx.Param[jax.Array]:
    """Weights of one input, laid out for decoding, as one: outputs after outputs. It remembers whose they are."""
    inputs = next(iter(parts.values())).inputs
    return nnx.Param(jnp.concatenate([part[...] for part in parts.values()]), inputs=inputs, parts=tuple(parts))


def outputs_first(weight: A, inputs: int) -> A:
    """A weight (...in, ...out) with `inputs` axes of in as (...out, ...in)."""
    return weight.transpose(*range(inputs, weight.ndim), *range(inputs))


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation over the last axis (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, width: int, eps: float, rules: Rules) -> None:
        self.scale = nnx.Param(_place(jnp.ones((width,), jnp.float32), rules.weight("embed")))
        self.eps = eps
        self.fetch = Fetch(rules, ("embed",))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x32_BTD = x_BTD.astype(jnp.float32)
        inverse_BT1 = jax.lax.rsqrt(jnp.mean(jnp.square(x32_BTD), axis=-1, keepdims=True) + self.eps)
        return (x32_BTD * inverse_BT1 * self.fetch(self.scale, jnp.float32)).astype(x_BTD.dtype)


class Rotation(NamedTuple):
    """Cosines and sines of every token's position, (B, T, H), float32: the same for all layers, so made once."""

    cos_BTH: jax.Array
    sin_BTH: jax.Array


def rotation(positions_BT: jax.Array, head_size: int, theta: float) -> Rotation:
    """The angles of rotary position embedding (Su et al. 2021), in the half-split layout of Hugging Face."""
    frequencies_h = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angles_BTh = positions_BT[:, :, None].astype(jnp.float32) * frequencies_h
    angles_BTH = jnp.concatenate([angles_BTh, angles_BTh], axis=-1)
    # The first half subtracts: the sign lies in the sines, so that rotating is two products and a swap of halves.
    signs_H = jnp.where(jnp.arange(head_size) < head_size // 2, -1.0, 1.0)
    return Rotation(jnp.cos(angles_BTH), jnp.sin(angles_BTH) * signs_H)


def rotate(x_BTNH: jax.Array, by: Rotation) -> jax.Array:
    """Turns every head's vector by its token's angles; any number of head axes between T and H."""
    between = tuple(range(2, x_BTNH.ndim - 1))
    cos, sin = (jnp.expand_dims(table, between) for table in by)
    half = x_BTNH.shape[-1] // 2
    swapped = jnp.concatenate([x_BTNH[..., half:], x_BTNH[..., :half]], axis=-1)
    return (x_BTNH * cos + swapped * sin).astype(x_BTNH.dtype)
