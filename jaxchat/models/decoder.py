"""The decoder: embedding, a stack of blocks under one scan, final norm, unembedding.

B rows, T tokens, S cache slots, L layers, D width, K key-value heads, G query heads to each, N = K * G, H head size,
F hidden units, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxchat.models.attention import Dot, cache_mask, packed_mask
from jaxchat.models.cache import Cache, write
from jaxchat.models.config import DecoderConfig
from jaxchat.models.layers import RMSNorm, Rotation, Weight, normal, rotate, rotation
from jaxchat.sharding import Rules

Params = dict[str, Any]
Remat = Literal["none", "dots", "full"]


class Attention(nnx.Module):
    def __init__(self, config: DecoderConfig, rules: Rules, backend: Dot, key: jax.Array) -> None:
        D, K, H = config.width, config.kv_heads, config.head_size
        N = config.heads
        keys = jax.random.split(key, 4)
        self.q = nnx.Param(normal(keys[0], (D, N, H), D**-0.5, rules.weight("embed", "heads", "head")))
        self.k = nnx.Param(normal(keys[1], (D, K, H), D**-0.5, rules.weight("embed", "kv_heads", "head")))
        self.v = nnx.Param(normal(keys[2], (D, K, H), D**-0.5, rules.weight("embed", "kv_heads", "head")))
        std = (N * H) ** -0.5 * (2 * config.layers) ** -0.5
        self.o = nnx.Param(normal(keys[3], (N, H, D), std, rules.weight("heads", "head", "embed")))
        self.fetch_q = Weight(rules, "embed", "heads", "head")
        self.fetch_kv = Weight(rules, "embed", "kv_heads", "head")
        self.fetch_o = Weight(rules, "heads", "head", "embed")
        self.heads_spec = rules.activation("batch", "sequence", "heads", "head")
        self.kv_spec = rules.activation("batch", "sequence", "kv_heads", "head")
        self.grouped_spec = rules.activation("batch", "sequence", "kv_heads", "group", "head")
        self.keys_spec = rules.activation("batch", "kv_heads", "keys", "head")
        self.out_spec = rules.activation("batch", "sequence", "embed")
        self.kv_heads, self.backend, self.rules = K, backend, rules

    def project(self, x_BTD: jax.Array, by: Rotation) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, N, H) and keys (B, T, K, H), both rotated, and values (B, T, K, H)."""
        dtype = x_BTD.dtype
        q_BTNH = jnp.einsum("BTD,DNH->BTNH", x_BTD, self.fetch_q(self.q, dtype), out_sharding=self.heads_spec)
        k_BTKH = jnp.einsum("BTD,DKH->BTKH", x_BTD, self.fetch_kv(self.k, dtype), out_sharding=self.kv_spec)
        v_BTKH = jnp.einsum("BTD,DKH->BTKH", x_BTD, self.fetch_kv(self.v, dtype), out_sharding=self.kv_spec)
        return rotate(q_BTNH, by), rotate(k_BTKH, by), v_BTKH

    def keys(self, k_BTKH: jax.Array) -> jax.Array:
        """Keys or values as queries look at them, (B, K, S, H): head by head, and the whole sequence on every device."""
        return jax.sharding.reshard(k_BTKH.transpose(0, 2, 1, 3), self.keys_spec)

    def remember(self, cache_BKSH: jax.Array, new_BTKH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        """A layer's cached keys or values with the new tokens' in their slots."""
        return write(cache_BKSH, new_BTKH, positions_BT, self.rules)

    def attend(self, q_BTNH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array) -> jax.Array:
        """What the heads gather, back in the residual's width, (B, T, D)."""
        B, T, N, H = q_BTNH.shape
        q_BTKGH = q_BTNH.reshape(B, T, self.kv_heads, -1, H, out_sharding=self.grouped_spec)
        mixed = self.backend(q_BTKGH, k_BKSH, v_BKSH, mask_BTS)
        mixed_BTNH = mixed.reshape(B, T, N, H, out_sharding=self.heads_spec)
        return jnp.einsum(
            "BTNH,NHD->BTD", mixed_BTNH, self.fetch_o(self.o, q_BTNH.dtype), out_sharding=self.out_spec
        )


class MLP(nnx.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig, rules: Rules, key: jax.Array) -> None:
        D, F = config.width, config.hidden
        keys = jax.random.split(key, 3)
        self.gate = nnx.Param(normal(keys[0], (D, F), D**-0.5, rules.weight("embed", "hidden")))
        self.up = nnx.Param(normal(keys[1], (D, F), D**-0.5, rules.weight("embed", "hidden")))
        std = F**-0.5 * (2 * config.layers) ** -0.5
        self.down = nnx.Param(normal(keys[2], (F, D), std, rules.weight("hidden", "embed")))
        self.fetch_in = Weight(rules, "embed", "hidden")
        self.fetch_out = Weight(rules, "hidden", "embed")
        self.hidden_spec = rules.activation("batch", "sequence", "hidden")
        self.out_spec = rules.activation("batch", "sequence", "embed")

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        dtype = x_BTD.dtype
        gate_BTF = jnp.einsum("BTD,DF->BTF", x_BTD, self.fetch_in(self.gate, dtype), out_sharding=self.hidden_spec)
        up_BTF = jnp.einsum("BTD,DF->BTF", x_BTD, self.fetch_in(self.up, dtype), out_sharding=self.hidden_spec)
        return jnp.einsum(
            "BTF,FD->BTD", jax.nn.silu(gate_BTF) * up_BTF, self.fetch_out(self.down, dtype), out_sharding=self.out_spec
        )


class Block(nnx.Module):
    """Attention, then the MLP, each normalised before and added to the residual stream."""

    def __init__(self, config: DecoderConfig, rules: Rules, backend: Dot, key: jax.Array) -> None:
        attn_key, mlp_key = jax.random.split(key)
        self.attn_norm = RMSNorm(config.width, config.norm_eps, rules)
        self.attn = Attention(config, rules, backend, attn_key)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps, rules)
        self.mlp = MLP(config, rules, mlp_key)

    def __call__(self, x_BTD: jax.Array, by: Rotation, mask_BTT: jax.Array) -> jax.Array:
        with jax.named_scope("attention"):
            q_BTNH, k_BTKH, v_BTKH = self.attn.project(self.attn_norm(x_BTD), by)
            x_BTD = x_BTD + self.attn.attend(q_BTNH, self.attn.keys(k_BTKH), self.attn.keys(v_BTKH), mask_BTT)
        with jax.named_scope("mlp"):
            return x_BTD + self.mlp(self.mlp_norm(x_BTD))

    def cached(
        self,
        x_BTD: jax.Array,
        by: Rotation,
        positions_BT: jax.Array,
        mask_BTS: jax.Array,
        k_BKSH: jax.Array,
        v_BKSH: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same with keys and values written to, and read from, one layer of a cache."""
        q_BTNH, k_BTKH, v_BTKH = self.attn.project(self.attn_norm(x_BTD), by)
        k_BKSH = self.attn.remember(k_BKSH, k_BTKH, positions_BT)
        v_BKSH = self.attn.remember(v_BKSH, v_BTKH, positions_BT)
        x_BTD = x_BTD + self.attn.attend(q_BTNH, k_BKSH, v_BKSH, mask_BTS)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD)), k_BKSH, v_BKSH


class Embed(nnx.Module):
    def __init__(self, config: DecoderConfig, rules: Rules, key: jax.Array) -> None:
        self.table = nnx.Param(
            normal(key, (config.vocab_size, config.width), config.width**-0.5, rules.weight("vocab", "embed"))
        )
        self.fetch = Weight(rules, "vocab", "embed")
        self.out_spec = rules.activation("batch", "sequence", "embed")

    def __call__(self, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        return self.fetch(self.table, dtype).at[tokens_BT].get(out_sharding=self.out_spec)


class Unembed(nnx.Module):
    def __init__(self, config: DecoderConfig, rules: Rules, key: jax.Array) -> None:
        self.kernel = nnx.Param(
            normal(key, (config.width, config.vocab_size), config.width**-0.5, rules.weight("embed", "vocab"))
        )


class Decoder(nnx.Module):
    """A whole decoder; `layers` is one Block whose every weight has a leading layer axis."""

    def __init__(self, config: DecoderConfig, rules: Rules, backend: Dot, remat: Remat, key: jax.Array) -> None:
        embed_key, layers_key, unembed_key = jax.random.split(key, 3)
        self.embed = Embed(config, rules, embed_key)
        self.layers = jax.vmap(lambda k: Block(config, rules, backend, k))(jax.random.split(layers_key, config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps, rules)
        if not config.tied:
            self.unembed = Unembed(config, rules, unembed_key)
        self.config, self.rules, self.remat = config, rules, remat

    def hidden(
        self, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array, dtype: jnp.dtype
    ) -> jax.Array:
        config = self.config
        by = rotation(positions_BT, config.head_size, config.rope_theta)
        keys_BT = jax.sharding.reshard(segments_BT, self.rules.activation("batch", "keys"))
        mask_BTT = packed_mask(segments_BT, keys_BT)
        graph, stacked = nnx.split(self.layers)

        def body(x_BTD: jax.Array, layer: Any) -> tuple[jax.Array, None]:
            return nnx.merge(graph, layer)(x_BTD, by, mask_BTT), None

        if self.remat == "full":
            body = jax.checkpoint(body)
        elif self.remat == "dots":
            body = jax.checkpoint(body, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
        x_BTD, _ = jax.lax.scan(body, self.embed(tokens_BT, dtype), stacked)
        return self.norm(x_BTD)

    def cached(
        self, tokens_BT: jax.Array, positions_BT: jax.Array, cache: Cache, dtype: jnp.dtype
    ) -> tuple[jax.Array, Cache]:
        config = self.config
        by = rotation(positions_BT, config.head_size, config.rope_theta)
        mask_BTS = cache_mask(positions_BT, cache.slots)
        graph, stacked = nnx.split(self.layers)

        def body(x_BTD: jax.Array, layer: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            weights, k_BKSH, v_BKSH = layer
            block = nnx.merge(graph, weights)
            x_BTD, k_BKSH, v_BKSH = block.cached(x_BTD, by, positions_BT, mask_BTS, k_BKSH, v_BKSH)
            return x_BTD, (k_BKSH, v_BKSH)

        x_BTD, (k, v) = jax.lax.scan(body, self.embed(tokens_BT, dtype), (stacked, cache.k_LBKSH, cache.v_LBKSH))
        return self.norm(x_BTD), Cache(k, v)


@dataclass(frozen=True)
class Model:
    """How a decoder is computed: its shape, where its arrays lie, in which precision. Static and hashable; holds no arrays.

    dtype: of activations and of weights at use; parameters are float32. remat: what the backward pass recomputes:
    "none" of the blocks, all but their matrix products ("dots"), or everything ("full").
    """

    config: DecoderConfig
    rules: Rules = field(default_factory=Rules)
    dtype: str = "float32"
    remat: Remat = "none"
    attention: Dot = field(default_factory=Dot)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters, each lying where the rules store it."""
        return nnx.to_pure_dict(nnx.state(self._make(key), nnx.Param))

    def abstract(self) -> Params:
        """The parameters' shapes, dtypes and shardings, allocating nothing."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def hidden(
        self, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array
    ) -> jax.Array:
        """Final hidden states, normed, (B, T, D): packed rows, in which a segment sees only itself."""
        return self._bind(params).hidden(tokens_BT, positions_BT, segments_BT, jnp.dtype(self.dtype))

    def unembedding(self, params: Params) -> jax.Array:
        """The matrix from hidden states to the vocabulary, (D, V), gathered for use, in the compute dtype."""
        weight = params["embed"]["table"].T if self.config.tied else params["unembed"]["kernel"]
        stored, used = self.rules.weight("embed", "vocab"), self.rules.gathered("embed", "vocab")
        weight = weight.astype(self.dtype)
        return weight if stored == used else jax.sharding.reshard(weight, used)

    def logits(self, params: Params, x_BTD: jax.Array) -> jax.Array:
        """Scores over the vocabulary, (B, T, V), float32. Whole: for losses, use the chunked one in objectives."""
        spec = self.rules.activation("batch", "sequence", "vocab")
        return jnp.einsum(
            "BTD,DV->BTV",
            x_BTD,
            self.unembedding(params),
            preferred_element_type=jnp.float32,
            out_sharding=spec,
        )

    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache for `rows` conversations of up to `slots` tokens."""
        c = self.config
        shape = (c.layers, rows, c.kv_heads, slots, c.head_size)
        spec = self.rules.activation(None, "batch", "kv_heads", None, "head")
        return Cache(*(jnp.zeros(shape, self.dtype, out_sharding=spec) for _ in "kv"))

    def cached(
        self, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """Reads T tokens a row at `positions_BT` (each row its own; -1 is padding), after what the cache holds.

        Returns their hidden states, (B, T, D), and the cache with them in it.
        """
        return self._bind(params).cached(tokens_BT, positions_BT, cache, jnp.dtype(self.dtype))

    def _make(self, key: jax.Array) -> Decoder:
        return Decoder(self.config, self.rules, self.attention, self.remat, key)

    @cached_property
    def _graph(self) -> Any:
        return nnx.split(nnx.eval_shape(lambda: self._make(jax.random.key(0))))[0]

    def _bind(self, params: Params) -> Decoder:
        return nnx.merge(self._graph, params)
