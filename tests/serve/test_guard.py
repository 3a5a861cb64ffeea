"""A guard says the same of a text in pieces as of the whole, and never a piece of what it takes out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.errors import InputError
from jaxchat.serve.guard import BlockedError, Guard, PersonalData, Words, guard_of

SECRETS = {
    "ann.lee@example.com": "<EMAIL>",
    "ann at example dot com": "<EMAIL>",
    "+1 415 555 2671": "<PHONE>",
    "(415) 555-2671": "<PHONE>",
    "4111 1111 1111 1111": "<CARD>",
    "DE89 3704 0044 0532 0130 00": "<IBAN>",
    "203.0.113.77": "<IP>",
    "bomb": "***",
    "very bad phrase": "***",
    "坏词": "***",
}
FILLERS = [
    "I think so, ",
    "她说：",
    "it was late. ",
    "好的，",
    "see\n",
    "word " * 60,
    "x" * 300 + " ",
    "a, b; ",
    "等等。",
]
RULES = (Words.of(["bomb", "very bad phrase", "坏词"]), PersonalData())


def said(guard: Guard, pieces: list[str]) -> list[str]:
    write = guard.stream()
    return [write(piece, False) for piece in pieces] + [write("", True)]


@given(
    st.lists(st.tuples(st.sampled_from(FILLERS), st.sampled_from(sorted(SECRETS))), min_size=1, max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_nothing_leaks_whatever_the_pieces(parts: list[tuple[str, str]], sizes: list[int]):
    text = "".join(f"{filler}{secret} , " for filler, secret in parts)
    pieces, at = [], 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
    out = "".join(said(Guard(answered=RULES), pieces))
    assert out == Guard(answered=RULES).answer(text)
    for _, secret in parts:
        assert secret not in out and secret.split()[-1] not in out.split()


@pytest.mark.parametrize(("secret", "instead"), SECRETS.items())
def test_each_kind_is_masked_as_what_it_is(secret: str, instead: str):
    assert Guard(answered=RULES).answer(f"Well: {secret} .") == f"Well: {instead} ."


def test_what_is_harmless_streams_on_to_the_letter():
    pieces = ["On 3 May 1999, ", "12 people "] * 40
    out = said(Guard(answered=RULES), pieces)
    assert "".join(out) == "".join(pieces) and sum(map(bool, out)) > 20


def test_a_block_ends_before_its_word_is_said():
    guard = Guard(answered=(Words.of(["bomb"], "block"),))
    write, out = guard.stream(), ""
    with pytest.raises(BlockedError, match="words"):
        for piece in ["this is ", "how a b", "om", "b works"]:
            out += write(piece, False)
    assert "b" not in out.replace("bomb", "").split() and guard.counts["words"] == 1


def test_words_are_whole_words():
    assert Guard(asked=(Words.of(["ass"]),)).question("the class, an ass") == "the class, an ***"


def test_each_find_is_counted_once():
    guard = Guard(answered=RULES)
    said(guard, list("write to ann.lee@example.com or bob@example.org, you bomb " * 3))
    assert guard.counts == {"personal data": 6, "words": 3}


def test_lists_that_cannot_be_read_are_refused(tmp_path):
    assert guard_of() is None
    (tmp_path / "empty.txt").write_text("\n\n")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(InputError):
            guard_of(words=tmp_path / name)
