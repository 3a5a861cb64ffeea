"""What a client is told when its request cannot be answered: OpenAI's form and status codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is a refusal. `param` names the field at fault, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's `type` of errors with this status."""
        if self.status >= 500:
            return "server_error"
        return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error"
        )

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def unusable(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that cannot be used as it is."""
    return ApiError(400, message, param=param, code=code)


def stopping(headers: Mapping[str, str] | None = None) -> ApiError:
    """The server stops."""
    return ApiError(503, "the server stops; ask again in a moment", code="shutting_down", headers=headers)
