"""How sure figures are that raters and prompts both sway: the ratings of one rater are alike, and those of one prompt.

Three bootstraps give the variance that comes with drawing other raters, other prompts, and other single ratings; the
first two added, less the third, which both hold (Cameron, Gelbach and Miller 2011), make the variance of a figure, not
below either of the two. Intervals are Student's, with one degree of freedom less than there are raters or prompts,
whichever are fewer.

Shapes: D draws, N ratings, K figures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxchat.evals.intervals import AT_ONCE, LEVEL, SEED

DRAWS = 400
Figures = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """value, low, high: (K,). Bounds are NaN where there is too little to say. design: the variance as a multiple of
    what it were if every rating stood for itself, (K,)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    design: np.ndarray


def estimate(figures: Figures, raters: Sequence[str], prompts: Sequence[str], level: float = LEVEL) -> Estimate:
    """`figures` of weights (D, N) are (D, K); raters, prompts: whose each of the N ratings is."""
    from scipy.stats import t

    rng = np.random.default_rng(SEED)
    value = figures(np.ones((1, len(raters))))[0]
    by_rater, many_raters = _variance(figures, raters, rng)
    by_prompt, many_prompts = _variance(figures, prompts, rng)
    alone, _ = _variance(figures, range(len(raters)), rng)
    groups = [many for many in (many_raters, many_prompts) if many > 1]
    if not groups:
        unknown = np.full_like(value, np.nan)
        return Estimate(value, unknown, unknown, unknown)
    variance = np.maximum(by_rater + by_prompt - alone, np.maximum(by_rater, by_prompt))
    wide = t.ppf((1 + level) / 2, min(groups) - 1) * np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Estimate(value, value - wide, value + wide, np.where(alone > 0, variance / alone, np.nan))


def _variance(figures: Figures, group: Sequence[object], rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Of the figures, where whole groups are drawn; and how many groups there are."""
    _, of_N = np.unique(np.asarray([str(one) for one in group]), return_inverse=True)
    many, found = int(of_N.max()) + 1, []
    at_once = max(1, AT_ONCE // max(len(of_N), many))
    for begin in range(0, DRAWS, at_once):
        D = min(at_once, DRAWS - begin)
        drawn_DG = rng.multinomial(many, np.full(many, 1 / many), size=D)
        found.append(figures(drawn_DG[:, of_N].astype(float)))
    drawn_DK = np.concatenate(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a figure that no draw has
        return (np.nanvar(drawn_DK, axis=0) if many > 1 else np.zeros(drawn_DK.shape[1])), many
