"""HTML and markup: what a web page or a forum put around the words."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Kept, Step, edited

# Code keeps its angle brackets and entities: fenced, indented or between backquotes.
_CODE = re.compile(
    r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|(?:^(?: {4}|\t)[^\n]*(?:\n|\Z))+|`[^`\n]+`)", re.DOTALL | re.MULTILINE
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
# Elements that pages and dumps are made of. Anything else in angle brackets may be a placeholder or an operator.
_INLINE = "a|abbr|b|big|cite|del|em|font|i|ins|mark|s|small|span|strike|strong|sub|sup|tt|u|center"
_BLOCK = (
    "article|aside|blockquote|body|br|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|hr|html|img|li|main|"
    "nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|title|tr|ul|code|script|style|iframe|noscript|svg|video|audio|meta|link"
)
_TAG = re.compile(rf"</?(?:{_INLINE}|{_BLOCK})(?:\s[^<>]*)?/?>|<!--.*?-->|<!doctype[^>]*>", re.IGNORECASE | re.DOTALL)
_CLOSED = re.compile(
    rf"<({_INLINE}|{_BLOCK})\b[^<>]*>.*</\1\s*>|<(?:br|hr|p|img)\b[^<>]*/?>|<!--", re.IGNORECASE | re.DOTALL
)
_FENCED = re.compile(r"```|~~~|`[^`\n]+`")
_NO_TAG = re.compile(rf"<(?!/?(?:{_INLINE}|{_BLOCK})[\s/>]|!--|!doctype)", re.IGNORECASE)
_FORUM = re.compile(
    r"\[(b|i|u|s|quote|url|img|color|size|spoiler|center)(?:=[^\]\n]{0,200})?\](.*?)\[/\1\]", re.IGNORECASE | re.DOTALL
)
_ASKS_FOR_CODE = re.compile(r"\b(?:html|xml|css|javascript|svg|jsx|php|bbcode|tags?|markup)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Markup(Step):
    """Makes Markdown of HTML, characters of HTML entities, and takes away a forum's square tags.

    Code stays, and so does HTML in a conversation that speaks of it: there it is what the talk is about.
    """

    name: ClassVar[str] = "markup"

    def apply(self, conversation: Conversation) -> Kept:
        changed = 0
        about_code: bool | None = None

        def strip(text: str) -> str:
            nonlocal changed, about_code
            if "<" not in text and "&" not in text and "[" not in text:
                return text
            if about_code is None:
                about_code = any(_ASKS_FOR_CODE.search(message.content or "") for message in conversation.messages)
            result = _stripped(text, tags=not about_code)
            changed += result != text
            return result

        result = edited(conversation, strip)
        return Kept(result, {"texts stripped of markup": changed} if changed else {})


def _stripped(text: str, tags: bool) -> str:
    if tags and _CLOSED.search(text) and not _FENCED.search(text):
        return _markdown(text)
    parts = _CODE.split(text)
    for i in range(0, len(parts), 2):
        part = parts[i]
        if tags:
            if _CLOSED.search(part):
                part = _TAG.sub("", part)
            while "[/" in part and (inner := _FORUM.sub(r"\2", part)) != part:
                part = inner
        if tags or "<" not in part:
            part = _ENTITY.sub(lambda match: html.unescape(match.group()), part)
        parts[i] = part
    return "".join(parts)


def _markdown(text: str) -> str:
    """HTML as Markdown, line breaks of the text itself kept."""
    import selectolax.lexbor as lexbor

    tree: Any = lexbor.LexborHTMLParser(f"<body>{_NO_TAG.sub('&lt;', text)}</body>")
    for node in tree.css("script, style, noscript, iframe, svg, head"):
        node.decompose()
    out: list[str] = []
    if tree.body is not None:
        _write(tree.body, out, preformatted=False)
    return re.sub(r"\n{3,}", "\n\n", "".join(out)).strip("\n")


_PARAGRAPHS = {"p", "div", "blockquote", "ul", "ol", "table", "section", "article", "header", "footer", "pre", "figure"}
_EMPHASIS = {"b": "**", "strong": "**", "i": "*", "em": "*"}


def _write(parent: Any, out: list[str], preformatted: bool) -> None:
    node = parent.child
    while node is not None:
        tag = node.tag
        if tag == "-text":
            out.append(node.text_content or "")
        elif tag == "br":
            out.append("\n")
        elif tag == "hr":
            out.append("\n\n---\n\n")
        elif tag == "pre":
            out.append(f"\n\n```\n{(node.text(deep=True) or '').strip(chr(10))}\n```\n\n")
        elif tag == "code" and not preformatted:
            out.append(f"`{node.text(deep=True) or ''}`")
        elif tag == "img":
            out.append(node.attributes.get("alt") or "")
        elif tag in _EMPHASIS and (node.text(deep=True) or "").strip():
            out.append(_EMPHASIS[tag])
            _write(node, out, preformatted)
            out.append(_EMPHASIS[tag])
        elif tag == "a":
            inner: list[str] = []
            _write(node, inner, preformatted)
            label, target = "".join(inner), (node.attributes.get("href") or "").strip()
            wanted = target.startswith(("http://", "https://")) and label.strip() not in ("", target)
            out.append(f"[{label}]({target})" if wanted else label or target)
        elif tag == "li":
            out.append("\n- ")
            _write(node, out, preformatted)
        elif re.fullmatch(r"h[1-6]", tag or ""):
            out.append(f"\n\n{'#' * int(tag[1])} ")
            _write(node, out, preformatted)
            out.append("\n\n")
        elif tag in ("tr", "dt", "dd"):
            out.append("\n")
            _write(node, out, preformatted)
        elif tag in ("td", "th"):
            _write(node, out, preformatted)
            out.append("\t")
        elif tag and not tag.startswith(("-", "!", "_")):
            around = "\n\n" if tag in _PARAGRAPHS else ""
            out.append(around)
            _write(node, out, preformatted)
            out.append(around)
        node = node.next
