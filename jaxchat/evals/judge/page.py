"""What a judge made of models' answers, as a page."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxchat.evals.judge.answering import Answers
from jaxchat.evals.judge.kept import Row
from jaxchat.evals.judge.questions import Question
from jaxchat.evals.judge.report import notes, number, pairs_table, ratings_table
from jaxchat.page import boxed, document, intervals, section, table, tile, tiles

SAMPLES = 20  # questions shown with answers and verdicts


def page(
    result: Mapping[str, Any],
    questions: Sequence[Question],
    answers: Mapping[str, Answers],
    verdicts: Sequence[Row],
) -> str:
    """All of it to look at."""
    parts = [f"<h1>Judged by {escape(result['judge'])}</h1>", f"<p>{len(questions):,} questions.</p>", about(result)]
    parts += [section(name, inside) for name, inside in figures(result).items()]
    parts += [f"<p>{escape(note)}</p>" for note in notes(result)]
    parts.append(section("Answers", boxed(_samples(questions, answers, verdicts))))
    return document("judged", "\n".join(parts))


def about(result: Mapping[str, Any]) -> str:
    """How much was judged, and how steadily."""
    place = result["position"]
    each = [
        tile(f"{result['verdicts']:,}", "verdicts"),
        tile(f"{result['unread']:,}", "without a verdict", bad=bool(result["unread"])),
        *([] if not place else [tile(f"{place['consistent'] or 0:.0%}", "alike in both orders")]),
        *([] if not place else [tile(f"{place['bias'] or 0:+.2f}", "bias to the first")]),
    ]
    return f"<p>Intervals are of 95 %, by the bootstrap over questions.</p>{tiles(each)}"


def figures(result: Mapping[str, Any]) -> dict[str, str]:
    """What was made of the models: HTML by its heading."""
    found = {"Ratings": _rated(result)} if result["ratings"] else {}
    return found | ({"Side by side": _compared(result)} if result["pairs"] else {})


def _rated(result: Mapping[str, Any]) -> str:
    head, rows = ratings_table(result)
    shown = _chart("Mean rating, of 10", {model: (one["mean"], one) for model, one in result["ratings"].items()})
    return shown + boxed(table(head, rows, range(1, len(head)))) + boxed(_categories(result["ratings"]))


def _compared(result: Mapping[str, Any]) -> str:
    head, rows = pairs_table(result)
    values = {f"{one['model']} against {one['against']}": (one["win_rate"], one) for one in result["pairs"]}
    return _chart("Win rate, ties counted half", values) + boxed(table(head, rows, range(2, len(head))))


def _chart(title: str, values: Mapping[str, tuple[float | None, Mapping[str, Any]]]) -> str:
    known = {
        name: (value, *(one["interval"] or (value, value)))
        for name, (value, one) in values.items()
        if value is not None
    }
    return boxed(f"<h3>{escape(title)}</h3>{intervals(known)}") if known else ""


def _categories(models: Mapping[str, Any]) -> str:
    names = dict.fromkeys(name for one in models.values() for name in one["by"]["category"])
    rows = (
        [name, *(number((one["by"]["category"].get(name) or {}).get("mean")) for one in models.values())]
        for name in names
    )
    return table(("category", *models), rows, range(1, 1 + len(models)))


def _samples(questions: Sequence[Question], answers: Mapping[str, Answers], verdicts: Sequence[Row]) -> str:
    about: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in verdicts:
        about[row["question"], row["turn"]].append(row)
    shown = ""
    for i, question in enumerate(itertools.islice(questions, SAMPLES)):
        inside = ""
        for turn, asked in enumerate(question.turns, 1):
            inside += f'<p dir="auto">{escape(asked)}</p>'
            inside += "".join(_said(model, each[question.id][turn - 1]) for model, each in answers.items())
            inside += "".join(_said(_verdict(row), row["reply"]) for row in about[question.id, turn])
        title = f"<span>{escape(question.turns[0][:200])}</span><small>{escape(question.category)}</small>"
        shown += f"<details{' open' if i == 0 else ''}><summary>{title}</summary>{inside}</details>"
    return shown


def _said(who: str, text: str) -> str:
    return f'<div class="where">{escape(who)}</div><pre dir="auto">{escape(text)}</pre>'


def _verdict(row: Row) -> str:
    verdict = "no verdict" if row["verdict"] is None else row["verdict"]
    if row["kind"] == "single":
        return f"the judge on {row['model']}: {verdict}"
    named = {"first": f"{row['first']} is better", "second": f"{row['second']} is better"}.get(verdict, verdict)
    return f"the judge on {row['first']}, then {row['second']}: {named}"
