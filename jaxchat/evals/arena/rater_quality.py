"""How each rater worked: attention checks, agreement with others on the same items, speed, and habits. Who stands out
is flagged with the reason, and stays in until somebody says otherwise: who is careless is judged, not counted.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from jaxchat.evals.arena.judged import Judged
from jaxchat.evals.arena.study import Study

# Flagged is who fails two checks or more, and more than this share of them;
CHECKS_FAILED, FAILED_SHARE = 2, 1 / 3
# who agrees with others less than all raters do by so many standard errors, or by fewer after a check that failed;
AGREES_LESS, AND_FAILED, LEAST_ITEMS = 3.0, 2.0, 8
# whose median time is below this share of all raters';
HASTE = 1 / 3
# who takes one side as chance would once in a thousand times, or says the same nearly always.
SIDE_CHANCE, SAME, LEAST_SAME = 0.001, 0.95, 20


def quality(study: Study, counting: Sequence[Judged], checked: Sequence[Judged]) -> list[dict[str, Any]]:
    """A row a rater; `flags` are the reasons to look at them."""
    agreements = _agreements(study, counting)
    everyone = [value for values in agreements.values() for value in values]
    mean = statistics.fmean(everyone) if everyone else math.nan
    spread = statistics.pstdev(everyone) if everyone else math.nan
    own, checks = defaultdict[str, list[Judged]](list), defaultdict[str, list[Judged]](list)
    for one in counting:
        own[one.rater].append(one)
    for one in checked:
        checks[one.rater].append(one)
    medians = {rater: statistics.median(one.rating.seconds for one in some) for rater, some in own.items()}
    usual = statistics.median(medians.values()) if medians else math.nan
    rows = []
    for rater in sorted({*own, *checks}):
        agreed = agreements.get(rater, [])
        sides = Counter(side for one in own[rater] if (side := side_of(one)))
        row = {
            "rater": rater,
            "ratings": len(own[rater]),
            "checks": len(checks[rater]),
            "checks_failed": sum(not _right(one) for one in checks[rater]),
            "agreement": statistics.fmean(agreed) if agreed else None,
            "items_shared": len(agreed),
            "median_seconds": medians.get(rater),
            "chose_a": sides["a"],
            "chose_b": sides["b"],
            "comments": sum(bool(one.rating.comment) for one in own[rater]),
        }
        rows.append(row | {"flags": _flags(row, mean, spread, usual, _same(own[rater]))})
    return rows


def side_of(one: Judged) -> str | None:
    """Which side a verdict chose, as the rater saw them; None for none of the two."""
    if one.rating.verdict not in ("first", "second"):
        return None
    return "ab"[(one.rating.verdict == "second") != one.flipped]


def _flags(row: Mapping[str, Any], mean: float, spread: float, usual: float, same: float) -> list[str]:
    from scipy.stats import binomtest

    flags = []
    if row["checks_failed"] >= CHECKS_FAILED and row["checks_failed"] > FAILED_SHARE * row["checks"]:
        flags.append(f"failed {row['checks_failed']} of {row['checks']} attention checks")
    shared = row["items_shared"]
    less = AND_FAILED if row["checks_failed"] else AGREES_LESS
    if shared >= LEAST_ITEMS and spread > 0 and (row["agreement"] - mean) / (spread / math.sqrt(shared)) < -less:
        flags.append(f"agrees with others in {row['agreement']:.0%}, raters in {mean:.0%}")
    if row["ratings"] >= LEAST_ITEMS and row["median_seconds"] < HASTE * usual:
        flags.append(f"takes {row['median_seconds']:.1f} s an item, raters {usual:.1f} s")
    decided = row["chose_a"] + row["chose_b"]
    if decided and binomtest(row["chose_a"], decided).pvalue < SIDE_CHANCE:
        side = "A" if row["chose_a"] > row["chose_b"] else "B"
        flags.append(f"chose {side} in {max(row['chose_a'], row['chose_b'])} of {decided}")
    if row["ratings"] >= LEAST_SAME and same >= SAME:
        flags.append(f"said the same in {same:.0%}")
    return flags


def _same(own: Sequence[Judged]) -> float:
    """The share of what they said most, as they saw it."""
    said = Counter((side_of(one) or one.rating.verdict, *sorted(one.rating.scores.items())) for one in own)
    return max(said.values()) / len(own) if own else 0.0


def _right(one: Judged) -> bool:
    assert one.item.trial is not None
    return one.item.trial.right(one.rating.verdict, one.rating.scores)


def _agreements(study: Study, counting: Sequence[Judged]) -> dict[str, list[float]]:
    """Of each rater, how alike they and the others are on each item that others rated too, 0 to 1."""
    points = {scale.name: scale.points for scale in study.scales}
    by_item = defaultdict[str, list[Judged]](list)
    for one in counting:
        by_item[one.item.id].append(one)
    found = defaultdict[str, list[float]](list)
    for some in by_item.values():
        for one in some:
            others = [_alike(one, other, points) for other in some if other.rater != one.rater]
            if others:
                found[one.rater].append(statistics.fmean(others))
    return dict(found)


def _alike(one: Judged, other: Judged, points: Mapping[str, int]) -> float:
    if one.rating.verdict is not None:
        return float(one.rating.verdict == other.rating.verdict)
    apart = (abs(one.rating.scores[name] - other.rating.scores[name]) / (most - 1) for name, most in points.items())
    return 1 - statistics.fmean(apart)
