"""The widget: one script for any web page, and a page that shows it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from jaxchat.serve.page_files import PAGES, file_of

widget = APIRouter(include_in_schema=False)


@widget.get("/widget.js")
def script() -> Response:
    # Other origins load it, whatever their policy on what they embed.
    headers = {"Cache-Control": "public, max-age=300", "Cross-Origin-Resource-Policy": "cross-origin"}
    return file_of(PAGES / "widget.js", "text/javascript", headers)


@widget.get("/widget")
def page() -> Response:
    return file_of(PAGES / "widget.html", "text/html")
