"""Plans as one page of tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, get_args

from jaxchat.page import boxed, card, cards, document, in_short, section, stacked, table, tile, tiles
from jaxchat.plan.collectives import Kind
from jaxchat.plan.table import HEAD, duration, gib

Json = Mapping[str, Any]
TIMES = {
    "compute_seconds": "arithmetic",
    "memory_seconds": "memory",
    "overlapped_network_seconds": "network, beside other work",
    "exposed_network_seconds": "network, alone",
}
NOTES = (
    "Peak memory is the compiler's own figure. Parameters, the optimizer's state and activations (what the forward "
    "pass keeps for the backward pass) are counted from shapes; temporaries are the rest of the peak.",
    "A step takes at least the longest of arithmetic, memory and the messages that run beside them, and on top those "
    "that nothing runs beside. It is a bound from the makers' figures, not a measurement: no program reaches all of a "
    "chip's arithmetic.",
    "MFU counts the model's operations alone, not what is computed again. Messages are counted on the compiled "
    "program, loops multiplied out; bytes are those of their results on one chip. What goes between slices (DCN) "
    "leaves each chip through its host, at the chip's share of the host's connection.",
)


def page(title: str, parameters: int, plans: Sequence[Json], rows: Sequence[Sequence[str]]) -> str:
    """The page of what `Plan.to_json` says of each plan. rows: of the terminal's table."""
    names = _names(plans)
    running = {name: plan for name, plan in names.items() if plan["roofline"]}
    parts = [
        f"<h1>{escape(title)}</h1><p>What it needs and how fast it can be, compiled for machines that are not here.</p>"
    ]
    parts.append(_overview(parameters, running, plans))
    parts.append(section("At a glance", boxed(table(HEAD, rows, numbers=(*range(4, 9), len(HEAD) - 1)))))
    advice = "".join(
        f"<p>{escape(name)}: {escape(plan['advice'])}</p>" for name, plan in names.items() if plan["advice"]
    )
    if advice:
        parts.append(section("What to change", boxed(advice)))
    parts.append(section("Memory of a chip", boxed(_memory(names))))
    if running:
        parts.append(
            section("Where a step's time goes", cards(card(name, _times(plan)) for name, plan in running.items()))
        )
        parts.append(
            section("Messages between chips", cards(card(name, _network(plan)) for name, plan in running.items()))
        )
        parts.append(section("Speed and money", cards(_speed(running))))
    served = {
        f"{name}, {what}": one for name, plan in names.items() for what, one in plan["serve"].items() if one["roofline"]
    }
    if served:
        parts.append(section("Serving", boxed(_memory(served) + _serving(served))))
    parts.append(section("How this is counted", boxed("".join(f"<p>{escape(note)}</p>" for note in NOTES))))
    return document(f"{title}: plan", "\n".join(parts))


def _names(plans: Sequence[Json]) -> dict[str, Json]:
    """Each plan by its topology and, where several are of one, by what sets it apart."""
    names: dict[str, Json] = {}
    for plan in plans:
        name = plan["topology"]
        if sum(other["topology"] == name for other in plans) > 1:
            mesh = " ".join(f"{axis}={size}" for axis, size in plan["mesh"].items())
            name = f"{name}, {mesh}, {plan['batch']} rows, remat {plan['remat']}"
        while name in names:
            name += " again"
        names[name] = plan
    return names


def _overview(parameters: int, running: Mapping[str, Json], plans: Sequence[Json]) -> str:
    fit = sum(plan["fits"] for plan in plans)
    each = [tile(in_short(parameters), "parameters"), tile(f"{fit} of {len(plans)}", "fit", bad=fit < len(plans))]
    if running:
        fastest = max(running, key=lambda name: running[name]["tokens_per_second"])
        cheapest = min(running, key=lambda name: running[name]["dollars_per_billion_tokens"])
        each.append(tile(f"{running[fastest]['tokens_per_second']:,.0f}", f"tokens/s at most, on {fastest}"))
        cost = running[cheapest]["dollars_per_billion_tokens"]
        each.append(
            tile(f"${cost:,.0f}" if cost >= 10 else f"${cost:.2f}", f"a billion tokens at least, on {cheapest}")
        )
    return tiles(each)


def _memory(plans: Mapping[str, Json]) -> str:
    rows, said, ends = {}, {}, {}
    for name, plan in plans.items():
        rows[name] = {kind: count / 2**30 for kind, count in plan["memory"].items()}
        least = "" if plan["compiled"] else "at least "
        if "limit_bytes" in plan:
            ends[name] = plan["limit_bytes"] / 2**30
            said[name] = f"{least}{gib(plan['peak_bytes'])} of {gib(plan['limit_bytes'])} GiB"
        else:
            said[name] = f"{gib(plan['peak_bytes'])} GiB"
    return stacked(rows, said, ends)


def _times(plan: Json) -> str:
    """One bar a kind, all of one scale."""
    spent = {what: plan["roofline"][key] for key, what in TIMES.items()}
    longest = max(spent.values())
    bars = stacked(
        {what: {"": value} for what, value in spent.items()},
        {what: duration(value) for what, value in spent.items()},
        dict.fromkeys(spent, longest),
    )
    bound = plan["roofline"]["bound"]
    return f"<p>{duration(plan['step_seconds'])} a step, bound by {escape(bound)}</p>{bars}"


def _network(plan: Json) -> str:
    rows, said = {}, {}
    for one in plan["network"]:
        name = f"over {one['axes'] or 'all'} ({one['network']})"
        rows[name] = {kind: one["bytes"].get(kind, 0) / 1e9 for kind in sorted(get_args(Kind))}  # of one colour each
        said[name] = _bytes(sum(one["bytes"].values()))
    count = sum(kind["count"] for kind in plan["collectives"].values())
    return f"<p>{count:,.0f} messages a step</p>" + (stacked(rows, said, {}) if rows else "")


def _speed(plans: Mapping[str, Json]) -> list[str]:
    figures: list[tuple[str, str, Callable[[float], str]]] = [
        ("MFU at most", "mfu", lambda value: f"{value:.0%}"),
        ("tokens a second at most", "tokens_per_second", lambda value: f"{value:,.0f}"),
        ("dollars a billion tokens at least", "dollars_per_billion_tokens", lambda value: f"{value:,.2f}"),
        ("hours of the whole run at least", "hours", lambda value: f"{value:,.2f}"),
        ("dollars of the whole run at least", "dollars", lambda value: f"{value:,.2f}"),
    ]
    made = []
    for title, key, show in figures:
        values = {name: plan[key] for name, plan in plans.items() if plan[key] is not None}
        if values:
            said = {name: show(value) for name, value in values.items()}
            made.append(card(title, stacked({name: {"": value} for name, value in values.items()}, said, {})))
    return made


def _serving(served: Mapping[str, Json]) -> str:
    rows = [
        (name, duration(one["seconds"]), f"{one['tokens_per_second']:,.0f}", one["roofline"]["bound"])
        for name, one in served.items()
    ]
    return table(("program", "takes at least", "tokens/s at most", "bound by"), rows, numbers=(1, 2))


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB" if count >= 1e4 else f"{count:,.0f} B"
