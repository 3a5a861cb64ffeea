"""Perplexity of a model on conversations: per token, per word, and as bits per byte (see evals/scores.py).

Every conversation is scored alone, rendered by the model's own chat template with its default system prompt, every
token but the first.

Shapes: B rows, T tokens in a row, N parts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxchat.chat.conversation import Conversation
from jaxchat.chat.template import ChatFormat
from jaxchat.data.batch import Batch, place
from jaxchat.data.packing import Piece
from jaxchat.data.rendering import examples
from jaxchat.errors import InputError
from jaxchat.evals.rows import batches, row_lengths, windows
from jaxchat.evals.scores import Parts, Scores, Talk, exp
from jaxchat.evals.text import TextCounter
from jaxchat.hub.open import Opened
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import nll
from jaxchat.progress import Bar, track

# Tokens computed at once on one device: few enough on a CPU for a bar that moves, many elsewhere to fill the device.
BATCH_TOKENS = {"cpu": 2048}
BATCH_TOKENS_ELSEWHERE = 16_384
# Parts that a row's float32 tells apart.
MOST_PARTS = 1 << 24


def score(
    opened: Opened,
    format: ChatFormat,
    conversations: Sequence[Conversation],
    *,
    stride: int | None = None,
    batch_tokens: int | None = None,
    label: str = "scoring",
    languages: Mapping[str, str] | None = None,
) -> Scores:
    """Scores `conversations` as `format` renders them, with bars on standard error.

    stride: tokens that a window moves on over a conversation longer than the model's context; half the context by
    default. batch_tokens: computed at once on one device. languages: of conversations, by their ids.

    Raises:
        InputError: a stride that leaves a token without context; no conversation that the template takes; more than
            MOST_PARTS turns; a model whose likelihoods are not finite.
    """
    context = opened.config.context_length
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride < context:
        raise InputError(
            f"the stride {stride} must be at least 1 and less than the model's context of {context} tokens"
        )
    rendered = _render(format, conversations, languages or {}, context, stride, label)
    total = sum(rendered.tokens)
    if not total:
        reason = next(iter(rendered.refusals), "they have no tokens to predict")
        raise InputError(f"{label}: none of the {len(conversations):,} conversations can be scored ({reason})")
    if len(rendered.of) >= MOST_PARTS:
        raise InputError(f"{label}: more than {MOST_PARTS:,} turns; score some of the conversations")
    sharding = NamedSharding(opened.mesh, opened.model.rules.activation("batch", "sequence"))
    devices = opened.mesh.size // sharding.shard_shape((opened.mesh.size, opened.mesh.size))[0]
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(opened.mesh.devices.flat[0].platform, BATCH_TOKENS_ELSEWHERE)
    rows = batches(rendered.pieces, row_lengths(context), opened.tokenizer.pad_id, batch_tokens * devices, devices)
    nll_N, done = np.zeros(1 + len(rendered.of)), 0
    with jax.set_mesh(opened.mesh), Bar(label, total, "tokens") as bar:
        for arrays in rows:
            batch = Batch.of_rows(arrays)
            nll_BT = np.asarray(_nll(opened.model, opened.params, place(batch, sharding)), np.float64)
            parts_BT = batch.weights_BT.astype(int)
            scored_BT = parts_BT > 0
            nll_N += np.bincount(parts_BT[scored_BT], nll_BT[scored_BT], len(nll_N))
            now = int(scored_BT.sum())
            done += now
            so_far = float(nll_N.sum())
            if not math.isfinite(so_far):
                raise InputError(f"{label}: the model's likelihoods are not finite; its weights are damaged")
            bar.advance(now, perplexity=exp(so_far, done))
    assert done == total
    return rendered.scored(nll_N[1:], stride)


@partial(jax.jit, static_argnums=0)
def _nll(model: Model, params: Params, batch: Batch) -> jax.Array:
    return nll(model, params, batch)


@dataclass
class _Rendered:
    """Conversations ready to be scored. A part is a turn of the assistant's, or all else of a conversation (turn 0);
    the pieces' weights say which part a token is of, counted from 1."""

    pieces: list[Piece] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)
    of: list[int] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    text: list[tuple[int, int]] = field(default_factory=list)
    """Bytes and words: of a turn, or of the whole conversation."""
    long: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    def part(self, turn: int, tokens: int, text: tuple[int, int]) -> int:
        """Adds a part of the last conversation; returns its number."""
        self.of.append(len(self.talks) - 1)
        self.turn.append(turn)
        self.tokens.append(tokens)
        self.text.append(text)
        return len(self.of)

    def scored(self, nll_N: np.ndarray, stride: int) -> Scores:
        of, turn, tokens = (np.array(column, int) for column in (self.of, self.turn, self.tokens))
        bytes, words = np.array(self.text, int).reshape(-1, 2).T
        parts = Parts(of, turn, tokens, bytes, words, nll_N)
        count, rest = len(self.talks), parts.where(turn == 0)
        everything = parts.by_conversation(count)
        whole = Parts(rest.of, rest.turn, everything.tokens.astype(int), rest.bytes, rest.words, everything.nll)
        return Scores(tuple(self.talks), whole, parts.where(turn > 0), stride, self.long, self.refusals)


def _render(
    format: ChatFormat,
    conversations: Sequence[Conversation],
    languages: Mapping[str, str],
    context: int,
    stride: int,
    label: str,
) -> _Rendered:
    counter = TextCounter(format.tokenizer)
    found, total = _Rendered(), len(conversations)
    rendered = examples(conversations, format, total)
    for conversation, example in track(rendered, label=f"{label}: rendering", total=total, unit="conversations"):
        if isinstance(example, str):
            found.refusals[_reason(example, conversation)] += 1
            continue
        ids, assistant = example.ids, example.weights > 0
        assistant[:1] = False  # the first token has nothing to be predicted from
        found.talks.append(Talk(conversation.id, conversation.source, languages.get(conversation.id, "und")))
        found.long += len(ids) > context
        scored = max(0, len(ids) - 1)
        part = np.full(len(ids), found.part(0, scored - int(assistant.sum()), _count(counter, ids, 1, len(ids))))
        edges = np.flatnonzero(np.diff(assistant, prepend=False, append=False)).tolist()
        for turn, (start, end) in enumerate(zip(edges[::2], edges[1::2]), 1):
            part[start:end] = found.part(turn, end - start, _count(counter, ids, start, end))
        found.pieces += windows(ids, part, context, stride)
    return found


def _count(counter: TextCounter, ids: np.ndarray, start: int, end: int) -> tuple[int, int]:
    return counter.count(ids, start, end) if start < end else (0, 0)


def _reason(refusal: str, conversation: Conversation) -> str:
    """A refusal without the conversation and message that it names, so that equal ones are counted together."""
    return re.sub(rf"^{re.escape(conversation.id)}(, message \d+)?: ", "", refusal)
