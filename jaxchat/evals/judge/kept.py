"""Rows that are never lost: each is on the disk before the next is asked for, and found again by what it answers."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError

Row = dict[str, Any]


def key(*asked: Any) -> str:
    """A hash of all that an answer depends on."""
    return hashlib.blake2b(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode(), digest_size=16).hexdigest()


class Kept:
    """A file of rows, each with its `key`. What a killed process left half written is taken off its end. Thread-safe.

    Raises InputError for a file that holds something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                self.rows[row["key"]] = row
            except (ValueError, TypeError, KeyError):
                raise InputError(f"{path} holds something that is no row of ours; name another folder") from None
            whole += len(line)
        self._file.truncate(whole)

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> Row:
        return self.rows[key]

    def add(self, key: str, row: Row) -> Row:
        """Writes a row down."""
        row = {"key": key, **row}
        with self._lock:
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.rows[key] = row
        return row

    def close(self) -> None:
        self._file.close()
