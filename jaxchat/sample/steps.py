"""What the engine runs on the device: prompts read piece by piece, tokens chosen for many rows at once.

B rows of the cache, R of them that a step is for, T tokens of a piece, C tokens of one dispatch, G guessed tokens, D
width, V vocabulary, W = V / 32 words of a mask, K of the likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxchat.models.cache import Cache, take
from jaxchat.models.decoder import Model, Params
from jaxchat.sample.methods import History, Methods, adjust, allow, choose

DISPATCH = 32  # tokens of one dispatch at most
TOP = 20  # of the likeliest tokens, as many as can be asked for


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What stays on the device: of every row the keys and values of what it has read, and what it has said, (B, V)."""

    cache: Cache
    history: History


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """The rows of one step. rows: which of the cache's, each device's among its own; None: all, in order.

    token: chosen last and not yet read. position: where it will be read; -1: no row at all. left: tokens it may still
    say. adjusts: its history counts. masked: only what `allowed` says may be chosen. names: its likeliest tokens are
    asked for.
    """

    rows_R: jax.Array | None
    token_R: jax.Array
    position_R: jax.Array
    left_R: jax.Array
    adjusts_R: jax.Array
    masked_R: jax.Array
    names_R: jax.Array
    allowed_RW: jax.Array
    by: Methods


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chosen:
    """Tokens, their log-probabilities, and the likeliest ones with theirs; of each step of a dispatch."""

    token_CR: jax.Array
    logprob_CR: jax.Array
    top_CRK: jax.Array
    top_logprob_CRK: jax.Array


def empty_state(model: Model, rows: int, slots: int) -> State:
    """Of rows that have read nothing, each with room for so many tokens."""
    V, spec = model.config.vocab_size, _rows_spec(model)
    history = History(*(jnp.zeros((rows, V), kind, out_sharding=spec) for kind in (bool, jnp.int32, jnp.float32)))
    return State(model.empty_cache(rows, slots), history)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def read(
    model: Model,
    span: int,
    params: Params,
    cache: Cache,
    rows_R: jax.Array | None,
    tokens_RT: jax.Array,
    positions_RT: jax.Array,
) -> Cache:
    """The cache with T more tokens of some rows in it; position -1 is padding. span: slots that are looked at."""
    sequence = model.rules.activation("batch", "sequence")
    tokens_RT, positions_RT = (jax.sharding.reshard(x, sequence) for x in (tokens_RT, positions_RT))
    return model.cached(params, tokens_RT, positions_RT, cache, rows_R, span)[1]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def advance(
    model: Model, span: int, params: Params, state: State, batch: Batch, count: jax.Array, stops: jax.Array
) -> tuple[State, Chosen, jax.Array]:
    """Up to `count` tokens more for every row that has not ended; what was chosen, and how many steps that took."""
    R = len(batch.token_R)
    done_R = jax.sharding.reshard(batch.position_R < 0, _rows_spec(model, 1))
    nothing = Chosen(
        jnp.zeros((DISPATCH, R), jnp.int32),
        jnp.zeros((DISPATCH, R), jnp.float32),
        jnp.zeros((DISPATCH, R, TOP), jnp.int32),
        jnp.zeros((DISPATCH, R, TOP), jnp.float32),
    )

    def go_on(carry: tuple) -> jax.Array:
        made, _, _, _, done_R, _ = carry
        return (made < count) & ~jnp.all(done_R)

    def body(carry: tuple) -> tuple:
        made, state, token_R, position_R, done_R, chosen = carry
        at_R = jnp.where(done_R, -1, position_R)
        sequence = model.rules.activation("batch", "sequence")
        token_R1, at_R1 = (jax.sharding.reshard(x_R[:, None], sequence) for x_R in (token_R, at_R))
        x_R1D, cache = model.cached(params, token_R1, at_R1, state.cache, batch.rows_R, span)
        logits_RV = _logits(model, params, x_R1D)[:, 0]
        history, now = _choose(model, logits_RV, state.history, replace(batch, position_R=at_R))
        token_R = now[0]
        ended_R = jnp.any(token_R[:, None] == stops[None], axis=1) & ~batch.by.ignore_eos_B
        done_R = done_R | ended_R | (made + 1 >= batch.left_R)
        chosen = jax.tree.map(lambda all, one: all.at[made].set(_whole(one)), chosen, Chosen(*now))
        return made + 1, State(cache, history), token_R, position_R + 1, done_R, chosen

    start = (jnp.int32(0), state, batch.token_R, batch.position_R, done_R, nothing)
    made, state, _, _, _, chosen = jax.lax.while_loop(go_on, body, start)
    return state, chosen, made


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def verify(
    model: Model, span: int, params: Params, state: State, batch: Batch, draft_RG: jax.Array
) -> tuple[State, Chosen, jax.Array]:
    """Reads every row's token and, after it, a draft of what may follow (-1: nothing), all at once.

    Returns what is chosen at each of the G + 1 places, and of how many the row really came to: a place counts when all
    that was chosen before it was as drafted. So a row always comes to one at least.
    """
    sequence = model.rules.activation("batch", "sequence")
    token_R1, draft_RG, at_R1, left_R1 = (
        jax.sharding.reshard(x, sequence)
        for x in (batch.token_R[:, None], draft_RG, batch.position_R[:, None], batch.left_R[:, None])
    )
    tokens_RT = jnp.concatenate([token_R1, draft_RG], axis=1)
    t_1T = jnp.arange(tokens_RT.shape[1])[None]
    real_RT = (at_R1 >= 0) & (tokens_RT >= 0) & (t_1T < left_R1)
    positions_RT = jnp.where(real_RT, at_R1 + t_1T, -1)
    x_RTD, cache = model.cached(params, jnp.maximum(tokens_RT, 0), positions_RT, state.cache, batch.rows_R, span)
    logits_RTV = _logits(model, params, x_RTD)
    follows_RT = jnp.concatenate([jnp.where(real_RT[:, 1:], draft_RG, -1), jnp.full_like(token_R1, -1)], axis=1)

    def place(carry: tuple[History, jax.Array], at: tuple) -> tuple:
        history, real_R = carry
        logits_RV, position_R, follows_R = at
        here = replace(batch, position_R=jnp.where(real_R, position_R, -1))
        history, now = _choose(model, logits_RV, history, here)
        return (history, real_R & (now[0] == follows_R)), (now, real_R)

    places = (logits_RTV.swapaxes(0, 1), positions_RT.T, follows_RT.T)
    real_R = jax.sharding.reshard(batch.position_R >= 0, _rows_spec(model, 1))
    ended: Any = jax.lax.scan(place, (state.history, real_R), places)
    (history, _), found = ended
    chosen, real_TR = jax.tree.map(_whole, found)
    return State(cache, history), Chosen(*chosen), jnp.sum(real_TR, axis=0)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def remember(model: Model, history: History, row: jax.Array, asked_V: jax.Array, bias_V: jax.Array) -> History:
    """The history with one row begun anew: the tokens of its prompt and its biases."""
    here_B1 = jax.sharding.reshard(jnp.arange(len(history.said_BV))[:, None] == row, _rows_spec(model))
    return History(
        jnp.where(here_B1, asked_V, history.asked_BV),
        jnp.where(here_B1, 0, history.said_BV),
        jnp.where(here_B1, bias_V, history.bias_BV),
    )


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def copy(model: Model, span: int, cache: Cache, from_D: jax.Array, to_D: jax.Array) -> Cache:
    """The cache with the first `span` slots of one row in another as well, on each device that holds rows; a row `to`
    that does not exist is none."""
    stacked = model.layout == "training"

    def one(x: jax.Array, spec: PartitionSpec, slots_last: bool) -> jax.Array:
        def on_device(x: jax.Array, from_1: jax.Array, to_1: jax.Array) -> jax.Array:
            at = (slice(None),) * stacked
            seen = (slice(None),) * (2 if slots_last else 1) + (slice(span),)
            return x.at[(*at, to_1, *seen)].set(x[(*at, from_1, *seen)], mode="drop")

        over = PartitionSpec(spec[int(stacked)])
        return jax.shard_map(on_device, in_specs=(spec, over, over), out_specs=spec)(x, from_D, to_D)

    axes = ((None,) * stacked, "batch", "kv_heads")
    k_spec = model.rules.activation(*axes[0], "batch", "kv_heads", "head", "keys")
    v_spec = model.rules.activation(*axes[0], "batch", "kv_heads", "keys", "head")
    return Cache(
        jax.tree.map(lambda x: one(x, k_spec, True), cache.k_LBKHS),
        jax.tree.map(lambda x: one(x, v_spec, False), cache.v_LBKSH),
    )


@partial(jax.jit, static_argnums=0)
def pooled(model: Model, params: Params, tokens_1T: jax.Array, length: jax.Array) -> jax.Array:
    """The mean of the final hidden states of the first `length` tokens, (D,), float32."""
    t_1T = jnp.arange(tokens_1T.shape[1])[None]
    within_1T = t_1T < length
    x_1TD = model.hidden(params, tokens_1T, t_1T, within_1T.astype(jnp.int32))
    x_TD = _whole(x_1TD)[0].astype(jnp.float32)
    return jnp.sum(jnp.where(within_1T[0, :, None], x_TD, 0), axis=0) / length


def _logits(model: Model, params: Params, x_RTD: jax.Array) -> jax.Array:
    logits_RTV = model.logits(params, x_RTD)
    return jax.sharding.reshard(logits_RTV, _rows_spec(model, 3))


def _choose(
    model: Model, logits_RV: jax.Array, history: History, batch: Batch
) -> tuple[History, tuple[jax.Array, jax.Array, jax.Array, jax.Array]]:
    """The next token of every row, its log-probability under the model itself, and the likeliest with theirs."""
    spec = _rows_spec(model)

    def adjusted() -> jax.Array:
        rows_R = batch.rows_R
        mine = history if rows_R is None else jax.tree.map(lambda x_BV: take(x_BV, rows_R, spec), history)
        return jnp.where(batch.adjusts_R[:, None], adjust(logits_RV, mine, batch.by), logits_RV)

    x_RV = jax.lax.cond(jnp.any(batch.adjusts_R), adjusted, lambda: logits_RV)
    x_RV = jax.lax.cond(jnp.any(batch.masked_R), lambda: allow(x_RV, batch.allowed_RW), lambda: x_RV)
    token_R = choose(x_RV, batch.position_R, batch.by)
    norm_R = jax.nn.logsumexp(logits_RV, axis=-1)
    chosen_RV = jnp.arange(logits_RV.shape[1])[None] == token_R[:, None]
    logprob_R = jnp.sum(jnp.where(chosen_RV, logits_RV, 0.0), axis=-1) - norm_R
    top_RK, top_logprob_RK = _likeliest(logits_RV, norm_R, batch.names_R, spec)
    said_BV = _count(history.said_BV, token_R, batch, spec)
    return replace(history, said_BV=said_BV), (token_R, logprob_R, top_RK, top_logprob_RK)


def _likeliest(
    logits_RV: jax.Array, norm_R: jax.Array, names_R: jax.Array, spec: PartitionSpec
) -> tuple[jax.Array, jax.Array]:
    """The TOP likeliest tokens of every row and their log-probabilities, where any row asks; else zeros."""
    R, V = logits_RV.shape
    count = min(TOP, V)

    def found() -> tuple[jax.Array, jax.Array]:
        best_RK, token_RK = jax.shard_map(
            lambda x: tuple(jax.lax.top_k(x, count)), in_specs=spec, out_specs=(spec, spec)
        )(logits_RV)
        fill = ((0, 0), (0, TOP - count))
        return jnp.pad(token_RK, fill), jnp.pad(best_RK - norm_R[:, None], fill, constant_values=-jnp.inf)

    def none() -> tuple[jax.Array, jax.Array]:
        zeros = (jnp.zeros((R, TOP), kind) for kind in (jnp.int32, jnp.float32))
        token_RK, logprob_RK = (jax.sharding.reshard(x, spec) for x in zeros)
        return token_RK, logprob_RK

    return jax.lax.cond(jnp.any(names_R), found, none)


def _count(said_BV: jax.Array, token_R: jax.Array, batch: Batch, spec: PartitionSpec) -> jax.Array:
    """What every row has said, with one token more; rows that are none say nothing."""
    rows_spec = PartitionSpec(spec[0])

    def add(said_BV: jax.Array, token_R: jax.Array, position_R: jax.Array, rows_R: jax.Array | None) -> jax.Array:
        row_R = jnp.arange(len(token_R)) if rows_R is None else rows_R
        return said_BV.at[jnp.where(position_R < 0, len(said_BV), row_R), token_R].add(1, mode="drop")

    return jax.shard_map(add, in_specs=(spec, rows_spec, rows_spec, rows_spec), out_specs=spec)(
        said_BV, token_R, batch.position_R, batch.rows_R
    )


def _whole(x: jax.Array) -> jax.Array:
    return jax.sharding.reshard(x, PartitionSpec())


def _rows_spec(model: Model, axes: int = 2) -> PartitionSpec:
    """Of an array whose first axis is rows, the others whole on every device."""
    return model.rules.activation("batch", *(None,) * (axes - 1))
