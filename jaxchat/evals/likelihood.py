"""How likely texts are after others: what a choice between answers, or a text's own likelihood, asks of a model.

Requests share rows, where none sees another (see evals/rows.py), in few compiled shapes. Those that read the same
tokens and differ in the last alone, as the letters of a multiple choice do, are read once.

Shapes: B rows, T tokens in a row, K last tokens, N scored tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxchat.data.packing import Piece
from jaxchat.errors import InputError
from jaxchat.evals.rows import batches, row_lengths
from jaxchat.hub.open import Opened
from jaxchat.models.decoder import Model, Params
from jaxchat.progress import Bar

# Logits held at once, in numbers; on a CPU fewer tokens, for a bar that moves.
AT_ONCE = 1 << 28
BATCH_TOKENS = {"cpu": 2048}
BATCH_TOKENS_ELSEWHERE = 16_384
# Scored tokens that a row's float32 tells apart.
MOST_SCORED = 1 << 24

Ids = Sequence[int]


class Likelihood(NamedTuple):
    """Of a continuation: its log-probability (natural), how many tokens that is over, whether greedy decoding would
    say it."""

    logprob: float
    tokens: int
    greedy: bool


@dataclass
class _Read:
    """Tokens that are read once. first: number of its first scored token; last: what may be the last, and who asks."""

    first: int
    count: int
    last: list[int] = field(default_factory=list)
    asked_by: list[int] = field(default_factory=list)


def likelihoods(
    opened: Opened,
    requests: Sequence[tuple[Ids, Ids]],
    *,
    label: str = "scoring",
    batch_tokens: int | None = None,
    on_done: Callable[[int, Likelihood], None] | None = None,
) -> list[Likelihood]:
    """Of every (context, continuation), token ids, neither empty. A context too long is cut from the left. `on_done` is
    told of each as soon as it is known.

    Raises InputError for a continuation longer than the model's context, and for more than MOST_SCORED tokens.
    """
    reads, pieces = _pieces(requests, opened.config.context_length)
    scored = 1 + sum(read.count for read in reads)
    if scored > MOST_SCORED:
        raise InputError(f"{label}: more than {MOST_SCORED:,} tokens to score; take fewer with --limit")
    K = 1 << (max((len(read.last) for read in reads), default=1) - 1).bit_length()
    targets_NK = np.zeros((scored, K), np.int32)
    owner_N = np.zeros(scored, np.int64)
    for i, (read, (_, continuation)) in enumerate((read, requests[read.asked_by[0]]) for read in reads):
        here = slice(read.first, read.first + read.count)
        targets_NK[here, 0] = continuation
        targets_NK[here.stop - 1, : len(read.last)] = read.last
        owner_N[here] = i
    found: list[Likelihood | None] = [None] * len(requests)
    sharding = NamedSharding(opened.mesh, opened.model.rules.activation("batch", "sequence"))
    devices = opened.mesh.size // sharding.shard_shape((opened.mesh.size, opened.mesh.size))[0]
    if batch_tokens is None:
        most = BATCH_TOKENS.get(opened.mesh.devices.flat[0].platform, BATCH_TOKENS_ELSEWHERE)
        batch_tokens = min(most, AT_ONCE // opened.config.vocab_size)
    rows = batches(
        pieces, row_lengths(opened.config.context_length), opened.tokenizer.pad_id, batch_tokens * devices, devices
    )
    with jax.set_mesh(opened.mesh), Bar(label, len(requests), "requests") as bar:
        for arrays in rows:
            numbers_BT = arrays["weights"].astype(np.int64)
            tokens_BT, positions_BT, segments_BT = (
                jax.device_put(arrays[name], sharding) for name in ("tokens", "positions", "segments")
            )
            logprobs_BTK, best_BT = (
                np.asarray(x)
                for x in _read(
                    opened.model, opened.params, tokens_BT, positions_BT, segments_BT, targets_NK[numbers_BT]
                )
            )
            where = numbers_BT > 0
            numbers, logprobs, best = numbers_BT[where], logprobs_BTK[where].astype(np.float64), best_BT[where]
            place = dict(zip(numbers.tolist(), range(len(numbers))))
            for i in sorted(set(owner_N[numbers].tolist())):
                read = reads[i]
                at = [place[read.first + j] for j in range(read.count)]
                before = float(logprobs[at[:-1], 0].sum())
                agreed = bool((best[at[:-1]] == targets_NK[read.first : read.first + read.count - 1, 0]).all())
                for k, request in enumerate(read.asked_by):
                    same = agreed and int(best[at[-1]]) == read.last[k]
                    one = Likelihood(before + float(logprobs[at[-1], k]), read.count, same)
                    found[request] = one
                    if on_done:
                        on_done(request, one)
                    bar.advance()
    assert None not in found
    return found  # type: ignore[return-value]


def _pieces(requests: Sequence[tuple[Ids, Ids]], context: int) -> tuple[list[_Read], list[Piece]]:
    """What is to be read, each once; a piece's weights number the tokens that it scores, at the token before each."""
    reads: dict[tuple[tuple[int, ...], int], _Read] = {}
    pieces: list[Piece] = []
    scored = 1
    for i, (before, continuation) in enumerate(requests):
        if not len(before) or not len(continuation):
            raise ValueError("a context and a continuation have at least one token each")
        if len(continuation) > context:
            raise InputError(
                f"a continuation of {len(continuation):,} tokens is longer than what the model reads ({context:,})"
            )
        inputs = tuple([*before, *continuation][-(context + 1) : -1])
        key = inputs, len(continuation)
        if key not in reads:
            weights = np.zeros(len(inputs), np.float32)
            weights[len(inputs) - len(continuation) :] = np.arange(scored, scored + len(continuation))
            pieces.append(Piece(np.array(inputs, np.int32), weights))
            reads[key] = _Read(scored, len(continuation))
            scored += len(continuation)
        reads[key].last.append(continuation[-1])
        reads[key].asked_by.append(i)
    return list(reads.values()), pieces


@partial(jax.jit, static_argnums=0)
def _read(
    model: Model,
    params: Params,
    tokens_BT: jax.Array,
    positions_BT: jax.Array,
    segments_BT: jax.Array,
    targets_BTK: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of `targets_BTK` as the next tokens, and the likeliest next tokens, (B, T)."""
    x_BTD = model.hidden(params, tokens_BT, positions_BT, segments_BT)
    whole = model.rules.activation("batch", "sequence", None)
    logits_BTV = jax.sharding.reshard(model.logits(params, x_BTD), whole)
    targets_BTK = jax.sharding.reshard(targets_BTK, whole)
    chosen_BTK = jnp.take_along_axis(logits_BTV, targets_BTK, axis=-1)
    return chosen_BTK - jax.nn.logsumexp(logits_BTV, axis=-1, keepdims=True), jnp.argmax(logits_BTV, axis=-1)
