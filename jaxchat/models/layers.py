"""What blocks are made of. Every weight is float32 and is cast to the activations' dtype where it is used.

B rows, T tokens, D width, H head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from jaxchat.mesh import platform
from jaxchat.models import config, invariant
from jaxchat.models.lora import Adapted
from jaxchat.models.quantised import floats, gathered, is_quantised
from jaxchat.models.streaming import streamed, streamed_invariantly
from jaxchat.sharding import Rules

Layout = Literal["training", "decoding", "invariant"]
A = TypeVar("A", jax.Array, np.ndarray)
# The name under which the remat policy "dots" keeps products: it does not see into a function with its own gradient.
PRODUCT = "product"
ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": jax.nn.gelu}


def normal(key: jax.Array, shape: tuple[int, ...], std: float, spec: PartitionSpec) -> jax.Array:
    """A float32 weight drawn from a normal distribution, born where `spec` stores it."""
    return _place(std * jax.random.normal(key, shape, jnp.float32), spec)


def _place(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return jax.sharding.reshard(x, spec) if any(axis is not None for axis in spec) else x


def residual_scale(config: config.DecoderConfig) -> float:
    """What writes to the residual stream starts smaller the more blocks do (Radford et al. 2019, GPT-2)."""
    return (2 * config.layers) ** -0.5


@dataclass(frozen=True)
class Fetch:
    """Brings a stored weight into use: cast, then gathered over fsdp. Its gradient goes back to where it is stored."""

    rules: Rules
    axes: tuple[str, ...]

    def __call__(self, weight: nnx.Param[jax.Array], dtype: jnp.dtype) -> jax.Array:
        return _in_use(weight[...], dtype, self.rules, self.axes)


def _in_use(weight: jax.Array, dtype: jnp.dtype, rules: Rules, axes: tuple[str, ...]) -> jax.Array:
    spec = rules.gathered(*axes)
    if platform() != "cpu" and rules.weight(*axes) != spec:
        # Else the compiler casts the parts of all layers ahead of them, and holds both.
        weight = jax.lax.optimization_barrier(weight)
    return jax.sharding.reshard(weight.astype(dtype), spec)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def linear(x: jax.Array, weight: Any, x_spec: PartitionSpec, weight_spec: PartitionSpec, out_spec: PartitionSpec):
    """Every token's vector times a weight: x (B, T, ...in), weight (...in, ...out), result (B, T, ...out).

    The backward pass names its own products: differentiated by the book, the weight's gradient is made from a
    transposed copy of the activations, which on a CPU costs as much as the product itself. Of a weight that is not
    differentiated no gradient is made, nor are the activations kept for it; one in few bits is kept in those.
    """
    inputs = x.ndim - 2
    contracted = ((_axes(2, x.ndim), _axes(0, inputs)), ((), ()))
    return jax.lax.dot_general(x, floats(weight, weight_spec), contracted, out_sharding=out_spec)


def _linear_forward(
    x: Any, weight: Any, x_spec: PartitionSpec, weight_spec: PartitionSpec, out_spec: PartitionSpec
) -> tuple[jax.Array, Any]:
    frozen = not any(leaf.perturbed for leaf in jax.tree.leaves(weight, is_leaf=_is_primal))
    weight = jax.tree.map(lambda leaf: leaf.value, weight, is_leaf=_is_primal)
    return linear(x.value, weight, x_spec, weight_spec, out_spec), (None if frozen else x.value, weight)


def _is_primal(leaf: Any) -> bool:
    return hasattr(leaf, "perturbed")


def _linear_backward(
    x_spec: PartitionSpec, weight_spec: PartitionSpec, out_spec: PartitionSpec, saved: Any, grad: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    x, weight = saved
    if platform() == "cpu":
        # Both products read these: without the barrier each would recompute what made them, in its own order. On
        # accelerators that costs little, and less memory than holding them.
        x, grad = jax.lax.optimization_barrier((x, grad))
    weight = floats(weight, weight_spec)
    inputs = weight.ndim - (grad.ndim - 2)
    of_x_axes = ((_axes(2, grad.ndim), _axes(inputs, weight.ndim)), ((), ()))
    of_x = jax.lax.dot_general(grad, weight, of_x_axes, out_sharding=x_spec)
    if x is None:
        return of_x, None
    return of_x, jax.lax.dot_general(x, grad, (((0, 1), (0, 1)), ((), ())), out_sharding=weight_spec)


linear.defvjp(_linear_forward, _linear_backward, symbolic_zeros=True)


def _axes(first: int, end: int) -> tuple[int, ...]:
    return tuple(range(first, end))


@dataclass(frozen=True)
class Linear:
    """How a weight with these logical axes, `inputs` of them contracted, is made and multiplied; it holds no array.

    layout: "decoding" has the outputs in front; the others the inputs, as `axes` name them.
    """

    rules: Rules
    axes: tuple[str, ...]
    inputs: int = 1
    layout: Layout = "training"

    def init(self, key: jax.Array, shape: tuple[int, ...], scale: float = 1.0) -> nnx.Param[jax.Array]:
        """A weight that keeps the variance of what it multiplies, times `scale` squared. `shape` is in the order of
        `axes`; the parameter remembers `inputs` and `axes`, for who lays it out anew or puts an adapter beside it."""
        std = scale * math.prod(shape[: self.inputs]) ** -0.5
        weight = normal(key, shape, std, self.rules.weight(*self.axes))
        if self.layout == "decoding":
            weight = outputs_first(weight, self.inputs)
        return nnx.Param(weight, inputs=self.inputs, axes=self.axes)

    def init_bias(self, shape: tuple[int, ...]) -> nnx.Param[jax.Array]:
        """Zeros to add to the product, whose axes after the tokens' have this shape."""
        return nnx.Param(_place(jnp.zeros(shape, jnp.float32), self.rules.weight(*self.axes[self.inputs :])), inputs=0)

    def __call__(
        self, x: jax.Array, weight: nnx.Param[jax.Array], bias: nnx.Param[jax.Array] | None = None
    ) -> jax.Array:
        if self.layout != "training":
            times = streamed_invariantly if self.layout == "invariant" else streamed
            product = times(x, weight[...], self.inputs)
            return product if bias is None else product + bias[...].astype(x.dtype)
        held = weight.get_value()
        product = held.product(x, self) if isinstance(held, Adapted) else self.times(x, held)
        return product if bias is None else product + Fetch(self.rules, self.axes[self.inputs :])(bias, x.dtype)

    def times(self, x: jax.Array, weight: Any) -> jax.Array:
        """The product alone, of a weight as it is stored."""
        into = self.rules.activation("batch", "sequence", *self.axes[: self.inputs])
        out = self.rules.activation("batch", "sequence", *self.axes[self.inputs :])
        return checkpoint_name(linear(x, self.fetch(weight, x.dtype), into, self.gathered, out), PRODUCT)

    def fetch(self, weight: Any, dtype: jnp.dtype) -> Any:
        """A stored weight brought into use, as Fetch does; one in few bits is still in those."""
        if is_quantised(weight):
            return gathered(weight, self.gathered, dtype)
        return _in_use(weight, dtype, self.rules, self.axes)

    @property
    def gathered(self) -> PartitionSpec:
        """How the weight lies in use."""
        return self.rules.gathered(*self.axes)


def joined(layout: Layout, **parts: nnx.Param[jax.Array]) -> nnx.Param[jax.Array]:
    """Weights of one input as one: outputs after outputs. It remembers whose they are, and where they were joined."""
    inputs = next(iter(parts.values())).inputs
    axis = 0 if layout == "decoding" else inputs
    weight = jnp.concatenate([part[...] for part in parts.values()], axis=axis)
    return nnx.Param(weight, inputs=inputs, parts=tuple(parts), joined=axis)


def outputs_first(weight: A, inputs: int) -> A:
    """A weight (...in, ...out) with `inputs` axes of in as (...out, ...in)."""
    return weight.transpose(*range(inputs, weight.ndim), *range(inputs))


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation over the last axis, computed in float32."""

    def __init__(self, size: int, kind: config.RMSNorm, rules: Rules, layout: Layout, axis: str) -> None:
        self.scale = nnx.Param(_place(jnp.full((size,), 1.0 - kind.offset, jnp.float32), rules.weight(axis)))
        self.kind, self.fetch, self.mean = kind, Fetch(rules, (axis,)), _mean(layout)

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(self.mean(jnp.square(x32)) + self.kind.eps)
        scale = self.fetch(self.scale, jnp.float32)
        if self.kind.offset:
            scale += self.kind.offset
        return (x32 * inverse * scale).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis, computed in float32."""

    def __init__(self, size: int, kind: config.LayerNorm, rules: Rules, layout: Layout, axis: str) -> None:
        self.scale = nnx.Param(_place(jnp.ones((size,), jnp.float32), rules.weight(axis)))
        self.bias = nnx.Param(_place(jnp.zeros((size,), jnp.float32), rules.weight(axis)))
        self.kind, self.fetch, self.mean = kind, Fetch(rules, (axis,)), _mean(layout)

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        x32 -= self.mean(x32)
        inverse = jax.lax.rsqrt(self.mean(jnp.square(x32)) + self.kind.eps)
        scale, bias = (self.fetch(weight, jnp.float32) for weight in (self.scale, self.bias))
        return (x32 * inverse * scale + bias).astype(x.dtype)


def _mean(layout: Layout) -> Callable[[jax.Array], jax.Array]:
    """Over the last axis, which is kept."""
    return invariant.mean if layout == "invariant" else partial(jnp.mean, axis=-1, keepdims=True)


def norm(
    size: int, kind: config.RMSNorm | config.LayerNorm, rules: Rules, layout: Layout, axis: str = "embed"
) -> RMSNorm | LayerNorm:
    """The normalisation of this kind for vectors of `size`; `axis` is the logical one that it normalises."""
    if isinstance(kind, config.LayerNorm):
        return LayerNorm(size, kind, rules, layout, axis)
    return RMSNorm(size, kind, rules, layout, axis)
