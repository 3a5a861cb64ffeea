"""Whatever goes wrong on a route, as one refusal of one form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jaxchat.serve.errors import ApiError, unusable
from jaxchat.serve.events import ClientLeftError, client_left, refusal


def refuse_in_one_form(app: FastAPI) -> None:
    """Has `app` answer every exception of its routes as it answers an ApiError."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientLeftError, client_left)
    app.add_exception_handler(Exception, _failed)


def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return refusal(error)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {404: f"there is no {request.url.path[:200]}", 405: f"{request.method} is no way to ask for this"}
    return refusal(
        ApiError(error.status_code, messages.get(error.status_code, str(error.detail)), headers=error.headers)
    )


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return refusal(unusable(f"the body is not JSON ({reason} at character {first['loc'][-1]})"))
    if first["loc"] == ("body",) and first["type"] in ("model_attributes_type", "missing"):
        return refusal(unusable("the body is to be a JSON object, with Content-Type: application/json"))
    where, message = _mistake(error.errors())
    return refusal(ApiError(400, f"{where}: {message}" if where else message, param=where or None))


_ARM = re.compile(r"[A-Z]\w*|str|int|.*[^\w ].*")  # of a union, as pydantic names it within a place
_SHOULD = "Input should be "


def _mistake(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Where the first field that is wrong is so, and what it should be. Of the arms of a union, each of which says what
    it would have had, the one speaks that understood most; where all understood nothing, all do."""
    field = errors[0]["loc"][:2]
    places = [
        (_place(error), error["msg"].removeprefix("Value error, ")) for error in errors if error["loc"][:2] == field
    ]
    place = max((place for place, _ in places), key=lambda place: (len(place), *map(str, place)))
    said = list(dict.fromkeys(message for other, message in places if other == place))
    if all(message.startswith(_SHOULD) for message in said):
        return ".".join(place), _SHOULD + " or ".join(message.removeprefix(_SHOULD) for message in said)
    return ".".join(place), said[0]


def _place(error: Mapping[str, Any]) -> tuple[str, ...]:
    *path, last = map(str, error["loc"])
    named = [part for part in path[1:] if not _ARM.fullmatch(part)]
    if path and (error["type"] == "extra_forbidden" or not _ARM.fullmatch(last)):
        named.append(last)
    return tuple(named)


def _failed(request: Request, error: Exception) -> Response:
    known = getattr(request.state, "id", None)  # this answer comes from outside of the middleware that tells it
    headers = {"X-Request-Id": known} if known else None
    message = "the server failed on this request; its log says why"
    return refusal(ApiError(500, message, code="internal_error", headers=headers))
