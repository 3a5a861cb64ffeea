"""Strengths against other programs and by their definition; sizes of samples against a textbook."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.evals.arena.bradley_terry import elo, strengths
from jaxchat.evals.arena.sample_size import comparisons, scale_ratings

PAIRS = list(itertools.combinations(range(4), 2))
FIRST, SECOND = np.array([[30, 25, 41, 18, 30, 22]]), np.array([[20, 25, 9, 32, 21, 28]])


def test_without_ties_they_are_those_of_a_logistic_regression():
    from statsmodels.api import GLM, families

    design = np.zeros((6, 4))
    for p, (i, j) in enumerate(PAIRS):
        design[p, i], design[p, j] = 1, -1
    fitted = GLM(np.stack([FIRST[0], SECOND[0]], 1), design[:, 1:], family=families.Binomial()).fit().params
    theirs = np.array([0, *fitted])
    np.testing.assert_allclose(
        strengths(FIRST, SECOND, 0 * FIRST, PAIRS, 4)[0], theirs - theirs.mean(), rtol=0, atol=2e-3
    )


def test_with_ties_they_make_davidson_s_likelihood_highest():
    from scipy.optimize import minimize

    ties = np.array([[5, 9, 2, 12, 4, 8]])

    def less(x: np.ndarray) -> float:
        total = 0.0
        for p, (i, j) in enumerate(PAIRS):
            each = np.array([(x[i] - x[j]) / 2, (x[j] - x[i]) / 2, x[4]])
            total += np.array([FIRST[0, p], SECOND[0, p], ties[0, p]]) @ (each - np.logaddexp.reduce(each))
        return -total

    theirs = minimize(less, np.zeros(5)).x[:4]
    np.testing.assert_allclose(strengths(FIRST, SECOND, ties, PAIRS, 4)[0], theirs - theirs.mean(), atol=5e-3)


def test_draws_are_fitted_each_by_itself_and_more_of_the_same_changes_nothing():
    many = strengths(np.repeat(FIRST, 3, 0) * [[1], [1], [1000]], np.repeat(SECOND, 3, 0) * [[1], [1], [1000]],
                     np.zeros((3, 6)), PAIRS, 4)  # fmt: skip
    alone = strengths(FIRST, SECOND, 0 * FIRST, PAIRS, 4)
    np.testing.assert_allclose(many[0], alone[0], atol=1e-9)
    np.testing.assert_allclose(many[2], alone[0], atol=5e-3)


def test_who_never_lost_is_far_ahead_and_finite():
    won = strengths(np.array([[10.0]]), np.array([[0.0]]), np.array([[0.0]]), [(0, 1)], 2)[0]
    assert 3 < won[0] - won[1] < 20


def test_elo_s_400_points_are_odds_of_ten_to_one():
    a, b = elo(np.array([np.log(10), 0.0]))
    assert a - b == pytest.approx(400)


def test_sizes_of_samples():
    # One proportion against a half by the arcsine, (1.960 + 0.842)^2 / h^2, h = 2 asin(sqrt(.6)) - 2 asin(sqrt(.5)).
    h = 2 * np.arcsin(np.sqrt(0.6)) - 2 * np.arcsin(np.sqrt(0.5))
    assert comparisons(0.1) == np.ceil((1.959964 + 0.841621) ** 2 / h**2)
    assert comparisons(0.1, ties=0.5, design=2.0) == pytest.approx(comparisons(0.1), abs=1)
    assert scale_ratings(0.5, 1.0) == 64  # Cohen (1988), table 2.4.1: d = .5, power .80, two-sided .05
    for wrong in (0, 0.5, -0.1):
        with pytest.raises(InputError):
            comparisons(wrong)
