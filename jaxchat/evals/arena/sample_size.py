"""How many ratings show a difference: two-sided, at 5 %, with a power of 80 %, by statsmodels."""

from __future__ import annotations

import math

from jaxchat.errors import InputError
from jaxchat.evals.intervals import LEVEL

POWER = 0.8


def comparisons(difference: float, *, ties: float = 0.0, design: float = 1.0, power: float = POWER) -> int:
    """Of two models, until a win rate of 0.5 + `difference` can be told from 0.5. A share of `ties`, half a win each,
    varies less than wins and losses do; `design` is the variance's multiple that raters and prompts make."""
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    if not 0 < difference < 0.5:
        raise InputError(f"a difference of {difference:g} from a win rate of 0.5 must lie between 0 and 0.5")
    if not 0 <= ties < 1:
        raise InputError(f"a share of ties of {ties:g} must be 0 or more and less than 1")
    effect = proportion_effectsize(0.5 + difference, 0.5)
    one_sample = NormalIndPower().solve_power(effect, alpha=1 - LEVEL, power=power, ratio=0)
    return math.ceil(float(one_sample) * (1 - ties) * design)


def scale_ratings(difference: float, spread: float, *, design: float = 1.0, power: float = POWER) -> int:
    """Of each of two models on a scale, until means that lie `difference` points apart can be told apart; `spread`: the
    standard deviation of a rating."""
    from statsmodels.stats.power import TTestIndPower

    if not difference > 0:
        raise InputError(f"a difference of {difference:g} points must be above 0")
    if spread <= 0:
        return 2
    return math.ceil(float(TTestIndPower().solve_power(difference / spread, alpha=1 - LEVEL, power=power)) * design)
