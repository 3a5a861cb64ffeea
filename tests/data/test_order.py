"""The order of training: permutations within epochs, exact mixtures, and nothing but the position to depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.data.order import PATTERN, Order, mixture
from jaxchat.data.tensorflow import load
from jaxchat.errors import InputError


def rows(order: Order, start: int, stop: int) -> np.ndarray:
    """(dataset, row) of the positions from start to stop."""
    tf = load()
    return np.stack([x.numpy() for x in order.rows(tf, tf.range(start, stop, dtype=tf.int64))], axis=1)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), seed=st.integers(0, 2**31 - 1))
def test_without_weights_every_epoch_is_every_row_once(sizes: list[int], seed: int):
    order, n = Order(sizes, None, seed), sum(sizes)
    every = [(dataset, row) for dataset, size in enumerate(sizes) for row in range(size)]
    epochs = [rows(order, epoch * n, (epoch + 1) * n).tolist() for epoch in (0, 1, 10**6)]
    for epoch in epochs:
        assert sorted(map(tuple, epoch)) == every


def test_epochs_and_seeds_shuffle_differently():
    n = 1000
    first = rows(Order([n], None, 7), 0, n)
    assert (first != rows(Order([n], None, 7), n, 2 * n)).mean() > 0.4
    assert (first != rows(Order([n], None, 8), 0, n)).mean() > 0.4
    np.testing.assert_array_equal(first, rows(Order([n], None, 7), 0, n))
    assert abs(np.corrcoef(first[:, 1], np.arange(n))[0, 1]) < 0.1


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 2**40), length=st.integers(1, 50), cut=st.integers(0, 50))
def test_a_position_depends_on_nothing_but_itself(start: int, length: int, cut: int):
    order = Order([13, 5], [3, 1], 1)
    cut = min(cut, length)
    halves = [rows(order, start, start + cut), rows(order, start + cut, start + length)]
    np.testing.assert_array_equal(np.concatenate(halves), rows(order, start, start + length))


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_a_mixture_is_exact_over_its_pattern(weights: list[float], seed: int):
    shares = np.array(weights) / sum(weights) * PATTERN
    if shares.min() < 1:
        return
    counts = np.bincount(mixture(weights, seed), minlength=len(weights))
    assert counts.sum() == PATTERN and np.all(np.abs(counts - shares) < 1)
    order = Order([11] * len(weights), weights, seed)
    for start in (0, 3 * PATTERN, 123_000 * PATTERN + 17):
        seen = np.bincount(rows(order, start, start + PATTERN)[:, 0], minlength=len(weights))
        np.testing.assert_array_equal(seen, counts)


def test_every_dataset_of_a_mixture_goes_through_all_its_rows_before_any_again():
    sizes, weights = [40, 7], [1, 3]
    drawn = rows(Order(sizes, weights, 3), 0, 5 * PATTERN)
    for dataset, size in enumerate(sizes):
        mine = drawn[drawn[:, 0] == dataset][:, 1]
        epochs = mine[: len(mine) // size * size].reshape(-1, size)
        assert np.all(np.sort(epochs, axis=1) == np.arange(size))
        assert len({tuple(epoch) for epoch in epochs[:10]}) > 5


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(InputError, match="less than one row of 1000"):
        mixture([1, 5000], 0)
    for seed in (-1, 2**31):
        with pytest.raises(InputError, match="the seed is"):
            Order([3], None, seed)
    with pytest.raises(ValueError, match="2 weights for 1 datasets"):
        Order([3], [1, 2], 0)
