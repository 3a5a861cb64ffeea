from __future__ import annotations

import http.server
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from jaxchat.distributed.maintenance import heeded


@pytest.mark.parametrize(
    ("place", "says", "stops"),
    [
        ("preempted", "TRUE", True),
        ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", True),
        ("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", False),
        ("elsewhere", "", False),
    ],
)
def test_a_notice_is_a_sigterm(place: str, says: str, stops: bool, monkeypatch: pytest.MonkeyPatch):
    asked = []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path.rpartition("/")[2])
            found = asked[-1] == place and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(says.encode() if found else b"")

        def log_message(self, *_: object) -> None:
            pass

    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
            with heeded(every=0.01):
                while len(asked) < 6 and not heard:
                    time.sleep(0.01)
                server.shutdown()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert bool(heard) == stops


def test_other_hosts_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    monkeypatch.setattr("jaxchat.distributed.maintenance.BOARD", Path(os.devnull))
    threads = threading.active_count()
    with heeded():
        assert threading.active_count() == threads
