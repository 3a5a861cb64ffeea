"""The report as one HTML page that needs nothing else: no scripts, no fonts, no network; light or dark as the reader's
system is. All that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

MOST_BARS, MOST_LANGUAGES = 20, 6

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1b1c1e; --soft: #62666d; --line: #e3e4e6;
  --bar: #3b6fd4; --track: #eceef1; --bad: #b4502f; }
@media (prefers-color-scheme: dark) { :root { --page: #131416; --card: #1c1e21; --ink: #e9eaec; --soft: #9aa0a8;
  --line: #30343a; --bar: #6d9bf0; --track: #2a2e34; --bad: #e58a66; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 10px; } p { margin: 4px 0 12px; color: var(--soft); }
.tiles, .cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); align-items: start; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
  min-width: 0; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; } .tile span { color: var(--soft); }
.tile.bad b { color: var(--bad); }
.bars { display: grid; grid-template-columns: fit-content(48%) 1fr max-content; gap: 5px 10px; align-items: center; }
.bars .name { overflow-wrap: anywhere; } .bars .n, td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bars .n { color: var(--soft); white-space: nowrap; }
.track { background: var(--track); border-radius: 3px; height: 10px; }
.fill { background: var(--bar); border-radius: 3px; height: 10px; min-width: 2px; }
.hist { display: flex; align-items: flex-end; gap: 2px; height: 130px; border-bottom: 1px solid var(--line); }
.hist div { flex: 1; background: var(--bar); border-radius: 2px 2px 0 0; min-height: 0; }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: 12px; padding-top: 4px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 6px 20px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; } th { color: var(--soft); font-weight: 500; white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
details { padding: 8px 0; } details + details { border-top: 1px solid var(--line); }
summary { cursor: pointer; display: flex; gap: 12px; justify-content: space-between; overflow-wrap: anywhere; }
summary::before { content: "▸"; color: var(--soft); } details[open] > summary::before { content: "▾"; }
summary span:first-of-type { flex: 1; } summary small, .where { color: var(--soft); font-size: 12px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--track); padding: 8px 10px; border-radius: 6px;
  margin: 4px 0 10px; font: 13px/1.45 ui-monospace, monospace; }
"""


def page(made: Mapping[str, Any]) -> str:
    """The page of what curation.report counted."""
    name = escape(made["folder"])
    sections = [_overview(made), _steps(made), _texts(made), _tokens(made), _origin(made), _duplicates(made)]
    sections += [_personal(made), _annotations(made)]
    body = "\n".join(filter(None, sections))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{name}: conversations</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _overview(made: Mapping[str, Any]) -> str:
    tiles = [("conversations", made["conversations"], ""), ("messages", made["messages"], "")]
    tiles.append(("characters", made["characters"], ""))
    if made["tokens"]:
        tiles.append(("tokens", made["tokens"]["total"], ""))
    if made["rows_in"] is not None:
        tiles.append(("rows read", made["rows_in"], ""))
        tiles += [(f"rows {what}", made[f"rows_{what}"] or 0, "bad") for what in ("dropped", "rejected")]
    tiles += [(what.replace("_", " "), made[what], "") for what in ("preferences", "with_tools") if made[what]]
    read = ", ".join(map(str, made["read_from"][:5])) + (" …" if len(made["read_from"]) > 5 else "")
    of = f"Read from {escape(read)}." if read else ""
    cells = "".join(
        f'<div class="tile{" bad" if kind and n else ""}"><b>{n:,}</b><span>{what}</span></div>'
        for what, n, kind in tiles
    )
    return f'<h1>{escape(made["folder"])}</h1>\n<p>{of}</p>\n<div class="tiles">{cells}</div>'


def _steps(made: Mapping[str, Any]) -> str:
    parts = []
    if made["steps"]:
        head = "<tr><th>step</th><th class=n>conversations in</th><th class=n>changed</th><th class=n>dropped</th></tr>"
        rows = "".join(
            f"<tr><td>{escape(step['name'])}</td><td class=n>{step['conversations_in']:,}</td>"
            f"<td class=n>{step['changed']:,}</td><td class=n>{step['dropped']:,}</td></tr>"
            for step in made["steps"]
        )
        parts.append(f'<h2>Steps of cleaning</h2><div class="card scroll"><table>{head}{rows}</table></div>')
    for title, groups in (("Dropped, by reason", made["dropped"]), ("Rejected, by reason", made["rejected"])):
        if groups:
            parts.append(f'<h2>{title}</h2><div class="card">{_groups(groups)}</div>')
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
    cards = [_card("Languages", _bars(made["languages"])), _card("Roles", _bars(made["roles"]))]
    turns = {int(size): n for size, n in made["turns"].items()}
    if turns:
        top = min(max(turns), 40)
        counts = [
            sum(n for size, n in turns.items() if size == i or (i == top and size > top)) for i in range(1, top + 1)
        ]
        more = f"{top} and more" if max(turns) > top else str(top)
        cards.append(_card("Messages in a conversation", _histogram(counts, "1", more)))
    for role, bins in made["message_characters"].items():
        cards.append(_card(f"Characters in a message: {role}", _doubling(bins)))
    return f'<h2>Texts</h2><div class="cards">{"".join(cards)}</div>'


def _tokens(made: Mapping[str, Any]) -> str:
    tokens = made["tokens"]
    if not tokens:
        return ""
    cards = _card("Tokens in a conversation", _doubling(tokens["conversation_tokens"]))
    cards += _card("Tokens by role", _bars(tokens["by_role"]))
    by = f"Under {escape(made['tokenizer'])}. " if made["tokenizer"] else ""
    note = f"<p>{by}Of the messages' texts alone, without the template's own tokens.</p>"
    return f'<h2>Tokens</h2>{note}<div class="cards">{cards}</div>'


def _origin(made: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{row['conversations']:,}</td>"
        f"<td>{escape(', '.join(f'{licence} ({n:,})' for licence, n in row['licences'].items()))}</td></tr>"
        for name, row in list(made["sources"].items())[:50]
    )
    head = "<tr><th>source</th><th class=n>conversations</th><th>licence</th></tr>"
    return f'<h2>Sources and licences</h2><div class="card scroll"><table>{head}{rows}</table></div>'


def _duplicates(made: Mapping[str, Any]) -> str:
    cards = []
    for step, found in made["duplicates"].items():
        if found.get("clusters"):
            sizes = {f"{size} alike": n for size, n in found["sizes"].items()}
            cards.append(_card(f"{step}: {found['clusters']:,} clusters", _bars(sizes)))
            rows = "".join(
                f"<tr><td>{escape(one['id'])}</td><td class=n>{one['conversations']:,}</td></tr>"
                for one in found["largest"][:8]
            )
            head = "<tr><th>the one that stays</th><th class=n>alike</th></tr>"
            cards.append(_card(f"{step}: the largest clusters", f"<table>{head}{rows}</table>"))
    return f'<h2>Duplicates</h2><div class="cards">{"".join(cards)}</div>' if cards else ""


def _personal(made: Mapping[str, Any]) -> str:
    found = made["personal_data"]
    return f'<h2>Personal data replaced</h2><div class="card">{_bars(found)}</div>' if found else ""


def _annotations(made: Mapping[str, Any]) -> str:
    found = made["annotations"]
    if not found:
        return ""
    messages = found.get("languages") or {}
    commonest = sorted(
        {*found["pos"], *found["vocabulary"]}, key=lambda language: (-messages.get(language, 0), language)
    )[:MOST_LANGUAGES]
    cards = [_card("Named entities", _bars(found["entities"]))] if found["entities"] else []
    cards += [
        _card(f"Parts of speech: {language}", _bars(found["pos"][language]))
        for language in commonest
        if language in found["pos"]
    ]
    for language in commonest:
        if (words := found["vocabulary"].get(language)) and words["distinct"]:
            least = "at least " if words["at_least"] else ""
            title = f"Words: {language}, {least}{words['distinct']:,} different"
            cards.append(_card(title, _bars(words["top"], most=12, shares=False)))
    for kind, names in list(found["names"].items())[:6]:
        cards.append(_card(f"Most named: {kind}", _bars(names, most=8, shares=False)))
    return f'<h2>Annotations</h2><div class="cards">{"".join(cards)}</div>'


def _card(title: str, inside: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{inside}</div>'


def _bars(counts: Mapping[str, int], most: int = MOST_BARS, *, shares: bool = True) -> str:
    """Horizontal bars, the largest first, with numbers and, where `counts` are all there are, shares; beyond `most`,
    one line for the rest."""
    total, largest = sum(counts.values()) or 1, max(counts.values(), default=1) or 1
    shown = list(counts.items())[:most]
    cells = "".join(
        f'<div class="name" dir="auto">{escape(name)}</div>'
        f'<div class="track"><div class="fill" style="width:{100 * n / largest:.2f}%"></div></div>'
        f'<div class="n">{n:,}{f" · {_share(n / total)}" if shares else ""}</div>'
        for name, n in shown
    )
    rest = len(counts) - len(shown)
    return f'<div class="bars">{cells}</div>' + (f"<p>and {rest:,} more</p>" if rest and shares else "")


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}" if share >= 0.001 else "<0.1%".replace("<", "&lt;")


def _doubling(bins: Mapping[str, int]) -> str:
    """A histogram over bins that double in width; its keys are their upper ends."""
    if not bins:
        return "<p>none</p>"
    edges = list(bins)
    first, last = int(edges[0]) // 2, int(edges[-1])
    labels = [f"{1 << max(int(edge).bit_length() - 2, 0):,} to {int(edge):,}" if int(edge) else "0" for edge in edges]
    return _histogram(list(bins.values()), f"{first:,}", f"{last:,}, doubling", labels)


def _histogram(counts: list[int], first: str, last: str, labels: Iterable[str] | None = None) -> str:
    largest = max(counts, default=1) or 1
    names = list(labels) if labels else [str(i) for i in range(1, len(counts) + 1)]
    columns = "".join(
        f'<div style="height:{100 * n / largest:.2f}%" title="{escape(name)}: {n:,}"></div>'
        for name, n in zip(names, counts, strict=True)
    )
    alt = escape(f"from {first} to {last}, at most {largest:,}")
    ends = "".join(f"<span>{escape(text)}</span>" for text in (first, f"highest {largest:,}", last))
    axis = f'<div class="axis">{ends}</div>'
    return f'<div class="hist" role="img" aria-label="{alt}">{columns}</div>{axis}'
