"""Figures of several steps of one run, as a curve."""

from __future__ import annotations

from collections.abc import Mapping

from jaxchat.line_chart import Curve, line_chart
from jaxchat.page import card


def by_step(title: str, values: Mapping[str, float | None]) -> str:
    """A card with the curves of the runs of which several steps have a figure in `values`, by MODEL (RUN@STEP); nothing
    where there is none."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for model, value in values.items():
        run, _, step = model.rpartition("@")
        if run and step.isdecimal() and value is not None:
            runs.setdefault(run, []).append((int(step), value))
    curves = [Curve(run, sorted(points), i % 3, "dots") for i, (run, points) in enumerate(runs.items()) if points[1:]]
    return card(f"{title}, by step", line_chart(curves, "{:.4g}".format)) if curves else ""
