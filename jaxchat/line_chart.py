"""Curves over steps as HTML and SVG that need no script: light or dark, as wide as the page, printable.

The drawing is stretched to the width it gets; lines and dots keep their thickness, and words stand beside it as text,
so that they are as large on a telephone as anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Point = tuple[float, float]

MOST = 400  # places along the axis that a line is drawn through
_WIDE, _HIGH = 1000, 300  # units of the drawing

STYLE = """
.chart { display: grid; grid-template-columns: max-content 1fr; gap: 2px 8px; color: var(--soft); font-size: 12px; }
.chart .up, .chart .along { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.chart .up { flex-direction: column-reverse; text-align: right; margin: -9px 0; }
.chart .along { grid-column: 2; }
.chart svg { display: block; width: 100%; height: 200px; overflow: visible; }
.chart.high svg { height: 280px; }
.chart path { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.chart path.grid { stroke: var(--line); stroke-width: 1; } .chart path.dots { stroke-width: 7; stroke-linecap: round; }
.chart path.thin { stroke-width: 1; opacity: .55; }
.curve-0 { stroke: var(--curve-0); } .curve-1 { stroke: var(--curve-1); } .curve-2 { stroke: var(--curve-2); }
.chart-key { display: flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 6px; font-size: 13px; color: var(--soft); }
.chart-key svg { width: 18px; height: 10px; margin-right: 6px; vertical-align: baseline; }
.chart-key path { stroke-width: 2; } .chart-key path.dots { stroke-width: 7; stroke-linecap: round; }
.chart-key path.thin { stroke-width: 1; opacity: .6; }
"""


@dataclass(frozen=True)
class Curve:
    """Points in the order of their steps. colour: the number of one of three. form: a line, one that stays behind
    others, or a line through dots that are told apart."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    form: Literal["line", "thin", "dots"] = "line"


def line_chart(curves: Sequence[Curve], show: Callable[[float], str], *, high: bool = False) -> str:
    """Curves over one axis of steps, values by `show`; beside them what the curves are, where there are several.

    Of more than MOST points, each place along the axis keeps its lowest and highest, so that no peak is lost. A curve
    without points is left out; numbers must be finite.
    """
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return "<p>none yet</p>"
    steps = [step for curve in curves for step, _ in curve.points]
    first, last = min(steps), max(steps)
    values = [value for curve in curves for _, value in curve.points]
    marks = ticks(min(values), max(values))
    low, top = marks[0], marks[-1]

    def at(point: Point) -> str:
        across = (point[0] - first) / ((last - first) or 1) * _WIDE
        return f"{across:.1f} {_HIGH - (point[1] - low) / (top - low) * _HIGH:.1f}"

    rules = "".join(f"M0 {_HIGH - i * _HIGH / (len(marks) - 1):.1f}h{_WIDE}" for i in range(len(marks)))
    drawn = "".join(_path(curve, at, first, last) for curve in curves)
    names = ", ".join(curve.name for curve in curves)
    alt = escape(f"{names}: from step {first:,.0f} to {last:,.0f}, between {show(min(values))} and {show(max(values))}")
    up = "".join(f"<span>{escape(show(mark))}</span>" for mark in marks)
    along = "".join(f"<span>{step:,.0f}</span>" for step in _steps(first, last))
    picture = (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" preserveAspectRatio="none" role="img" aria-label="{alt}">'
        f'<path class="grid" d="{rules}"/>{drawn}</svg>'
    )
    chart = (
        f'<div class="chart{" high" if high else ""}"><div class="up">{up}</div>{picture}'
        f'<div class="along">{along}</div></div>'
    )
    return chart + (_key(curves) if len(curves) > 1 else "")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, evenly apart, the first at or below `low` and the last at or above `high`."""
    wide = high - low or abs(high) or 1.0
    rough = wide / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(round_ for round_ in (1, 2, 2.5, 5, 10) if round_ * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[Point], first: float, last: float) -> list[Point]:
    """Of many points, in each of MOST places along the axis the lowest and the highest; and the last of all."""
    if len(points) <= 2 * MOST:
        return list(points)
    places: dict[int, list[Point]] = {}
    for point in points:
        places.setdefault(int((point[0] - first) / ((last - first) or 1) * (MOST - 1)), []).append(point)
    kept = []
    for each in places.values():
        kept += sorted({min(each, key=lambda point: point[1]), max(each, key=lambda point: point[1])})
    return [*kept, *([points[-1]] if kept[-1] != points[-1] else [])]


def _path(curve: Curve, at: Callable[[Point], str], first: float, last: float) -> str:
    line = "M" + "L".join(map(at, thinned(curve.points, first, last)))
    of = f"curve-{curve.colour}"
    if curve.form != "dots":
        return f'<path class="{of} {curve.form}" d="{line}"/>'
    dots = "".join(f"M{at(point)}h0" for point in curve.points)
    return f'<path class="{of}" d="{line}"/><path class="{of} dots" d="{dots}"/>'


def _steps(first: float, last: float) -> list[float]:
    """What the axis of steps is marked with: its ends, and the step in the middle where there is one."""
    middle = (first + last) / 2
    return sorted({first, *((middle,) if middle.is_integer() else ()), last})


def _key(curves: Sequence[Curve]) -> str:
    named = ""
    for curve in curves:
        drawn = (
            f'<path class="curve-{curve.colour} {curve.form}" d="M{"9 5h0" if curve.form == "dots" else "0 5h18"}"/>'
        )
        named += f'<span><svg viewBox="0 0 18 10" aria-hidden="true">{drawn}</svg>{escape(curve.name)}</span>'
    return f'<div class="chart-key">{named}</div>'
