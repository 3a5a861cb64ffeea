"""Several models on several folders of conversations: the result as JSON, and as tables on a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.chat.template import ChatFormat
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.evals.answers import answers
from jaxchat.evals.benchmarks import report as tasks
from jaxchat.evals.perplexity import score
from jaxchat.evals.quality import check_packages
from jaxchat.evals.scores import Scores, difference
from jaxchat.files import resolve
from jaxchat.hub.open import locate, open_model, open_tokenizer

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    models: Sequence[str],
    data: Sequence[str | Path],
    *,
    template: str | None = None,
    stride: int | None = None,
    most_answers: int = 0,
    answer_tokens: int = 128,
) -> dict[str, Any]:
    """`{"models": {MODEL: {DATASET: figures}}, "differences": [...]}`, named as they are given; see evals/scores.py for
    the figures. A difference is between a model and the first one. `template`: a chat template's source in place of the
    models' own. most_answers: so many conversations of each dataset that every model answers, in
    `answer_tokens` tokens at most; what can be said of the answers stands under `answers` (see evals/answers.py).

    Whatever can be wrong with a model's form, its template or the data is found before anything is computed.
    Raises InputError for those.
    """
    folders = {str(name): list(read_conversations(resolve(name))) for name in data}
    for name, conversations in folders.items():
        if not conversations:
            raise InputError(f"{name} holds no conversations; import some with `jaxchat data import`")
    models = list(dict.fromkeys(models))
    for model in models:
        _format(model, open_tokenizer(locate(model)), template)
    languages = {name: _languages(conversations) for name, conversations in folders.items()}
    if most_answers:
        check_packages()
    scored: dict[str, dict[str, Scores]] = {}
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for model in models:
        opened = open_model(model)
        format = _format(model, opened.tokenizer, template)
        scored[model] = {
            name: score(
                opened, format, conversations, stride=stride, label=f"{model} on {name}", languages=languages[name]
            )
            for name, conversations in folders.items()
        }
        figures[model] = {name: one.figures() for name, one in scored[model].items()}
        for name, conversations in folders.items() if most_answers else ():
            label = f"{model} on {name}"
            found = answers(opened, format, conversations, most_answers, answer_tokens, label)
            figures[model][name]["answers"] = found
    return {
        "models": figures,
        "differences": [
            {"model": model, "against": models[0], "data": name, **difference(scored[models[0]][name], one)}
            for model in models[1:]
            for name, one in scored[model].items()
        ],
    }


def _languages(conversations: Sequence[Conversation]) -> dict[str, str]:
    """What each conversation speaks, by its id: as cleaning wrote it down, else told now where lingua is installed."""
    found = {talk.id: str(talk.meta["language"]) for talk in conversations if talk.meta.get("language")}
    rest = [talk for talk in conversations if talk.id not in found]
    if rest and find_spec("lingua"):
        from jaxchat.curation.language import Language
        from jaxchat.curation.step import Kept

        step = Language()
        for talk in rest:
            told = step.apply(talk)
            assert isinstance(told, Kept)  # without a list to keep, none is dropped
            found[talk.id] = told.conversation.meta["language"]
    return {talk.id: found.get(talk.id, "und") for talk in conversations}


def _format(model: str, tokenizer: Tokenizer, template: str | None) -> ChatFormat:
    if template is None and tokenizer.chat_template is None:
        raise InputError(f"{model} has no chat template to render conversations by; give one with --template chatml")
    return ChatFormat(tokenizer, template)


def show(result: dict[str, Any]) -> None:
    """Prints a table for every dataset, what tells its parts and the models apart, and what was refused or read through
    windows; then one of the tasks."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    for name in dict.fromkeys(name for scored in result["models"].values() for name in scored):
        each = {model: scored[name] for model, scored in result["models"].items()}
        console.print(_table(name, each))
        for kind, title in KINDS.items():
            if len({group for figures in each.values() for group in figures["by"][kind]}) > 1:
                console.print(_parts(title, {model: figures["by"][kind] for model, figures in each.items()}))
        if table := answers_table(each):
            head, rows = table
            console.print(_plain_table("answers", head, rows))
        for note in [*notes(each), *(compared(one) for one in result["differences"] if one["data"] == name)]:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
    if result["tasks"]:
        console.print(tasks.shown(result))
        for note in tasks.told(result):
            console.print(note, markup=False, highlight=False, soft_wrap=True)


# What conversations are told apart by, and what to call it.
KINDS = {"source": "source", "language": "language", "length": "tokens of the conversation", "turn": "assistant's turn"}


def notes(each: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a model refused or read through windows, in words; `each` model's figures on one dataset."""
    found = []
    for model, figures in each.items():
        for reason, count in figures["refusals"].items():
            found.append(f"{model}: {count:,} conversations refused by its template: {reason}")
        if figures["long"]:
            found.append(
                f"{model}: {figures['long']:,} conversations longer than its context, "
                f"read through windows {figures['stride']:,} tokens apart"
            )
    return found


def compared(one: Mapping[str, Any]) -> str:
    """A difference between two models in words."""
    if one["bits_per_byte"] is None:
        return f"{one['model']} and {one['against']} scored no conversation both"
    low, high = one["interval"] or (math.nan, math.nan)
    sure = "more" if low > 0 else "fewer" if high < 0 else "not surely other"
    return (
        f"{one['model']} needs {sure} bits a byte than {one['against']}: {one['bits_per_byte']:+.4f} "
        f"(95 %: {low:+.4f} to {high:+.4f}) over {one['conversations']:,} conversations"
    )


# What is said of answers, by its name in the figures, and as a share of a hundred or not.
ANSWERS = {
    "words": "words", "distinct_1": "distinct 1", "distinct_2": "distinct 2", "repetition": "repetition",
    "self_bleu": "self-BLEU", "refusals": "refusals", "language_match": "language", "cut": "cut",
    "malformed": "malformed", "bleu": "BLEU", "chrf": "chrF", "rouge_l": "ROUGE-L",
}  # fmt: skip


def answers_table(each: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]] | None:
    """The head and the rows of a table of what `each` model's answers are like; None where none were asked for."""
    found = {model: figures["answers"] for model, figures in each.items() if "answers" in figures}
    if not found:
        return None
    rows = [
        [model, f"{one['answers']:,}", *("-" if one[key] is None else _number(one[key]) for key in ANSWERS)]
        for model, one in found.items()
    ]
    return ["model", "answers", *ANSWERS.values()], rows


def _plain_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _table(name: str, each: Mapping[str, Mapping[str, Any]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(name), title_justify="left")
    table.add_column("model", overflow="fold")
    for column in ("tokens", "perplexity", "a word", "bits a byte", "assistant's", "perplexity", "bits a byte"):
        table.add_column(column, justify="right")
    for model, figures in each.items():
        own = figures["assistant"]
        table.add_row(
            escape(model),
            f"{figures['tokens']:,}",
            *(figure(figures, key) for key in ("perplexity", "word_perplexity", "bits_per_byte")),
            f"{own['tokens']:,}",
            *(figure(own, key) for key in ("perplexity", "bits_per_byte")),
        )
    return table


def _parts(title: str, each: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Bits a byte and perplexity of the assistant's tokens in every group, a column a model."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"by {title}: perplexity of the assistant's tokens", title_justify="left")
    table.add_column(title, overflow="fold")
    for column in ("tokens", *each):
        table.add_column(escape(column), justify="right", overflow="fold")
    for group in dict.fromkeys(group for groups in each.values() for group in groups):
        own = [assistants(groups[group]) if group in groups else None for groups in each.values()]
        tokens = next(figures["tokens"] for figures in own if figures)
        table.add_row(escape(group), f"{tokens:,}", *(figure(one, "perplexity") if one else "-" for one in own))
    return table


def assistants(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """The figures of the assistant's tokens in a group; a group of turns has no others."""
    return figures.get("assistant", figures)


def figure(figures: Mapping[str, Any], key: str) -> str:
    """One figure as it is shown, with half the width of its interval where it has one."""
    value, bounds = figures[key], (figures.get("interval") or {}).get(key)
    if value is None:
        return "-"
    sure = "" if not bounds or None in bounds else f" ±{_number((bounds[1] - bounds[0]) / 2)}"
    return _number(value) + sure


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:,.1f}" if value < 1e9 else f"{value:.3g}"
