"""Whatever goes wrong on a route, as one refusal of one form."""

from __future__ import annotations

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
    place = [str(part) for part in first["loc"] if part != "body"]
    message = first["msg"].removeprefix("Value error, ")
    where = ".".join(place)
    return refusal(ApiError(400, f"{where}: {message}" if where else message, param=where or None))


def _failed(request: Request, error: Exception) -> Response:
    return refusal(ApiError(500, "the server failed on this request; its log says why", code="internal_error"))
