"""Sums of scores, how sure they are, and how far two models lie apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from jaxchat.evals.intervals import difference_interval, ratio_interval
from jaxchat.evals.scores import LENGTHS, Parts, Scores, Talk, difference, ranges


def drawn(rng: np.random.Generator, count: int, harder: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Likelihoods and tokens of conversations whose tokens cost 2 nats on average, those of one alike."""
    tokens = rng.integers(5, 80, count)
    return tokens * (2 + harder + rng.gamma(2, 0.25, count) - 0.5), tokens


def test_intervals_hold_the_truth_as_often_as_they_say():
    """500 samples of 60 conversations: 95 % intervals may miss a few per cent more or less than they should."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        low, high = ratio_interval(*drawn(rng, 60))
        hits += low <= 2 <= high
    assert 0.90 <= hits / 500 <= 0.97


def test_a_difference_is_surer_than_its_two_sides():
    rng = np.random.default_rng(1)
    nll, tokens = drawn(rng, 200)
    other = nll + tokens * rng.normal(0.05, 0.02, 200)
    low, high = difference_interval(other, tokens, nll, tokens)
    assert 0 < low < 0.05 < high
    alone = ratio_interval(nll, tokens)
    assert high - low < (alone[1] - alone[0]) / 3


def test_what_does_not_vary_has_no_interval():
    one = np.array([3.0])
    assert ratio_interval(one, one) is None
    assert ratio_interval(np.zeros(5), np.zeros(5)) is None
    assert ratio_interval(np.full(5, 2.0), np.full(5, 1.0)) in (None, (2.0, 2.0))


def scores(ids: list[str], nll: list[float], tokens: list[int]) -> Scores:
    count = len(ids)
    whole = Parts(
        np.arange(count), np.zeros(count, int), np.array(tokens), np.array(tokens) * 4, np.array(tokens), np.array(nll)
    )
    return Scores(tuple(Talk(id, "", "en") for id in ids), whole, replace(whole, turn=np.ones(count, int)), 1)


def test_models_are_compared_on_the_conversations_that_both_scored():
    first = scores(["a", "b", "c"], [10, 20, 1000], [5, 5, 5])
    second = scores(["b", "a"], [30, 14], [5, 5])
    found = difference(first, second)
    assert found["conversations"] == 2
    assert found["bits_per_byte"] == pytest.approx((44 - 30) / 40 / math.log(2))
    assert found["assistant"]["bits_per_byte"] == found["bits_per_byte"]
    nothing = difference(first, scores(["d"], [1], [1]))
    assert nothing["conversations"] == 0 and nothing["bits_per_byte"] is None


def test_every_length_is_in_one_range():
    names = dict(ranges(LENGTHS))
    assert list(names.values()) == ["1-128", "129-512", "513-2048", "2049 and more"]
    one = scores(list("abcd"), [1, 1, 1, 1], [128, 129, 2048, 2049]).figures()["by"]["length"]
    assert {name: group["conversations"] for name, group in one.items()} == dict.fromkeys(names.values(), 1)
