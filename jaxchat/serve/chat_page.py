"""The chat at `/`, a client of our own API like any other.

Elements, modules and style sheets as browsers have them, and Markdown by markdown-it-py on this side: Gradio and
NiceGUI need inline scripts, which a strict Content-Security-Policy forbids, and know no branches and no history in the
browser, so that as much would be written beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from jaxchat.serve.errors import ApiError
from jaxchat.serve.markdown import LONGEST, as_html, code_css

PAGES = Path(__file__).parent / "pages"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

chat_page = APIRouter(include_in_schema=False)


class MarkdownRequest(BaseModel):
    """POST /markdown"""

    texts: list[str] = Field(max_length=512)


@chat_page.get("/")
def page() -> Response:
    return file_of(PAGES / "chat.html", "text/html")


@chat_page.get("/pages/code.css")
def colours() -> Response:
    return Response(code_css(), media_type="text/css; charset=utf-8", headers=HEADERS)


@chat_page.get("/pages/{name}")
def part(name: str) -> Response:
    """What pages load: a file of their folder, by its bare name."""
    path = next((path for path in PAGES.iterdir() if path.name == name and path.suffix in KINDS), None)
    if path is None:
        raise ApiError(404, f"there is no page {name[:200]!r}")
    return file_of(path, KINDS[path.suffix])


def file_of(path: Path, kind: str, headers: Mapping[str, str] = HEADERS) -> Response:
    """A file of PAGES; under their Content-Security-Policy unless other headers are given."""
    return Response(path.read_bytes(), media_type=f"{kind}; charset=utf-8", headers=headers)


@chat_page.post("/markdown")
def render(asked: MarkdownRequest) -> dict[str, list[str]]:
    """Each text as HTML, in order."""
    if sum(map(len, asked.texts)) > LONGEST:
        raise ApiError(413, f"the texts have more than {LONGEST:,} characters; send fewer at once")
    return {"html": [as_html(text) for text in asked.texts]}
