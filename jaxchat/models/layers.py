"""What blocks are made of. Every weight is float32 and is cast to the activations' dtype where it is used.

B rows, T tokens, D width, H head size.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from jaxchat.sharding import Rules


def normal(key: jax.Array, shape: tuple[int, ...], std: float, spec: PartitionSpec) -> jax.Array:
    """A float32 weight drawn from a normal distribution, born where `spec` stores it."""
    return _place(std * jax.random.normal(key, shape, jnp.float32), spec)


def _place(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return jax.sharding.reshard(x, spec) if any(axis is not None for axis in spec) else x


class Weight:
    """Fetches a stored weight for use: gathered over fsdp and cast. In the backward pass its gradient is scattered back."""

    def __init__(self, rules: Rules, *axes: str) -> None:
        self.stored, self.used = rules.weight(*axes), rules.gathered(*axes)

    def __call__(self, weight: nnx.Param[jax.Array], dtype: jnp.dtype) -> jax.Array:
        value = weight[...].astype(dtype)
        return value if self.stored == self.used else jax.sharding.reshard(value, self.used)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation over the last axis (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, width: int, eps: float, rules: Rules) -> None:
        self.scale = nnx.Param(_place(jnp.ones((width,), jnp.float32), rules.weight("embed")))
        self.eps = eps
        self.fetch = Weight(rules, "embed")

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
