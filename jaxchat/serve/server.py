"""The server's life: from a socket to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from jaxchat.errors import InputError

_LAST_WORDS = 2.0  # seconds of the draining that are left for errors to reach their clients


@dataclass(frozen=True)
class Address:
    """Where to listen. certificate, private_key: PEM files, for TLS. port: 0 is any that is free."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    private_key: Path | None = None

    @property
    def loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def bind(self) -> socket.socket:
        """Raises InputError where that cannot be."""
        for file in (self.certificate, self.private_key):
            if file is not None and not file.is_file():
                raise InputError(f"there is no {file}; TLS needs --certificate and --private-key, PEM files")
        if (self.certificate is None) != (self.private_key is None):
            raise InputError("TLS needs both --certificate and --private-key")
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self.host, self.port))
        except OSError as error:
            bound.close()
            raise InputError(
                f"cannot listen on {self.host} port {self.port}: {error.strerror}; name others with --host and --port"
            ) from None
        return bound

    def url(self, bound: socket.socket) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.certificate else ''}://{host}:{bound.getsockname()[1]}"


class Work(Protocol):
    """What is going on in an application, and how it is ended."""

    draining: bool

    def drain(self) -> None:
        """Takes no more requests; those that are open go on."""

    def give_up(self) -> None:
        """Ends what is still open, with an error to its client."""


class _Server(uvicorn.Server):
    """uvicorn's, leaving signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    app: ASGIApp,
    work: Work,
    address: Address,
    drain_seconds: float = 30.0,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serves until SIGTERM or SIGINT, then takes no more and lets open requests end: after `drain_seconds` at the
    latest they are told that the server stops, and all is over. A second signal ends them at once. `ready` is told the
    address. Raises InputError where it cannot listen."""
    bound = address.bind()
    try:
        asyncio.run(_serve(app, work, address, bound, drain_seconds, ready))
    finally:
        bound.close()


async def _serve(
    app: ASGIApp,
    work: Work,
    address: Address,
    bound: socket.socket,
    drain_seconds: float,
    ready: Callable[[str], None],
) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        ssl_certfile=address.certificate,
        ssl_keyfile=address.private_key,
    )
    server, loop = _Server(config), asyncio.get_running_loop()

    def stop() -> None:
        if work.draining:
            work.give_up()
            return
        work.drain()
        server.should_exit = True
        loop.call_later(max(0.0, drain_seconds - _LAST_WORDS), work.give_up)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    serving = asyncio.ensure_future(server.serve([bound]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready(address.url(bound))
        await serving
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def log_requests() -> None:
    """A line of JSON for every request, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("jaxchat.serve")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    errors = logging.getLogger("uvicorn.error")
    errors.addHandler(handler)
    errors.setLevel(logging.WARNING)
