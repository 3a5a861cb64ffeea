"""Pages of results as one HTML file that needs nothing else: no scripts, no fonts, no network; light or dark as the
reader's system is. Everything that comes from data is escaped here; what is passed as `inside` or `body` is HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from jaxchat import line_chart

MOST_BARS = 20
COLOURS = ("#3b6fd4", "#c2643a", "#3f9271", "#8a63c9", "#b3892a", "#5f6f82")

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1b1c1e; --soft: #62666d; --line: #e3e4e6;
  --bar: #3b6fd4; --track: #eceef1; --bad: #b4502f; --curve-0: #3b6fd4; --curve-1: #c2643a; --curve-2: #3f9271; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #131416; --card: #1c1e21; --ink: #e9eaec;
  --soft: #9aa0a8; --line: #30343a; --bar: #6d9bf0; --track: #2a2e34; --bad: #e58a66; --curve-0: #6d9bf0;
  --curve-1: #eb9468; --curve-2: #66bd98; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 10px; } p { margin: 4px 0 12px; color: var(--soft); }
.tiles, .cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); align-items: start; }
main > .card, main > .cards, main > .card + p { margin-top: 12px; } main > h3 { margin-top: 24px; }
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
td { overflow-wrap: anywhere; } td:not(.n) { min-width: 6em; } td:first-child:not(.n) { min-width: 9em; }
td.n { white-space: nowrap; } td:last-child, th:last-child { padding-right: 0; }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; max-width: 15em; overflow-wrap: break-word; }
tr:last-child td { border-bottom: 0; }
details { padding: 8px 0; } details + details { border-top: 1px solid var(--line); }
summary { cursor: pointer; display: flex; gap: 12px; justify-content: space-between; overflow-wrap: anywhere; }
summary::before { content: "▸"; color: var(--soft); } details[open] > summary::before { content: "▾"; }
summary span:first-of-type { flex: 1; } summary small, .where { color: var(--soft); font-size: 12px; }
.span { position: relative; height: 14px; border-bottom: 1px solid var(--line); }
.whisker { position: absolute; top: 6px; height: 2px; background: var(--bar); }
.dot { position: absolute; top: 3px; width: 8px; height: 8px; margin-left: -4px; border-radius: 50%;
  background: var(--bar); }
.stack { margin: 0 0 14px; } .stack .head { display: flex; gap: 4px 12px; justify-content: space-between;
  flex-wrap: wrap; margin-bottom: 4px; } .stack .head .n { color: var(--soft); font-variant-numeric: tabular-nums; }
.stack .bar { position: relative; display: flex; height: 18px; background: var(--track); border-radius: 4px;
  overflow: hidden; } .stack .bar div { height: 18px; min-width: 1px; }
.stack .bar i { position: absolute; top: 0; bottom: 0; width: 3px; background: var(--ink); }
.stack.bad .head .n { color: var(--bad); }
.key span { display: inline-block; } .key { color: var(--soft); font-size: 13px; }
.key i { display: inline-block; width: 12px; height: 3px; margin: 0 6px 3px 12px; border-radius: 2px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--track); padding: 8px 10px; border-radius: 6px;
  margin: 4px 0 10px; font: 13px/1.45 ui-monospace, monospace; }
@media print { :root { color-scheme: light; } body { background: #fff; font-size: 12px; }
  main { max-width: none; padding: 0; } * { print-color-adjust: exact; } h2, h3 { break-after: avoid; }
  .tile, .chart, tr, pre { break-inside: avoid; } summary::before { content: none; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""


def document(title: str, body: str) -> str:
    """A whole page."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}{line_chart.STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def in_short(count: float) -> str:
    """A count to four places: 999,999, 134.5 M, 8.030 B."""
    for size, unit in ((1e9, " B"), (1e6, " M")):
        if count >= size:
            return f"{count / size:.{max(0, 3 - int(math.log10(count / size)))}f}{unit}"
    return f"{count:,.0f}"


def tile(number: str, what: str, *, bad: bool = False) -> str:
    """A figure with its name; they stand in `tiles`."""
    return f'<div class="tile{" bad" if bad else ""}"><b>{escape(number)}</b><span>{escape(what)}</span></div>'


def tiles(each: Iterable[str]) -> str:
    """Tiles side by side."""
    return f'<div class="tiles">{"".join(each)}</div>'


def section(title: str, inside: str) -> str:
    """A part of the page under its heading."""
    return f"<h2>{escape(title)}</h2>{inside}"


def card(title: str, inside: str) -> str:
    """Something with a title and a frame; they stand in `cards`."""
    return f'<div class="card"><h3>{escape(title)}</h3>{inside}</div>'


def cards(each: Iterable[str]) -> str:
    """Cards side by side, as many as the width allows."""
    return f'<div class="cards">{"".join(each)}</div>'


def boxed(inside: str) -> str:
    """One frame over the whole width."""
    return f'<div class="card">{inside}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of texts; the columns whose places are in `numbers` stand flush right."""

    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=n' if i in numbers else ''}>{escape(text)}</{kind}>" for i, text in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{cells("th", head)}</tr>{body}</table></div>'


def bars(counts: Mapping[str, int], most: int = MOST_BARS, *, shares: bool = True) -> str:
    """Horizontal bars, the largest first, with numbers and, where `counts` are all there are, shares; beyond `most`,
    one line for the rest."""
    total, largest = sum(counts.values()) or 1, max(counts.values(), default=1) or 1
    shown = list(counts.items())[:most]
    cells = "".join(
        f'<div class="name" dir="auto">{escape(name)}</div>'
        f'<div class="track"><div class="fill" style="width:{100 * n / largest:.2f}%"></div></div>'
        f'<div class="n">{n:,}{f" · {share(n / total)}" if shares else ""}</div>'
        for name, n in shown
    )
    rest = len(counts) - len(shown)
    return f'<div class="bars">{cells}</div>' + (f"<p>and {rest:,} more</p>" if rest and shares else "")


def intervals(values: Mapping[str, tuple[float, float, float]]) -> str:
    """Figures with their bounds, (figure, low, high) by name, as dots on whiskers over one axis."""
    low, high = min(low for _, low, _ in values.values()), max(high for _, _, high in values.values())
    wide = (high - low) or 1.0

    def at(value: float) -> float:
        return 4 + 92 * (value - low) / wide

    cells = "".join(
        f'<div class="name" dir="auto">{escape(name)}</div><div class="span" title="{down:.4g} to {up:.4g}">'
        f'<div class="whisker" style="left:{at(down):.2f}%;width:{at(up) - at(down):.2f}%"></div>'
        f'<div class="dot" style="left:{at(value):.2f}%"></div></div><div class="n">{value:.4g}</div>'
        for name, (value, down, up) in values.items()
    )
    return f'<div class="bars">{cells}</div>'


def stacked(
    rows: Mapping[str, Mapping[str, float]],
    said: Mapping[str, str],
    ends: Mapping[str, float],
    colours: Sequence[str] = COLOURS,
) -> str:
    """A bar a row, of its parts side by side, under its name and what is `said` of it. A bar ends at the row's `ends`,
    where parts beyond it are marked as too much; rows without share the largest row's end. Colours are those of
    the parts, in their order."""
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    colour = {name: colours[i % len(colours)] for i, name in enumerate(names)}
    largest = max((sum(parts.values()) for parts in rows.values()), default=1) or 1
    drawn = ""
    for row, parts in rows.items():
        total, end = sum(parts.values()), ends.get(row, largest)
        scale = max(total, end) or 1
        cells = "".join(
            f'<div style="width:{100 * value / scale:.3f}%;background:{colour[name]}" title="{escape(name)}"></div>'
            for name, value in parts.items()
            if value
        )
        mark = f'<i style="left:{100 * end / scale:.3f}%"></i>' if total > end else ""
        head = f'<span>{escape(row)}</span><span class="n">{escape(said.get(row, ""))}</span>'
        bad = " bad" if total > end else ""
        drawn += f'<div class="stack{bad}"><div class="head">{head}</div><div class="bar">{cells}{mark}</div></div>'
    key = "".join(f'<span><i style="background:{colour[name]}"></i>{escape(name)}</span>' for name in names)
    return drawn + (f'<div class="key">{key}</div>' if len(names) > 1 else "")


def share(part: float) -> str:
    """A share in few figures."""
    return f"{part:.0%}" if part >= 0.095 else f"{part:.1%}" if part >= 0.001 else "&lt;0.1%"


def doubling(bins: Mapping[str, int]) -> str:
    """A histogram over bins that double in width; its keys are their upper ends."""
    if not bins:
        return "<p>none</p>"
    edges = list(bins)
    first, last = int(edges[0]) // 2, int(edges[-1])
    labels = [f"{1 << max(int(edge).bit_length() - 2, 0):,} to {int(edge):,}" if int(edge) else "0" for edge in edges]
    return histogram(list(bins.values()), f"{first:,}", f"{last:,}, doubling", labels)


def histogram(counts: list[int], first: str, last: str, labels: Iterable[str] | None = None) -> str:
    """Columns of `counts`, the axis marked `first` and `last`; each column's label shows under the pointer."""
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
