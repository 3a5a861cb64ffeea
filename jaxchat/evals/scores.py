"""What a model made of some conversations, part by part: enough to sum it up in any way, and to say how sure a sum is.

Of a set of scored tokens with the summed negative log-likelihood S (natural logarithm):

- `perplexity` = exp(S / tokens). It depends on the tokenizer: compare it between models that share one.
- `word_perplexity` = exp(S / words).
- `bits_per_byte` = S / ln 2 / bytes.

`words` and `bytes` are those of the text which the scored tokens decode to, without special tokens: the rendered
conversation, role names and a default system prompt included, chat markers and BOS not. Words are what white space or a
special token separates; bytes are UTF-8. What a marker costs to predict is in S all the same. A figure that does not
exist, or is beyond floating point (languages written without spaces have very long "words"), is None.

Shapes: N parts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxchat.evals.intervals import difference_interval, ratio_interval

# Lengths and turns that are shown together: the ends of their ranges, the last without one.
LENGTHS, TURNS = (128, 512, 2048), (1, 2, 3, 7)


@dataclass(frozen=True)
class Tally:
    """Of some scored tokens: how many, the bytes and words of their text, the sum of their negative log-likelihoods."""

    tokens: int
    bytes: int
    words: int
    nll: float

    def figures(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "perplexity": exp(self.nll, self.tokens),
            "word_perplexity": exp(self.nll, self.words),
            "bits_per_byte": self.nll / math.log(2) / self.bytes if self.bytes else None,
            "words": self.words,
            "bytes": self.bytes,
        }


def exp(nll: float, count: int) -> float | None:
    """exp(nll / count), None where there is no such number."""
    try:
        return math.exp(nll / count) if count else None
    except OverflowError:
        return None


@dataclass(frozen=True)
class Parts:
    """Parts of conversations, a column a fact. of: the number of the conversation each belongs to, int[N]. turn: which
    of the assistant's turns it is, counted from 1; 0: a whole conversation. tokens, bytes, words: int[N]. nll: summed
    over its tokens, float[N]."""

    of: np.ndarray
    turn: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    words: np.ndarray
    nll: np.ndarray

    def where(self, chosen: np.ndarray) -> Parts:
        """Those that `chosen`, bool[N], says."""
        return Parts(*(column[chosen] for column in vars(self).values()))

    def tally(self) -> Tally:
        tokens, bytes, words = (int(column.sum()) for column in (self.tokens, self.bytes, self.words))
        return Tally(tokens, bytes, words, float(self.nll.sum()))

    def by_conversation(self, count: int) -> Parts:
        """The same summed up conversation by conversation, of which there are `count`; some may have none."""
        sums = (np.bincount(self.of, column, count) for column in (self.tokens, self.bytes, self.words, self.nll))
        return Parts(np.arange(count), np.zeros(count, int), *sums)

    def interval(self, count: int) -> dict[str, Any]:
        """95 % intervals of the figures, [low, high]: what other conversations of the kind would give."""
        each = self.by_conversation(count)
        per_token = ratio_interval(each.nll, each.tokens)
        per_byte = ratio_interval(each.nll / math.log(2), each.bytes)
        return {
            "perplexity": per_token and [exp(bound, 1) for bound in per_token],
            "bits_per_byte": per_byte and list(per_byte),
        }


@dataclass(frozen=True)
class Talk:
    """A scored conversation: what it is told apart by."""

    id: str
    source: str
    language: str


@dataclass(frozen=True)
class Scores:
    """What a model makes of some conversations. whole: every scored token, a part a conversation. turns: those of them
    that the assistant's turns consist of, end of turn included (an Example's tokens of positive weight), a part a turn.

    long: conversations that exceed the context and were read through windows, `stride` tokens apart. refusals: reasons
    for which the template refused others, and how many.
    """

    talks: tuple[Talk, ...]
    whole: Parts
    turns: Parts
    stride: int
    long: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def all(self) -> Tally:
        return self.whole.tally()

    @property
    def assistant(self) -> Tally:
        return self.turns.tally()

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        count = len(self.talks)
        return {
            **self.all.figures(),
            "interval": self.whole.interval(count),
            "assistant": {**self.assistant.figures(), "interval": self.turns.interval(count)},
            "conversations": count,
            "refused": self.refusals.total(),
            "refusals": dict(self.refusals.most_common()),
            "long": self.long,
            "stride": self.stride,
            "by": {
                "source": self._by(lambda talk: talk.source or "unnamed"),
                "language": self._by(lambda talk: talk.language),
                "length": self._by_length(),
                "turn": self._by_turn(),
            },
        }

    def _by(self, name: Callable[[Talk], str]) -> dict[str, Any]:
        names = np.array([name(talk) for talk in self.talks])
        return {one: self._of(names == one) for one in sorted(set(names.tolist()))}

    def _by_length(self) -> dict[str, Any]:
        """By tokens of the whole conversation."""
        places = np.searchsorted(LENGTHS, self.whole.tokens)
        return {label: self._of(places == i) for i, label in ranges(LENGTHS) if (places == i).any()}

    def _by_turn(self) -> dict[str, Any]:
        """By which of the assistant's turns it is: those tokens alone."""
        places = np.searchsorted(TURNS, self.turns.turn)
        return {
            label: self.turns.where(places == i).tally().figures() for i, label in ranges(TURNS) if (places == i).any()
        }

    def _of(self, chosen: np.ndarray) -> dict[str, Any]:
        """The figures of some conversations, bool[conversations]."""
        whole, turns = self.whole.where(chosen[self.whole.of]), self.turns.where(chosen[self.turns.of])
        own = {"assistant": turns.tally().figures()}
        return {**whole.tally().figures(), **own, "conversations": int(chosen.sum())}


def ranges(ends: tuple[int, ...]) -> Iterator[tuple[int, str]]:
    """(number, name) of the ranges that end at `ends`, and of the last, which has no end: `1`, `2-4`, `5 and more`."""
    first = 1
    for i, end in enumerate(ends):
        yield i, str(end) if first == end else f"{first}-{end}"
        first = end + 1
    yield len(ends), f"{first} and more"


def difference(first: Scores, second: Scores) -> dict[str, Any]:
    """How many bits a byte `second` needs more than `first`, over the conversations that both scored, with its 95 %
    interval; of all tokens and of the assistant's."""
    ids = [talk.id for talk in first.talks], [talk.id for talk in second.talks]
    both = sorted(set(ids[0]) & set(ids[1]))
    places = [{id: i for i, id in enumerate(each)} for each in ids]
    rows = [np.array([place[id] for id in both], int) for place in places]

    def compared(one: Parts, other: Parts) -> dict[str, Any]:
        each = [
            (parts.nll[row] / math.log(2), parts.bytes[row])
            for parts, row in (
                (one.by_conversation(len(ids[0])), rows[0]),
                (other.by_conversation(len(ids[1])), rows[1]),
            )
        ]
        (nll, size), (other_nll, other_size) = each
        if not (size.sum() and other_size.sum()):
            return {"bits_per_byte": None, "interval": None}
        apart = other_nll.sum() / other_size.sum() - nll.sum() / size.sum()
        return {"bits_per_byte": float(apart), "interval": difference_interval(other_nll, other_size, nll, size)}

    return {
        **compared(first.whole, second.whole),
        "assistant": compared(first.turns, second.turns),
        "conversations": len(both),
    }
