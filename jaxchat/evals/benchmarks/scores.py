"""What a model scored on tasks, how sure that is, and how far two models lie apart on the same questions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Z95 = 1.959963984540054  # of the normal distribution: 95 % lie within


@dataclass(frozen=True)
class Figure:
    """A mean over questions, and its standard error where it has one."""

    value: float
    stderr: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of 95 %, by the normal distribution."""
        return None if self.stderr is None else (self.value - Z95 * self.stderr, self.value + Z95 * self.stderr)

    @staticmethod
    def mean(values: Sequence[float]) -> Figure:
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return Figure(statistics.fmean(values), error)

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "stderr": self.stderr, "interval": self.interval and list(self.interval)}


@dataclass(frozen=True)
class TaskScores:
    """figures: by metric. items: for each metric that is a mean over questions, every question's share in it, by the
    question. count: of questions. fewshot: examples before each. part_of: the task whose figure this one goes into.
    rows: every question with what the model said, for people."""

    figures: dict[str, Figure]
    items: dict[str, dict[str, float]]
    count: int
    fewshot: int | None = None
    part_of: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: figure.to_json() for name, figure in self.figures.items()},
            "questions": self.count,
            "fewshot": self.fewshot,
            "part_of": self.part_of,
        }


def differences(first: Mapping[str, TaskScores], second: Mapping[str, TaskScores]) -> list[dict[str, Any]]:
    """By how much `second` scores higher than `first`, on every metric of every task and over the questions that both
    answered; paired, so that what makes a question hard for both cancels out."""
    found = []
    for task in first:
        if task not in second:
            continue
        for metric, items in first[task].items.items():
            others = second[task].items.get(metric, {})
            apart = [others[item] - value for item, value in items.items() if item in others]
            if apart:
                figure = Figure.mean(apart)
                found.append({"task": task, "metric": metric, **figure.to_json(), "questions": len(apart)})
    return found
