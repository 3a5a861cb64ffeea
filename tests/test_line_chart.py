"""Curves as drawings: round marks around all values, every peak kept, every dot in its place."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxchat.line_chart import MOST, Curve, line_chart, thinned, ticks

NUMBERS = st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(NUMBERS, NUMBERS)
def test_marks_are_round_and_hold_all_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if 0 < high - low < 1e-6 * max(abs(low), abs(high)):
        return  # apart by rounding alone
    marks = ticks(low, high)
    wide = marks[-1] - marks[0]
    assert 2 <= len(marks) <= 7
    assert marks[0] <= low + 1e-6 * wide and high <= marks[-1] + 1e-6 * wide
    steps = [b - a for a, b in pairwise(marks)]
    assert max(steps) - min(steps) <= 1e-6 * wide
    assert f"{steps[0]:.2e}"[:4] in ("1.00", "2.00", "2.50", "5.00")


def test_of_many_points_no_peak_is_lost() -> None:
    points = [(float(step), 1.0) for step in range(50_000)]
    points[31_234] = (31_234.0, 77.0)
    points[20_001] = (20_001.0, -3.0)
    kept = thinned(points, 0, 49_999)
    assert len(kept) <= 2 * MOST + 1
    assert {points[0], points[31_234], points[20_001], points[-1]} <= set(kept)
    assert kept == sorted(kept)
    few = points[:30]
    assert thinned(few, 0, 29) == few


def test_dots_stand_where_their_values_are() -> None:
    drawn = line_chart([Curve("held out", [(0, 0.0), (50, 4.0), (100, 1.0)], 1, "dots")], lambda value: f"{value:g}")
    found = re.search(r'class="curve-1 dots" d="([^"]*)"', drawn)
    assert found is not None and found[1] == "M0.0 300.0h0M500.0 0.0h0M1000.0 225.0h0"
    assert re.findall(r"<span>([^<]*)</span>", drawn) == ["0", "1", "2", "3", "4", "0", "50", "100"]
    assert "from step 0 to 100, between 0 and 4" in drawn


@pytest.mark.parametrize("points", [[(7, 2.5)], [(0, 1.0), (9, 1.0)], [(3, 0.0)]])
def test_a_single_value_is_drawn(points: list[tuple[float, float]]) -> None:
    drawn = line_chart([Curve("<&>", points), Curve("none", [])], str)
    assert "nan" not in drawn and "inf" not in drawn and "<&>" not in drawn and "&lt;&amp;&gt;" in drawn


def test_no_points_are_said_to_be_none() -> None:
    assert line_chart([Curve("loss", [])], str) == "<p>none yet</p>"
