"""Rows of like spans are written together where that costs least."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from jaxchat.sample.groups import groups

SIZES = (1, 4, 16)
SPANS = (128, 512, 2048, 8192)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cut_costs_less(seed):
    """Against every way to cut the spans in use, with costs of a step that are drawn anew."""
    draw = np.random.default_rng(seed)
    members = [(name, int(draw.choice(SPANS))) for name in range(draw.integers(1, 17))]
    table = {(size, span): draw.random() for size in SIZES for span in SPANS}

    def cost(some: list[tuple[int, int]]) -> float:
        return table[next(size for size in SIZES if size >= len(some)), max(span for _, span in some)]

    found = groups(members, lambda member: member[1], cost)
    assert sorted(member for some in found for member in some) == sorted(members)
    for short, long in pairwise(found):
        assert max(span for _, span in short) < min(span for _, span in long)
    used = sorted({span for _, span in members})
    costs = []
    for cuts in product((False, True), repeat=len(used) - 1):
        edges = [0, *(at for at, cut in enumerate(cuts, 1) if cut), len(used)]
        costs.append(sum(cost([m for m in members if m[1] in used[a:b]]) for a, b in pairwise(edges)))
    assert sum(map(cost, found)) == pytest.approx(min(costs))


def test_what_costs_the_same_stays_together():
    assert groups([3, 1, 2], lambda span: span, lambda some: float(len(some))) == [[1, 2, 3]]
