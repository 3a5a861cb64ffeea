"""The widget: one script for any web page, and a page that shows it."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

PAGES = Path(__file__).parent / "pages"

widget = APIRouter(include_in_schema=False)


def _file(name: str, kind: str) -> Response:
    # Other origins load the script, whatever their policy on what they embed.
    headers = {"Cache-Control": "public, max-age=300", "Cross-Origin-Resource-Policy": "cross-origin"}
    return Response((PAGES / name).read_bytes(), media_type=f"{kind}; charset=utf-8", headers=headers)


@widget.get("/widget.js")
def script() -> Response:
    return _file("widget.js", "text/javascript")


@widget.get("/widget.css")
def style() -> Response:
    return _file("widget.css", "text/css")


@widget.get("/widget")
def page() -> Response:
    return _file("widget.html", "text/html")
