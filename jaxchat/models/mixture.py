"""A mixture of experts: a router sends every token to a few of many MLPs, and weighs what they answer.

B rows, T tokens, D width, E experts (e: those of one device), k experts that a token takes, F hidden units of one,
M = B * T * k pairs of a token and an expert that it takes, sorted by expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxchat.models.config import DecoderConfig, Mixture
from jaxchat.models.grouped import grouped
from jaxchat.models.layers import ACTIVATIONS, Fetch, Layout, Linear, normal, residual_scale
from jaxchat.sharding import MeshAxes, Rules, names


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Routed:
    """What routers did with a batch's tokens, padding left out; sums, float32, a row a layer (of one layer, a vector).

    chosen_LE: how often each expert was taken. shares_LE: the probability that the router gave it, before any was
    chosen. squares_L: the square of the logarithm of the router's partition function.
    """

    chosen_LE: jax.Array
    shares_LE: jax.Array
    squares_L: jax.Array

    @classmethod
    def of(cls, logits_BTE: jax.Array, taken_BTk: jax.Array, segments_BT: jax.Array) -> Routed:
        """Of one layer: its router's logits, the experts taken, and the segments, 0 in the padding."""
        kept_BT = (segments_BT > 0).astype(jnp.float32)
        chosen_BTE = jnp.sum(jax.nn.one_hot(taken_BTk, logits_BTE.shape[2]), axis=2)
        chosen_E, shares_E = (
            jnp.sum(each_BTE * kept_BT[..., None], axis=(0, 1)) for each_BTE in (chosen_BTE, jax.nn.softmax(logits_BTE))
        )
        squares_BT = jnp.square(jax.nn.logsumexp(logits_BTE, axis=-1))
        return cls(chosen_E, shares_E, jnp.sum(squares_BT * kept_BT))


class Experts(nnx.Module):
    """The MLPs, down(activation(gate x) * up x) each, stacked."""

    def __init__(self, config: DecoderConfig, kind: Mixture, rules: Rules, key: jax.Array) -> None:
        D, E, F = config.width, kind.experts, config.hidden
        self.inward, self.outward = ("experts", "embed", "hidden"), ("experts", "hidden", "embed")
        gate_key, up_key, down_key = jax.random.split(key, 3)
        self.gate, self.up = (
            nnx.Param(normal(key, (E, D, F), D**-0.5, rules.weight(*self.inward))) for key in (gate_key, up_key)
        )
        std = residual_scale(config) * F**-0.5
        self.down = nnx.Param(normal(down_key, (E, F, D), std, rules.weight(*self.outward)))
        self.activation, self.rules = ACTIVATIONS[kind.activation], rules

    def __call__(self, x_BTD: jax.Array, taken_BTk: jax.Array, weights_BTk: jax.Array) -> jax.Array:
        """What the experts with the numbers `taken` answer, in sum, each times its weight, (B, T, D).

        A device that holds a part of the experts is shown the tokens of all devices that hold the others, and hands
        back what its own add: nothing has a capacity that a token could be dropped for.
        """
        rules, dtype = self.rules, x_BTD.dtype
        x_spec = rules.activation("batch", "sequence", "embed")
        pairs_spec = rules.activation("batch", "sequence", "routes")
        specs = [rules.gathered(*axes) for axes in (self.inward, self.inward, self.outward)]
        over, split = _devices(specs[0][0]), _devices(specs[0][2])

        @partial(jax.shard_map, in_specs=(x_spec, pairs_spec, pairs_spec, *specs), out_specs=x_spec, check_vma=False)
        def local(
            x_BTD: jax.Array,
            taken_BTk: jax.Array,
            weights_BTk: jax.Array,
            gate_eDF: jax.Array,
            up_eDF: jax.Array,
            down_eFD: jax.Array,
        ) -> jax.Array:
            if over:
                x_BTD, taken_BTk, weights_BTk = (
                    jax.lax.all_gather(rows, over, axis=0, tiled=True) for rows in (x_BTD, taken_BTk, weights_BTk)
                )
                taken_BTk -= jax.lax.axis_index(over) * len(gate_eDF)
            k, e = taken_BTk.shape[2], len(gate_eDF)
            expert_M = taken_BTk.reshape(-1)
            expert_M = jnp.where((expert_M >= 0) & (expert_M < e), expert_M, e)  # another device's, sorted behind
            order_M = jnp.argsort(expert_M)
            sizes_e = jnp.bincount(expert_M, length=e)
            rows_MD = x_BTD.reshape(-1, x_BTD.shape[2])[order_M // k]
            hidden_MF = self.activation(grouped(rows_MD, gate_eDF, sizes_e)) * grouped(rows_MD, up_eDF, sizes_e)
            answers_MD = grouped(hidden_MF, down_eFD, sizes_e)[jnp.argsort(order_M)]
            weighted = answers_MD.reshape(*taken_BTk.shape, -1) * weights_BTk[..., None].astype(dtype)
            out_BTD = jnp.sum(weighted, axis=2)
            if split:
                out_BTD = jax.lax.psum(out_BTD, split)
            return jax.lax.psum_scatter(out_BTD, over, scatter_dimension=0, tiled=True) if over else out_BTD

        weights = (self.gate, self.up, self.down)
        fetched = (Fetch(rules, axes)(w, dtype) for axes, w in zip((self.inward, self.inward, self.outward), weights))
        return local(x_BTD, taken_BTk, weights_BTk, *fetched)


class MixtureMLP(nnx.Module):
    """Experts behind a router that computes in float32, whatever they do (Fedus et al. 2021, Switch, section 2.4)."""

    def __init__(self, config: DecoderConfig, kind: Mixture, rules: Rules, layout: Layout, key: jax.Array) -> None:
        router_key, experts_key = jax.random.split(key)
        self.to_routes = Linear(rules, ("embed", "routes"), layout=layout)
        self.router = self.to_routes.init(router_key, (config.width, kind.experts))
        self.experts = Experts(config, kind, rules, experts_key)
        self.kind = kind

    def __call__(self, x_BTD: jax.Array, segments_BT: jax.Array | None) -> tuple[jax.Array, Routed | None]:
        """And what the router did, where segments say which tokens are padding (0)."""
        logits_BTE = self.to_routes(x_BTD.astype(jnp.float32), self.router)
        weights_BTk, taken_BTk = jax.lax.top_k(jax.nn.softmax(logits_BTE), self.kind.chosen)
        if self.kind.normed:
            weights_BTk /= jnp.sum(weights_BTk, axis=-1, keepdims=True)
        out_BTD = self.experts(x_BTD, taken_BTk, weights_BTk)
        return out_BTD, None if segments_BT is None else Routed.of(logits_BTE, taken_BTk, segments_BT)


def _devices(axes: MeshAxes) -> tuple[str, ...]:
    """The mesh axes of one entry of a spec that have more than one device."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return tuple(name for name in names(axes) if sizes[name] > 1)
