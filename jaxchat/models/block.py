"""A block: attention, then an MLP, each normed before and added to the residual stream.

B rows, T tokens, S cache slots, D width, K key-value heads, G query heads to each, N = K * G, H head size, F hidden
units.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxchat.models.attention import Backend, Sight
from jaxchat.models.cache import view, write
from jaxchat.models.config import Activation, DecoderConfig, Gated, Mixture
from jaxchat.models.layers import ACTIVATIONS, Layout, Linear, joined, norm, residual_scale
from jaxchat.models.mixture import MixtureMLP, Routed
from jaxchat.models.rotary import Rotation, rotate
from jaxchat.sharding import Rules


class Attention(nnx.Module):
    """Grouped-query attention (Ainslie et al. 2023)."""

    def __init__(self, config: DecoderConfig, rules: Rules, backend: Backend, layout: Layout, key: jax.Array) -> None:
        D, N, K, H = config.width, config.heads, config.kv_heads, config.head_size
        q_key, k_key, v_key, o_key = jax.random.split(key, 4)
        self.to_queries = Linear(rules, ("embed", "heads", "head"), layout=layout)
        self.to_keys = Linear(rules, ("embed", "kv_heads", "head"), layout=layout)
        self.to_width = Linear(rules, ("heads", "head", "embed"), inputs=2, layout=layout)
        q = self.to_queries.init(q_key, (D, N, H))
        k, v = (self.to_keys.init(key, (D, K, H)) for key in (k_key, v_key))
        weights: dict[str, Any] = {"q": q, "k": k, "v": v}
        biases: dict[str, Any] = {}
        if config.qkv_bias:
            biases = {"q_bias": self.to_queries.init_bias((N, H))}
            biases |= {name: self.to_keys.init_bias((K, H)) for name in ("k_bias", "v_bias")}
        if layout != "training":
            self.qkv = joined(layout, **weights)
            self.qkv_bias = joined(layout, **biases) if biases else None
        else:
            self.q, self.k, self.v = q, k, v
            self.q_bias, self.k_bias, self.v_bias = (biases.get(name) for name in ("q_bias", "k_bias", "v_bias"))
        self.q_norm, self.k_norm = (
            norm(H, config.norm, rules, layout, "head") if config.qk_norm else None for _ in range(2)
        )
        self.o = self.to_width.init(o_key, (N, H, D), residual_scale(config))
        self.o_bias = self.to_width.init_bias((D,)) if config.out_bias else None
        self.scale = H**-0.5 if config.query_scale is None else config.query_scale
        self.heads, self.kv_heads, self.cap = N, K, config.score_cap
        self.backend, self.rules, self.layout = backend, rules, layout

    def project(self, x_BTD: jax.Array, by: Rotation | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, N, H) and keys (B, T, K, H), both turned to their positions, and values (B, T, K, H)."""
        if self.layout != "training":
            all_heads = self.to_queries(x_BTD, self.qkv, self.qkv_bias)
            q_BTNH, k_BTKH, v_BTKH = jnp.split(all_heads, (self.heads, self.heads + self.kv_heads), axis=2)
        else:
            q_BTNH = self.to_queries(x_BTD, self.q, self.q_bias)
            k_BTKH, v_BTKH = self.to_keys(x_BTD, self.k, self.k_bias), self.to_keys(x_BTD, self.v, self.v_bias)
        if self.q_norm is not None and self.k_norm is not None:
            q_BTNH, k_BTKH = self.q_norm(q_BTNH), self.k_norm(k_BTKH)
        return rotate(q_BTNH, by), rotate(k_BTKH, by), v_BTKH

    def keys(self, k_BTKH: jax.Array) -> jax.Array:
        """Keys or values as queries look at them, (B, K, S, H): head by head, the whole sequence on every device."""
        spec = self.rules.activation("batch", "kv_heads", "keys", "head")
        return jax.sharding.reshard(k_BTKH.transpose(0, 2, 1, 3), spec)

    def attend(self, q_BTNH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, sight: Sight) -> jax.Array:
        """What the heads gather, back in the residual's width, (B, T, D)."""
        B, T, N, H = q_BTNH.shape
        grouped = self.rules.activation("batch", "sequence", "kv_heads", "group", "head")
        q_BTKGH = q_BTNH.reshape(B, T, self.kv_heads, -1, H, out_sharding=grouped)
        mixed_BTKGH = self.backend(q_BTKGH, k_BKSH, v_BKSH, sight, self.rules, scale=self.scale, soft_cap=self.cap)
        heads = self.rules.activation("batch", "sequence", "heads", "head")
        return self.to_width(mixed_BTKGH.reshape(B, T, N, H, out_sharding=heads), self.o, self.o_bias)


class GatedMLP(nnx.Module):
    """down(activation(gate x) * up x)."""

    def __init__(self, config: DecoderConfig, kind: Gated, rules: Rules, layout: Layout, key: jax.Array) -> None:
        D, F = config.width, config.hidden
        gate_key, up_key, down_key = jax.random.split(key, 3)
        self.to_hidden = Linear(rules, ("embed", "hidden"), layout=layout)
        self.to_width = Linear(rules, ("hidden", "embed"), layout=layout)
        gate, up = (self.to_hidden.init(key, (D, F)) for key in (gate_key, up_key))
        biases: dict[str, Any] = {}
        if kind.bias:
            biases = {name: self.to_hidden.init_bias((F,)) for name in ("gate_bias", "up_bias")}
        if layout != "training":
            self.gate_up = joined(layout, gate=gate, up=up)
            self.gate_up_bias = joined(layout, **biases) if biases else None
        else:
            self.gate, self.up = gate, up
            self.gate_bias, self.up_bias = biases.get("gate_bias"), biases.get("up_bias")
        self.down = self.to_width.init(down_key, (F, D), residual_scale(config))
        self.down_bias = self.to_width.init_bias((D,)) if kind.bias else None
        self.activation, self.layout = kind.activation, layout

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        if self.layout != "training":
            gate_BTF, up_BTF = jnp.split(self.to_hidden(x_BTD, self.gate_up, self.gate_up_bias), 2, axis=-1)
        else:
            gate_BTF = self.to_hidden(x_BTD, self.gate, self.gate_bias)
            up_BTF = self.to_hidden(x_BTD, self.up, self.up_bias)
        return self.to_width(ACTIVATIONS[self.activation](gate_BTF) * up_BTF, self.down, self.down_bias)


class PlainMLP(nnx.Module):
    """down(activation(up x)), with biases."""

    def __init__(
        self, config: DecoderConfig, activation: Activation, rules: Rules, layout: Layout, key: jax.Array
    ) -> None:
        D, F = config.width, config.hidden
        up_key, down_key = jax.random.split(key)
        self.to_hidden = Linear(rules, ("embed", "hidden"), layout=layout)
        self.to_width = Linear(rules, ("hidden", "embed"), layout=layout)
        self.up, self.up_bias = self.to_hidden.init(up_key, (D, F)), self.to_hidden.init_bias((F,))
        self.down = self.to_width.init(down_key, (F, D), residual_scale(config))
        self.down_bias = self.to_width.init_bias((D,))
        self.activation = activation

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        up_BTF = ACTIVATIONS[self.activation](self.to_hidden(x_BTD, self.up, self.up_bias))
        return self.to_width(up_BTF, self.down, self.down_bias)


def mlp(config: DecoderConfig, rules: Rules, layout: Layout, key: jax.Array) -> GatedMLP | PlainMLP | MixtureMLP:
    """The MLP that the config describes."""
    if isinstance(config.mlp, Gated):
        return GatedMLP(config, config.mlp, rules, layout, key)
    if isinstance(config.mlp, Mixture):
        return MixtureMLP(config, config.mlp, rules, layout, key)
    return PlainMLP(config, config.mlp.activation, rules, layout, key)


class Block(nnx.Module):
    """One layer of a decoder."""

    def __init__(self, config: DecoderConfig, rules: Rules, backend: Backend, layout: Layout, key: jax.Array) -> None:
        attn_key, mlp_key = jax.random.split(key)
        self.attn_norm = norm(config.width, config.norm, rules, layout)
        self.attn = Attention(config, rules, backend, layout, attn_key)
        self.mlp_norm = norm(config.width, config.norm, rules, layout)
        self.mlp = mlp(config, rules, layout, mlp_key)
        self.attn_post_norm, self.mlp_post_norm = (
            norm(config.width, config.norm, rules, layout) if config.post_norms else None for _ in range(2)
        )

    def __call__(self, x_BTD: jax.Array, by: Rotation | None, sight: Sight) -> tuple[jax.Array, Routed | None]:
        """And what its router did with the tokens, if it has one."""
        with jax.named_scope("attention"):
            q_BTNH, k_BTKH, v_BTKH = self.attn.project(self.attn_norm(x_BTD), by)
            mixed_BTD = self.attn.attend(q_BTNH, self.attn.keys(k_BTKH), self.attn.keys(v_BTKH), sight)
            x_BTD = self._add(x_BTD, mixed_BTD, self.attn_post_norm)
        with jax.named_scope("mlp"):
            return self._through_mlp(x_BTD, sight.queries_BT)

    def cached(
        self,
        x_BTD: jax.Array,
        by: Rotation | None,
        positions_BT: jax.Array,
        sight: Sight,
        k_BKHS: jax.Array,
        v_BKSH: jax.Array,
        rows_R: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same with keys and values written to, and read from, rows of one layer of a cache."""
        q_BTNH, k_BTKH, v_BTKH = self.attn.project(self.attn_norm(x_BTD), by)
        k_BKHS, v_BKSH = write(k_BKHS, v_BKSH, k_BTKH, v_BTKH, positions_BT, self.attn.rules, rows_R)
        seen = view(k_BKHS, v_BKSH, sight.slots, self.attn.rules, rows_R)
        mixed_BTD = self.attn.attend(q_BTNH, *seen, sight)
        x_BTD = self._add(x_BTD, mixed_BTD, self.attn_post_norm)
        return self._through_mlp(x_BTD, None)[0], k_BKHS, v_BKSH

    def _through_mlp(self, x_BTD: jax.Array, segments_BT: jax.Array | None) -> tuple[jax.Array, Routed | None]:
        routed = None
        if isinstance(self.mlp, MixtureMLP):
            out_BTD, routed = self.mlp(self.mlp_norm(x_BTD), segments_BT)
        else:
            out_BTD = self.mlp(self.mlp_norm(x_BTD))
        return self._add(x_BTD, out_BTD, self.mlp_post_norm), routed

    def _add(self, x_BTD: jax.Array, more_BTD: jax.Array, post_norm: Any) -> jax.Array:
        return x_BTD + (more_BTD if post_norm is None else post_norm(more_BTD))
