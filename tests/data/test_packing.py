"""Every token of every example is in exactly one row, or counted; rows are full and never mix what they hold."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.chat.template import Example
from jaxchat.data.packing import COUNTS, Piece, SplitTurns, pack, row_arrays, split

ROLES = ("system", "user", "assistant", "tool")


def example(turns: list[tuple[str, int]], first: int = 1, trained: tuple[str, ...] = ("assistant",)) -> Example:
    """Turns of (role, tokens), every token with an id of its own, counted from `first`."""
    lengths = [length for _, length in turns]
    ids = np.arange(first, first + sum(lengths), dtype=np.int32)
    weights = np.concatenate([np.full(n, role in trained, np.float32) for role, n in turns] or [np.zeros(0)])
    weights[:1] = 0
    return Example(ids, weights.astype(np.float32), tuple(int(x) for x in np.cumsum([0, *lengths[:-1]])))


def pieces_of(turns: list[tuple[str, int]], seq_len: int, rule: SplitTurns, **kwargs: Any):
    counts: Counter[str] = Counter()
    made = example(turns, **kwargs)
    pieces = list(split(made, [role for role, _ in turns], seq_len, rule, counts))
    return made, pieces, counts


def own(piece: Piece) -> list[int]:
    return piece.ids.tolist()


rules = st.builds(
    SplitTurns,
    carry=st.sampled_from(["system", "none"]),
    overlap=st.sampled_from([0, 3, 8, 100]),
    long_turn=st.sampled_from(["break", "cut"]),
)
turn_lists = st.lists(st.tuples(st.sampled_from(ROLES), st.integers(1, 40)), min_size=1, max_size=12)


@settings(max_examples=400, deadline=None)
@given(turns=turn_lists, seq_len=st.integers(2, 50), rule=rules, everything=st.booleans())
def test_every_token_is_in_a_piece_or_counted(turns, seq_len: int, rule: SplitTurns, everything: bool):
    made, pieces, counts = pieces_of(turns, seq_len, rule, trained=ROLES if everything else ("assistant",))
    assert set(counts) <= set(COUNTS)
    assert counts["tokens_in"] == len(made.ids)
    assert counts["tokens"] == sum(len(piece.ids) for piece in pieces)
    assert counts["tokens_in"] + counts["tokens_repeated"] == (
        counts["tokens"] + counts["tokens_cut"] + counts["tokens_untrained"]
    )
    trained = Counter(int(id) for piece in pieces for id in piece.ids[piece.weights > 0])
    assert all(times == 1 for times in trained.values())  # nothing is trained on twice, however often it is read
    assert counts["targets"] == len(trained)
    assert counts["targets"] + counts["targets_lost"] == np.count_nonzero(made.weights)
    if everything and rule.long_turn == "break":
        seen = {int(id) for piece in pieces for id in piece.ids}
        missing = set(made.ids.tolist()) - seen
        assert counts["tokens_cut"] == 0 and len(missing) <= counts["tokens_untrained"]
    for piece in pieces:
        assert 0 < len(piece.ids) <= seq_len and piece.weights[0] == 0 and piece.weights.any()
        assert np.all(np.diff(piece.ids) > 0)  # in the order of the conversation


def test_what_fits_stays_whole():
    made, pieces, counts = pieces_of([("user", 4), ("assistant", 6)], 10, SplitTurns())
    assert [own(piece) for piece in pieces] == [made.ids.tolist()]
    assert counts["conversations_split"] == 0 and counts["pieces"] == 1


EXCHANGES = [("system", 4), ("user", 5), ("assistant", 5), ("user", 5), ("assistant", 5), ("user", 5), ("assistant", 5)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # The system message 1-4, exchanges 5-14, 15-24 and 25-34, in rows of 16.
        (SplitTurns("system"), [[*range(1, 15)], [*range(1, 5), *range(15, 25)], [*range(1, 5), *range(25, 35)]]),
        (SplitTurns("none"), [[*range(1, 15)], [*range(15, 25)], [*range(25, 35)]]),
        (SplitTurns("none", overlap=6), [[*range(1, 15)], [*range(10, 25)], [*range(20, 35)]]),
    ],
)
def test_long_conversations_are_split_where_a_user_speaks(rule: SplitTurns, expected: list[list[int]]):
    _, pieces, counts = pieces_of(EXCHANGES, 16, rule)
    assert [own(piece) for piece in pieces] == expected
    assert counts["conversations_split"] == 1 and counts["pieces_of_split"] == 3
    assert counts["tokens_repeated"] == sum(map(len, expected)) - 34
    for piece in pieces[1:]:
        again = piece.ids < (15 if piece is pieces[1] else 25)
        assert not piece.weights[again].any()


def test_the_templates_own_opening_is_carried_like_a_system_message():
    made = example([("user", 8), ("assistant", 5), ("user", 5), ("assistant", 5)])  # its first 3 tokens: the opening
    counts: Counter[str] = Counter()
    roles = ["user", "assistant", "user", "assistant"]
    pieces = list(split(made, roles, 14, SplitTurns(), counts, opening=np.array([1, 2, 3], np.int32)))
    assert [own(piece) for piece in pieces] == [[*range(1, 14)], [1, 2, 3, *range(14, 24)]]
    other = list(split(made, roles, 14, SplitTurns(), counts, opening=np.array([7, 7, 7], np.int32)))
    assert [own(piece) for piece in other] == [[*range(1, 14)], [*range(14, 24)]]


def test_a_system_message_longer_than_half_a_row_is_not_carried():
    _, pieces, _ = pieces_of(
        [("system", 9), ("user", 4), ("assistant", 4), ("user", 4), ("assistant", 4)], 17, SplitTurns()
    )
    assert [own(piece) for piece in pieces] == [[*range(1, 18)], [*range(18, 26)]]


def test_an_exchange_longer_than_a_row_is_split_at_its_turns():
    turns = [("user", 3), ("assistant", 3), ("user", 6), ("assistant", 8), ("tool", 4), ("assistant", 6)]
    _, pieces, counts = pieces_of(turns, 16, SplitTurns())
    assert [own(piece) for piece in pieces] == [[*range(1, 7)], [*range(7, 21)], [*range(21, 31)]]
    assert counts["turns_broken"] == counts["turns_cut"] == 0


@pytest.mark.parametrize("rule", ["break", "cut"])
def test_a_turn_longer_than_a_row_is_broken_or_cut_and_counted(rule: Any):
    turns = [("user", 3), ("assistant", 30), ("user", 3), ("assistant", 3)]
    _, pieces, counts = pieces_of(turns, 16, SplitTurns(long_turn=rule))
    broken = [[*range(1, 17)], [*range(17, 33)], [33], [*range(34, 40)]]
    if rule == "break":
        # What is left of the turn shares its row with the exchange behind it.
        assert [own(piece) for piece in pieces] == [broken[0], broken[1], [33, *broken[3]]]
        assert (counts["turns_broken"], counts["tokens_cut"]) == (1, 0)
        assert counts["targets_lost"] == 2  # the first tokens of the second and third piece
    else:
        assert [own(piece) for piece in pieces] == [broken[0], broken[3]]
        assert (counts["turns_cut"], counts["tokens_cut"]) == (1, 17)
        assert counts["targets_lost"] == 17


def test_examples_with_nothing_to_train_on_are_counted_out():
    _, pieces, counts = pieces_of([("user", 9)], 16, SplitTurns())
    assert not pieces and counts["conversations_untrained"] == 1 and counts["tokens_untrained"] == 9


def test_a_negative_overlap_is_refused():
    with pytest.raises(ValueError, match="negative"):
        SplitTurns(overlap=-1)


def made_pieces(lengths: list[int]) -> list[Piece]:
    starts = np.cumsum([0, *lengths])
    return [Piece(np.arange(a, b, dtype=np.int32), np.ones(b - a, np.float32)) for a, b in pairwise(starts)]


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 64), max_size=80), window=st.sampled_from([1, 100, 10_000]))
def test_rows_hold_every_piece_once_and_never_too_much(lengths: list[int], window: int):
    pieces = made_pieces(lengths)
    rows = list(pack(pieces, 64, window))
    assert all(sum(len(piece.ids) for piece in row) <= 64 for row in rows)
    assert sorted(id(piece) for row in rows for piece in row) == sorted(map(id, pieces))
    again = list(pack(pieces, 64, window))
    assert [[id(piece) for piece in row] for row in rows] == [[id(piece) for piece in row] for row in again]
    if window == 10_000 and lengths:
        emptiest = sorted(sum(len(piece.ids) for piece in row) for row in rows)[:2]
        assert len(rows) == 1 or sum(emptiest) > 64  # no two rows would have fitted into one


def test_small_pieces_fill_rows():
    lengths = np.random.default_rng(0).integers(5, 400, 4000).tolist()
    rows = list(pack(made_pieces(lengths), 1024))
    assert sum(lengths) / (1024 * len(rows)) > 0.995


def test_a_piece_longer_than_a_row_is_an_error():
    with pytest.raises(ValueError, match="65 tokens does not fit a row of 64"):
        list(pack(made_pieces([65]), 64))


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_a_row_lays_its_pieces_end_to_end(lengths: list[int]):
    seq_len = 64
    pieces = made_pieces(lengths)
    row = row_arrays(pieces, seq_len, pad_id=999)
    assert {name: array.dtype.name for name, array in row.items()} == {
        "tokens": "int32",
        "weights": "float32",
        "segments": "int32",
        "positions": "int32",
    }
    at = 0
    for number, piece in enumerate(pieces, 1):
        here = slice(at, at + len(piece.ids))
        np.testing.assert_array_equal(row["tokens"][here], piece.ids)
        np.testing.assert_array_equal(row["weights"][here], piece.weights)
        assert np.all(row["segments"][here] == number)
        np.testing.assert_array_equal(row["positions"][here], np.arange(len(piece.ids)))
        at = here.stop
    assert np.all(row["tokens"][at:] == 999) and not row["segments"][at:].any() and not row["weights"][at:].any()
