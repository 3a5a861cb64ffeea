"""The decoder: embedding, a stack of blocks under one scan, final norm, unembedding.

B rows, T tokens, S cache slots, L layers, D width, K key-value heads, G query heads to each, N = K * G, H head size,
F hidden units, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxchat.models.attention import SAVED, Auto, Backend, Sight
from jaxchat.models.cache import Cache, write
from jaxchat.models.config import DecoderConfig
from jaxchat.models.layers import Fetch, Layout, Linear, RMSNorm, Rotation, joined, normal, rotate, rotation
from jaxchat.models.streaming import streamed
from jaxchat.sharding import Rules

Params = dict[str, Any]
Remat = Literal["none", "dots", "full"]
DOTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names(SAVED)
)


class Attention(nnx.Module):
    """Grouped-query attention (Ainslie et al. 2023) with rotary positions."""

    def __init__(self, config: DecoderConfig, rules: Rules, backend: Backend, layout: Layout, key: jax.Array) -> None:
        D, N, K, H = config.width, config.heads, config.kv_heads, config.head_size
        q_key, k_key, v_key, o_key = jax.random.split(key, 4)
        self.to_queries = Linear(rules, ("embed", "heads", "head"), layout=layout)
        self.to_keys = Linear(rules, ("embed", "kv_heads", "head"), layout=layout)
        self.to_width = Linear(rules, ("heads", "head", "embed"), inputs=2, layout=layout)
        q = self.to_queries.init(q_key, (D, N, H))
        k, v = (self.to_keys.init(key, (D, K, H)) for key in (k_key, v_key))
        if layout == "decoding":
            self.qkv = joined(q=q, k=k, v=v)
        else:
            self.q, self.k, self.v = q, k, v
        self.o = self.to_width.init(o_key, (N, H, D), residual_scale(config))
        self.heads, self.kv_heads, self.backend, self.rules, self.layout = N, K, backend, rules, layout

    def project(self, x_BTD: jax.Array, by: Rotation) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, N, H) and keys (B, T, K, H), both rotated, and values (B, T, K, H)."""
        if self.layout == "decoding":
            all_heads = self.to_queries(x_BTD, self.qkv)
            q_BTNH, k_BTKH, v_BTKH = jnp.split(all_heads, (self.heads, self.heads + self.kv_heads), axis=2)
        else:
            q_BTNH = self.to_queries(x_BTD, self.q)
            k_BTKH, v_BTKH = self.to_keys(x_BTD, self.k), self.to_keys(x_BTD, self.v)
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
        mixed_BTKGH = self.backend(q_BTKGH, k_BKSH, v_BKSH, sight, self.rules, scale=H**-0.5)
        heads = self.rules.activation("batch", "sequence", "heads", "head")
        return self.to_width(mixed_BTKGH.reshape(B, T, N, H, out_sharding=heads), self.o)


class MLP(nnx.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig, rules: Rules, layout: Layout, key: jax.Array) -> None:
        D, F = config.width, config.hidden
        gate_key, up_key, down_key = jax.random.split(key, 3)
        self.to_hidden = Linear(rules, ("embed", "hidden"), layout=layout)
        self.to_width = Linear(rules, ("hidden", "embed"), layout=layout)
        gate, up = (self.to_hidden.init(key, (D, F)) for key in (gate_key, up_key))
        if layout == "decoding":
            self.gate_up = joined(gate=gate, up=up)
        else:
            self.gate, self.up = gate, up
        self.down = self.to_width.init(down_key, (F, D), residual_scale(config))
        self.layout = layout

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        if self.layout == "decoding":
            gate_BTF, up_BTF = jnp.split(self.to_hidden(x_BTD, self.gate_up), 2, axis=-1)
        else:
            gate_BTF, up_BTF = self.to_hidden(x_BTD, self.gate), self.to_hidden(x_BTD, self.up)
        return self.to_width(jax.nn.silu(gate_BTF) * up_BTF, self.down)


def residual_scale(config: DecoderConfig) -> float:
    """What writes to the residual stream starts smaller the more blocks do (Radford et al. 2019, GPT-2)."""
    return (2 * config.layers) ** -0.5


class Block(nnx.Module):
    """Attention, then the MLP, each normalised before and added to the residual stream."""

    def __init__(self, config: DecoderConfig, rules: Rules, backend: Backend, layout: Layout, key: jax.Array) -> None:
        attn_key, mlp_key = jax.random.split(key)
        self.attn_norm = RMSNorm(config.width, config.norm_eps, rules)
        self.attn = Attention(config, rules, backend, layout, attn_key)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps, rules)
        self.mlp = MLP(config, rules, layout, mlp_key)

    def __call__(self, x_BTD: jax.Array, by: Rotation, sight: Sight) -> jax.Array:
        with jax.named_scope("attention"):
            q_BTNH, k_BTKH, v_BTKH = self.attn.project(self.attn_norm(x_BTD), by)
            x_BTD = x_BTD + self.attn.attend(q_BTNH, self.attn.keys(k_BTKH), self.attn.keys(v_BTKH), sight)
        with jax.named_scope("mlp"):
            return x_BTD + self.mlp(self.mlp_norm(x_BTD))

    def cached(
        self,
        x_BTD: jax.Array,
        by: Rotation,
        positions_BT: jax.Array,
        sight: Sight,
        k_BKHS: jax.Array,
        v_BKSH: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same with keys and values written to, and read from, one layer of a cache."""
        q_BTNH, k_BTKH, v_BTKH = self.attn.project(self.attn_norm(x_BTD), by)
        k_BKHS, v_BKSH = write(k_BKHS, v_BKSH, k_BTKH, v_BTKH, positions_BT, self.attn.rules)
        x_BTD = x_BTD + self.attn.attend(q_BTNH, k_BKHS.swapaxes(2, 3), v_BKSH, sight)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD)), k_BKHS, v_BKSH


class Embed(nnx.Module):
    def __init__(self, config: DecoderConfig, rules: Rules, key: jax.Array) -> None:
        self.table = nnx.Param(
            normal(key, (config.vocab_size, config.width), config.width**-0.5, rules.weight("vocab", "embed"))
        )
        self.fetch = Fetch(rules, ("vocab", "embed"))
        self.out_spec = rules.activation("batch", "sequence", "embed")

    def __call__(self, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        return self.fetch(self.table, dtype).at[tokens_BT].get(out_sharding=self.out_spec)


class Unembed(nnx.Module):
    def __init__(self, config: DecoderConfig, rules: Rules, layout: Layout, key: jax.Array) -> None:
        self.kernel = Linear(rules, ("embed", "vocab"), layout=layout).init(key, (config.width, config.vocab_size))


class Decoder(nnx.Module):
    """A whole decoder; `layers` is one Block whose every weight has a leading layer axis, or a list of Blocks."""

    def __init__(
        self, config: DecoderConfig, rules: Rules, backend: Backend, remat: Remat, layout: Layout, key: jax.Array
    ) -> None:
        embed_key, layers_key, unembed_key = jax.random.split(key, 3)
        self.embed = Embed(config, rules, embed_key)
        keys = jax.random.split(layers_key, config.layers)
        make_block = partial(Block, config, rules, backend, layout)
        stacked = layout == "training"
        self.layers: Any = jax.vmap(make_block)(keys) if stacked else nnx.List([make_block(k) for k in keys])
        self.norm = RMSNorm(config.width, config.norm_eps, rules)
        if not config.tied:
            self.unembed = Unembed(config, rules, layout, unembed_key)
        self.config, self.rules, self.remat, self.layout = config, rules, remat, layout

    def hidden(
        self, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array, dtype: jnp.dtype
    ) -> jax.Array:
        config = self.config
        by = rotation(positions_BT, config.head_size, config.rope_theta)
        keys_BT = jax.sharding.reshard(segments_BT, self.rules.activation("batch", "keys"))
        sight = Sight.packed(segments_BT, keys_BT)
        if self.layout == "decoding":
            x_BTD = self.embed(tokens_BT, dtype)
            for block in self.layers:
                x_BTD = block(x_BTD, by, sight)
            return self.norm(x_BTD)
        graph, stacked = nnx.split(self.layers)

        def body(x_BTD: jax.Array, layer: Any) -> tuple[jax.Array, None]:
            return nnx.merge(graph, layer)(x_BTD, by, sight), None

        if self.remat == "full":
            body = jax.checkpoint(body)
        elif self.remat == "dots":
            body = jax.checkpoint(body, policy=DOTS)
        x_BTD, _ = jax.lax.scan(body, self.embed(tokens_BT, dtype), stacked)
        return self.norm(x_BTD)

    def cached(
        self, tokens_BT: jax.Array, positions_BT: jax.Array, cache: Cache, dtype: jnp.dtype
    ) -> tuple[jax.Array, Cache]:
        config = self.config
        by = rotation(positions_BT, config.head_size, config.rope_theta)
        sight = Sight.cached(positions_BT, cache.slots)
        if self.layout == "decoding":
            x_BTD, kept = self.embed(tokens_BT, dtype), []
            for block, k_BKHS, v_BKSH in zip(self.layers, cache.k_LBKHS, cache.v_LBKSH, strict=True):
                x_BTD, *layer = block.cached(x_BTD, by, positions_BT, sight, k_BKHS, v_BKSH)
                kept.append(layer)
            return self.norm(x_BTD), Cache(*zip(*kept, strict=True))
        graph, stacked = nnx.split(self.layers)

        def body(x_BTD: jax.Array, layer: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            weights, k_BKHS, v_BKSH = layer
            block = nnx.merge(graph, weights)
            x_BTD, k_BKHS, v_BKSH = block.cached(x_BTD, by, positions_BT, sight, k_BKHS, v_BKSH)
            return x_BTD, (k_BKHS, v_BKSH)

        x_BTD, (k, v) = jax.lax.scan(body, self.embed(tokens_BT, dtype), (stacked, cache.k_LBKHS, cache.v_LBKSH))
        return self.norm(x_BTD), Cache(k, v)


@dataclass(frozen=True)
class Model:
    """How a decoder is computed: its shape, where its arrays lie, in which precision. Hashable; it holds no arrays.

    dtype: of activations and of weights at use; parameters are float32. remat: what the backward pass recomputes:
    "none" of the blocks, all but their matrix products ("dots"), or everything ("full"). layout: of the parameters;
    "training" stacks the layers and scans them, for "decoding" see models/decoding.py.
    """

    config: DecoderConfig
    rules: Rules = field(default_factory=Rules)
    dtype: str = "float32"
    remat: Remat = "none"
    attention: Backend = field(default_factory=Auto)
    layout: Layout = "training"

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters, each lying where the rules store it."""
        return nnx.to_pure_dict(nnx.state(self._make(key), nnx.Param))

    def abstract(self) -> Params:
        """The parameters' shapes, dtypes and shardings, allocating nothing."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def variables(self) -> dict[tuple[Any, ...], nnx.Param[Any]]:
        """Every parameter by its path, abstract, with what its maker noted on it."""
        return dict(nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: self._make(jax.random.key(0))), nnx.Param)))

    def hidden(
        self, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array
    ) -> jax.Array:
        """Final hidden states, normed, (B, T, D): packed rows, in which a segment sees only itself."""
        return self._bind(params).hidden(tokens_BT, positions_BT, segments_BT, jnp.dtype(self.dtype))

    def logits(self, params: Params, x_BTD: jax.Array) -> jax.Array:
        """Scores over the vocabulary, (B, T, V), float32. Whole: for losses, use the chunked one in objectives."""
        weight = params["embed"]["table"] if self.config.tied else params["unembed"]["kernel"]
        if self.layout == "decoding":
            return streamed(x_BTD, weight.astype(self.dtype)).astype(jnp.float32)
        weight_DV = weight.T if self.config.tied else weight
        return jnp.einsum(
            "BTD,DV->BTV",
            x_BTD,
            jax.sharding.reshard(weight_DV.astype(self.dtype), self.rules.gathered("embed", "vocab")),
            preferred_element_type=jnp.float32,
            out_sharding=self.rules.activation("batch", "sequence", "vocab"),
        )

    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache for `rows` conversations of up to `slots` tokens."""
        c = self.config
        k_shape, v_shape = (rows, c.kv_heads, c.head_size, slots), (rows, c.kv_heads, slots, c.head_size)
        if self.layout == "decoding":
            return Cache(
                *(tuple(jnp.zeros(shape, self.dtype) for _ in range(c.layers)) for shape in (k_shape, v_shape))
            )
        k_spec = self.rules.activation(None, "batch", "kv_heads", "head", "keys")
        v_spec = self.rules.activation(None, "batch", "kv_heads", "keys", "head")
        return Cache(
            jnp.zeros((c.layers, *k_shape), self.dtype, out_sharding=k_spec),
            jnp.zeros((c.layers, *v_shape), self.dtype, out_sharding=v_spec),
        )

    def cached(
        self, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """Reads T tokens a row at `positions_BT` (each row its own; -1 is padding), after what the cache holds.

        Returns their hidden states, (B, T, D), and the cache with them in it.
        """
        return self._bind(params).cached(tokens_BT, positions_BT, cache, jnp.dtype(self.dtype))

    def _make(self, key: jax.Array) -> Decoder:
        return Decoder(self.config, self.rules, self.attention, self.remat, self.layout, key)

    @cached_property
    def _graph(self) -> Any:
        return nnx.split(nnx.eval_shape(lambda: self._make(jax.random.key(0))))[0]

    def _bind(self, params: Params) -> Decoder:
        return nnx.merge(self._graph, params)
