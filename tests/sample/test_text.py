"""Text appears in whole characters, and never a piece of a stop string that is then taken back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.sample.methods import Sampling
from jaxchat.sample.text import Writer
from jaxchat.testing import ByteTokenizer

PIECES = [b"a", b"b ", "é".encode(), "你".encode(), "🙂".encode(), b"\xff", b"\x80", b"\xf0\x9f", b"\xe4", b"\x85"]


def write(
    text: str | bytes,
    *,
    stop: tuple[str, ...] = (),
    chunk: int = 1,
    max_tokens: int = 100,
    ends: frozenset[int] = frozenset(),
):
    heard: list[str] = []
    writer = Writer(ByteTokenizer(), Sampling(stop=stop, max_tokens=max_tokens), ends)
    ids = ByteTokenizer().encode(text) if isinstance(text, str) else list(text)
    for at in range(0, len(ids), chunk):
        writer.write(ids[at : at + chunk], [-1.0] * len(ids[at : at + chunk]))
        heard.append(writer.delta().text)
    return writer, heard


def closed(writer: Writer):
    return writer.text, tuple(writer.token_ids), tuple(writer.logprobs), writer.finish_reason


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_a_stop_string_ends_and_is_left_out_wherever_it_is_cut(chunk):
    writer, heard = write("one two STOP three", stop=("STOP",), chunk=chunk)
    text, token_ids, logprobs, reason = closed(writer)
    assert text == "".join(heard) == "one two "
    assert reason == "stop"
    assert ByteTokenizer().decode(token_ids) == "one two STOP"
    assert len(logprobs) == len(token_ids)


def test_the_first_of_several_stop_strings_counts():
    assert write("a b c d", stop=("d", "b"), chunk=50)[0].text == "a "


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_characters_of_several_tokens_are_heard_whole(chunk):
    writer, heard = write("né 你好 🙂 ok", chunk=chunk, max_tokens=len("né 你好 🙂 ok".encode()))
    assert "".join(heard) == "né 你好 🙂 ok" == writer.text
    assert not any("\N{REPLACEMENT CHARACTER}" in part for part in heard)


def test_what_began_like_a_stop_string_is_heard_once_it_is_none():
    heard = write("so STOr it", stop=("STOP",), max_tokens=10)[1]
    assert "".join(heard) == "so STOr it"
    assert "ST" not in heard


def test_length_and_end_tokens():
    assert closed(write("abcdef", max_tokens=3)[0]) == ("abc", (97, 98, 99), (-1.0,) * 3, "length")
    assert closed(write("abcdef", ends=frozenset([100]))[0]) == ("abc", (97, 98, 99, 100), (-1.0,) * 4, "stop")


@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=40),
    stop=st.lists(st.sampled_from(["ab", "é你", "🙂", "你a", "aab a"]), max_size=2),
    chunk=st.integers(1, 9),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_heard_as_they_are_read_in_the_end(pieces: list[bytes], stop: list[str], chunk: int):
    ids = b"".join(pieces)
    writer, heard = write(ids, stop=tuple(stop), chunk=chunk, max_tokens=max(1, len(ids)))
    whole = ByteTokenizer().decode(list(ids))
    assert "".join(heard) == writer.text
    if ids and not any(one in whole for one in stop):
        assert writer.text == whole
    assert whole.startswith(writer.text) and not any(one in writer.text for one in stop)


@pytest.mark.parametrize("endless", [b"\xff", b"\xe4\xbd", b"\xa0\xe4\xbd"])
def test_bytes_that_are_no_character_are_heard_before_the_end_and_never_read_anew(endless: bytes):
    read: list[int] = []

    class Counting(ByteTokenizer):
        def decode(self, ids, *args, **options):
            read.append(len(ids))
            return super().decode(ids, *args, **options)

    writer, heard = Writer(Counting(), Sampling(max_tokens=10_000), frozenset()), ""
    for byte in endless * 500:
        writer.write([byte], [-1.0])
        heard += writer.delta().text
    assert len(ByteTokenizer().decode(list(endless * 500))) - len(heard) <= 12
    assert max(read) < 40
