"""Google's hosts say in their metadata that they are about to be taken away, up to a minute before the SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY = 5.0  # seconds between two looks
BOARD = Path("/sys/class/dmi/id/product_name")
# What each place says when all is well; migration is live and needs no stop.
QUIET = {"preempted": ("FALSE",), "maintenance-event": ("NONE", "MIGRATE_ON_HOST_MAINTENANCE")}


@contextmanager
def heeded(every: float = EVERY) -> Iterator[None]:
    """Within its block such a notice becomes this process's SIGTERM. Does nothing on hosts that are not Google's."""
    server = os.environ.get("GCE_METADATA_HOST")
    if server is None and not (BOARD.exists() and "Google" in BOARD.read_text()):
        yield
        return
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(server or "metadata.google.internal", over, every), daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()


def _listen(server: str, over: threading.Event, every: float) -> None:
    while not over.wait(every):
        for place, quiet in QUIET.items():
            said = _ask(server, place)
            if said is not None and said not in quiet:
                print(f"this host is about to be taken away ({place} {said}): saving", file=sys.stderr)
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _ask(server: str, place: str) -> str | None:
    url = f"http://{server}/computeMetadata/v1/instance/{place}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return str(answer.read().decode()).strip()
    except (OSError, urllib.error.URLError):
        return None  # the server is restarting, or has no such place
