"""Thumbs up and down, a line of JSON each, and the preferences that follow from them.

    {"id": "chatcmpl-...", "created": 1767225600, "rating": "up", "model": "mine", "messages": [...], "comment": "..."}

`messages` is the conversation up to and with the answer that was rated. A later line about the same answer replaces the
earlier one. Two answers to one question, one up and one down (the first try and its regeneration, two models side by
side), are a pair that `jaxchat data import preference` reads.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError
from jaxchat.files import replacing


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


def read_feedback(path: Path) -> list[dict[str, Any]]:
    """The last word on every answer, in the order of first words. Raises InputError naming the line that is none."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read feedback from {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            rows[row["id"]] = {**row, "messages": list(row["messages"]), "rating": row["rating"]}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}, line {number}: no feedback; correct or remove the line") from None
    return list(rows.values())


def preferences(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every answer that was liked with every one to the same question that was not, as `data import preference` reads
    them."""
    asked: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["rating"] in ("up", "down"):
            question = json.dumps([row["messages"][:-1], row.get("tools")], sort_keys=True)
            asked.setdefault(question, {"up": [], "down": []})[row["rating"]].append(row)
    for rated in asked.values():
        for better in rated["up"]:
            for worse in rated["down"]:
                if better["messages"][-1] != worse["messages"][-1]:
                    yield _pair(better, worse)


def export_preferences(path: Path, out: Path) -> tuple[int, int]:
    """Writes the pairs in the feedback at `path` to `out`, a line each. Returns how many answers were rated, and how
    many pairs they made."""
    rows = read_feedback(path)
    pairs = list(preferences(rows))
    with replacing(out) as file:
        for pair in pairs:
            file.write(json.dumps(pair, ensure_ascii=False) + "\n")
    return len(rows), len(pairs)


def _pair(better: dict[str, Any], worse: dict[str, Any]) -> dict[str, Any]:
    row = {
        "id": f"{better['id']}/{worse['id']}",
        "prompt": better["messages"][:-1],
        "chosen": better["messages"][-1:],
        "rejected": worse["messages"][-1:],
        "chosen_model": better.get("model"),
        "rejected_model": worse.get("model"),
    }
    return {**row, "tools": better["tools"]} if better.get("tools") else row
