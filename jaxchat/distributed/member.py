"""A worker's side: joins the others through JAX, and tells its guard how it is and how it ends."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxchat.distributed.cause import LOST, REFUSED
from jaxchat.distributed.guard import BEAT, VARIABLE
from jaxchat.distributed.place import Distributed, Place
from jaxchat.errors import InputError


class _Channel:
    """The worker's end of the socket to its guard. A worker whose guard is gone ends: nobody would end it later."""

    def __init__(self, fd: int, patience: float) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.settimeout(patience)
        self._lock = threading.Lock()
        self._replies: list[dict[str, Any]] = []
        self._replied = threading.Condition()
        self.doing, self.since = "", time.monotonic()
        for work in (self._listen, self._beat):
            threading.Thread(target=work, name=f"guard-{work.__name__.strip('_')}", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        try:
            with self._lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # the listener ends this process

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        with self._replied:
            self.send(message)
            self._replied.wait_for(lambda: self._replies, timeout=60)
            return self._replies.pop()

    def _beat(self) -> None:
        while True:
            self.send({"beat": [self.doing, round(time.monotonic() - self.since, 1)]})
            time.sleep(BEAT)

    def _listen(self) -> None:
        pending = b""
        while True:
            try:
                data = self._socket.recv(1 << 12)
            except TimeoutError:
                os._exit(LOST)
            except OSError:
                data = b""
            if not data:
                os._exit(LOST)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "alive" not in message:
                    with self._replied:
                        self._replies.append(message)
                        self._replied.notify()


_channel: _Channel | None = None


def moved(doing: str) -> None:
    """Says what the run begins to do now: how a hang is told from work."""
    if _channel is not None:
        _channel.doing, _channel.since = doing, time.monotonic()


@contextmanager
def joined(place: Place | None, options: Distributed) -> Iterator[bool]:
    """Yields whether this is the first process, which alone speaks. Within its block JAX knows the devices of all
    processes, and how the block ends is known to all at once.

    Raises InputError (on all processes, with the first's words) for input that one refuses. A connection that breaks
    ends this process with the status LOST.
    """
    if place is None:
        yield True
        return
    global _channel
    if VARIABLE in os.environ:
        _channel = _Channel(int(os.environ.pop(VARIABLE)), 2 * options.heartbeat_timeout)
    import jax

    try:
        _join(place, options)
        yield jax.process_index() == 0
    except InputError as error:
        _ends(REFUSED, str(error))
        raise
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            _ends(REFUSED, "out of memory")
            raise
        # What a device could not compute is, among several processes, a connection or a peer that is gone.
        traceback.print_exc()
        _leave(LOST)
    except BaseException as error:
        _ends(1, f"{type(error).__name__}: {error}")
        raise


def _ends(code: int, why: str) -> None:
    """JAX waits at exit for processes that may not know yet: the guard tells them, and ends this one if need be."""
    if _channel is not None:
        _channel.send({"ending": [code, why]})


def _leave(code: int) -> None:
    _ends(code, "")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _join(place: Place, options: Distributed) -> None:
    import jax

    known = place.coordinator is not None
    named = f"process {place.process} of {place.processes}" if known else f"a process of this {place.source}"
    meeting = f" at {place.coordinator}" if known else ""
    if _channel is not None:  # JAX does not raise where this fails, but ends the process
        _channel.send({"joining": f"{named} has not met the others{meeting} within {options.join_timeout:g} s"})
    where: dict[str, Any] = {"cluster_detection_method": "deactivate"} if known else {}
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        place.devices,
        initialization_timeout=int(options.join_timeout),
        # The guard is quicker, and says more.
        heartbeat_timeout_seconds=int(4 * options.heartbeat_timeout),
        **where,
    )
    if _channel is not None:
        _introduce(_channel, options)


def _introduce(channel: _Channel, options: Distributed) -> None:
    """Tells the guard where the guards of all the others are."""
    from jax._src.distributed import global_state  # no public name tells what JAX found out

    from jaxchat.distributed.agreement import store

    number, count = global_state.process_id, global_state.num_processes
    address = _own_address(str(global_state.coordinator_address))
    mine = [socket.gethostname(), address, channel.ask({"bind": address})["port"]]
    kept = store()
    kept.set(f"guard/{number}", json.dumps(mine))
    if number == 0:
        kept.set("token", secrets.token_hex(8))
    peers = [json.loads(kept.get(f"guard/{other}", options.join_timeout)) for other in range(count)]
    token = kept.get("token", options.join_timeout)
    channel.send({"joined": {"number": number, "token": token, "peers": peers}})


def _own_address(coordinator: str) -> str:
    """The address of this host on the way to the coordinator."""
    host, _, port = coordinator.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
        probe.connect(found[4])
        return str(probe.getsockname()[0])
