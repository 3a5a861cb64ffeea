"""The ledger counts every row once and names the one that a reader forgot."""

from __future__ import annotations

import pytest

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected

HELLO = Conversation("a", (Message("user", "hello"),))


def ledger(rows: int) -> Ledger:
    made = Ledger()
    for position in range(1, rows + 1):
        made.read("f", position)
    return made


def test_counts_add_up_and_a_row_may_serve_twice():
    book = ledger(5)
    book.enter(Found(HELLO, {"f": (1, 2)}))
    book.enter(Found(HELLO, {"f": (2, 5)}))
    book.enter(Rejected("f", 3, "unreadable"))
    book.enter(Dropped("f", 4, "too short"))
    assert book.counts() == {"rows_in": 5, "rows_used": 3, "rows_rejected": 1, "rows_dropped": 1}


def test_a_forgotten_row_is_named():
    book = ledger(3)
    book.enter(Found(HELLO, {"f": (1, 3)}))
    with pytest.raises(AssertionError, match="f: row 2 was read and neither"):
        book.counts()


@pytest.mark.parametrize("item", [Found(HELLO, {"f": (9,)}), Rejected("g", 1, "?"), Found(HELLO, {"f": (0,)})])
def test_a_row_that_was_never_read_has_no_fate(item):
    with pytest.raises(AssertionError, match="never read"):
        ledger(3).enter(item)


def test_one_row_one_fate():
    book = ledger(1)
    book.enter(Found(HELLO, {"f": (1,)}))
    with pytest.raises(AssertionError, match="already used"):
        book.enter(Rejected("f", 1, "?"))
    with pytest.raises(AssertionError, match="read twice"):
        book.read("f", 1)
