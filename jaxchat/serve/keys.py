"""API keys: made once, shown once, kept as hashes.

A key is 32 random bytes, so that a plain SHA-256 keeps it: there is nothing to guess that salt or slowness would hide.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError
from jaxchat.files import replacing

PREFIX = "jc-"


@dataclass(frozen=True)
class Key:
    """Who may ask, and how much. requests_per_minute: None for the server's own limit."""

    name: str
    sha256: str
    created: int
    requests_per_minute: int | None = None


class Keys:
    """The keys in a file, read anew when it changes, so that one can be given out or taken back while serving."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        if not self.keys():
            raise InputError(f"{path} holds no key; make one with `jaxchat key {path} --name NAME`")

    def keys(self) -> tuple[Key, ...]:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from None
        if self._read_at != (stat.st_mtime_ns, stat.st_size):
            self._keys = read_keys(self.path)
            self._read_at = (stat.st_mtime_ns, stat.st_size)
        return self._keys

    def find(self, secret: str) -> Key | None:
        """Whose `secret` is. Every key is compared, each in constant time."""
        digest = _hash(secret)
        found = None
        for key in self.keys():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def read_keys(path: Path) -> tuple[Key, ...]:
    """Raises InputError for a file that is not one of keys."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Key(**row) for row in rows)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no file of keys ({error}); `jaxchat key` makes one") from None


def add_key(path: Path, name: str, requests_per_minute: int | None = None) -> str:
    """Makes a key, adds its hash to the file at `path` (readable by its owner alone) and returns the key itself, which
    is nowhere else. InputError for a name that is blank or there already."""
    if not name.strip():
        raise InputError("--name is blank; say whose key it is")
    known = read_keys(path) if path.exists() else ()
    if any(key.name == name for key in known):
        raise InputError(f"{path} has a key named {name!r} already; give the new one another name with --name")
    secret = PREFIX + secrets.token_urlsafe(32)
    _write(path, [*known, Key(name, _hash(secret), int(time.time()), requests_per_minute)])
    return secret


def remove_key(path: Path, name: str) -> None:
    """Takes the key of that name back. InputError where there is none."""
    known = read_keys(path)
    kept = [key for key in known if key.name != name]
    if len(kept) == len(known):
        raise InputError(f"{path} has no key named {name!r}; it has {', '.join(key.name for key in known)}")
    _write(path, kept)


def _write(path: Path, keys: list[Key]) -> None:
    rows: list[dict[str, Any]] = [asdict(key) for key in keys]
    before = os.umask(0o077)
    try:
        with replacing(path) as file:
            json.dump(rows, file, indent=1)
            file.write("\n")
    finally:
        os.umask(before)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
