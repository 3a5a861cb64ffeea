"""Several models on several folders of conversations: the result as JSON, and as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxchat.chat.conversation import read_conversations
from jaxchat.chat.template import ChatFormat
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.evals.perplexity import score
from jaxchat.files import resolve
from jaxchat.hub.open import locate, open_model, open_tokenizer


def evaluate(
    models: Sequence[str], data: Sequence[str | Path], *, template: str | None = None, stride: int | None = None
) -> dict[str, Any]:
    """`{"models": {MODEL: {DATASET: figures}}, "tasks": {}}`, both named as they are given; see evals/perplexity.py for
    the figures. `template`: a chat template's source in place of the models' own.

    Whatever can be wrong with a model's form, its template or the data is found before anything is computed.
    Raises InputError for those.
    """
    folders = {str(name): list(read_conversations(resolve(name))) for name in data}
    for name, conversations in folders.items():
        if not conversations:
            raise InputError(f"{name} holds no conversations; import some with `jaxchat data import`")
    for model in models:
        _format(model, open_tokenizer(locate(model)), template)
    found: dict[str, Any] = {}
    for model in dict.fromkeys(models):
        opened = open_model(model)
        format = _format(model, opened.tokenizer, template)
        found[model] = {
            name: score(opened, format, conversations, stride=stride, label=f"{model} on {name}").figures()
            for name, conversations in folders.items()
        }
    return {"models": found, "tasks": {}}


def _format(model: str, tokenizer: Tokenizer, template: str | None) -> ChatFormat:
    if template is None and tokenizer.chat_template is None:
        raise InputError(f"{model} has no chat template to render conversations by; give one with --template chatml")
    return ChatFormat(tokenizer, template)


def show(result: dict[str, Any]) -> None:
    """Prints a table for every dataset, and what was refused or read through windows."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    datasets = dict.fromkeys(name for scored in result["models"].values() for name in scored)
    for name in datasets:
        table = Table(title=escape(name), title_justify="left")
        table.add_column("model", overflow="fold")
        for column in ("tokens", "perplexity", "a word", "bits a byte", "assistant's", "perplexity", "bits a byte"):
            table.add_column(column, justify="right")
        notes = []
        for model, scored in result["models"].items():
            figures, own = scored[name], scored[name]["assistant"]
            table.add_row(
                escape(model),
                f"{figures['tokens']:,}",
                *(_figure(figures[key]) for key in ("perplexity", "word_perplexity", "bits_per_byte")),
                f"{own['tokens']:,}",
                *(_figure(own[key]) for key in ("perplexity", "bits_per_byte")),
            )
            for reason, count in figures["refusals"].items():
                notes.append(f"{model}: {count:,} conversations refused by its template: {reason}")
            if figures["long"]:
                notes.append(
                    f"{model}: {figures['long']:,} conversations longer than its context, "
                    f"read through windows {figures['stride']:,} tokens apart"
                )
        console.print(table)
        for note in notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 100 else f"{value:,.1f}" if value < 1e9 else f"{value:.3g}"
