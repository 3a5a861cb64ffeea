"""A run as one page that can be sent to someone."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from jaxchat.evals import page as scores_page
from jaxchat.evals.arena import results_page
from jaxchat.evals.judge import page as judge_page
from jaxchat.hub.model_card import data_table, recipe
from jaxchat.line_chart import Curve, line_chart
from jaxchat.page import boxed, card, cards, document, in_short, section, stacked, table, tile, tiles
from jaxchat.run.report import EVALS, RunReport
from jaxchat.train.curve import running_mean
from jaxchat.train.folder import RESOLVED
from jaxchat.train.metrics import Record

MOST_ROWS = 24  # of a table over steps, and answers to one prompt
# What is charted of every step where the run wrote it down: its name in metrics.jsonl, its title, how it is shown.
BY_STEP: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("learning_rate", "Learning rate", lambda value: f"{value:.2g}"),
    ("grad_norm", "Gradient norm", lambda value: f"{value:.3g}"),
    ("tokens_per_second", "Tokens a second", lambda value: f"{value:,.0f}"),
    ("mfu", "Model FLOP utilisation", lambda value: f"{value:.0%}"),
    ("balance_loss", "Balance of experts (1: all used alike)", lambda value: f"{value:.3g}"),
    ("router_z_loss", "Router z-loss", lambda value: f"{value:.3g}"),
)


def page(run: RunReport) -> str:
    """The page of a run. Folders of this machine are named by their last part alone: the page may be sent away."""
    parts = [
        _header(run),
        section("Loss", boxed(_loss(run))),
        section("Held out", boxed(_held_out(run))),
        *_evaluations(run),
        section("Answers while it trained", _samples(run)),
        section("Steps", _steps(run)),
        section("Time", boxed(_time(run))),
        section("Data", boxed(_data(run))),
        section("Config", _config(run)),
    ]
    return document(f"{run.name}: training run", "\n".join(parts))


def _header(run: RunReport) -> str:
    resolved = run.saved[RESOLVED]
    state = "Finished" if run.finished else "Not finished: it goes on, or was stopped"
    when = "" if run.seen is None else time.strftime("; last sign of it %Y-%m-%d %H:%M UTC", time.gmtime(run.seen))
    source = (run.saved.get("model") or {}).get("source")
    begun = f"Trained from {_without_folders(source)}" if source else "Trained from scratch"
    shown = [tile(f"{run.step:,} of {run.of_steps:,}", "steps", bad=not run.finished)]
    if run.held_out:
        first, last = run.held_out[0], run.held_out[-1]
        since = f", {first['eval']['perplexity']:,.2f} at {first['step']:,}" if len(run.held_out) > 1 else ""
        shown.append(tile(f"{last['eval']['perplexity']:,.2f}", f"held-out perplexity at step {last['step']:,}{since}"))
    if run.steps:
        shown.append(tile(_plain(run.steps[-1]["loss"]), f"training loss of step {run.step:,}"))
        shown.append(tile(in_short(sum(record["tokens"] for record in run.steps)), "tokens read"))
        shown.append(tile(f"{_median(run):,.0f}", "tokens a second, the median step"))
    whole, trained = resolved.get("parameters"), resolved.get("trainable_parameters")
    if whole:
        shown.append(tile(in_short(whole), "parameters"))
        if trained and trained != whole:
            shown.append(tile(in_short(trained), "of them trained"))
    if run.spent:
        shown.append(tile(f"{run.spent['goodput']:.1%}", f"goodput of {_duration(run.spent['seconds'])}"))
    return f"<h1>{escape(run.name)}</h1><p>{escape(begun)}. {escape(state + when)}.</p>{tiles(shown)}"


def _loss(run: RunReport) -> str:
    points = _points(run.steps, "loss")
    smooth = running_mean([loss for _, loss in points])
    curves = [
        Curve("of each step", points, 0, "thin"),
        Curve("of each step, running mean", [(step, mean) for (step, _), mean in zip(points, smooth)], 0),
        Curve("held out", [(record["step"], record["eval"]["loss"]) for record in run.held_out], 1, "dots"),
    ]
    if not points and not run.held_out:
        return "<p>No step was made yet.</p>"
    lost = ""
    if run.detours:
        rows = (
            (f"{one.step:,}", one.why, "its update was left out" if one.batches is None else
             f"went back, and on without batches {one.batches[0]:,} to {one.batches[1]:,}")
            for one in run.detours
        )  # fmt: skip
        lost = "<h3>Steps that went wrong</h3>" + table(("step", "what", "what was done"), rows, numbers=(0,))
    return "<p>Nats a trained token, by step.</p>" + line_chart(curves, _plain, high=True) + lost


def _held_out(run: RunReport) -> str:
    if not run.held_out:
        return "<p>No held-out row was scored yet, or --held-out.every is None.</p>"
    rows = (
        (f"{record['step']:,}", f"{found['loss']:.4f}", f"{found['perplexity']:,.2f}", f"{found['tokens']:,.0f}")
        for record in _some(run.held_out)
        for found in [record["eval"]]
    )
    return table(("step", "loss", "perplexity", "tokens"), rows, numbers=range(4)) + _of(run.held_out)


def _steps(run: RunReport) -> str:
    if not run.steps:
        return boxed("<p>No step was made yet.</p>")
    charts = []
    for key, title, show in BY_STEP:
        if points := _points(run.steps, key):
            charts.append(card(title, line_chart([Curve(title, points)], show)))
    keys = [(key, title, show) for key, title, show in BY_STEP if any(key in record for record in run.steps)]
    rows = (
        (f"{record['step']:,}", _plain(record["loss"]), f"{record['tokens']:,}",
         *("-" if record.get(key) is None else show(record[key]) for key, _, show in keys))
        for record in _some(run.steps)
    )  # fmt: skip
    head = ("step", "loss", "tokens", *(title.split(" (")[0].lower() for _, title, _ in keys))
    inside = table(head, rows, numbers=range(len(head))) + _of(run.steps)
    return cards(charts) + boxed(f"<details><summary><span>As numbers</span></summary>{inside}</details>")


def _time(run: RunReport) -> str:
    if run.spent is None:
        return "<p>No step was made yet.</p>"
    found = run.spent
    causes = {cause: seconds for cause, seconds in found["by_cause"].items() if seconds}
    total = sum(causes.values()) or 1
    attempts = f"{found['attempts']:,} attempts" if found["attempts"] > 1 else "one attempt"
    again = f", {found['steps_redone']:,} steps made again" if found["steps_redone"] else ""
    text = f"{found['goodput']:.1%} of {_duration(found['seconds'])} went into steps that count; {attempts}{again}."
    said = {cause: f"{seconds:,.1f} s, {seconds / total:.1%}" for cause, seconds in causes.items()}
    return f"<p>{text}</p>{stacked({cause: {'': seconds} for cause, seconds in causes.items()}, said, {})}"


def _samples(run: RunReport) -> str:
    if not run.samples:
        return boxed("<p>None: the config names no --samples.prompts, or no step of --samples.every was reached.</p>")
    shown = []
    for prompt in dict.fromkeys(sample["prompt"] for sample in run.samples):
        own = [sample for sample in run.samples if sample["prompt"] == prompt]
        said = "".join(
            f'<div class="where">step {sample["step"]:,}</div><pre dir="auto">{escape(sample["text"])}</pre>'
            for sample in _some(own)
        )
        shown.append(card(prompt, said + _of(own)))
    return cards(shown)


def _evaluations(run: RunReport) -> Iterator[str]:
    """A section for each file of RUN/evals; and what is not there, or cannot be shown."""
    for name, found in run.evaluations.items():
        show = next((show for keys, show in _KINDS if keys.issubset(found)), _unknown)
        title, about, parts = show(name, found)
        inside = "".join((f"<h3>{escape(heading)}</h3>" if heading else "") + html for heading, html in parts.items())
        yield section(title, about + inside)
    told = "".join(f"<p>{escape(name)}: {escape(why)}.</p>" for name, why in run.unread.items())
    if told:
        yield section("Evaluations that are not shown", boxed(told))
    if not run.evaluations and not run.unread:
        text = f"None yet: what `jaxchat eval --out RUN/{EVALS}/NAME.json` writes there is shown here."
        yield section("Evaluations", boxed(f"<p>{escape(text)}</p>"))


# A section's title, what stands above its parts, and these by their headings.
_Shown = tuple[str, str, dict[str, str]]


def _scores(name: str, found: Mapping[str, Any]) -> _Shown:
    models, tasks = found["models"], found["tasks"]
    short = _shortly({*models, *tasks, *(data for scored in models.values() for data in scored)})
    named = {
        "models": {
            short[model]: {short[data]: figures for data, figures in scored.items()} for model, scored in models.items()
        },
        "tasks": {short[model]: scored for model, scored in tasks.items()},
        "differences": _renamed(found["differences"], short),
        "task_differences": _renamed(found["task_differences"], short),
    }
    return f"Evaluation: {name}", f"<p>{scores_page.HOW_TO_READ}</p>", scores_page.sections(named)


def _by_people(name: str, found: Mapping[str, Any]) -> _Shown:
    return f"Judged by people: {found['study']['title']}", results_page.about(found), results_page.verdict(found)


def _by_a_model(name: str, found: Mapping[str, Any]) -> _Shown:
    short = _shortly(set(found["answers"]))
    by_model = {key: {short[model]: one for model, one in found[key].items()} for key in ("ratings", "answers")}
    named = {**found, **by_model, "pairs": _renamed(found["pairs"], short)}
    return f"Judged by {found['judge']}", judge_page.about(named), judge_page.figures(named)


def _unknown(name: str, found: Mapping[str, Any]) -> _Shown:
    return f"Results: {name}", "", {"": boxed(_leaves_table(found))}


# By the keys that they have: what `jaxchat eval`, `arena results` and `judge` write.
_KINDS: tuple[tuple[set[str], Callable[[str, Mapping[str, Any]], _Shown]], ...] = (
    ({"models", "tasks", "differences", "task_differences"}, _scores),
    ({"study", "ratings", "raters", "models", "agreement"}, _by_people),
    ({"judge", "answers", "ratings", "pairs", "position", "verdicts", "unread"}, _by_a_model),
)


def _shortly(names: set[str]) -> dict[str, str]:
    """Names without folders; as they are where two would be called the same."""
    short = {name: _without_folders(name) for name in names}
    return short if len({*short.values()}) == len(names) else {name: name for name in names}


def _renamed(rows: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> list[dict[str, Any]]:
    places = ("model", "against", "data")
    return [{key: short[value] if key in places else value for key, value in one.items()} for one in rows]


def _data(run: RunReport) -> str:
    head, rows = data_table(run.saved)
    if not rows:
        return "<p>The config names no sources.</p>"
    said = {key: run.saved[RESOLVED].get(key) for key in ("data", "tokenizer")}
    known = "; ".join(
        f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in said.items()
        if value
    )
    return table(head, rows, numbers=range(2, len(head))) + f"<p>Fingerprints: {escape(known)}.</p>"


def _config(run: RunReport) -> str:
    own = table(("field", "value"), recipe(run.saved))
    whole = _leaves_table({key: value for key, value in run.saved.items() if key != RESOLVED})
    made = {key: run.saved[RESOLVED].get(key) for key in ("jaxchat", "jax")}
    by = ", ".join(f"{name} {version}" for name, version in made.items() if version)
    return boxed(own) + boxed(
        f"<details><summary><span>Every field</span></summary>{whole}</details><p>Made by {escape(by)}.</p>"
    )


def _leaves_table(value: Any) -> str:
    return table(("field", "value"), ((name, _without_folders(text)) for name, text in _leaves(value)))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every scalar of nested JSON with its dotted path."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    if not isinstance(value, Mapping | list):
        yield name, "none" if value is None else str(value)


def _without_folders(text: str) -> str:
    """A path of this machine by its last part, anything else as it is."""
    return PurePath(text).name if re.match(r"(/|~/|[A-Za-z]:\\)", text) else text


def _points(records: Sequence[Record], key: str) -> list[tuple[float, float]]:
    return [(record["step"], record[key]) for record in records if record.get(key) is not None]


def _median(run: RunReport) -> float:
    return statistics.median(record["tokens_per_second"] for record in run.steps)


def _some(records: Sequence[Record]) -> list[Record]:
    """At most MOST_ROWS of them, evenly apart, the first and the last among them."""
    if len(records) <= MOST_ROWS:
        return list(records)
    return [records[round(i * (len(records) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]


def _of(records: Sequence[Record]) -> str:
    return f"<p>{MOST_ROWS} of {len(records):,}, evenly apart.</p>" if len(records) > MOST_ROWS else ""


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"
