"""What raters said, each rating with its item: read once, for results and exports alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxchat.evals.arena.assign import asked_items
from jaxchat.evals.arena.items import Folder, Item, trials_of
from jaxchat.evals.arena.store import Rating, Store, rating_of


@dataclass(frozen=True)
class Judged:
    """revision: 0, or how often the rater had changed their mind. last: it counts. at: seconds since 1970."""

    rater: str
    item: Item
    flipped: bool
    rating: Rating
    revision: int
    last: bool
    at: float


def read_judged(folder: Folder, store: Store) -> list[Judged]:
    """Every rating, in the order in which they came."""
    practice, checks = trials_of(folder.study)
    items = {item.id: item for item in (*practice, *checks)} | folder.items | asked_items(folder, store)
    rows = store.read(
        "SELECT r.*, s.item, s.flipped, raters.name, "
        "r.revision = (SELECT MAX(revision) FROM ratings WHERE shown = s.id) AS last "
        "FROM ratings r JOIN shown s ON s.id = r.shown JOIN raters ON raters.id = s.rater ORDER BY r.id"
    )
    return [
        Judged(
            row["name"],
            items[row["item"]],
            bool(row["flipped"]),
            rating_of(row),
            row["revision"],
            bool(row["last"]),
            row["at"],
        )
        for row in rows
    ]


def counting(judged: Sequence[Judged]) -> list[Judged]:
    """Of models' answers, what each rater said last."""
    return [one for one in judged if one.last and one.item.trial is None]


def checked(judged: Sequence[Judged]) -> list[Judged]:
    """Of the attention checks."""
    return [one for one in judged if one.last and one.item.trial is not None and not one.item.practice]
