"""How sure a figure is: intervals by the bootstrap (Efron 1979), drawing whole conversations, since the tokens of one
are alike. Bias-corrected and accelerated (Efron 1987), by SciPy.

Shapes: N conversations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np

DRAWS, LEVEL, SEED = 999, 0.95, 0
# Values drawn at once, so that memory stays the same whatever N is.
AT_ONCE = 1 << 22

Interval = tuple[float, float] | None


def ratio_interval(above: np.ndarray, below: np.ndarray, level: float = LEVEL) -> Interval:
    """Of sum(above) / sum(below), float[N] each. None for fewer than two conversations, or where all give the same."""
    return _bootstrap([above, below], lambda above, below, axis: above.sum(axis) / below.sum(axis), level)


def difference_interval(
    above: np.ndarray, below: np.ndarray, other_above: np.ndarray, other_below: np.ndarray, level: float = LEVEL
) -> Interval:
    """Of sum(above) / sum(below) - sum(other_above) / sum(other_below), of the same N conversations: paired, so that
    what makes one hard for both cancels out."""

    def apart(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, axis: int) -> np.ndarray:
        return a.sum(axis) / b.sum(axis) - c.sum(axis) / d.sum(axis)

    return _bootstrap([above, below, other_above, other_below], apart, level)


def _bootstrap(columns: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], level: float) -> Interval:
    from scipy.stats import bootstrap

    counted = np.any([column != 0 for column in columns], axis=0)  # what is nothing in every column draws nothing
    columns = [np.asarray(column, float)[counted] for column in columns]
    if len(columns[0]) < 2:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # of figures that do not vary, or draws of nothing
        warnings.simplefilter("ignore")
        found = bootstrap(
            columns,
            statistic,
            n_resamples=DRAWS,
            batch=max(1, AT_ONCE // len(columns[0])),
            paired=True,
            vectorized=True,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
