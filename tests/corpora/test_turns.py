"""Sides and messages made of turns."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxchat.corpora.turns import Talk, assistant_turns, messages_of


@pytest.mark.parametrize(
    ("which", "sides"),
    [
        ("first", "1001"),
        ("second", "0110"),
        ("last", "1001"),
        ("alternate", "0110"),
        ("b", "0110"),
        (" A ", "1001"),
    ],
)
def test_the_assistant_is_who_the_option_says(which: str, sides: str):
    assert assistant_turns(["A", "B", "B", "A"], which) == [side == "1" for side in sides]


def test_with_three_speakers_one_is_the_assistant_and_alternate_takes_turns():
    assert assistant_turns(["A", "B", "C", "B"], "second") == [False, True, False, True]
    assert assistant_turns(["A", "B", "C", "C", "A"], "alternate") == [False, True, False, False, True]


def test_one_speaker_is_the_user_and_a_stranger_is_a_reason():
    assert assistant_turns(["A", "A"], "second") == [False, False]
    assert assistant_turns([], "second") == assistant_turns([], "first") == assistant_turns([], "alternate") == []
    with pytest.raises(ValueError, match="nobody called Zoe speaks"):
        assistant_turns(["A", "B"], "Zoe")


def contents(messages) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def test_turns_in_a_row_are_merged_or_kept():
    turns = [("A", "Hi "), ("A", "you"), ("B", "  "), ("B", "Yes?\n"), ("A", "")]
    assert contents(Talk().messages(turns)) == [("user", "Hi \nyou"), ("assistant", "Yes?\n")]
    assert contents(Talk(join="space").messages(turns))[0] == ("user", "Hi  you")
    assert contents(Talk(consecutive="keep", assistant="A").messages(turns)) == [
        ("assistant", "Hi "),
        ("assistant", "you"),
        ("user", "Yes?\n"),
    ]
    with pytest.raises(ValueError, match="fewer than 3 turns"):
        Talk(min_turns=3).messages(turns)


@given(st.lists(st.tuples(st.booleans(), st.text(max_size=3)), max_size=12))
def test_no_text_is_lost_and_merged_sides_alternate(turns: list[tuple[bool, str]]):
    merged, kept = messages_of(turns), messages_of(turns, "keep")
    assert [message.content for message in kept] == [text for _, text in turns if text.strip()]
    assert all(a.role != b.role for a, b in itertools.pairwise(merged))
    for role in ("user", "assistant"):
        assert "\n".join(m.content for m in merged if m.role == role) == "\n".join(
            m.content for m in kept if m.role == role
        )
