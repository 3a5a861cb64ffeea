"""Plans as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from jaxchat.plan.memory import on_host
from jaxchat.plan.planning import Made, Plan

HEAD = ("on", "mesh", "batch", "remat", "peak", "of", "step", "MFU", "tokens/s", "bound by", "$/1B tokens")


def table(plans: Sequence[Plan]) -> list[str]:
    """One line a plan under a header, and the sentences that go with them."""
    rows = [HEAD, *map(row, plans)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(each, widths)).rstrip() for each in rows]
    return [*lines, *(line for plan in plans for line in sentences(plan))]


def row(plan: Plan) -> tuple[str, ...]:
    """One plan's line of the table."""
    made, line = plan.train, plan.train.roofline
    data = plan.to_json()
    batch = f"{plan.setting.batch} x {plan.seq_len}" + (
        f" / {plan.setting.accumulate}" if plan.setting.accumulate > 1 else ""
    )
    speed = ("-",) * 5
    if line is not None:
        cost = data["dollars_per_billion_tokens"]
        speed = (
            duration(line.step),
            f"{data['mfu']:.0%}",
            f"{data['tokens_per_second']:,.0f}",
            line.bound,
            f"{cost:,.0f}",
        )
    return (
        plan.topology.name,
        mesh(plan),
        batch,
        plan.setting.remat,
        gib(made.peak) + ("" if plan.train.fits else " !"),
        gib(plan.topology.limit_bytes),
        *speed,
    )


def sentences(plan: Plan) -> list[str]:
    """What the figures do not say: why it does not fit and what to change; what serving needs; what a run
    costs."""
    said = []
    name = plan.topology.name
    if not plan.fits:
        said.append(f"{name}: {plan.advice}")
    if away := on_host(plan.train.phase.holds):
        said.append(f"{name}: {gib(away)} GiB a chip wait in the host's memory; no time is counted for moving them")
    said += [f"{name}: {serving(one)}" for one in plan.made[1:] if one.roofline]
    hours = plan.hours()
    if hours is not None:
        dollars = plan.to_json()["dollars"]
        said.append(f"{name}: {plan.steps:,} steps take at least {hours:,.2f} hours and ${dollars:,.2f}")
    return said


def serving(one: Made) -> str:
    """How fast prefill or decode is."""
    assert one.roofline is not None
    each = one.phase.tokens / one.roofline.step
    return f"{one.phase.name}: {gib(one.peak)} GiB, {duration(one.roofline.step)}, {each:,.0f} tokens/s"


def mesh(plan: Plan) -> str:
    """`data=2 fsdp=32`: the axes of more than one device."""
    return " ".join(f"{axis}={size}" for axis, size in plan.sizes.items() if size > 1) or "one device"


def gib(count: float) -> str:
    """Bytes in GiB."""
    return f"{count / 2**30:.2f}"


def duration(seconds: float) -> str:
    """`1.20 s`, `34 ms` or `5.1 us`."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
