"""Personal data planted in running text is masked, all of a kind's forms; figures that are nobody's stay."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from jaxchat.chat.conversation import Conversation, Message, ToolCall
from jaxchat.curation.identifiers import RECOGNISERS
from jaxchat.curation.personal_data import PersonalData
from jaxchat.curation.step import Dropped, Kept


def mask(text: str) -> tuple[str, Counter[str]]:
    counts: Counter[str] = Counter()
    return PersonalData().mask(text, counts), counts


def test_planted_items_are_found_and_figures_that_are_nobodys_stay(check_planted) -> None:
    assert [(text, mask(text)) for text in check_planted.planted.CLEAN if mask(text)[0] != text] == []
    found = check_planted.personal_data(1400, 2000)
    assert found["recall"] >= 0.95, found["missed"]
    assert found["false_positives"] < 0.01, found["wrong"]


@pytest.mark.parametrize("kind", RECOGNISERS)
def test_each_kind_is_found_and_named_for_what_it_is(kind: str, check_planted) -> None:
    rng = random.Random(3)
    named = [mask(f"It is {check_planted.planted.personal(kind, rng)} as I said")[1] for _ in range(200)]
    assert sum(counts == {kind: 1} for counts in named) >= 190


def test_masks_tool_calls_and_the_worse_conversation_and_counts() -> None:
    call = Message("assistant", None, tool_calls=(ToolCall("mail", {"to": ["a@example.com"], "n": 1}),))
    told = Message("user", "I am a@example.com and b@example.com")
    outcome = PersonalData().apply(Conversation("a", (told, call), rejected=(told,)))
    assert isinstance(outcome, Kept)
    assert outcome.counts == {"email": 5}
    assert outcome.conversation.messages[1].tool_calls[0].arguments == {"to": ["<EMAIL>"], "n": 1}
    assert outcome.conversation.rejected[0].content == "I am <EMAIL> and <EMAIL>"


def test_what_is_known_beside_the_texts_is_masked_and_what_programs_go_by_is_not() -> None:
    told = Message("assistant", "Hello", extra={"reasoning_content": "Write to a@example.com"})
    meta = {"title": "I am a@example.com", "group": "a@example.com", "rows": {"a@example.com": [1]}, "tags": ["b", 4]}
    outcome = PersonalData().apply(Conversation("a", (told,), meta=meta))
    assert isinstance(outcome, Kept) and outcome.counts == {"email": 2}
    assert outcome.conversation.messages[0].extra == {"reasoning_content": "Write to <EMAIL>"}
    assert outcome.conversation.meta == {**meta, "title": "I am <EMAIL>"}


def test_options_choose_kinds_and_placeholders_or_drop() -> None:
    told = Conversation("a", (Message("user", "a@example.com or 415-555-2671"),))
    outcome = PersonalData(kinds=("phone",), placeholder="[{}]").apply(told)
    assert isinstance(outcome, Kept)
    assert outcome.conversation.messages[0].content == "a@example.com or [PHONE]"
    assert PersonalData(act="drop").apply(told) == Dropped("personal data", "email, phone")
