"""Scores as one page: every model on every dataset, how sure they are, and where the models lie apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from html import escape
from typing import Any

from jaxchat.evals.benchmarks import report as tasks
from jaxchat.evals.by_step import by_step
from jaxchat.evals.report import KINDS, answers_table, assistants, compared, figure, notes
from jaxchat.page import boxed, card, cards, document, intervals, section, table

SAMPLES = 20  # answers shown


HOW_TO_READ = (
    "Perplexity: lower is better. Bits a byte compare models with different tokenizers; perplexity those with the same "
    "one. Intervals are of 95 %, by the bootstrap over conversations."
)


def page(result: Mapping[str, Any]) -> str:
    """The page of what evals.report found, and benchmarks.measure."""
    models = dict.fromkeys([*result["models"], *result["tasks"]])
    parts = [f"<h1>{escape(', '.join(models))}</h1>"]
    if result["models"]:
        parts.append(f"<p>{HOW_TO_READ}</p>")
    parts += [section(name, inside) for name, inside in sections(result).items()]
    return document("evaluation", "\n".join(parts))


def sections(result: Mapping[str, Any]) -> dict[str, str]:
    """What was found on each dataset, and on tasks, as HTML, by its name."""
    models = result["models"]
    parts = {}
    for name in dict.fromkeys(name for scored in models.values() for name in scored):
        each = {model: scored[name] for model, scored in models.items()}
        told = "".join(
            f"<p>{escape(note)}</p>"
            for note in [*(compared(one) for one in result["differences"] if one["data"] == name), *notes(each)]
        )
        steps = by_step("Bits a byte, all tokens", {model: figures["bits_per_byte"] for model, figures in each.items()})
        parts[name] = _charts(each) + steps + boxed(_table(each)) + told + _groups(each) + _answers(each)
    return parts | ({"Tasks": tasks.part(result)} if result["tasks"] else {})


def _charts(each: Mapping[str, Mapping[str, Any]]) -> str:
    own = {model: figures["assistant"] for model, figures in each.items()}
    shown = []
    for title, key, of in (
        ("Bits a byte, all tokens", "bits_per_byte", each),
        ("Bits a byte, the assistant's tokens", "bits_per_byte", own),
        ("Perplexity, the assistant's tokens", "perplexity", own),
    ):
        values = {
            model: (figures[key], *((figures["interval"] or {}).get(key) or (figures[key],) * 2))
            for model, figures in of.items()
            if figures[key] is not None
        }
        if values:
            shown.append(card(title, intervals(values)))
    return cards(shown)


def _table(each: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("model", "tokens", "perplexity", "a word", "bits a byte", "assistant's", "perplexity", "bits a byte")
    rows = (
        (
            model,
            f"{figures['tokens']:,}",
            *(figure(figures, key) for key in ("perplexity", "word_perplexity", "bits_per_byte")),
            f"{figures['assistant']['tokens']:,}",
            *(figure(figures["assistant"], key) for key in ("perplexity", "bits_per_byte")),
        )
        for model, figures in each.items()
    )
    return table(head, rows, numbers=range(1, 8))


def _answers(each: Mapping[str, Mapping[str, Any]]) -> str:
    """What the models' answers are like, and some of them side by side."""
    found = answers_table(each)
    if found is None:
        return ""
    head, rows = found
    shown = boxed(table(head, rows, numbers=range(1, len(head))))
    by_id = {model: {one["id"]: one for one in figures["answers"]["each"]} for model, figures in each.items()}
    samples = ""
    for i, (id, one) in enumerate(itertools.islice(next(iter(by_id.values())).items(), SAMPLES)):
        texts = {"the conversation's own": one["reference"]}
        texts |= {model: told[id]["text"] for model, told in by_id.items() if id in told}
        inside = "".join(f'<div class="where">{escape(name)}</div><pre dir="auto">{escape(text)}</pre>'
                         for name, text in texts.items())  # fmt: skip
        title = f"<span>{escape(one['asked'][:200])}</span>"
        samples += f"<details{' open' if i == 0 else ''}><summary>{title}</summary>{inside}</details>"
    return f"<h3>Answers</h3>{shown}" + (boxed(samples) if samples else "")


def _groups(each: Mapping[str, Mapping[str, Any]]) -> str:
    """A table a kind of group, over the whole width: they grow with the models."""
    shown = []
    for kind, title in KINDS.items():
        groups = dict.fromkeys(group for figures in each.values() for group in figures["by"][kind])
        if len(groups) < 2:
            continue
        rows = []
        for group in groups:
            own = [figures["by"][kind].get(group) for figures in each.values()]
            tokens = next(assistants(one)["tokens"] for one in own if one)
            shown_as = [figure(assistants(one), "perplexity") if one else "-" for one in own]
            rows.append((group, f"{tokens:,}", *shown_as))
        inside = table((title, "tokens", *each), rows, numbers=range(1, 2 + len(each)))
        shown.append(card(f"By {title}: perplexity of the assistant's tokens", inside))
    return "".join(shown)
