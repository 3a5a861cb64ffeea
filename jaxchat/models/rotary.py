"""Rotary positions: how far each pair of a head's dimensions turns at each position.

B rows, T tokens, N heads, H dimensions of a head that are turned, h = H / 2 pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxchat.models.config import Llama3, LongRope, Rotary, Stretched, Yarn


class Rotation(NamedTuple):
    """Cosines and sines of every token's position, (B, T, H), float32: the same for all layers, so made once."""

    cos_BTH: jax.Array
    sin_BTH: jax.Array


def rotation(positions_BT: jax.Array, turned: int, rotary: Rotary) -> Rotation:
    """The angles of the first `turned` dimensions of a head, in the half-split layout of Hugging Face."""
    angles_BTh = positions_BT[:, :, None].astype(jnp.float32) * _frequencies(positions_BT, turned, rotary)
    angles_BTH = jnp.concatenate([angles_BTh, angles_BTh], axis=-1)
    # The first half subtracts: the sign lies in the sines, so that rotating is two products and a swap of halves.
    signs_H = jnp.where(jnp.arange(turned) < turned // 2, -1.0, 1.0)
    cos_BTH, sin_BTH = jnp.cos(angles_BTH), jnp.sin(angles_BTH) * signs_H
    if isinstance(rotary.scaling, Yarn | LongRope) and rotary.scaling.attention != 1:
        return Rotation(cos_BTH * rotary.scaling.attention, sin_BTH * rotary.scaling.attention)
    return Rotation(cos_BTH, sin_BTH)


def rotate(x_BTNH: jax.Array, by: Rotation | None) -> jax.Array:
    """Turns every head's vector by its token's angles, as much of it as they are for; None leaves it as it is."""
    if by is None:
        return x_BTNH
    turned = by.cos_BTH.shape[-1]
    if turned < x_BTNH.shape[-1]:
        return jnp.concatenate([rotate(x_BTNH[..., :turned], by), x_BTNH[..., turned:]], axis=-1)
    cos, sin = (table[:, :, None] for table in by)
    half = turned // 2
    swapped = jnp.concatenate([x_BTNH[..., half:], x_BTNH[..., :half]], axis=-1)
    return (x_BTNH * cos + swapped * sin).astype(x_BTNH.dtype)


def llama3_divisors(turned: int, theta: float, scaling: Llama3) -> np.ndarray:
    """What the turning of each of the pairs is divided by, (h,), float32."""
    plain_h = _plain(turned, theta)
    return plain_h / _llama3(plain_h, scaling)


def _plain(turned: int, theta: float) -> np.ndarray:
    """Rounded where models were trained with it rounded, in torch: thousands of positions on, a last bit turns a pair
    visibly further."""
    exponents_h = np.arange(0, turned, 2, dtype=np.float32) / np.float32(turned)
    return np.float32(1) / np.power(theta, exponents_h, dtype=np.float64).astype(np.float32)


def _frequencies(positions_BT: jax.Array, turned: int, rotary: Rotary) -> jax.Array | np.ndarray:
    """Radians a position of every pair, (h,), or (B, 1, h) where it is each row's own; float32."""
    plain_h = _plain(turned, rotary.theta)
    match rotary.scaling:
        case None:
            return plain_h
        case Stretched(factor):
            return plain_h / np.float32(factor)
        case Llama3() as scaling:
            return _llama3(plain_h, scaling)
        case Yarn() as scaling:
            return _yarn(plain_h, scaling, rotary.theta)
        case LongRope(short, long, original):
            short_h, long_h = (plain_h / np.array(factors, np.float32) for factors in (short, long))
            longest_B11 = jnp.max(positions_BT, axis=1)[:, None, None] + 1
            return jnp.where(longest_B11 > original, long_h, short_h)


def _llama3(plain_h: np.ndarray, scaling: Llama3) -> np.ndarray:
    turns_h = scaling.original * plain_h / (2 * np.pi)
    kept_h = np.clip((turns_h - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return ((1 - kept_h) * plain_h / scaling.factor + kept_h * plain_h).astype(np.float32)


def _yarn(plain_h: np.ndarray, scaling: Yarn, theta: float) -> np.ndarray:
    turned = 2 * len(plain_h)

    def pair(turns: float) -> float:
        """Which pair, not always a whole one, turns over this often in the original positions."""
        return turned * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(scaling.fast), pair(scaling.slow)
    if scaling.whole:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, turned - 1)
    stretched_h = np.clip((np.arange(len(plain_h)) - low) / max(high - low, 0.001), 0, 1)
    return (plain_h * (1 - stretched_h) + plain_h / scaling.factor * stretched_h).astype(np.float32)
