"""loss.png: the loss of every step and the held-out loss, drawn from metrics.jsonl when training ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxchat.files import replacing
from jaxchat.train.metrics import Record

SMOOTH = 0.9  # of the running mean that is drawn over the steps


def draw_losses(records: Sequence[Record], path: Path, *, title: str) -> None:
    """Draws the loss curves of `records` (metrics.jsonl's) as a PNG at `path`, in nats a trained token."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trained = [(record["step"], record["loss"]) for record in records if record.get("loss") is not None]
    held_out = [(record["step"], record["eval"]["loss"]) for record in records if "eval" in record]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)  # no display is asked for
    axes = figure.add_subplot()
    if trained:
        steps, losses = zip(*trained, strict=True)
        axes.plot(steps, losses, color="#8ab6d6", linewidth=0.8, label="train")
        axes.plot(steps, running_mean(losses), color="#1f6fa8", label="train, smoothed")
    if held_out:
        steps, losses = zip(*held_out, strict=True)
        axes.plot(steps, losses, color="#c8553d", marker="o", markersize=4, label="held out")
    axes.set(title=title, xlabel="step", ylabel="loss (nats per trained token)")
    axes.grid(alpha=0.3)
    if trained or held_out:
        axes.legend()
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png")


def running_mean(losses: Sequence[float]) -> list[float]:
    """Exponential mean, unbiased at its start (the divisor is the weight that has come in so far)."""
    means: list[float] = []
    total = weight = 0.0
    for loss in losses:
        total = SMOOTH * total + (1 - SMOOTH) * loss
        weight = SMOOTH * weight + (1 - SMOOTH)
        means.append(total / weight)
    return means
