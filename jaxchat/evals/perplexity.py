"""Perplexity of a model on conversations: per token, per word, and as bits per byte.

Every conversation is scored alone, rendered by the model's own chat template with its default system prompt, every
token but the first. Of a set of scored tokens with the summed negative log-likelihood S (natural logarithm):

- `perplexity` = exp(S / tokens). It depends on the tokenizer: compare it between models that share one.
- `word_perplexity` = exp(S / words).
- `bits_per_byte` = S / ln 2 / bytes.

`words` and `bytes` are those of the text which the scored tokens decode to, without special tokens: the rendered
conversation, role names and a default system prompt included, chat markers and BOS not. Words are what white space or a
special token separates; bytes are UTF-8. What a marker costs to predict is in S all the same. A figure that does not
exist, or is beyond floating point (languages written without spaces have very long "words"), is None.

Shapes: B rows, T tokens in a row.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxchat.chat.conversation import Conversation
from jaxchat.chat.template import ChatFormat
from jaxchat.data.batch import Batch, place
from jaxchat.data.packing import Piece
from jaxchat.data.rendering import examples
from jaxchat.errors import InputError
from jaxchat.evals.rows import ASSISTANT, CONTEXT, batches, row_lengths, windows
from jaxchat.evals.text import TextCounter
from jaxchat.hub.open import Opened
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import nll
from jaxchat.progress import Bar, track

# Tokens computed at once on one device: few enough on a CPU for a bar that moves, many elsewhere to fill the device.
BATCH_TOKENS = {"cpu": 2048}
BATCH_TOKENS_ELSEWHERE = 16_384


@dataclass
class Tally:
    """Of some scored tokens: how many, the bytes and words of their text, the sum of their negative log-likelihoods."""

    tokens: int = 0
    bytes: int = 0
    words: int = 0
    nll: float = 0.0

    def figures(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "perplexity": _exp(self.nll, self.tokens),
            "word_perplexity": _exp(self.nll, self.words),
            "bits_per_byte": self.nll / math.log(2) / self.bytes if self.bytes else None,
            "words": self.words,
            "bytes": self.bytes,
        }


def _exp(nll: float, count: int) -> float | None:
    try:
        return math.exp(nll / count) if count else None
    except OverflowError:
        return None


@dataclass
class Scores:
    """What a model makes of some conversations. `all`: every scored token; `assistant`: those of them that the
    assistant's turns consist of, end of turn included (an Example's tokens of positive weight).

    conversations: scored ones. long: those of them that exceed the context and were read through windows, `stride`
    tokens apart. refusals: reasons for which the template refused others, and how many.
    """

    stride: int
    all: Tally = field(default_factory=Tally)
    assistant: Tally = field(default_factory=Tally)
    conversations: int = 0
    long: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **self.all.figures(),
            "assistant": self.assistant.figures(),
            "conversations": self.conversations,
            "refused": self.refusals.total(),
            "refusals": dict(self.refusals.most_common()),
            "long": self.long,
            "stride": self.stride,
        }


def score(
    opened: Opened,
    format: ChatFormat,
    conversations: Sequence[Conversation],
    *,
    stride: int | None = None,
    batch_tokens: int | None = None,
    label: str = "scoring",
) -> Scores:
    """Scores `conversations` as `format` renders them, with bars on standard error.

    stride: tokens that a window moves on over a conversation longer than the model's context; half the context by
    default. batch_tokens: computed at once on one device.

    Raises:
        InputError: a stride that leaves a token without context; no conversation that the template takes; a model whose
            likelihoods are not finite.
    """
    context = opened.config.context_length
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride < context:
        raise InputError(
            f"the stride {stride} must be at least 1 and less than the model's context of {context} tokens"
        )
    scores = Scores(stride)
    pieces = _render(scores, format, conversations, context, label)
    if not scores.all.tokens:
        reason = next(iter(scores.refusals), "they have no tokens to predict")
        raise InputError(f"{label}: none of the {len(conversations):,} conversations can be scored ({reason})")
    sharding = NamedSharding(opened.mesh, opened.model.rules.activation("batch", "sequence"))
    devices = opened.mesh.size // sharding.shard_shape((opened.mesh.size, opened.mesh.size))[0]
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(opened.mesh.devices.flat[0].platform, BATCH_TOKENS_ELSEWHERE)
    rows = batches(pieces, row_lengths(context), opened.tokenizer.pad_id, batch_tokens * devices, devices)
    done = 0
    with jax.set_mesh(opened.mesh), Bar(label, scores.all.tokens, "tokens") as bar:
        for arrays in rows:
            batch = Batch.of_rows(arrays)
            nll_BT = np.asarray(_nll(opened.model, opened.params, place(batch, sharding)), np.float64)
            scored_BT = batch.weights_BT > CONTEXT
            scores.all.nll += float(nll_BT[scored_BT].sum())
            scores.assistant.nll += float(nll_BT[batch.weights_BT == ASSISTANT].sum())
            now = int(scored_BT.sum())
            done += now
            if not math.isfinite(scores.all.nll):
                raise InputError(f"{label}: the model's likelihoods are not finite; its weights are damaged")
            bar.advance(now, perplexity=_exp(scores.all.nll, done))
    assert done == scores.all.tokens
    return scores


@partial(jax.jit, static_argnums=0)
def _nll(model: Model, params: Params, batch: Batch) -> jax.Array:
    return nll(model, params, batch)


def _render(
    scores: Scores, format: ChatFormat, conversations: Sequence[Conversation], context: int, label: str
) -> list[Piece]:
    """The pieces to score; all that is counted and not computed goes into `scores`."""
    counter = TextCounter(format.tokenizer)
    pieces: list[Piece] = []
    total = len(conversations)
    rendered = examples(conversations, format, total)
    for conversation, example in track(rendered, label=f"{label}: rendering", total=total, unit="conversations"):
        if isinstance(example, str):
            scores.refusals[_reason(example, conversation)] += 1
            continue
        ids, assistant = example.ids, example.weights > 0
        scores.conversations += 1
        scores.long += len(ids) > context
        pieces += windows(ids, assistant, context, scores.stride)
        _count(scores.all, counter, ids, 1, len(ids))
        edges = np.flatnonzero(np.diff(assistant, prepend=False, append=False)).tolist()
        for start, end in zip(edges[::2], edges[1::2]):
            _count(scores.assistant, counter, ids, start, end)
    return pieces


def _count(tally: Tally, counter: TextCounter, ids: np.ndarray, start: int, end: int) -> None:
    if start >= end:
        return
    size, words = counter.count(ids, start, end)
    tally.tokens += end - start
    tally.bytes += size
    tally.words += words


def _reason(refusal: str, conversation: Conversation) -> str:
    """A refusal without the conversation and message that it names, so that equal ones are counted together."""
    return re.sub(rf"^{re.escape(conversation.id)}(, message \d+)?: ", "", refusal)
