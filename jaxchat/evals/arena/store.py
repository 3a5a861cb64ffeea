"""What is kept of a study while people rate: SQLite, in which a rating is a row that is written once.

A change of mind is a new row, and the last one counts; triggers forbid to change a rating or to take one away. What
`rate` returned from is on the disk (write-ahead log, synchronous FULL). A rating names the item as it was shown and its
revision, so that the same click, told twice, is one row.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError

_TABLES = """
CREATE TABLE IF NOT EXISTS raters (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, invitation TEXT NOT NULL UNIQUE, session TEXT,
  invited REAL NOT NULL, joined REAL);
CREATE TABLE IF NOT EXISTS asked (id TEXT PRIMARY KEY, rater INTEGER NOT NULL, prompt TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS shown (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, rater INTEGER NOT NULL REFERENCES raters, item TEXT NOT NULL,
  flipped INTEGER NOT NULL, at REAL NOT NULL, expires REAL NOT NULL, UNIQUE (rater, item));
CREATE INDEX IF NOT EXISTS shown_items ON shown (item);
CREATE TABLE IF NOT EXISTS ratings (
  id INTEGER PRIMARY KEY, shown INTEGER NOT NULL REFERENCES shown, revision INTEGER NOT NULL, verdict TEXT,
  scores TEXT NOT NULL, comment TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL, UNIQUE (shown, revision));
CREATE TRIGGER IF NOT EXISTS ratings_stay BEFORE UPDATE ON ratings
  BEGIN SELECT RAISE(ABORT, 'a rating is never changed'); END;
CREATE TRIGGER IF NOT EXISTS ratings_last BEFORE DELETE ON ratings
  BEGIN SELECT RAISE(ABORT, 'a rating is never taken away'); END;
CREATE TRIGGER IF NOT EXISTS ratings_once BEFORE INSERT ON ratings
  WHEN EXISTS (SELECT 1 FROM ratings WHERE id = NEW.id OR (shown = NEW.shown AND revision = NEW.revision))
  BEGIN SELECT RAISE(ABORT, 'this rating is there already'); END;
"""


class ConflictError(Exception):
    """Another rating stands where this one would."""


@dataclass(frozen=True)
class Rater:
    """invitation, session: hashes. session, joined: None until the invitation is used."""

    id: int
    name: str
    invitation: str
    session: str | None
    invited: float
    joined: float | None


@dataclass(frozen=True)
class Shown:
    """An item as a rater sees it; flipped: the second answer stands first. rated: how many times it has been."""

    id: int
    key: str
    rater: int
    item: str
    flipped: bool
    at: float
    expires: float
    rated: int


@dataclass(frozen=True)
class Rating:
    """What a rater said. verdict: of a pair, in the order of the item's models; scores: points by scale."""

    verdict: str | None
    scores: Mapping[str, int]
    comment: str = ""
    seconds: float = 0.0


class Store:
    """A study's database. To be used from any thread, beside other processes. `now`: seconds since 1970."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.now, self._lock = now, threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise InputError(f"cannot keep ratings in {path}: {error}") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """What happens within is one: all of it is on the disk in the end, or nothing of it; nobody else writes."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def raters(self) -> list[Rater]:
        return [Rater(**row) for row in self.read("SELECT * FROM raters ORDER BY id")]

    def rate(self, rater: int, key: str, revision: int, rating: Rating) -> bool:
        """Keeps a rating of what was shown under `key`; False where the same one is there already. KeyError for what
        was never shown to this rater, ConflictError where another rating of that revision is there, or none before."""
        with self.writing() as db:
            row = db.execute("SELECT id FROM shown WHERE key = ? AND rater = ?", (key, rater)).fetchone()
            if row is None:
                raise KeyError(key)
            said = (rating.verdict, json.dumps(dict(rating.scores), sort_keys=True), rating.comment)
            there = db.execute("SELECT * FROM ratings WHERE shown = ? ORDER BY revision", (row["id"],)).fetchall()
            if revision < len(there):
                if tuple(there[revision][name] for name in ("verdict", "scores", "comment")) != said:
                    raise ConflictError
                return False
            if revision > len(there):
                raise ConflictError
            db.execute(
                "INSERT INTO ratings (shown, revision, verdict, scores, comment, seconds, at) VALUES (?,?,?,?,?,?,?)",
                (row["id"], revision, *said, rating.seconds, self.now()),
            )
        return True

    def last_rating(self, shown: int) -> Rating | None:
        """The one that counts."""
        rows = self.read("SELECT * FROM ratings WHERE shown = ? ORDER BY revision DESC LIMIT 1", shown)
        return rating_of(rows[0]) if rows else None

    def shown_to(self, rater: int) -> list[Shown]:
        """All that a rater was shown, the first first."""
        return [_shown(row) for row in self.read(f"{_SHOWN} WHERE s.rater = ? GROUP BY s.id ORDER BY s.id", rater)]

    def taken(self, db: sqlite3.Connection) -> tuple[Counter[str], Counter[str], Counter[tuple[str, bool]]]:
        """How often each item is rated, or reserved for who looks at it now; those reservations alone; and how often
        it was shown each way."""
        taken, open_, ways = Counter[str](), Counter[str](), Counter[tuple[str, bool]]()
        for row in db.execute(_TAKEN, (self.now(),)):
            ways[row["item"], bool(row["flipped"])] = row["shown"]
            taken[row["item"]] += row["rated"] + row["open"]
            open_[row["item"]] += row["open"]
        return taken, open_, ways

    def show(self, db: sqlite3.Connection, rater: int, item: str, flipped: bool, seconds: float) -> None:
        """Reserves an item for a rater; one that was reserved before, again, as it was."""
        now = self.now()
        db.execute(
            "INSERT INTO shown (key, rater, item, flipped, at, expires) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (rater, item) DO UPDATE SET expires = excluded.expires",
            (secrets.token_urlsafe(12), rater, item, flipped, now, now + seconds),
        )

    def ask(self, db: sqlite3.Connection, id: str, rater: int, prompt: str) -> None:
        """Keeps a prompt that was typed, with its answers, as JSON."""
        db.execute("INSERT INTO asked VALUES (?, ?, ?, ?)", (id, rater, prompt, self.now()))


_TAKEN = """
SELECT item, flipped, COUNT(*) AS shown, SUM(rated) AS rated, SUM(NOT rated AND expires > ?) AS open FROM
  (SELECT item, flipped, expires, EXISTS (SELECT 1 FROM ratings WHERE shown = shown.id) AS rated FROM shown)
GROUP BY item, flipped"""
_SHOWN = "SELECT s.*, COUNT(r.id) AS rated FROM shown s LEFT JOIN ratings r ON r.shown = s.id"


def _shown(row: sqlite3.Row) -> Shown:
    return Shown(**{**row, "flipped": bool(row["flipped"])})


def rating_of(row: sqlite3.Row) -> Rating:
    return Rating(row["verdict"], json.loads(row["scores"]), row["comment"], row["seconds"])
