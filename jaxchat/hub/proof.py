"""The proof that a model written down is the model it came from: the same logits on the same tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxchat.chat.conversation import Message
from jaxchat.chat.template import ChatFormat, ChatFormatError
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.models.decoder import Model
from jaxchat.progress import track

# Tokens of one sequence; a sequence is computed at a time, so this bounds the logits held.
LENGTH = 256

_EXCHANGES = (
    (
        "What should I cook tonight? I have rice, two eggs and a tired spinach.",
        "Fried rice! Wilt the spinach in a hot pan, push it aside, scramble the eggs, then add cold rice and a spoon "
        "of soy sauce. Three minutes, one pan, and nobody will ask how old the spinach was.",
    ),
    (
        "My train leaves at 17:45 and the walk takes 25 minutes. When do I leave if I want 10 minutes to spare?",
        "At 17:10. Counting back from 17:45, the 10 minutes to spare bring you to 17:35, and the walk of 25 to 17:10.",
    ),
    (
        "Schreib mir bitte einen Satz über den Herbst.",
        "Der Herbst legt den Straßen einen raschelnden Teppich aus Gold und Rost vor die Füße.",
    ),
    ("你好，今天天气怎么样？", "你好！我看不到窗外，不过你可以告诉我你在哪个城市，我们一起猜猜看。"),
    (
        "Write a Python function that reverses the words of a sentence.",
        'def reverse_words(sentence: str) -> str:\n    """Words in reverse order."""\n'
        '    return " ".join(reversed(sentence.split()))\n\n\nassert reverse_words("a bb ccc") == "ccc bb a"',
    ),
    (
        "I was laid off this morning and I don't know what to tell my parents.",
        "I'm sorry, that is a hard morning. You don't owe anyone a plan today. Perhaps just tell them what happened "
        "and that you'd like them to listen first. Do you want to try out how you might say it?",
    ),
)


@dataclass(frozen=True)
class Agreement:
    """How far two sets of logits lie apart: the largest absolute difference over all of the vocabulary at
    `tokens_compared` positions, and at how many of them the likeliest token is the same."""

    max_logit_difference: float
    tokens_compared: int
    same_likeliest_token: int


def sequences(tokenizer: Tokenizer, chat: ChatFormat | None, vocab_size: int, context_length: int) -> list[list[int]]:
    """Short exchanges as this model reads them (by its template, if it has one), several languages and code."""
    rows = []
    for ask, reply in _EXCHANGES:
        try:
            ids = chat and tokenizer.encode(chat.text([Message("user", ask), Message("assistant", reply)]))
        except ChatFormatError:
            ids = None
        rows.append(ids or tokenizer.encode(f"{ask}\n{reply}"))
    cut = min(LENGTH, context_length)
    return [row[:cut] for row in rows if row and max(row) < vocab_size]


def logits(model: Model, params: Any, rows: Sequence[Sequence[int]], label: str | None = None) -> list[np.ndarray]:
    """The logits after every token of every row, float32, (tokens, vocabulary) each, on the host. With a `label`,
    progress is shown."""
    length = max(map(len, rows))
    found = []
    for row in rows if label is None else track(rows, label=label):
        tokens_BT = np.zeros((1, length), np.int32)
        tokens_BT[0, : len(row)] = row
        segments_BT = (np.arange(length) < len(row)).astype(np.int32)[None]
        found.append(np.asarray(_compute(model, params, tokens_BT, segments_BT))[0, : len(row)])
    return found


@partial(jax.jit, static_argnums=0)
def _compute(model: Model, params: Any, tokens_BT: jax.Array, segments_BT: jax.Array) -> jax.Array:
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    return model.logits(params, model.hidden(params, tokens_BT, positions_BT, segments_BT))


def perplexity(found: Sequence[np.ndarray], rows: Sequence[Sequence[int]]) -> float:
    """Of every token of every row but the first, under the `logits` of those rows."""
    nll, count = 0.0, 0
    for logits_TV, row in zip(found, rows, strict=True):
        following = logits_TV[:-1].astype(np.float64)
        top = following.max(-1, keepdims=True, initial=-np.inf)
        total = np.log(np.exp(following - top).sum(-1)) + top[:, 0]
        nll += float((total - following[np.arange(len(following)), list(row[1:])]).sum())
        count += len(following)
    return math.exp(min(nll / max(count, 1), 700.0))


def compare(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Agreement:
    """How far apart two results of `logits` are."""
    pairs = list(zip(ours, theirs, strict=True))
    return Agreement(
        max(float(np.max(np.abs(a - b))) for a, b in pairs),
        sum(len(a) for a, _ in pairs),
        sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs),
    )
