"""Many tokens for many prompts: prefill, then a compiled loop that runs several tokens before it asks the host.

B rows, T tokens of a prompt, S cache slots, V vocabulary, C tokens of one dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.models.cache import Cache
from jaxchat.models.decoder import Model, Params
from jaxchat.models.decoding import for_decoding
from jaxchat.sample.methods import Methods, Sampling, choose, methods
from jaxchat.sample.text import Writer

ROWS = 16  # prompts generated for at once
READ = (32, 128, 512)  # prompt tokens read at once: few lengths, since each is compiled
DISPATCH = 32  # tokens between two looks by the host; fewer when someone reads along
LIVE = 4


@dataclass(frozen=True)
class Completion:
    """text: without the token or string that ended it. token_ids: all that were chosen, an ending token included.
    logprobs: theirs, natural, under the model itself. finish_reason: "stop" for an end of turn or a stop string."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]


OnText = Callable[[int, str], None]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """Where every row stands. token: chosen last and not yet read. position: where it will be read. done: says no more.
    seen: tokens that occurred."""

    cache: Cache
    token_B: jax.Array
    position_B: jax.Array
    done_B: jax.Array
    seen_BV: jax.Array


class Generator:
    """A model laid out for generation, once; `generate` as often as you like.

    stop_ids: tokens that end an answer. The number of compiled shapes is bounded: rows and caches are rounded up to
    powers of two, prompts are read in pieces of a few lengths. Meant to live under one `mesh`.
    """

    def __init__(
        self, model: Model, params: Params, tokenizer: Tokenizer, mesh: jax.sharding.Mesh, stop_ids: Sequence[int] = ()
    ) -> None:
        self.mesh, self.tokenizer = mesh, tokenizer
        with jax.set_mesh(mesh):
            self.model, self.params = for_decoding(replace(model, rules=model.rules.by_rows()), params)
        self.stop_ids = np.array(sorted(stop_ids) or [-1], np.int32)
        self._read = jax.jit(partial(_read, self.model), donate_argnums=1)
        self._first = jax.jit(partial(_first, self.model))
        self._advance = jax.jit(partial(_advance, self.model), donate_argnums=1)
        self._kept: tuple[list[int], Cache] | None = None

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling], on_text: OnText | None = None
    ) -> list[Completion]:
        """Answers every prompt. `on_text(i, more)` is called as the text of prompt i grows.

        Raises InputError for an empty prompt and for one that fills the model's context.
        """
        each = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        done: list[Completion] = []
        for first in range(0, len(prompts), ROWS):
            some = [list(prompt) for prompt in prompts[first : first + ROWS]]
            writers = self._writers(some, each[first : first + ROWS], first, on_text)
            with jax.set_mesh(self.mesh):
                for tokens_BC, logprobs_BC in self._run(some, writers, live=on_text is not None):
                    for writer, tokens, logprobs in zip(writers, tokens_BC, logprobs_BC, strict=False):
                        writer.write(tokens, logprobs)
            done += [Completion(*writer.close()) for writer in writers]
        return done

    def _writers(
        self, prompts: list[list[int]], each: list[Sampling], first: int, on_text: OnText | None
    ) -> list[Writer]:
        context = self.model.config.context_length
        writers = []
        for i, (prompt, sampling) in enumerate(zip(prompts, each, strict=True)):
            if not prompt:
                raise InputError("the prompt is empty; there is nothing to go on from")
            if len(prompt) >= context:
                raise InputError(f"the prompt has {len(prompt)} tokens and the model reads {context}; shorten it")
            room = min(sampling.max_tokens, context - len(prompt))
            ends = frozenset() if sampling.ignore_eos else frozenset(self.stop_ids.tolist())
            hear = partial(on_text, first + i) if on_text else None
            writers.append(Writer(self.tokenizer, replace(sampling, max_tokens=room), ends, hear))
        return writers

    def _run(
        self, prompts: list[list[int]], writers: list[Writer], *, live: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Chunks of tokens and log-probabilities, (B, C) each, until every writer has what it needs."""
        B = _power_of_two(len(prompts), least=self._shards())
        longest = max(len(prompt) + writer.sampling.max_tokens for prompt, writer in zip(prompts, writers))
        slots = min(_power_of_two(longest, least=128), _power_of_two(self.model.config.context_length))
        filled = prompts + [prompts[0][:1]] * (B - len(prompts))
        settings = [writer.sampling for writer in writers] + [Sampling(max_tokens=1)] * (B - len(prompts))
        by = self._place(methods(settings), "batch")
        cache, last_BD = self._prefill(filled, slots)
        seen_BV = np.zeros((B, self.model.config.vocab_size), bool)
        for row, prompt in enumerate(filled):
            seen_BV[row, prompt] = True
        lengths_B = np.array([len(prompt) for prompt in filled], np.int32)
        extra_B = np.arange(B) >= len(prompts)
        stops = jnp.asarray(self.stop_ids)
        rows, token_B, logprob_B = self._first(
            self.params,
            cache,
            last_BD,
            *(self._place(x, "batch") for x in (lengths_B, extra_B)),
            self._place(seen_BV, "batch", None),
            by,
            stops,
        )
        yield np.asarray(token_B)[:, None], np.asarray(logprob_B)[:, None]
        while any(writer.open for writer in writers):
            wanted = max(writer.wants for writer in writers if writer.open)
            over_B = np.array([not writer.open for writer in writers] + [True] * (B - len(prompts)))
            rows = replace(rows, done_B=self._place(over_B, "batch"))
            count = min(wanted, LIVE if live else DISPATCH)
            rows, tokens_BC, logprobs_BC, made = self._advance(self.params, rows, np.int32(count), by, stops)
            made = int(made)
            yield np.asarray(tokens_BC)[:, :made], np.asarray(logprobs_BC)[:, :made]
        if len(prompts) == 1:  # what was read stays for a prompt that goes on from it
            read = prompts[0] + writers[0].token_ids[:-1]
            self._kept = (read, rows.cache)

    def _prefill(self, prompts: list[list[int]], slots: int) -> tuple[Cache, jax.Array]:
        """A cache of the prompts, and the hidden states of their last tokens, (B, D)."""
        begin, cache = self._reuse(prompts, slots)
        if cache is None:
            cache = self.model.empty_cache(len(prompts), slots)
        longest = max(map(len, prompts))
        last_BD = None
        while begin < longest:
            T = next((length for length in READ if length >= longest - begin), READ[-1])
            tokens_BT = np.zeros((len(prompts), T), np.int32)
            positions_BT = np.full((len(prompts), T), -1, np.int32)
            for row, prompt in enumerate(prompts):
                part = prompt[begin : begin + T]
                tokens_BT[row, : len(part)] = part
                positions_BT[row, : len(part)] = np.arange(begin, begin + len(part))
            lengths_B = np.array([len(prompt) for prompt in prompts], np.int32)
            here_BT = positions_BT == lengths_B[:, None] - 1
            cache, found_BD = self._read(
                self.params, cache, *(self._place(x, "batch", "sequence") for x in (tokens_BT, positions_BT, here_BT))
            )
            last_BD = found_BD if last_BD is None else last_BD + found_BD
            begin += T
        assert last_BD is not None
        return cache, last_BD

    def _reuse(self, prompts: list[list[int]], slots: int) -> tuple[int, Cache | None]:
        """How many tokens of a lone prompt the last one's cache already holds, and that cache."""
        kept, self._kept = self._kept, None
        if kept is None or len(prompts) != 1 or kept[1].slots < slots:
            return 0, None
        read, cache = kept
        same = 0
        for old, new in zip(read, prompts[0][:-1], strict=False):  # the last token is read again, for its hidden state
            if old != new:
                break
            same += 1
        return same, cache

    def _shards(self) -> int:
        entry = self.model.rules.activation("batch")[0]
        names = (entry,) if isinstance(entry, str) else entry or ()
        return int(np.prod([self.mesh.shape[name] for name in names], dtype=int))

    def _place(self, tree: Any, *axes: str | None) -> Any:
        sharding = NamedSharding(self.mesh, self.model.rules.activation(*axes))
        return jax.tree.map(lambda x: jax.device_put(x, sharding), tree)


def _read(
    model: Model, params: Params, cache: Cache, tokens_BT: jax.Array, positions_BT: jax.Array, here_BT: jax.Array
) -> tuple[Cache, jax.Array]:
    x_BTD, cache = model.cached(params, tokens_BT, positions_BT, cache)
    return cache, jnp.sum(jnp.where(here_BT[..., None], x_BTD, 0), axis=1)


def _first(
    model: Model,
    params: Params,
    cache: Cache,
    last_BD: jax.Array,
    lengths_B: jax.Array,
    extra_B: jax.Array,
    seen_BV: jax.Array,
    by: Methods,
    stops: jax.Array,
) -> tuple[Rows, jax.Array, jax.Array]:
    rows = Rows(cache, jnp.zeros_like(lengths_B), lengths_B - 1, extra_B, seen_BV)
    return _choose(model, params, rows, last_BD, by, stops)


def _advance(
    model: Model, params: Params, rows: Rows, count: jax.Array, by: Methods, stops: jax.Array
) -> tuple[Rows, jax.Array, jax.Array, jax.Array]:
    """Up to `count` tokens more for the rows that are not done; tokens and log-probabilities (B, C), and how many."""
    B = rows.token_B.shape[0]
    sequence = model.rules.activation("batch", "sequence")

    def column(x_B: jax.Array) -> jax.Array:
        return jax.sharding.reshard(x_B[:, None], sequence)

    def go_on(carry: tuple) -> jax.Array:
        made, rows, *_ = carry
        return (made < count) & ~jnp.all(rows.done_B)

    def body(carry: tuple) -> tuple:
        made, rows, tokens_CB, logprobs_CB = carry
        positions_B = jnp.where(rows.done_B, -1, rows.position_B)
        x_BTD, cache = model.cached(params, column(rows.token_B), column(positions_B), rows.cache)
        last_BD = jax.sharding.reshard(x_BTD[:, 0], _rows_spec(model))
        rows, token_B, logprob_B = _choose(model, params, replace(rows, cache=cache), last_BD, by, stops)
        tokens_CB = tokens_CB.at[made].set(jax.sharding.reshard(token_B, PartitionSpec()))
        logprobs_CB = logprobs_CB.at[made].set(jax.sharding.reshard(logprob_B, PartitionSpec()))
        return made + 1, rows, tokens_CB, logprobs_CB

    start = (jnp.int32(0), rows, jnp.zeros((DISPATCH, B), jnp.int32), jnp.zeros((DISPATCH, B), jnp.float32))
    made, rows, tokens_CB, logprobs_CB = jax.lax.while_loop(go_on, body, start)
    return rows, tokens_CB.T, logprobs_CB.T, made


def _choose(
    model: Model, params: Params, rows: Rows, last_BD: jax.Array, by: Methods, stops: jax.Array
) -> tuple[Rows, jax.Array, jax.Array]:
    """Chooses every row's next token from the hidden state of its last one."""
    sequence = model.rules.activation("batch", "sequence", "embed")
    logits_BTV = model.logits(params, jax.sharding.reshard(last_BD[:, None], sequence))
    logits_BV = jax.sharding.reshard(logits_BTV[:, 0], _rows_spec(model))
    token_B, logprob_B = choose(logits_BV, rows.seen_BV, rows.position_B, by)
    ended_B = jnp.any(token_B[:, None] == stops[None], axis=1) & ~by.ignore_eos_B
    chosen_BV = jnp.arange(logits_BV.shape[1])[None] == token_B[:, None]
    rows = Rows(rows.cache, token_B, rows.position_B + 1, rows.done_B | ended_B, rows.seen_BV | chosen_BV)
    return rows, token_B, logprob_B


def _rows_spec(model: Model) -> PartitionSpec:
    return model.rules.activation("batch", None)


def _power_of_two(number: int, least: int = 1) -> int:
    return max(least, 1 << (number - 1).bit_length())
