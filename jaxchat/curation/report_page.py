"""The report as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxchat.page import bars, boxed, card, cards, document, doubling, histogram, section, table, tile, tiles

MOST_LANGUAGES = 6


def page(made: Mapping[str, Any]) -> str:
    """The page of what curation.report counted."""
    sections = [_overview(made), _steps(made), _texts(made), _tokens(made), _origin(made), _duplicates(made)]
    sections += [_personal(made), _annotations(made)]
    return document(f"{made['folder']}: conversations", "\n".join(filter(None, sections)))


def _overview(made: Mapping[str, Any]) -> str:
    figures = [(what, made[what], False) for what in ("conversations", "messages", "characters")]
    if made["tokens"]:
        figures.append(("tokens", made["tokens"]["total"], False))
    if made["rows_in"] is not None:
        figures.append(("rows read", made["rows_in"], False))
        figures += [(f"rows {what}", made[f"rows_{what}"] or 0, True) for what in ("dropped", "rejected")]
    figures += [(what.replace("_", " "), made[what], False) for what in ("preferences", "with_tools") if made[what]]
    files = list(map(str, made["read_from"]))
    read = ", ".join(files[:5]) + (f" and {len(files) - 5:,} more" if len(files) > 5 else "")
    of = f"Read from {escape(read)}." if read else ""
    shown = tiles(tile(f"{n:,}", what, bad=loss and n > 0) for what, n, loss in figures)
    return f"<h1>{escape(made['folder'])}</h1>\n<p>{of}</p>\n{shown}"


def _steps(made: Mapping[str, Any]) -> str:
    parts = []
    if made["steps"]:
        head = ("step", "in", "changed", "dropped", "kept")
        numbers = ((step["conversations_in"], step["changed"], step["dropped"],
                    step["conversations_in"] - step["dropped"]) for step in made["steps"])  # fmt: skip
        rows = ((step["name"], *(f"{n:,}" for n in row)) for step, row in zip(made["steps"], numbers))
        parts.append(section("Steps of cleaning", boxed(table(head, rows, numbers=(1, 2, 3, 4)))))
    for title, groups in (("Dropped, by reason", made["dropped"]), ("Rejected, by reason", made["rejected"])):
        if groups:
            parts.append(section(title, boxed(_groups(groups))))
    return "\n".join(parts)


def _groups(groups: Sequence[Mapping[str, Any]]) -> str:
    """The first open, so that one sees what is inside the others."""
    return "".join(_group(group, " open" if i == 0 else "") for i, group in enumerate(groups[:50]))


def _group(group: Mapping[str, Any], opened: str) -> str:
    step = f" <small>{escape(group['step'])}</small>" if group["step"] else ""
    shown = "".join(
        f'<div class="where">{escape(": ".join(filter(None, (one["where"], one["detail"]))))}</div>'
        f'<pre dir="auto">{escape(one["text"])}</pre>'
        for one in group["examples"]
    )
    title = f"<span>{escape(group['reason'])}{step}</span><span>{group['count']:,}</span>"
    return f"<details{opened}><summary>{title}</summary>{shown}</details>"


def _texts(made: Mapping[str, Any]) -> str:
    shown = [card("Languages", bars(made["languages"])), card("Roles", bars(made["roles"]))]
    turns = {int(size): n for size, n in made["turns"].items()}
    if turns:
        top = min(max(turns), 40)
        counts = [
            sum(n for size, n in turns.items() if size == i or (i == top and size > top)) for i in range(1, top + 1)
        ]
        more = f"{top} and more" if max(turns) > top else str(top)
        shown.append(card("Messages in a conversation", histogram(counts, "1", more)))
    for role, bins in made["message_characters"].items():
        shown.append(card(f"Characters in a message: {role}", doubling(bins)))
    return section("Texts", cards(shown))


def _tokens(made: Mapping[str, Any]) -> str:
    tokens = made["tokens"]
    if not tokens:
        return ""
    shown = [card("Tokens in a conversation", doubling(tokens["conversation_tokens"]))]
    shown.append(card("Tokens by role", bars(tokens["by_role"])))
    by = f"Under {escape(made['tokenizer'])}. " if made["tokenizer"] else ""
    note = f"<p>{by}Of the messages' texts alone, without the template's own tokens.</p>"
    return section("Tokens", note + cards(shown))


def _origin(made: Mapping[str, Any]) -> str:
    rows = (
        (name, f"{row['conversations']:,}", ", ".join(f"{licence} ({n:,})" for licence, n in row["licences"].items()))
        for name, row in list(made["sources"].items())[:50]
    )
    head = ("source", "conversations", "licence")
    return section("Sources and licences", boxed(table(head, rows, numbers=(1,))))


def _duplicates(made: Mapping[str, Any]) -> str:
    shown = []
    for step, found in made["duplicates"].items():
        if found.get("clusters"):
            sizes = {f"{size} alike": n for size, n in found["sizes"].items()}
            shown.append(card(f"{step}: {found['clusters']:,} clusters", bars(sizes)))
            rows = ((one["id"], f"{one['conversations']:,}") for one in found["largest"][:8])
            largest = table(("the one that stays", "alike"), rows, numbers=(1,))
            shown.append(card(f"{step}: the largest clusters", largest))
    return section("Duplicates", cards(shown)) if shown else ""


def _personal(made: Mapping[str, Any]) -> str:
    found = (("By kind", made["personal_data"]), ("Names, by type", made["names"]))
    shown = [card(title, bars(counts)) for title, counts in found if counts]
    return section("Personal data replaced", cards(shown)) if shown else ""


def _annotations(made: Mapping[str, Any]) -> str:
    found = made["annotations"]
    if not found:
        return ""
    messages = found.get("languages") or {}
    commonest = sorted(
        {*found["pos"], *found["vocabulary"]}, key=lambda language: (-messages.get(language, 0), language)
    )[:MOST_LANGUAGES]
    shown = [card("Named entities", bars(found["entities"]))] if found["entities"] else []
    shown += [
        card(f"Parts of speech: {language}", bars(found["pos"][language]))
        for language in commonest
        if language in found["pos"]
    ]
    for language in commonest:
        if (words := found["vocabulary"].get(language)) and words["distinct"]:
            least = "at least " if words["at_least"] else ""
            title = f"Words: {language}, {least}{words['distinct']:,} different"
            shown.append(card(title, bars(words["top"], most=12, shares=False)))
    for kind, names in list(found["names"].items())[:6]:
        shown.append(card(f"Most named: {kind}", bars(names, most=8, shares=False)))
    return section("Annotations", cards(shown))
