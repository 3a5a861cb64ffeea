"""Who may ask: API keys, and how often each."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from jaxchat.serve.errors import ApiError
from jaxchat.serve.events import refuse
from jaxchat.serve.keys import Keys
from jaxchat.serve.rate_limit import RateLimit

GUARDED = ("/v1/", "/markdown", "/metrics")


class Access:
    """Lets requests through to GUARDED paths that bring a key, where there are any, and are not too many. Leaves in
    the scope's state who asks: `client`, a key's name or an address."""

    def __init__(self, app: ASGIApp, keys: Keys | None, per_minute: int | None) -> None:
        self.app, self.keys, self.per_minute = app, keys, per_minute
        self._rate = RateLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            try:
                self._admit(scope)
            except ApiError as error:
                await refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        client, per_minute = (scope.get("client") or ("unknown",))[0], self.per_minute
        if self.keys is not None:
            key = self.keys.find(_secret(scope))
            if key is None:
                raise ApiError(
                    401,
                    "this server wants a key it knows: Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            client, per_minute = key.name, key.requests_per_minute or self.per_minute
        scope.setdefault("state", {})["client"] = client
        if per_minute is not None and scope["path"].startswith("/v1/"):
            self._rate.take(client, per_minute)


def _secret(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.decode("latin-1").partition(" ")
            return secret.strip() if scheme.lower() == "bearer" else ""
    return ""
