"""Low-rank adapters: a second, small tree of parameters beside a model's own, which stay as they are.

To a projection x W the adapter of Hu et al. 2021 (LoRA) adds scale x A B, with A (in, rank) and B (rank, out). An
adapter's tree has `a` and `b` (and DoRA's `magnitude`) where the model's has the weight, every layer's stacked.

L layers, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxchat.errors import InputError
from jaxchat.models.quantised import Bits, Float32, floats, is_quantised, quantised, stored

if TYPE_CHECKING:
    from jaxchat.models.decoder import Model, Params
    from jaxchat.models.layers import Linear


@dataclass(frozen=True)
class LoRA:
    """Hu et al. 2021: the model's weights stay as they are, and a product of two thin matrices is learned beside each.

    rank: of that product. alpha: it is multiplied by alpha / rank. rank_stabilised: by alpha / sqrt(rank) instead
    (Kalajdzievski 2023, rsLoRA). targets: the projections that have one, of q, k, v, o, gate, up and down, or all.
    base: how the blocks' own weights are held (QLoRA where it is not float32).
    """

    rank: int = 16
    alpha: float = 32.0
    rank_stabilised: bool = False
    targets: tuple[str, ...] = ("all",)
    base: Bits = field(default_factory=Float32)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"adapter.rank is {self.rank}; it must be at least 1")
        if not self.targets:
            raise InputError("adapter.targets is empty; name projections, or all")

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


@dataclass(frozen=True)
class DoRA(LoRA):
    """Liu et al. 2024: of the sum W + scale A B the direction is taken, and the length of every output's column is
    learned. The gradient does not follow the division by its length, as they propose (section 4.3)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adapted:
    """A weight with its adapter: what stands in the parameters where the weight alone stood."""

    weight: Any
    a: jax.Array
    b: jax.Array
    magnitude: jax.Array | None
    scale: float = field(metadata={"static": True})

    def product(self, x: jax.Array, linear: Linear) -> jax.Array:
        """x (B, T, ...in) times it, (B, T, ...out), never held as one matrix."""
        down = replace(linear, axes=(*linear.axes[: linear.inputs], "rank"))
        up = replace(linear, axes=("rank", *linear.axes[linear.inputs :]), inputs=1)
        more = up.times(down.times(x, self.a), self.b) * self.scale
        product = linear.times(x, self.weight) + more
        if self.magnitude is None:
            return product
        # A layer's whole weight is made for its columns' lengths, and gone before the next layer's.
        weight = floats(linear.fetch(self.weight, jnp.float32), linear.gathered)
        a, b = down.fetch(self.a, jnp.float32), up.fetch(self.b, jnp.float32)
        more = jax.lax.dot_general(a, b, (((a.ndim - 1,), (0,)), ((), ())), out_sharding=linear.gathered)
        length = jax.lax.stop_gradient(_length(weight + self.scale * more, range(linear.inputs)))
        out = replace(linear, axes=linear.axes[linear.inputs :], inputs=0)
        return product * (out.fetch(self.magnitude, jnp.float32) / length).astype(x.dtype)

    def whole(self) -> jax.Array:
        """The weights of all layers, (layers, ...in, ...out) and float32, that compute the same."""
        axes = range(1, self.a.ndim - 1)
        weight = stored(self.weight)
        contracted = ((self.a.ndim - 1,), (1,)), ((0,), (0,))
        total = weight + self.scale * jax.lax.dot_general(
            self.a, self.b, contracted, out_sharding=jax.typeof(weight).sharding
        )
        if self.magnitude is None:
            return total
        return total * jnp.expand_dims(self.magnitude / _length(total, axes), tuple(axes))


def _length(weight: jax.Array, inputs: range) -> jax.Array:
    """Of every output's column; `inputs` are the axes along it."""
    return jnp.sqrt(jnp.sum(jnp.square(weight), axis=tuple(inputs)))


def targets(model: Model, config: LoRA) -> dict[tuple[str, ...], nnx.Param[Any]]:
    """The weights that have an adapter, abstract, by path.

    Raises:
        InputError: the config names a projection that the model has not.
    """
    found = projections(model)
    if config.targets == ("all",):
        return found
    names = {path[-1] for path in found}
    for name in config.targets:
        if name not in names:
            raise InputError(f"adapter.targets names {name!r}; the model's projections are {', '.join(sorted(names))}")
    return {path: weight for path, weight in found.items() if path[-1] in config.targets}


def projections(model: Model) -> dict[tuple[str, ...], nnx.Param[Any]]:
    """The weights of the blocks' matrix products, abstract, by path; of a mixture, neither experts nor router."""
    found = ((path, variable, variable.get_metadata()) for path, variable in model.variables().items())
    return {
        path: variable
        for path, variable, noted in found
        if path[0] == "layers" and noted.get("inputs") and "routes" not in noted["axes"]
    }


def init(model: Model, config: LoRA, base: Params, key: jax.Array) -> Params:
    """A fresh adapter that changes nothing yet, float32, lying as the rules store it; `base` are the model's weights.

    A is drawn as Hugging Face's PEFT draws it, uniform up to 1 / sqrt(in); B is zero.
    """
    flat: dict[tuple[str, ...], jax.Array] = {}
    for number, (path, variable) in enumerate(targets(model, config).items()):
        L, *shape = variable.shape
        inputs, axes = variable.get_metadata()["inputs"], variable.get_metadata()["axes"]
        spec = partial(model.rules.weight, "layers")
        into, out = shape[:inputs], shape[inputs:]
        bound = math.prod(into) ** -0.5
        place = spec(*axes[:inputs], "rank")
        a = jax.random.uniform(jax.random.fold_in(key, number), (L, *into, config.rank), minval=-bound, maxval=bound)
        flat[*path, "a"] = jax.sharding.reshard(a, place)
        flat[*path, "b"] = jnp.zeros((L, config.rank, *out), out_sharding=spec("rank", *axes[inputs:]))
        if isinstance(config, DoRA):
            length = lengths(at(base, path), inputs)
            flat[*path, "magnitude"] = jax.sharding.reshard(length, spec(*axes[inputs:]))
    return nnx.traversals.unflatten_mapping(flat)


def attached(base: Params, adapter: Params, config: LoRA) -> Params:
    """The model's parameters with the adapter's beside them: what Model computes with. Copies nothing."""

    def attach(base: Any, adapter: Any) -> Any:
        if isinstance(base, Mapping):
            return {key: attach(value, adapter[key]) if key in adapter else value for key, value in base.items()}
        return Adapted(base, adapter["a"], adapter["b"], adapter.get("magnitude"), config.scale)

    return attach(base, adapter)


def held(base: Params, model: Model, bits: Bits) -> Params:
    """The model's parameters with the weights of its blocks' products in `bits`, which take the others' places."""
    for path, variable in projections(model).items():
        inner = at(base, path[:-1])
        inner[path[-1]] = quantised(inner[path[-1]], variable.get_metadata()["inputs"], bits)
    return base


def merged(params: Any, *, keep: bool = True) -> Any:
    """Plain float32 weights that compute the same as `attached` ones, or as those in few bits; one after the other.

    keep: `params` are left as they are; otherwise their weights' buffers are given up.
    """

    def whole(leaf: Any) -> jax.Array:
        if isinstance(leaf, Adapted):
            given_up = () if keep or is_quantised(leaf.weight) else 0
            return jax.jit(_whole, donate_argnums=given_up)(leaf.weight, replace(leaf, weight=None))
        return jax.jit(stored)(leaf) if is_quantised(leaf) else leaf

    return jax.tree.map(whole, params, is_leaf=lambda leaf: isinstance(leaf, Adapted) or is_quantised(leaf))


def _whole(weight: Any, adapter: Adapted) -> jax.Array:
    return replace(adapter, weight=weight).whole()


def lengths(weight: Any, inputs: int) -> jax.Array:
    """Of every output's column of a stacked weight, (layers, ...out); `inputs`: how many of its axes are in."""
    return _length(stored(weight), range(1, inputs + 1))


def at(params: Params, path: tuple[str, ...]) -> Any:
    """What stands at a path of a nested dict."""
    for key in path:
        params = params[key]
    return params
