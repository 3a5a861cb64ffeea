"""What pages are made of: files, by their bare name, under one Content-Security-Policy; and Markdown in them.

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


def file_of(path: Path, kind: str, headers: Mapping[str, str] = HEADERS) -> Response:
    """A file of a page; under their Content-Security-Policy unless other headers are given."""
    return Response(path.read_bytes(), media_type=f"{kind}; charset=utf-8", headers=headers)


def page_files(*more: Path) -> APIRouter:
    """What pages load: the files of PAGES, and of `more` folders, by their bare names."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for folder in (PAGES, *more) for path in folder.iterdir() if path.suffix in KINDS}

    @router.get("/pages/code.css")
    def colours() -> Response:
        return Response(code_css(), media_type="text/css; charset=utf-8", headers=HEADERS)

    @router.get("/pages/{name}")
    def part(name: str) -> Response:
        if name not in files:
            raise ApiError(404, f"there is no page {name[:200]!r}")
        return file_of(files[name], KINDS[files[name].suffix])

    return router


markdown = APIRouter(include_in_schema=False)


class MarkdownRequest(BaseModel):
    """POST /markdown"""

    texts: list[str] = Field(max_length=512)


@markdown.post("/markdown")
def render(asked: MarkdownRequest) -> dict[str, list[str]]:
    """Each text as HTML, in order."""
    if sum(map(len, asked.texts)) > LONGEST:
        raise ApiError(413, f"the texts have more than {LONGEST:,} characters; send fewer at once")
    return {"html": [as_html(text) for text in asked.texts]}
