"""What verdicts add up to: ratings, wins, and how much the judge goes by the order in which it sees two answers."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxchat.evals.intervals import ratio_interval
from jaxchat.evals.judge.kept import Row


def results(models: Sequence[str], verdicts: Sequence[Row]) -> dict[str, Any]:
    """`{"ratings": {MODEL: figures}, "pairs": [figures], "position": figures, "unread": verdicts without one}`.

    Intervals are of 95 %, by the bootstrap over questions.
    """
    single = [row for row in verdicts if row["kind"] == "single"]
    pairs = [row for row in verdicts if row["kind"] == "pair"]
    return {
        "ratings": {
            model: ratings([row for row in single if row["model"] == model])
            for model in dict.fromkeys(row["model"] for row in single)
        },
        "pairs": [pair(one, other, pairs) for one, other in itertools.combinations(models, 2)] if pairs else [],
        "position": position(pairs) if pairs else None,
        "unread": sum(row["verdict"] is None for row in verdicts),
        "verdicts": len(verdicts),
    }


def ratings(rows: Sequence[Row]) -> dict[str, Any]:
    """Of one model: the mean rating, by turn and category too."""
    read = [row for row in rows if row["verdict"] is not None]
    return {
        **_mean((row["question"], row["verdict"]) for row in read),
        "by": {
            name: {
                str(value): _mean((row["question"], row["verdict"]) for row in read if row[name] == value)
                for value in sorted({row[name] for row in read}, key=str)
            }
            for name in ("turn", "category")
        },
        "unread": len(rows) - len(read),
    }


def pair(one: str, other: str, rows: Iterable[Row]) -> dict[str, Any]:
    """`one` against `other`. A turn is won where both orders say so; all else that was judged in both is a tie, those
    where the verdict turned with the order being `inconsistent`. win_rate: wins and half the ties."""
    counts: Counter[str] = Counter()
    points: list[tuple[str, float]] = []
    by_category: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (question, category, _), verdicts in _both_orders(rows).items():
        if (one, other) not in verdicts or (other, one) not in verdicts:
            continue
        there, back = verdicts[one, other], verdicts[other, one]
        if there is None or back is None:
            counts["unread"] += 1
            continue
        back = {"first": "second", "second": "first"}.get(back, back)  # who it means, in the order of `there`
        outcome = {"first": "wins", "second": "losses", "tie": "ties"}[there] if there == back else "ties"
        counts[outcome] += 1
        counts["inconsistent"] += there != back
        point = {"wins": 1.0, "losses": 0.0, "ties": 0.5}[outcome]
        points.append((question, point))
        by_category[category].append((question, point))
    told = _mean(points)
    return {
        "model": one,
        "against": other,
        **{name: counts[name] for name in ("wins", "losses", "ties", "inconsistent", "unread")},
        "win_rate": told["mean"],
        "interval": told["interval"],
        "turns": len(points),
        "by_category": {name: _mean(some)["mean"] for name, some in sorted(by_category.items())},
    }


def position(rows: Sequence[Row]) -> dict[str, Any]:
    """How the judge's verdicts lie in the order of what it saw. first, second, tie: shares of all verdicts. bias: first
    less second, 0 for a judge that goes by content alone, since every two are seen in both orders. Of those judged in
    both orders, the share judged alike (consistent), and judged for whoever was shown first, or second."""
    read = [row for row in rows if row["verdict"] is not None]
    shares = Counter(row["verdict"] for row in read)
    leans = _mean((row["question"], {"first": 1.0, "second": -1.0}.get(row["verdict"], 0.0)) for row in read)
    turned: Counter[str] = Counter()
    for verdicts in _both_orders(rows).values():
        for one, other in itertools.combinations(sorted({name for names in verdicts for name in names}), 2):
            there, back = verdicts.get((one, other)), verdicts.get((other, one))
            if there is None or back is None:
                continue
            alike = (there, back) in (("first", "second"), ("second", "first"), ("tie", "tie"))
            turned["consistent" if alike else f"for_{there}" if there == back else "half"] += 1
    total = sum(turned.values())
    return {
        **{name: shares[name] / len(read) if read else None for name in ("first", "second", "tie")},
        "bias": leans["mean"],
        "interval": leans["interval"],
        **{name: turned[name] / total if total else None for name in ("consistent", "for_first", "for_second")},
        "verdicts": len(read),
    }


def _both_orders(rows: Iterable[Row]) -> dict[tuple[str, str, int], dict[tuple[str, str], Any]]:
    found: dict[tuple[str, str, int], dict[tuple[str, str], Any]] = defaultdict(dict)
    for row in rows:
        found[row["question"], row["category"], row["turn"]][row["first"], row["second"]] = row["verdict"]
    return found


def _mean(values: Iterable[tuple[str, float]]) -> dict[str, Any]:
    """Of (question, value); questions are what is drawn for the interval."""
    by_question: Mapping[str, list[float]] = defaultdict(list)
    for question, value in values:
        by_question[question].append(value)
    sums = np.array([sum(some) for some in by_question.values()], float)
    counts = np.array([len(some) for some in by_question.values()], float)
    if not len(counts):
        return {"mean": None, "interval": None, "count": 0}
    told = ratio_interval(sums, counts)
    return {"mean": float(sums.sum() / counts.sum()), "interval": told and list(told), "count": int(counts.sum())}
