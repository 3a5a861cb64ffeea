"""Which row stands where in training: a pure function of the position, in constant time.

Position g counts the rows trained on, over steps and epochs: step k of batches of B holds positions kB to kB + B - 1. A
stream is a run of rows of its own epochs and shuffles. Without weights there is one, over all datasets laid end to end;
with weights each dataset is a stream, and which stream a position belongs to repeats every PATTERN positions, in a
seeded order that gives each exactly its share (largest remainders). In a stream of N rows, the j-th is that numbered
j mod N in epoch j div N, through a permutation keyed by seed, epoch and stream (`tf.random_index_shuffle`, a cipher).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxchat.errors import InputError

PATTERN = 1000


class Order:
    """The order of the rows of datasets of these `sizes`, mixed by `weights` (None: laid end to end)."""

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None, seed: int):
        if not 0 <= seed < 1 << 31:
            raise InputError(f"the seed is {seed}; give one of at least 0 and below 2^31")
        if weights is None:
            self.stream_sizes = np.array([sum(sizes)])
            self.pattern = np.zeros(1, np.int64)
        else:
            if len(weights) != len(sizes):
                raise ValueError(f"{len(weights)} weights for {len(sizes)} datasets")
            self.stream_sizes = np.array(sizes)
            self.pattern = mixture(weights, seed)
        self.seed = seed
        self.sizes = np.array(sizes)
        # Where each stream's and each dataset's rows begin when all are laid end to end.
        self.stream_starts = np.concatenate([[0], np.cumsum(self.stream_sizes)[:-1]])
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        # Of each place in the pattern: how many of its stream are before it; and how many each stream has in all.
        self.counts = np.bincount(self.pattern, minlength=len(self.stream_sizes))
        self.ranks = np.array([np.sum(self.pattern[:i] == stream) for i, stream in enumerate(self.pattern)])

    def rows(self, tf: Any, positions: Any) -> tuple[Any, Any]:
        """(dataset, row) int64 tensors for an int64 tensor of positions. `tf`: the tensorflow module."""
        block, place = positions // len(self.pattern), positions % len(self.pattern)
        stream = tf.gather(self.pattern, place)
        nth = block * tf.gather(self.counts, stream) + tf.gather(self.ranks, place)
        size = tf.gather(self.stream_sizes, stream)
        seeds = tf.stack([tf.fill(tf.shape(nth), tf.constant(self.seed, tf.int64)), nth // size, stream], axis=1)
        shuffled = tf.random_index_shuffle(nth % size, seed=seeds, max_index=size - 1)
        place = tf.gather(self.stream_starts, stream) + shuffled
        dataset = tf.searchsorted(self.starts, place, side="right", out_type=tf.int64) - 1
        return dataset, place - tf.gather(self.starts, dataset)


def mixture(weights: Sequence[float], seed: int) -> np.ndarray:
    """Stream numbers, int64[PATTERN]: each stream as often as its share of the weights, by largest remainders, in an
    order drawn with `seed`. InputError for a share too small to come up at all."""
    shares = np.array(weights) / np.sum(weights) * PATTERN
    counts = np.floor(shares).astype(np.int64)
    by_remainder = np.argsort(counts - shares, kind="stable")
    counts[by_remainder[: PATTERN - counts.sum()]] += 1
    if not counts.all():
        raise InputError(
            f"the weights {list(weights)} leave a source less than one row of {PATTERN}; raise the small one"
        )
    pattern = np.repeat(np.arange(len(weights), dtype=np.int64), counts)
    return np.random.default_rng(seed).permutation(pattern)
