"""Scores on tasks in tables on a terminal, and as a part of a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from jaxchat.evals.benchmarks.suite import CHANCE, MEANT
from jaxchat.evals.by_step import by_step
from jaxchat.page import boxed, card, cards, intervals, table

if TYPE_CHECKING:
    from rich.table import Table

_ABOUT = ("questions", "fewshot", "part_of")  # what stands beside a task's figures
SURE = "95 % intervals, by the normal distribution over the questions."

Result = Mapping[str, Any]


def shown(result: Result) -> Table:
    """The tasks that were asked for, and CORE's, a column a model."""
    from rich.markup import escape as plain
    from rich.table import Table

    made = Table(title="tasks", title_justify="left")
    made.add_column("task", overflow="fold")
    made.add_column("metric")
    for name in ("examples", "questions", "chance", *result["tasks"]):
        made.add_column(plain(name), justify="right", overflow="fold")
    for row in _rows(result, _asked(result)):
        made.add_row(*map(plain, row))
    return made


def told(result: Result) -> list[str]:
    """In words, how the models differ on the figure that is meant of every task that was asked for."""
    asked = _asked(result)
    return [
        _compared(one)
        for one in result["task_differences"]
        if one["task"] in asked and one["metric"] == _meant(result, one["task"])
    ]


def part(result: Result) -> str:
    """Of a page: HTML."""
    asked = _asked(result)
    members = [task for task in _tasks(result) if task not in asked]
    charts = []
    for task in asked:
        if task.startswith("core/"):
            continue
        metric = _meant(result, task)
        each = {model: scored[task][metric] for model, scored in result["tasks"].items() if task in scored}
        values = {model: (one["value"], *(one["interval"] or (one["value"],) * 2)) for model, one in each.items()}
        charts.append(card(f"{task}: {metric}", intervals(values)))
        charts.append(by_step(f"{task}: {metric}", {model: one["value"] for model, one in each.items()}))
    head = ("task", "examples", "questions", "chance", *result["tasks"])
    numbers = range(1, len(head))

    def rows(tasks: Sequence[str]) -> list[list[str]]:
        return [[f"{task}: {metric}", *rest] for task, metric, *rest in _rows(result, tasks)]

    inside = cards(charts) + boxed(table(head, rows(asked), numbers))
    inside += "".join(f"<p>{escape(note)}</p>" for note in told(result))
    if members:
        rest = table(head, rows(members), numbers)
        inside += boxed(f"<details><summary><span>What they consist of</span></summary>{rest}</details>")
    return f"<p>{SURE}</p>{inside}"


def _tasks(result: Result) -> list[str]:
    return list(dict.fromkeys(task for scored in result["tasks"].values() for task in scored))


def _asked(result: Result) -> list[str]:
    """Tasks that are no part of another, but for CORE's, which are few and known by name."""
    first = {task: scored[task] for scored in reversed(result["tasks"].values()) for task in scored}
    return [task for task in _tasks(result) if first[task]["part_of"] in (None, "core")]


def _metrics(result: Result, task: str) -> list[str]:
    """The figure that is meant comes first."""
    found = dict.fromkeys(
        name for scored in result["tasks"].values() for name in scored.get(task, ()) if name not in _ABOUT
    )
    return sorted(found, key=lambda name: name != MEANT.get(task))


def _meant(result: Result, task: str) -> str:
    return _metrics(result, task)[0]


def _rows(result: Result, tasks: Sequence[str]) -> Iterator[list[str]]:
    for task in tasks:
        for metric in _metrics(result, task):
            each = [scored.get(task) for scored in result["tasks"].values()]
            about = next(one for one in each if one)
            examples = "-" if about["fewshot"] is None else str(about["fewshot"])
            chance = CHANCE.get(task) if metric == MEANT.get(task) else None
            yield [
                task,
                metric,
                examples,
                f"{about['questions']:,}",
                "-" if chance is None else f"{chance:.3g}",
                *("-" if not one or metric not in one else _figure(one[metric]) for one in each),
            ]


def _figure(one: Mapping[str, Any]) -> str:
    sure = "" if one["interval"] is None else f" ±{(one['interval'][1] - one['interval'][0]) / 2:.3f}"
    return f"{one['value']:.3f}{sure}"


def _compared(one: Mapping[str, Any]) -> str:
    low, high = one["interval"] or (math.nan, math.nan)
    sure = "scores higher than" if low > 0 else "scores lower than" if high < 0 else "is not surely other than"
    return (
        f"{one['task']}, {one['metric']}: {one['model']} {sure} {one['against']}, {one['value']:+.3f} "
        f"(95 %: {low:+.3f} to {high:+.3f}) over {one['questions']:,} questions"
    )
