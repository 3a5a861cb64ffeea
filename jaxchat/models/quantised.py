"""Weights held in 8 or 4 bits, by qwix, and brought back to floats where they are used.

Frozen weights alone: nothing is differentiated through them. They are trained over on any mesh; what is decoded with on
a CPU in eight bits (int8.py) has products of its own, which read the eight bits and make no floats of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from qwix import QArray

BLOCK = 64  # inputs that share a scale, at most: Dettmers et al. 2023, QLoRA


@dataclass(frozen=True)
class Float32:
    """As they were read."""


@dataclass(frozen=True)
class Int8:
    """Whole numbers of 8 bits, with a scale for each output."""


@dataclass(frozen=True)
class Nf4:
    """4-bit NormalFloat (Dettmers et al. 2023, QLoRA), with a scale for each output and block of up to 64 inputs.

    A CPU keeps each of them in a byte, as it does Int8's; TPUs and GPUs keep two.
    """


Bits = Float32 | Int8 | Nf4


def is_quantised(weight: Any) -> TypeGuard[QArray]:
    """Whether a leaf of the parameters is one of these."""
    return hasattr(weight, "qvalue")


def quantised(weight: jax.Array, inputs: int, bits: Bits) -> jax.Array | QArray:
    """A stacked weight (layers, ...in, ...out), with `inputs` axes of in, in `bits`; it lies where the weight lay."""
    if isinstance(bits, Float32):
        return weight
    spec = jax.typeof(weight).sharding.spec
    return jax.jit(partial(_quantise, inputs=inputs, bits=bits, spec=spec))(weight)


def _quantise(weight: jax.Array, *, inputs: int, bits: Int8 | Nf4, spec: PartitionSpec) -> QArray:
    import qwix

    # A scale for every layer and output; of the inputs, the last axis in blocks.
    whole = {axis for axis in range(weight.ndim) if not 1 <= axis <= inputs}
    size = weight.shape[inputs]
    block = next(n for n in range(min(BLOCK, size), 0, -1) if size % n == 0)
    kind, tiled = (jnp.int8, {}) if isinstance(bits, Int8) else ("nf4", {inputs: block})
    how = partial(qwix.quantize, qtype=kind, channelwise_axes=whole, tiled_axes=tiled)
    shapes = jax.eval_shape(how, jax.ShapeDtypeStruct(weight.shape, weight.dtype))
    return jax.sharding.auto_axes(how, out_sharding=_specs(shapes, spec))(weight)


def gathered(weight: QArray, spec: PartitionSpec, dtype: jnp.dtype) -> QArray:
    """The weight lying as `spec` says, still in few bits, that will be of `dtype` once they are floats."""
    specs = _specs(weight, spec)
    return replace(
        weight,
        qvalue=jax.sharding.reshard(weight.qvalue, specs.qvalue),
        scale=jax.sharding.reshard(weight.scale.astype(dtype), specs.scale),
    )


def floats(weight: jax.Array | QArray, spec: PartitionSpec) -> jax.Array:
    """The numbers that a weight stands for, which lies as `spec` says."""
    if not is_quantised(weight):
        return weight
    import qwix

    place = NamedSharding(jax.sharding.get_abstract_mesh(), spec)
    return jax.sharding.auto_axes(qwix.dequantize, out_sharding=place)(weight)


def stored(weight: jax.Array | QArray) -> jax.Array:
    """A weight's numbers where it is stored, however it is held."""
    return floats(weight, jax.typeof(weight.qvalue if is_quantised(weight) else weight).sharding.spec)


def _specs(weight: QArray, spec: PartitionSpec) -> QArray:
    """Scales lie as their weight does, along the axes that have as many of them as of its numbers."""
    spec = PartitionSpec(*spec, *(None for _ in range(len(weight.qvalue.shape) - len(spec))))
    sizes = zip(weight.scale.shape, weight.qvalue.shape, spec)
    of_scale = PartitionSpec(*(mesh_axes if size == whole else None for size, whole, mesh_axes in sizes))
    return replace(weight, qvalue=spec, scale=of_scale)
