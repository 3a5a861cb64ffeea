"""Models before a judge: their answers, its verdicts, and what they add up to, in tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxchat.chat.template import ChatFormat
from jaxchat.errors import InputError
from jaxchat.evals.judge.answering import Answers, answer
from jaxchat.evals.judge.client import Endpoint
from jaxchat.evals.judge.judging import Kind, judge, to_ask
from jaxchat.evals.judge.kept import Kept, Row
from jaxchat.evals.judge.questions import Question
from jaxchat.evals.judge.results import results
from jaxchat.hub.open import locate, open_model, open_tokenizer

ANSWERS, VERDICTS = "answers.jsonl", "verdicts.jsonl"


def judged(
    models: Sequence[str],
    questions: Sequence[Question],
    endpoint: Endpoint,
    kinds: Sequence[Kind],
    out: Path,
    *,
    tokens: int = 1024,
    template: str | None = None,
    parallel: int = 8,
) -> tuple[dict[str, Any], dict[str, Answers], list[Row]]:
    """What results.results says, with the judge and every model's `answers`; the answers; the verdicts. Both are kept
    in `out`, row by row, and not asked for again.

    Raises InputError for a model without a template, found before anything is answered; and where the judge fails.
    """
    for model in models:
        if template is None and open_tokenizer(locate(model)).chat_template is None:
            raise InputError(f"{model} has no chat template to be asked by; give one with --template chatml")
    answers: dict[str, Answers] = {}
    kept = Kept(out / ANSWERS)
    for model in models:
        opened = open_model(model)
        format = ChatFormat(opened.tokenizer, template)
        answers[model] = answer(model, opened, format, questions, tokens, kept)
    kept.close()
    kept = Kept(out / VERDICTS)
    try:
        asked = list(to_ask(questions, answers, kinds))
        verdicts = judge(asked, endpoint.model, endpoint.ask, kept, parallel)
    finally:
        kept.close()
    said = {
        model: {
            "answers": sum(map(len, each.values())),
            "empty": sum(not text.strip() for texts in each.values() for text in texts),
        }
        for model, each in answers.items()
    }
    return {"judge": endpoint.model, "answers": said, **results(models, verdicts)}, answers, verdicts


def show(result: Mapping[str, Any]) -> None:
    """Prints the figures as tables."""
    from rich.console import Console
    from rich.markup import escape as plain
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    for title, (head, rows) in (("ratings", ratings_table(result)), ("pairs", pairs_table(result))):
        if rows:
            made = Table(title=title, title_justify="left")
            for i, name in enumerate(head):
                made.add_column(name, justify="right" if i else "left", overflow="fold")
            for row in rows:
                made.add_row(*map(plain, row))
            console.print(made)
    for note in notes(result):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


Cells = tuple[list[str], list[list[str]]]


def ratings_table(result: Mapping[str, Any]) -> Cells:
    """The head and the rows of a table."""
    turns = sorted({turn for one in result["ratings"].values() for turn in one["by"]["turn"]})
    head = ["model", "rating", *(f"turn {turn}" for turn in turns), "verdicts", "without one", "empty answers"]
    rows = [
        [
            model,
            _sure(one["mean"], one["interval"]),
            *(number((one["by"]["turn"].get(turn) or {}).get("mean")) for turn in turns),
            f"{one['count']:,}",
            f"{one['unread']:,}",
            f"{result['answers'][model]['empty']:,}",
        ]
        for model, one in result["ratings"].items()
    ]
    return head, rows


def pairs_table(result: Mapping[str, Any]) -> Cells:
    """The head and the rows of a table."""
    head = ["model", "against", "win rate", "wins", "losses", "ties", "of them by order", "without a verdict"]
    names = ("wins", "losses", "ties", "inconsistent", "unread")
    rows = [
        [one["model"], one["against"], _sure(one["win_rate"], one["interval"]), *(f"{one[name]:,}" for name in names)]
        for one in result["pairs"]
    ]
    return head, rows


def notes(result: Mapping[str, Any]) -> list[str]:
    """What there is to say of the judge, in words."""
    found = []
    if result["unread"]:
        found.append(f"{result['unread']:,} of {result['verdicts']:,} replies of the judge hold no verdict")
    place = result["position"]
    if place and place["bias"] is not None:
        low, high = place["interval"] or (place["bias"], place["bias"])  # of leanings that are all alike there is none
        sure = "leans to no place"
        if low > 0 or high < 0:
            sure = f"prefers what it sees {'first' if low > 0 else 'second'}"
        found.append(
            f"the judge {sure} (bias {place['bias']:+.3f}, 95 %: {low:+.3f} to {high:+.3f}); of answers seen in both "
            f"orders it judges {place['consistent'] or 0:.0%} alike, {place['for_first'] or 0:.0%} for the first in "
            f"both, {place['for_second'] or 0:.0%} for the second"
        )
    return found


def number(value: float | None) -> str:
    """As it is shown."""
    return "-" if value is None else f"{value:.2f}"


def _sure(value: float | None, bounds: Sequence[float] | None) -> str:
    return number(value) + ("" if bounds is None else f" ±{(bounds[1] - bounds[0]) / 2:.2f}")
