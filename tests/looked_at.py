"""What a browser makes of a page of results, in a wide window and on a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTHS = (390, 1280)
MEASURE = """() => {
  const of = document.documentElement, all = q => [...document.querySelectorAll(q)];
  const seen = node => { const r = node.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const shut = node => node.closest("details:not([open])");
  const inside = node => {
    const a = node.getBoundingClientRect(), b = node.closest(".card, .tile, main").getBoundingClientRect();
    return node.closest(".scroll") || (a.left >= b.left - 1 && a.right <= b.right + 1); };
  return {
    width: of.clientWidth, scrolled: of.scrollWidth, headings: all("h2").map(h => h.innerText),
    unseen: all("h1, h2, h3, .card, .tile, .fill, .hist, .chart, td, summary").filter(n => !seen(n) && !shut(n))
      .map(n => n.outerHTML),
    outside: all(".bars > *, .hist, .chart, table, pre, summary, h3").filter(n => !inside(n)).map(n => n.outerHTML),
    bars: all(".fill").length, columns: all(".hist div").filter(seen).length, charts: all(".chart svg").length,
    font: parseFloat(getComputedStyle(document.body).fontSize),
  };
}"""


def measured(browser: Any, page: Path, width: int) -> dict[str, Any]:
    """What a browser makes of a page in a window of that width."""
    with browser.new_page(viewport={"width": width, "height": 900}) as window:
        window.goto(page.as_uri())
        return window.evaluate(MEASURE)
