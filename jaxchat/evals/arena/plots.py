"""A study's results as PNGs: figures with their intervals, who beats whom, points on scales, how raters worked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jaxchat.files import replacing
from jaxchat.page import COLOURS

_GOOD, _BAD = COLOURS[0], COLOURS[1]


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws what there is of results.py's figures; returns the files."""
    drawn: dict[str, Callable[[Any], None]] = {"raters.png": partial(_raters, raters=found["raters"])}
    if found["study"]["kind"] == "pairs":
        models = found["models"]
        for name, key, what, even in (("elo", "elo", "Elo", 1000), ("win_rates", "win_rate", "win rate", 0.5)):
            drawn[f"{name}.png"] = partial(_dots, rows=_figures(models, key, f"{key}_interval"), what=what, even=even)
        drawn["pairs.png"] = partial(_matrix, models=list(models), pairs=found["pairs"])
    else:
        for i, (scale, models) in enumerate(found["scales"].items(), 1):
            rows = _figures(models, "mean", "interval")
            drawn[f"scale_{i}_{_file_name(scale)}.png"] = partial(_dots, rows=rows, what=scale, even=None)
    return [_drawn(folder / name, how) for name, how in drawn.items()]


def _figures(models: Mapping[str, Mapping[str, Any]], key: str, bounds: str) -> dict[str, Any]:
    return {name: (row[key], row[bounds]) for name, row in models.items()}


def _drawn(path: Path, how: Callable[[Any], None]) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)  # no display is asked for
    how(figure.add_subplot())
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png")
    return path


def _dots(
    axes: Any, rows: Mapping[str, tuple[float | None, Sequence[float] | None]], what: str, even: float | None
) -> None:
    for y, (value, interval) in enumerate(rows.values()):
        if value is None:
            continue
        if interval:
            axes.plot(interval, [y, y], color=_GOOD, linewidth=2, solid_capstyle="round")
        axes.plot(value, y, "o", color=_GOOD, markersize=8)
        axes.annotate(f"{value:.4g}", (value, y), (0, 9), textcoords="offset points", ha="center", fontsize=9)
    if even is not None:
        axes.axvline(even, color="#999", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{_plain(what)}, with 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _matrix(axes: Any, models: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> None:
    """How often the row's model is chosen over the column's, ties half."""
    rate = {(row["first"], row["second"]): row["win_rate"] for row in pairs}
    rate |= {(b, a): None if value is None else 1 - value for (a, b), value in rate.items()}
    cells = [[rate.get((row, column)) for column in models] for row in models]
    shown = [[float("nan") if value is None else value for value in row] for row in cells]
    axes.imshow(shown, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(cells):
        for x, value in enumerate(row):
            if value is not None:
                ink = "white" if abs(value - 0.5) > 0.3 else "black"
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(models)), [_short(name) for name in models])
    axes.set_yticks(range(len(models)), [_short(name) for name in models])
    axes.set(xlabel="chosen over", title="win rate of the row over the column")


def _raters(axes: Any, raters: Sequence[Mapping[str, Any]]) -> None:
    """Agreement against speed; who is flagged stands out."""
    known = [row for row in raters if row["agreement"] is not None and row["median_seconds"] is not None]
    for flagged, colour, label in ((False, _GOOD, "raters"), (True, _BAD, "flagged")):
        some = [row for row in known if bool(row["flags"]) == flagged]
        if some:
            x, y = [row["median_seconds"] for row in some], [row["agreement"] for row in some]
            axes.scatter(x, y, color=colour, label=label, s=40, alpha=0.8, edgecolors="white", linewidths=0.6)
        for row in some if flagged else ():
            place = (row["median_seconds"], row["agreement"])
            axes.annotate(_short(row["rater"]), place, (6, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="median seconds an item", ylabel="agreement with others", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if known:
        axes.legend(frameon=False)


def _short(name: str) -> str:
    return _plain(name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}")


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
