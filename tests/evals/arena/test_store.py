"""A rating is a row that is written once; a link is used once."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from jaxchat.errors import InputError
from jaxchat.evals.arena.judged import counting, read_judged
from jaxchat.evals.arena.raters import (
    UnknownInvitationError,
    UsedInvitationError,
    claim,
    fresh_names,
    invite,
    rater_of,
    renew,
)
from jaxchat.evals.arena.store import ConflictError, Rating

MINE, OTHERS = "m" * 40, "o" * 40


def test_the_same_click_told_twice_is_one_row_and_a_change_of_mind_another(opened):
    arena = opened()
    (rater,) = arena.raters(1)
    key = arena.desk.next(rater).shown.key
    assert arena.store.rate(rater, key, 0, Rating("first", {}))
    assert not arena.store.rate(rater, key, 0, Rating("first", {}, seconds=99))
    with pytest.raises(ConflictError):  # which would be lost, were it taken for the first
        arena.store.rate(rater, key, 0, Rating("second", {}))
    with pytest.raises(ConflictError):
        arena.store.rate(rater, key, 2, Rating("second", {}))
    assert arena.store.rate(rater, key, 1, Rating("second", {}))
    judged = read_judged(arena.folder, arena.store)
    assert [(one.rating.verdict, one.revision, one.last) for one in judged] == [
        ("first", 0, False),
        ("second", 1, True),
    ]
    assert [one.rating.verdict for one in counting(judged)] == ["second"]


def test_nobody_rates_what_another_was_shown(opened):
    arena = opened()
    one, other = arena.raters(2)
    key = arena.desk.next(one).shown.key
    with pytest.raises(KeyError):
        arena.store.rate(other, key, 0, Rating("first", {}))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ratings SET verdict = 'tie'",
        "DELETE FROM ratings",
        "INSERT OR REPLACE INTO ratings SELECT id, shown, revision, 'tie', scores, comment, seconds, at FROM ratings",
        "REPLACE INTO ratings SELECT id, shown, 7, 'tie', scores, comment, seconds, at FROM ratings",
    ],
)
def test_the_database_itself_forbids_to_change_ratings(opened, change):
    arena = opened()
    (rater,) = arena.raters(1)
    now = arena.desk.next(rater)
    arena.say(rater, now, "first")
    with sqlite3.connect(arena.folder.ratings) as elsewhere, pytest.raises(sqlite3.IntegrityError):
        elsewhere.execute(change)
    assert [one.rating.verdict for one in read_judged(arena.folder, arena.store)] == ["first"]


def test_what_is_kept_is_flushed_before_it_is_told(opened):
    arena = opened()
    assert arena.store.read("PRAGMA journal_mode")[0][0] == "wal" and arena.store.read("PRAGMA synchronous")[0][0] == 2


def test_an_invitation_is_used_once_and_by_its_browser_as_often_as_it_likes(opened):
    store = opened().store
    tokens = invite(store, ["ann", "bob"])
    assert claim(store, tokens["ann"], MINE).name == claim(store, tokens["ann"], MINE).name == "ann"
    with pytest.raises(UsedInvitationError):
        claim(store, tokens["ann"], OTHERS)
    for wrong in ("", "x", tokens["ann"][:-1], tokens["ann"] + "x"):
        with pytest.raises(UnknownInvitationError):
            claim(store, wrong, OTHERS)
    assert rater_of(store, MINE).name == "ann" and rater_of(store, OTHERS) is None
    again = renew(store, "ann")
    assert rater_of(store, MINE) is None
    with pytest.raises(UnknownInvitationError):
        claim(store, tokens["ann"], MINE)
    assert claim(store, again, OTHERS).id == rater_of(store, OTHERS).id


def test_secrets_are_nowhere_in_the_database(opened):
    arena = opened()
    (token,) = invite(arena.store, ["ann"]).values()
    claim(arena.store, token, MINE)
    arena.store.close()
    written = b"".join(path.read_bytes() for path in arena.folder.path.iterdir())
    assert b"ann" in written and token.encode() not in written and MINE.encode() not in written


def test_names_are_given_once(opened):
    store = opened().store
    invite(store, fresh_names(store, 2))
    assert fresh_names(store, 2) == ["rater-3", "rater-4"]
    for names in (["rater-1"], [" "], ["x", "x"]):
        with pytest.raises(InputError):
            invite(store, names)
    with pytest.raises(InputError, match="rater-1, rater-2"):
        renew(store, "nobody")


def test_of_two_browsers_that_open_a_link_at_once_one_has_it(opened):
    store = opened().store
    (token,) = invite(store, ["ann"]).values()
    won = []

    def open_link(i: int) -> None:
        try:
            claim(store, token, f"{i}" * 40)
            won.append(i)
        except UsedInvitationError:
            pass

    threads = [threading.Thread(target=open_link, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
