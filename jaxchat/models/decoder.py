"""The decoder: embedding, a stack of blocks under one scan, final norm, unembedding.

B rows, T tokens, S cache slots, L layers, D width, K key-value heads, H head size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxchat.host_memory import fetched
from jaxchat.models.attention import SAVED, Auto, Backend, Sight
from jaxchat.models.block import Block
from jaxchat.models.cache import Cache
from jaxchat.models.config import DecoderConfig, Kind
from jaxchat.models.int8 import Int8, Int8Blocks
from jaxchat.models.layers import PRODUCT, Fetch, Layout, Linear, norm, normal
from jaxchat.models.lookup import lookup
from jaxchat.models.mixture import Routed
from jaxchat.models.rotary import Rotation, rotation
from jaxchat.models.streaming import streamed, streamed_invariantly
from jaxchat.sharding import MeshAxes, Rules, names

Params = dict[str, Any]
Remat = Literal["none", "dots", "full"]
Step = Callable[[Kind, jax.Array, Any], tuple[jax.Array, Any]]
DOTS = jax.checkpoint_policies.save_only_these_names(SAVED, PRODUCT)


class Embed(nnx.Module):
    """layout: in "invariant" the table lies as the unembedding of a tied model reads it, (D, V)."""

    def __init__(self, config: DecoderConfig, rules: Rules, layout: Layout, key: jax.Array) -> None:
        table = normal(key, (config.vocab_size, config.width), config.width**-0.5, rules.weight("vocab", "embed"))
        self.table = nnx.Param(table.T if layout == "invariant" else table)
        self.rules, self.layout, self.scale = rules, layout, config.embed_scale

    def __call__(self, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        table = self.table[...]
        if isinstance(table, Int8Blocks):
            x_BTD = table.columns(tokens_BT, dtype)
        elif self.layout == "invariant":
            x_BTD = jnp.moveaxis(table[:, tokens_BT].astype(dtype), 0, -1)
        elif isinstance(table, Int8):
            x_BTD = table.rows(tokens_BT, dtype, self.rules.activation("batch", "sequence", "embed"))
        else:
            x_BTD = lookup(table, tokens_BT, self.rules, dtype)
        return x_BTD if self.scale == 1 else x_BTD * jnp.asarray(self.scale, dtype)


class Positions(nnx.Module):
    """An embedding of every position that the model was made for."""

    def __init__(self, config: DecoderConfig, rules: Rules, key: jax.Array) -> None:
        shape, axes = (config.context_length, config.width), ("positions", "embed")
        self.table = nnx.Param(normal(key, shape, config.width**-0.5, rules.weight(*axes)))
        self.fetch, self.out_spec = Fetch(rules, axes), rules.activation("batch", "sequence", "embed")

    def __call__(self, positions_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        return self.fetch(self.table, dtype).at[jnp.maximum(positions_BT, 0)].get(out_sharding=self.out_spec)


class Unembed(nnx.Module):
    def __init__(self, config: DecoderConfig, rules: Rules, layout: Layout, key: jax.Array) -> None:
        by_words = layout == "training" and divides(config.vocab_size, rules.weight("words")[0])
        axes = ("read", "words") if by_words else ("embed", "vocab")
        self.kernel = Linear(rules, axes, layout=layout).init(key, (config.width, config.vocab_size))


class Decoder(nnx.Module):
    """A whole decoder; `layers` is one Block whose every weight has a leading layer axis, or a list of Blocks."""

    def __init__(
        self, config: DecoderConfig, rules: Rules, backend: Backend, remat: Remat, layout: Layout, key: jax.Array
    ) -> None:
        embed_key, layers_key, unembed_key = jax.random.split(key, 3)
        self.embed = Embed(config, rules, layout, embed_key)
        self.positions = Positions(config, rules, jax.random.fold_in(key, 3)) if config.learned_positions else None
        keys = jax.random.split(layers_key, config.layers)
        make_block = partial(Block, config, rules, backend, layout)
        stacked = layout == "training"
        self.layers: Any = jax.vmap(make_block)(keys) if stacked else nnx.List([make_block(k) for k in keys])
        self.norm = norm(config.width, config.norm, rules, layout)
        if not config.tied:
            self.unembed = Unembed(config, rules, layout, unembed_key)
        self.config, self.rules, self.remat, self.layout = config, rules, remat, layout

    def read(
        self, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array, dtype: jnp.dtype
    ) -> tuple[jax.Array, Routed | None]:
        keys_BT = jax.sharding.reshard(segments_BT, self.rules.activation("batch", "keys"))
        sees = self._sees(positions_BT, lambda window: Sight.packed(segments_BT, keys_BT, window))
        x_BTD = self._embed(tokens_BT, positions_BT, dtype)
        if self.layout != "training":
            each = []
            for i, block in enumerate(self.layers):
                x_BTD, routed = block(x_BTD, *sees[self.config.kind(i)])
                each.append(routed)
            return self.norm(x_BTD), jax.tree.map(lambda *layers: jnp.stack(layers), *each)
        graph, stacked = nnx.split(self.layers)

        def step(kind: Kind, x_BTD: jax.Array, layer: Any) -> tuple[jax.Array, Routed | None]:
            return nnx.merge(graph, fetched(layer))(x_BTD, *sees[kind])

        x_BTD, routed = self._through(step, x_BTD, stacked, self.remat)
        return self.norm(x_BTD), routed

    def cached(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array,
        cache: Cache,
        rows_B: jax.Array | None,
        span: int | None,
        dtype: jnp.dtype,
    ) -> tuple[jax.Array, Cache]:
        sees = self._sees(positions_BT, lambda window: Sight.cached(positions_BT, span or cache.slots, window))
        x_BTD = self._embed(tokens_BT, positions_BT, dtype)
        if self.layout != "training":
            kept = []
            for i, (block, *layer) in enumerate(zip(self.layers, cache.k_LBKHS, cache.v_LBKSH, strict=True)):
                by, sight = sees[self.config.kind(i)]
                x_BTD, *layer = block.cached(x_BTD, by, positions_BT, sight, *layer, rows_B)
                kept.append(layer)
            return self.norm(x_BTD), Cache(*zip(*kept, strict=True))
        graph, stacked = nnx.split(self.layers)

        def step(kind: Kind, x_BTD: jax.Array, layer: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            weights, k_BKHS, v_BKSH = layer
            by, sight = sees[kind]
            x_BTD, *layer = nnx.merge(graph, weights).cached(x_BTD, by, positions_BT, sight, k_BKHS, v_BKSH, rows_B)
            return x_BTD, tuple(layer)

        x_BTD, (k, v) = self._through(step, x_BTD, (stacked, cache.k_LBKHS, cache.v_LBKSH))
        return self.norm(x_BTD), Cache(k, v)

    def _embed(self, tokens_BT: jax.Array, positions_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        x_BTD = self.embed(tokens_BT, dtype)
        return x_BTD if self.positions is None else x_BTD + self.positions(positions_BT, dtype)

    def _sees(
        self, positions_BT: jax.Array, sight: Callable[[int | None], Sight]
    ) -> dict[Kind, tuple[Rotation | None, Sight]]:
        """What each kind of layer turns its queries and keys by, and whom they see: the same for all of its layers."""
        config = self.config
        turns = {kind.rotary for kind in config.kinds}
        by = {one: None if one is None else rotation(positions_BT, config.turned(one), one) for one in turns}
        seen = {window: sight(window) for window in {kind.window for kind in config.kinds}}
        return {kind: (by[kind.rotary], seen[kind.window]) for kind in config.kinds}

    def _through(self, step: Step, x_BTD: jax.Array, stacked: Any, remat: Remat = "none") -> tuple[jax.Array, Any]:
        """Takes x through all layers by `step(kind, x, layer)`, and stacks what each returns beside it.

        One scan. Where kinds of layers alternate, an iteration of it is one round of them, in which every kind is known
        when the program is compiled; what does not fill a round follows.
        """
        steps = [_recomputed(partial(step, kind), remat) for kind in self.config.kinds]
        count = len(steps)
        if count == 1:
            return jax.lax.scan(steps[0], x_BTD, stacked)
        whole = self.config.layers // count * count

        def run(x_BTD: jax.Array, layers: Any, steps: list[Any]) -> tuple[jax.Array, Any]:
            outs = []
            for i, step in enumerate(steps):
                x_BTD, out = step(x_BTD, jax.tree.map(lambda leaf: leaf[i], layers))  # noqa: B023
                outs.append(out)
            return x_BTD, jax.tree.map(lambda *each: jnp.stack(each), *outs)

        rounds = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, count, *leaf.shape[1:]), stacked)
        x_BTD, outs = jax.lax.scan(partial(run, steps=steps), x_BTD, rounds)
        outs = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outs)
        if rest := self.config.layers - whole:
            x_BTD, more = run(x_BTD, jax.tree.map(lambda leaf: leaf[whole:], stacked), steps[:rest])
            outs = jax.tree.map(lambda *each: jnp.concatenate(each), outs, more)
        return x_BTD, outs


def divides(size: int, entry: MeshAxes) -> bool:
    """Whether an axis of this size can be split over these mesh axes."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return size % math.prod(sizes.get(axis, 1) for axis in names(entry)) == 0


def _recomputed(step: Any, remat: Remat) -> Any:
    if remat == "none":
        return step
    return jax.checkpoint(step) if remat == "full" else jax.checkpoint(step, policy=DOTS)


@dataclass(frozen=True)
class Model:
    """How a decoder is computed: its shape, where its arrays lie, in which precision. Hashable; it holds no arrays.

    dtype: of activations and of weights at use; parameters are float32. remat: what the backward pass recomputes:
    "none" of the blocks, all but their matrix products ("dots"), or everything ("full"). layout: of the parameters;
    "training" stacks the layers and scans them, for "decoding" and "invariant" see models/decoding.py.
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
        return jax.eval_shape(lambda: self.init(jax.random.key(0)))

    def variables(self) -> dict[tuple[Any, ...], nnx.Param[Any]]:
        """Every parameter by its path, abstract, with what its maker noted on it."""
        return dict(nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: self._make(jax.random.key(0))), nnx.Param)))

    def hidden(
        self, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array
    ) -> jax.Array:
        """Final hidden states, normed, (B, T, D): packed rows, in which a segment sees only itself."""
        return self.read(params, tokens_BT, positions_BT, segments_BT)[0]

    def read(
        self, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array
    ) -> tuple[jax.Array, Routed | None]:
        """The same, and what the routers of all layers did with the tokens, where experts are mixed."""
        return self._bind(params).read(tokens_BT, positions_BT, segments_BT, jnp.dtype(self.dtype))

    def logits(self, params: Params, x_BTD: jax.Array) -> jax.Array:
        """Scores over the vocabulary, (B, T, V), float32. Whole: for losses, use the chunked one in objectives."""
        weight = params["embed"]["table"] if self.config.tied else params["unembed"]["kernel"]
        if self.layout != "training":
            times = streamed_invariantly if self.layout == "invariant" else streamed
            return self._capped(times(x_BTD, weight).astype(jnp.float32))
        weight_DV = weight.astype(self.dtype).T if self.config.tied else weight
        logits_BTV = jnp.einsum(
            "BTD,DV->BTV",
            x_BTD,
            jax.sharding.reshard(weight_DV.astype(self.dtype), self.rules.gathered("embed", "vocab")),
            preferred_element_type=jnp.float32,
            out_sharding=self.rules.activation("batch", "sequence", "vocab"),
        )
        return self._capped(logits_BTV)

    def _capped(self, logits_BTV: jax.Array) -> jax.Array:
        cap = self.config.logit_cap
        return logits_BTV if cap is None else cap * jnp.tanh(logits_BTV / cap)

    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache for `rows` conversations of up to `slots` tokens."""
        c = self.config
        k_shape, v_shape = (rows, c.kv_heads, c.head_size, slots), (rows, c.kv_heads, slots, c.head_size)
        if self.layout != "training":
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
        self,
        params: Params,
        tokens_BT: jax.Array,
        positions_BT: jax.Array,
        cache: Cache,
        rows_B: jax.Array | None = None,
        span: int | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Reads T tokens a row at `positions_BT` (each row its own; -1 is padding), after what the cache holds.

        rows_B: which rows of the cache these are, counted on each device among its own; None: all, in order. span: only
        so many slots are looked at, and no position lies behind them; None: all. Returns the tokens' hidden states,
        (B, T, D), and the cache with them in it.
        """
        return self._bind(params).cached(tokens_BT, positions_BT, cache, rows_B, span, jnp.dtype(self.dtype))

    def _make(self, key: jax.Array) -> Decoder:
        return Decoder(self.config, self.rules, self.attention, self.remat, self.layout, key)

    @cached_property
    def _graph(self) -> Any:
        return nnx.split(nnx.eval_shape(lambda: self._make(jax.random.key(0))))[0]

    def _bind(self, params: Params) -> Decoder:
        return nnx.merge(self._graph, params)
