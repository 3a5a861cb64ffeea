"""The chat at `/`, a client of our own API like any other."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from jaxchat.serve.page_files import PAGES, file_of

chat_page = APIRouter(include_in_schema=False)


@chat_page.get("/")
def page() -> Response:
    return file_of(PAGES / "chat.html", "text/html")
