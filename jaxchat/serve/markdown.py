"""A model's Markdown as HTML that does nothing: tags are shown as text, images are not fetched, links go no further
than the web and mail, nothing is styled in place, so that the strictest Content-Security-Policy can stand over it."""

from __future__ import annotations

from functools import cache
from typing import Any

# Brackets that close nothing, and some languages' rules, take a time that grows with the square of these characters.
LONGEST = 40_000  # of texts
COLOURED = 4_000  # of a block of code; a longer one is left plain


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("js-default", {"html": False, "breaks": True, "highlight": _highlighted}).disable("image")


def as_html(text: str) -> str:
    """CommonMark with tables and strike-through, an end of line kept as one, as chats do; code in the classes of
    `code_css`. Each block is written from where its own script begins."""
    parser, env = _parser(), dict[str, Any]()
    tokens = parser.parse(text, env)
    for token in tokens:
        if token.nesting == 1:
            token.attrs["dir"] = "auto"
        if style := token.attrs.pop("style", ""):  # a table's columns; a policy without inline styles drops them
            token.attrs["class"] = str(style).replace("text-align:", "to-")
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrs |= {"target": "_blank", "rel": "noopener noreferrer nofollow"}
    return parser.renderer.render(tokens, parser.options, env)


def _highlighted(code: str, language: str, _: str) -> str:
    """Empty, which has it escaped and left plain, for long code and a language that nobody knows."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    if len(code) > COLOURED:
        return ""
    try:
        return highlight(code, get_lexer_by_name(language, stripnl=False), HtmlFormatter(nowrap=True))
    except ClassNotFound:
        return ""


@cache
def code_css() -> str:
    """The colours of code, on light pages and on dark ones."""
    from pygments.formatters import HtmlFormatter

    themes = {"light": "default", "dark": "github-dark"}
    return "\n".join(
        line
        for theme, style in themes.items()
        for line in HtmlFormatter(style=style).get_style_defs(f'[data-theme="{theme}"] pre code').split("\n")
        if ".hll" not in line and "linenos" not in line and "background: #" not in line.split("/*")[0]
    )
