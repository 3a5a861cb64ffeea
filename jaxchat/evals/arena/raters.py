"""Who may rate: by an invitation, a link that is used once. Whoever opens it first takes part, from that browser on;
a link that is used, or that nobody was given, is refused. Both secrets are kept as hashes.

The browser makes its own secret before it sends it, so that an answer that got lost on its way locks nobody out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from jaxchat.errors import InputError
from jaxchat.evals.arena.store import Rater, Store

LEAST = 32  # characters of a browser's secret


class UnknownInvitationError(Exception):
    """Nobody was given it."""


class UsedInvitationError(Exception):
    """Another browser has used it."""


def invite(store: Store, names: Sequence[str]) -> dict[str, str]:
    """Makes an invitation for each name; its token is nowhere else. InputError for a name that is blank or there."""
    known = {rater.name for rater in store.raters()}
    for i, name in enumerate(names):
        if not name.strip():
            raise InputError("the name of a rater is blank; say who it is")
        if name in known or name in names[:i]:
            raise InputError(f"{name} is invited already; take another name, or --renew {name} for a new link")
    tokens = {name: secrets.token_urlsafe(32) for name in names}
    with store.writing() as db:
        for name, token in tokens.items():
            db.execute(
                "INSERT INTO raters (name, invitation, invited) VALUES (?, ?, ?)", (name, _hash(token), store.now())
            )
    return tokens


def renew(store: Store, name: str) -> str:
    """A new link for a rater who lost the browser that the old one was used in; what they rated stays theirs."""
    token = secrets.token_urlsafe(32)
    with store.writing() as db:
        changed = db.execute(
            "UPDATE raters SET invitation = ?, session = NULL WHERE name = ?", (_hash(token), name)
        ).rowcount
    if not changed:
        there = ", ".join(rater.name for rater in store.raters()) or "nobody"
        raise InputError(f"nobody called {name} was invited; there is {there}")
    return token


def fresh_names(store: Store, number: int) -> list[str]:
    """`rater-1` and so on, that are free."""
    known = {rater.name for rater in store.raters()}
    free = (f"rater-{i}" for i in range(1, len(known) + number + 1))
    return [name for name in free if name not in known][:number]


def claim(store: Store, token: str, session: str) -> Rater:
    """Uses an invitation, or finds that this browser did. Every one is compared, each in constant time."""
    invitation, secret = _hash(token), _hash(session)
    with store.writing() as db:
        found = None
        for row in db.execute("SELECT * FROM raters").fetchall():
            if hmac.compare_digest(row["invitation"], invitation):
                found = Rater(**row)
        if found is None:
            raise UnknownInvitationError
        if found.session is None:
            db.execute(
                "UPDATE raters SET session = ?, joined = COALESCE(joined, ?) WHERE id = ?",
                (secret, store.now(), found.id),
            )
        elif not hmac.compare_digest(found.session, secret):
            raise UsedInvitationError
    return found


def rater_of(store: Store, session: str) -> Rater | None:
    """Whose browser it is."""
    secret, found = _hash(session), None
    for rater in store.raters():
        if rater.session is not None and hmac.compare_digest(rater.session, secret):
            found = rater
    return found


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
