"""What came of a study: which model is better and how sure that is, whether raters agree, and how they worked."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxchat.errors import InputError
from jaxchat.evals.arena.agreement import agreement
from jaxchat.evals.arena.bradley_terry import elo, strengths
from jaxchat.evals.arena.items import Folder
from jaxchat.evals.arena.judged import Judged, checked, counting, read_judged
from jaxchat.evals.arena.rater_quality import quality, side_of
from jaxchat.evals.arena.resampling import Estimate, estimate
from jaxchat.evals.arena.sample_size import comparisons, scale_ratings
from jaxchat.evals.arena.store import Store
from jaxchat.evals.arena.study import VERDICTS, Scale
from jaxchat.evals.intervals import LEVEL

DIFFERENCE = 0.05  # of a win rate from a half, or of a scale's width


def results(
    folder: Folder, store: Store, *, without_flagged: bool = False, difference: float | None = None
) -> dict[str, Any]:
    """All figures, as JSON takes them. without_flagged: leaves out raters that rater_quality.py flags. difference: the
    one to be seen, of a win rate from 0.5 or in points of a scale. InputError where nothing is rated yet."""
    study, judged = folder.study, read_judged(folder, store)
    said = counting(judged)
    raters = quality(study, said, checked(judged))
    left_out = {row["rater"] for row in raters if row["flags"]} if without_flagged else set[str]()
    said = [one for one in said if one.rater not in left_out]
    if not said:
        raise InputError(f"{folder.path} has no rating{' of raters who are not flagged' if left_out else ''} yet")
    shared = {
        "study": {
            "title": study.title,
            "kind": study.kind,
            "models": list(study.models),
            "prompts": len({one.item.prompt for one in said}) if study.live else len(folder.prompts),
            "level": LEVEL,
        },
        "ratings": _counts(folder, judged, said),
        "left_out_raters": sorted(left_out),
        "raters": raters,
    }
    if study.kind == "pairs":
        return shared | _pairs(study.models, said, difference or DIFFERENCE)
    return shared | _scales(study.models, study.scales, said, difference)


def _counts(folder: Folder, judged: Sequence[Judged], said: Sequence[Judged]) -> dict[str, Any]:
    by_item = Counter(one.item.id for one in said)
    wanted = folder.study.ratings if folder.study.live is None else 1
    return {
        "counting": len(said),
        "kept": len(judged),
        "changed": sum(not one.last for one in judged),
        "checks": len(checked(judged)),
        "practice": sum(one.item.practice for one in judged if one.last),
        "raters": len({one.rater for one in said}),
        "items": len(by_item) if folder.study.live else len(folder.items),
        "wanted": wanted,
        "items_complete": sum(by_item[id] >= wanted for id in by_item),
        "most_of_an_item": max(by_item.values()),
    }


def _pairs(models: Sequence[str], said: Sequence[Judged], difference: float) -> dict[str, Any]:
    pairs = list(itertools.combinations(range(len(models)), 2))
    place = {(models[i], models[j]): p for p, (i, j) in enumerate(pairs)}
    which = np.array([place[one.item.models[0], one.item.models[1]] for one in said])
    kinds = np.array([VERDICTS.index(one.rating.verdict or "") for one in said])
    cell = np.eye(len(pairs) * 4)[which * 4 + kinds]

    def counts(weights_DN: np.ndarray) -> np.ndarray:
        return (weights_DN @ cell).reshape(len(weights_DN), len(pairs), 4)

    def figures(weights_DN: np.ndarray) -> np.ndarray:
        """Of each model strength and win rate, of each pair the first's win rate, and the share of wins on the left."""
        first, second, tie, bad = np.moveaxis(counts(weights_DN), -1, 0)
        even = tie + bad
        strength = strengths(first, second, even, pairs, len(models))
        won, met = np.zeros_like(strength), np.zeros_like(strength)
        for p, (i, j) in enumerate(pairs):
            total = first[:, p] + second[:, p] + even[:, p]
            won[:, i] += first[:, p] + even[:, p] / 2
            won[:, j] += second[:, p] + even[:, p] / 2
            met[:, i] += total
            met[:, j] += total
        strength[met == 0] = np.nan  # nothing is known of who met nobody
        with np.errstate(divide="ignore", invalid="ignore"):
            pair_rate = (first + even / 2) / (first + second + even)
            return np.concatenate([strength, won / met, pair_rate, left_share(weights_DN)], axis=1)

    sides = np.array([{"a": (1, 0), "b": (0, 1), None: (0, 0)}[side_of(one)] for one in said], float)

    def left_share(weights_DN: np.ndarray) -> np.ndarray:
        chosen = weights_DN @ sides
        with np.errstate(divide="ignore", invalid="ignore"):
            return (chosen[:, 0] / chosen.sum(1))[:, None]

    found = estimate(figures, [one.rater for one in said], [one.item.prompt for one in said])
    whole, M, P = counts(np.ones((1, len(said))))[0], len(models), len(pairs)
    rows: dict[str, dict[str, Any]] = {}
    for m, model in enumerate(models):
        mine = [(whole[p], 0 if i == m else 1) for p, (i, j) in enumerate(pairs) if m in (i, j)]
        rows[model] = {
            "comparisons": int(sum(row.sum() for row, _ in mine)),
            "wins": int(sum(row[side] for row, side in mine)),
            "losses": int(sum(row[1 - side] for row, side in mine)),
            "ties": int(sum(row[2] for row, _ in mine)),
            "both_bad": int(sum(row[3] for row, _ in mine)),
            "win_rate": _value(found, M + m),
            "win_rate_interval": _interval(found, M + m, 0, 1),
            "strength": _value(found, m),
            "strength_interval": _interval(found, m),
            "elo": None if (value := _value(found, m)) is None else float(elo(np.float64(value))),
            "elo_interval": _as_elo(_interval(found, m)),
        }
    order = sorted(models, key=lambda model: math.inf if (s := rows[model]["strength"]) is None else -s)
    versus = [
        {
            "first": models[i],
            "second": models[j],
            **{name: int(n) for name, n in zip(("first_won", "second_won", "tie", "both_bad"), whole[p])},
            "win_rate": _value(found, 2 * M + p),
            "win_rate_interval": _interval(found, 2 * M + p, 0, 1),
        }
        for p, (i, j) in enumerate(pairs)
    ]
    ties = float(whole[:, 2:].sum() / whole.sum())
    design = _design(found, range(M, 2 * M))
    codes = defaultdict[str, dict[str, int]](dict)
    for one, kind in zip(said, kinds):
        codes[one.item.id][one.rater] = int(kind)
    return {
        "models": {model: rows[model] for model in order},
        "pairs": versus,
        "agreement": agreement(codes, len(VERDICTS), "nominal"),
        "sides": {
            "a": int(sides[:, 0].sum()),
            "b": int(sides[:, 1].sum()),
            "share_a": _value(found, 2 * M + P),
            "share_a_interval": _interval(found, 2 * M + P, 0, 1),
        },
        "sample_size": {
            "difference": difference,
            "comparisons_of_two_models": comparisons(difference),
            "with_this_study_s_ties": comparisons(difference, ties=ties),
            "and_its_raters_and_prompts": comparisons(difference, ties=ties, design=design),
            "ties": ties,
            "design_effect": design,
        },
    }


def _scales(
    models: Sequence[str], scales: Sequence[Scale], said: Sequence[Judged], difference: float | None
) -> dict[str, Any]:
    raters, prompts = [one.rater for one in said], [one.item.prompt for one in said]
    belongs_NM = np.array([[one.item.models[0] == model for model in models] for one in said], float)
    points_NS = np.array([[one.rating.scores[scale.name] for scale in scales] for one in said], float)
    M, S = len(models), len(scales)

    def figures(weights_DN: np.ndarray) -> np.ndarray:
        """Of each scale the mean of each model, and how far each lies above the first."""
        total_DM = weights_DN @ belongs_NM
        sums_DSM = np.einsum("dn,nm,ns->dsm", weights_DN, belongs_NM, points_NS, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_DSM = sums_DSM / total_DM[:, None]
        return np.concatenate([mean_DSM, mean_DSM - mean_DSM[:, :, :1]], axis=1).reshape(len(weights_DN), -1)

    found = estimate(figures, raters, prompts)
    told: dict[str, Any] = {}
    agreed: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    for s, scale in enumerate(scales):
        told[scale.name] = {
            model: {
                "ratings": int(belongs_NM[:, m].sum()),
                "mean": _value(found, s * M + m),
                "interval": _interval(found, s * M + m, 1, scale.points),
                "counts": [int((belongs_NM[:, m] * (points_NS[:, s] == n)).sum()) for n in range(1, scale.points + 1)],
                "above_first": _value(found, (S + s) * M + m),
                "above_first_interval": _interval(found, (S + s) * M + m) if m else None,
            }
            for m, model in enumerate(models)
        }
        codes = defaultdict[str, dict[str, int]](dict)
        for one in said:
            codes[one.item.id][one.rater] = one.rating.scores[scale.name] - 1
        agreed[scale.name] = agreement(codes, scale.points, "ordinal")
        wanted = difference or DIFFERENCE * (scale.points - 1)
        spread = float(points_NS[:, s].std(ddof=1)) if len(said) > 1 else 0.0
        design = _design(found, range(s * M, (s + 1) * M))
        sizes[scale.name] = {
            "difference": wanted,
            "standard_deviation": spread,
            "design_effect": design,
            "ratings_of_each_model": scale_ratings(wanted, spread),
            "with_this_study_s_raters_and_prompts": scale_ratings(wanted, spread, design=design),
        }
    return {
        "models": {model: {"ratings": int(belongs_NM[:, m].sum())} for m, model in enumerate(models)},
        "scales": told,
        "agreement": agreed,
        "sample_size": sizes,
    }


def _value(found: Estimate, k: int) -> float | None:
    value = float(found.value[k])
    return value if math.isfinite(value) else None


def _interval(found: Estimate, k: int, least: float = -math.inf, most: float = math.inf) -> list[float] | None:
    low, high = float(found.low[k]), float(found.high[k])
    return [max(low, least), min(high, most)] if math.isfinite(low) and math.isfinite(high) else None


def _as_elo(interval: list[float] | None) -> list[float] | None:
    return None if interval is None else elo(np.array(interval)).tolist()


def _design(found: Estimate, which: range) -> float:
    some = [float(found.design[k]) for k in which if math.isfinite(found.design[k])]
    return max(1.0, sum(some) / len(some)) if some else 1.0
