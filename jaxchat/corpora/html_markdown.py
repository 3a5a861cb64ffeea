"""HTML as people's posts have it -> Markdown, with code kept to the letter.

Parsed by Lexbor (selectolax), as a browser would: nothing is so broken that it has no reading. Text is not escaped:
`a_b` stays `a_b` and `$x_1 < y$` stays a formula, which matters more to a reader than that the Markdown be parsed back.
"""

from __future__ import annotations

import re
from typing import Any

from jaxchat.errors import InputError

_BLOCKS = frozenset(
    ("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt", "fieldset",
     "figure", "figcaption", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main",
     "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul")
)  # fmt: skip
_WITHOUT_TEXT = frozenset(("script", "style", "head", "template", "noscript", "title", "-comment"))
_MARKS = {"em": "*", "i": "*", "strong": "**", "b": "**", "s": "~~", "strike": "~~", "del": "~~"}
_AS_HTML = frozenset(("sub", "sup", "kbd", "ins", "u"))
_LANGUAGE = re.compile(r"(?:^|\s)lang(?:uage)?-([\w+#.-]+)")
# Elements in elements beyond this are read as plain text.
DEEPEST = 60


def to_markdown(html: str) -> str:
    """The Markdown of an HTML fragment, without white space at its ends; "" where it shows nothing."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise InputError("reading HTML needs the package selectolax; pip install selectolax") from None
    if "<" not in html and "&" not in html:
        return html.strip()
    body = LexborHTMLParser(html).body
    return "" if body is None else _blocks(body, 0).strip()


def _blocks(node: Any, depth: int) -> str:
    """The node's content as blocks with a blank line between them."""
    if depth > DEEPEST:
        return node.text(deep=True).strip()
    parts: list[str] = []
    line: list[str] = []

    def end_line() -> None:
        if text := "".join(line).strip():
            parts.append(text)
        line.clear()

    for child in node.iter(include_text=True):
        if child.tag in _BLOCKS:
            end_line()
            if text := _block(child, depth + 1):
                parts.append(text)
        else:
            line.append(_inline(child, depth + 1))
    end_line()
    return "\n\n".join(parts)


def _block(node: Any, depth: int) -> str:
    tag = node.tag
    if tag == "pre":
        return _code_block(node)
    if tag == "hr":
        return "---"
    if tag == "blockquote":
        return _prefixed(_blocks(node, depth), "> ", "> ")
    if tag in ("ul", "ol"):
        return _list(node, depth)
    if tag == "table":
        return _table(node, depth)
    if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
        text = " ".join(_blocks(node, depth).split())
        return f"{'#' * int(tag[1])} {text}" if text else ""
    if tag == "dd":
        return _prefixed(_blocks(node, depth), ": ", "  ")
    return _blocks(node, depth)


def _prefixed(text: str, first: str, rest: str) -> str:
    lines = text.split("\n")
    return (
        "\n".join((rest if i else first) + line if line else rest.rstrip() for i, line in enumerate(lines))
        if text
        else ""
    )


def _code_block(node: Any) -> str:
    code = node.css_first("code")
    names = [element.attributes.get("class") or "" for element in (node, code) if element is not None]
    language = next((found.group(1) for name in names if (found := _LANGUAGE.search(name))), "")
    text = node.text(deep=True).removesuffix("\n")
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{text}\n{fence}" if text.strip() else ""


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _list(node: Any, depth: int) -> str:
    start = node.attributes.get("start") or ""
    number = int(start) if start.isascii() and start.isdigit() and len(start) < 9 else 1
    items, loose = [], False
    for child in node.iter():
        text = _item(child, depth + 1) if child.tag == "li" else _blocks(child, depth + 1)
        if not text:
            continue
        mark = f"{number}. " if node.tag == "ol" else "- "
        number += 1
        loose = loose or "\n\n" in text
        items.append(_prefixed(text, mark, " " * len(mark)))
    return ("\n\n" if loose else "\n").join(items)


def _item(node: Any, depth: int) -> str:
    """A list right under an item's text stands on the next line, without a blank one between."""
    text = _blocks(node, depth)
    return re.sub(r"\n\n(?=(?:- |\d+\. ))", "\n", text) if text.count("\n\n") == 1 else text


def _table(node: Any, depth: int) -> str:
    rows = []
    for row in node.css("tr"):
        cells = [cell for cell in row.iter() if cell.tag in ("td", "th")]
        rows.append([" ".join(_blocks(cell, depth + 1).split()).replace("|", "\\|") for cell in cells])
    width = max(map(len, rows), default=0)
    if not width:
        return _blocks(node, depth) if depth < DEEPEST and not rows else ""
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _inline(node: Any, depth: int) -> str:
    tag = node.tag
    if tag == "-text":
        return node.text_content or ""
    if tag in _WITHOUT_TEXT:
        return ""
    if tag == "br":
        return "\n"
    if tag == "img":
        source = node.attributes.get("src")
        return f"![{node.attributes.get('alt') or ''}]({source})" if source else ""
    if tag == "code" or depth > DEEPEST:
        return _code(node.text(deep=True)) if tag == "code" else node.text(deep=True)
    inner = "".join(
        _blocks(child, depth + 1) if child.tag in _BLOCKS else _inline(child, depth + 1)
        for child in node.iter(include_text=True)
    )
    if not inner.strip():
        return inner
    if tag == "a":
        target = (node.attributes.get("href") or "").strip()
        return inner if target in ("", inner.strip()) else f"[{inner}]({target})"
    if tag in _AS_HTML:
        return f"<{tag}>{inner}</{tag}>"
    if mark := _MARKS.get(tag):
        # Markdown wants no space inside its marks.
        before, after = inner[: len(inner) - len(inner.lstrip())], inner[len(inner.rstrip()) :]
        return f"{before}{mark}{inner.strip()}{mark}{after}"
    return inner


def _code(text: str) -> str:
    if not text:
        return ""
    ticks = "`" * (1 + _longest_run(text) if "`" in text else 1)
    space = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{space}{text}{space}{ticks}"
