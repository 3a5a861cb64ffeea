"""Thumbs up and down, a line of JSON each, as `jaxchat data import preference` reads them.

    {"id": "chatcmpl-...", "created": 1767225600, "rating": "up", "model": "mine", "messages": [...], "comment": "..."}

`messages` is the conversation up to and with the answer that was rated. A later line about the same answer replaces the
earlier one; the rating "none" takes it back.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError


class Feedback:
    """A file of ratings that only grows. Threads and processes may write at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            raise InputError(f"cannot keep feedback in {path}: {error.strerror}") from None

    def add(self, row: dict[str, Any]) -> None:
        """Writes a row; on return it is on the disk."""
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        with self._lock, self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line)
            os.fsync(file.fileno())
