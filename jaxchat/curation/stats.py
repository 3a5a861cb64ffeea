"""stats.json of a cleaning: what became of every row, by step and reason. The same counts give the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from jaxchat.curation.chain import Counts
from jaxchat.curation.steps import Prepared

LARGEST = 20


def make_stats(
    counts: Counts, prepared: Prepared, duplicates: Mapping[str, Mapping[str, int]], sources: Iterable[str]
) -> dict[str, Any]:
    """`duplicates`: step -> id of the conversation that stays -> how many were dropped for it."""
    rows_in, used = counts["rows_in",], counts["conversations", "out"]
    rejected = sum(n for (kind, *_), n in counts.items() if kind == "rejected")
    dropped = sum(n for (kind, *_), n in counts.items() if kind == "dropped")
    if rows_in != used + rejected + dropped:
        raise AssertionError(f"{rows_in} rows read, and {used} used, {rejected} rejected, {dropped} dropped")
    steps, entering = [], counts["conversations", "in"]
    for name in prepared.names:
        reasons = _under(counts, "dropped", name)
        dropped_here = sum(reasons.values())
        step = {
            "name": name,
            "conversations_in": entering,
            "changed": counts["changed", name],
            "dropped": dropped_here,
            "reasons": reasons,
            "found": _under(counts, "found", name),
        }
        entering -= dropped_here
        steps.append(step)
    return {
        "sources": list(sources),
        "rows_in": rows_in,
        "rows_used": used,
        "rows_rejected": rejected,
        "rows_dropped": dropped,
        "conversations": used,
        "preferences": counts["preferences", "out"],
        "messages": counts["messages", "out"],
        "characters": counts["characters", "out"],
        "roles": _under(counts, "roles", "out"),
        "languages": _under(counts, "languages", "out"),
        "by_source": {side: _under(counts, "sources", side) for side in ("in", "out")},
        "before": {
            "conversations": counts["conversations", "in"],
            "preferences": counts["preferences", "in"],
            "messages": counts["messages", "in"],
            "characters": counts["characters", "in"],
            "roles": _under(counts, "roles", "in"),
        },
        "steps": steps,
        "reasons": _largest(
            {f"{step}: {why}": n for (kind, step, *rest), n in _pairs(counts) if kind == "dropped" for why in rest}
        ),
        "rejected_reasons": _largest({why: n for (kind, why, *_), n in _pairs(counts) if kind == "rejected"}),
        "personal_data": _under(counts, "found", "personal-data"),
        "duplicates": {step: _clusters(sizes) for step, sizes in duplicates.items()},
    }


def _pairs(counts: Counts) -> list[tuple[tuple[str, ...], int]]:
    return [(key, n) for key, n in counts.items() if len(key) > 1]


def _under(counts: Counts, *names: str) -> dict[str, int]:
    size = len(names)
    return _largest({key[size]: n for key, n in counts.items() if key[:size] == names and len(key) == size + 1 and n})


def _largest(numbers: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(numbers.items(), key=lambda item: (-item[1], item[0])))


def _clusters(sizes: Mapping[str, int]) -> dict[str, Any]:
    """How many clusters there are of each size (the one that stays counted), and the largest."""
    by_size = Counter(size + 1 for size in sizes.values())
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]
    return {
        "clusters": len(sizes),
        "sizes": {str(size): by_size[size] for size in sorted(by_size)},
        "largest": [{"id": name, "conversations": size + 1} for name, size in largest],
    }
