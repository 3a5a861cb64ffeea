"""Whether raters agree, beyond what chance has them agree: Krippendorff's alpha (2004), by the package of that name;
Fleiss' (1971) and Cohen's (1960) kappa, by statsmodels.

Shapes: U items, V values that a rating can take.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxchat.evals.intervals import LEVEL, SEED

Level = Literal["nominal", "ordinal", "interval"]
DRAWS = 300
IN_COMMON = 10  # items that two raters must share for a kappa of theirs

Said = Mapping[str, Mapping[str, int]]  # item -> rater -> the place of what they said among the values


def agreement(said: Said, values: int, level: Level) -> dict[str, Any]:
    """All of it; None where there is too little to say."""
    counts_UV = np.array([_counted(list(by.values()), values) for by in said.values()]).reshape(-1, values)
    shared_UV = counts_UV[counts_UV.sum(1) > 1]
    kappa, items, raters = fleiss(shared_UV)
    return {
        "items_rated_twice_or_more": len(shared_UV),
        "krippendorff_alpha": alpha(shared_UV, level),
        "krippendorff_alpha_interval": _alpha_interval(shared_UV, level),
        "level": level,
        "fleiss_kappa": kappa,
        "fleiss_items": items,
        "fleiss_raters": raters,
        "cohen_kappa": cohen_of_all(said, values, weighted=level != "nominal"),
    }


def alpha(counts_UV: np.ndarray, level: Level) -> float | None:
    """Krippendorff's alpha of how often each item was given each value; None where nothing differs or is shared."""
    import krippendorff

    counts_UV = counts_UV[counts_UV.sum(1) > 1]
    if np.count_nonzero(counts_UV.sum(0)) < 2:
        return None
    domain = np.arange(counts_UV.shape[1])
    return float(krippendorff.alpha(value_counts=counts_UV, value_domain=domain, level_of_measurement=level))


def fleiss(counts_UV: np.ndarray) -> tuple[float | None, int, int]:
    """Fleiss' kappa, of the items that were rated as often as most are: it knows no others; how many they are, and how
    often each was rated."""
    from statsmodels.stats.inter_rater import fleiss_kappa

    times = Counter(counts_UV.sum(1).tolist())
    if not times:
        return None, 0, 0
    often = max(times, key=lambda n: (times[n], n))
    same_UV = counts_UV[counts_UV.sum(1) == often]
    if np.count_nonzero(same_UV.sum(0)) < 2:
        return None, len(same_UV), int(often)
    return float(fleiss_kappa(same_UV)), len(same_UV), int(often)


def cohen(table_VV: np.ndarray, *, weighted: bool = False) -> float | None:
    """Cohen's kappa of two raters, rows what one said and columns what the other did; weighted by the square of how far
    values lie apart (Cohen 1968)."""
    from statsmodels.stats.inter_rater import cohens_kappa

    if table_VV.sum() == 0 or np.count_nonzero(table_VV.sum(0) + table_VV.sum(1)) < 2:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        kappa = float(cohens_kappa(table_VV, wt="quadratic" if weighted else None, return_results=False))
    return kappa if np.isfinite(kappa) else None


def cohen_of_all(said: Said, values: int, *, weighted: bool) -> dict[str, Any]:
    """Cohen's kappa of every two raters who share IN_COMMON items or more, and their mean, weighted by those items."""
    tables: dict[tuple[str, str], np.ndarray] = {}
    for by in said.values():
        for one, other in itertools.combinations(sorted(by), 2):
            tables.setdefault((one, other), np.zeros((values, values)))[by[one], by[other]] += 1
    each: list[dict[str, Any]] = []
    for (one, other), table_VV in tables.items():
        shared = int(table_VV.sum())
        if shared >= IN_COMMON and (kappa := cohen(table_VV, weighted=weighted)) is not None:
            each.append({"raters": [one, other], "items": shared, "kappa": kappa})
    weights = [one["items"] for one in each]
    mean = float(np.average([one["kappa"] for one in each], weights=weights)) if each else None
    return {"mean": mean, "weighted": weighted, "pairs": each}


def _alpha_interval(counts_UV: np.ndarray, level: Level) -> tuple[float, float] | None:
    """By the bootstrap over items."""
    if len(counts_UV) < 2:
        return None
    rng = np.random.default_rng(SEED)
    drawn = (alpha(counts_UV[rng.integers(len(counts_UV), size=len(counts_UV))], level) for _ in range(DRAWS))
    found = [one for one in drawn if one is not None]
    if len(found) < DRAWS // 2:
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _counted(said: Sequence[int], values: int) -> list[int]:
    return np.bincount(said, minlength=values).tolist()
