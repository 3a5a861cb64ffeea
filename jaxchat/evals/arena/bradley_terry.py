"""Strengths from comparisons: Bradley and Terry (1952), with ties as Davidson (1970) has them.

    P(i beats j) : P(j beats i) : P(tie) = e^(d/2) : e^(-d/2) : nu,   d = strength of i - strength of j

By maximum likelihood under a wide normal prior, which only who never lost, or never won, feels. Newton's method, for
many draws of a bootstrap at once.

Shapes: D draws, M models, P pairs of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PRIOR = 10.0  # standard deviation of a strength, and of log nu
ELO, CENTRE = 400 / np.log(10), 1000.0
_STEPS, _LONGEST = 50, 2.0


def strengths(first_DP: np.ndarray, second_DP: np.ndarray, tie_DP: np.ndarray, pairs: Sequence[tuple[int, int]],
              models: int) -> np.ndarray:  # fmt: skip
    """Natural-log strengths (D, M) with mean 0; first, second, tie: how often, weighted or not, each of `pairs` went
    so."""
    D, N = len(first_DP), models + 1  # the last of N is log nu
    sign_PM = np.zeros((len(pairs), models))
    for p, (i, j) in enumerate(pairs):
        sign_PM[p, i], sign_PM[p, j] = 1, -1
    n_DP = first_DP + second_DP + tie_DP
    x_DN = np.zeros((D, N))
    for _ in range(_STEPS):
        half_DP = x_DN[:, :-1] @ sign_PM.T / 2
        e = np.exp(np.clip([half_DP, -half_DP, np.broadcast_to(x_DN[:, -1:], half_DP.shape)], -30, 30))
        win_DP, lose_DP, draw_DP = e / e.sum(0)
        apart_DP = (win_DP - lose_DP) / 2
        slope_DN = np.concatenate(
            [
                ((first_DP - second_DP) / 2 - n_DP * apart_DP) @ sign_PM,
                (tie_DP - n_DP * draw_DP).sum(1, keepdims=True),
            ],
            axis=1,
        )
        slope_DN -= x_DN / PRIOR**2
        bend_DP = n_DP * ((win_DP + lose_DP) / 4 - apart_DP**2)
        cross_DM = -(n_DP * draw_DP * apart_DP) @ sign_PM
        bend_DNN = np.zeros((D, N, N))
        bend_DNN[:, :-1, :-1] = np.einsum("dp,pa,pb->dab", bend_DP, sign_PM, sign_PM)
        bend_DNN[:, :-1, -1] = bend_DNN[:, -1, :-1] = cross_DM
        bend_DNN[:, -1, -1] = (n_DP * draw_DP * (1 - draw_DP)).sum(1)
        bend_DNN += np.eye(N) / PRIOR**2
        step_DN = np.linalg.solve(bend_DNN, slope_DN[..., None])[..., 0]
        x_DN += step_DN * np.minimum(1, _LONGEST / np.maximum(np.abs(step_DN).max(1, keepdims=True), 1e-12))
        if np.abs(step_DN).max(initial=0) < 1e-9:
            break
    x_DM = x_DN[:, :-1]
    return x_DM - x_DM.mean(1, keepdims=True)


def elo(strength: np.ndarray | np.float64) -> np.ndarray:
    """The same on Elo's scale: 400 points are odds of ten to one; the mean of all models is 1000."""
    return CENTRE + ELO * strength
