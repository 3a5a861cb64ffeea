"""Calls are read back from how each template that ships writes them, whatever the pieces they come in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.chat.conversation import Message, ToolCall
from jaxchat.chat.template import ChatFormat, built_in_template
from jaxchat.serve.tool_calls import CallReader, Spelling, spelling
from jaxchat.testing import ByteTokenizer

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
ASK = [Message("user", "U")]
CLOSINGS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>")
ARGUMENTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3)),
    max_size=3,
)


class Tokenizer(ByteTokenizer):
    special_tokens = {**ByteTokenizer.special_tokens, "bos_token": "<s>"}  # noqa: RUF012


def chat(name: str) -> ChatFormat:
    return ChatFormat(Tokenizer(), built_in_template(name))


def read(spelled: Spelling, text: str, size: int = 1, **options) -> tuple[str, list[tuple[str, object]]]:
    reader = CallReader(spelled, frozenset({"f"}), **options)
    found = [piece for at in range(0, len(text), size) for piece in reader.write(text[at : at + size])]
    found += reader.write("", last=True)
    said = "".join(piece for piece in found if isinstance(piece, str))
    return said, [(piece.name, piece.arguments) for piece in found if isinstance(piece, ToolCall)]


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "qwen2_5", "qwen3", "gemma"])
@given(arguments=ARGUMENTS, size=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_what_a_template_writes_is_read_back(name: str, arguments: dict, size: int):
    form = chat(name)
    spelled = spelling(form)
    assert spelled.in_words == (name == "gemma")
    call = Message("assistant", None, tool_calls=(ToolCall("f", arguments, "abcdefghi"),))
    known = [] if spelled.in_words else TOOLS
    told = spelled.messages([*ASK, call], TOOLS)
    prompt = form.text(told[:-1], known, True)
    reply = form.text(told, known)[len(prompt) :].removesuffix("\n")
    for closing in (*CLOSINGS, "<end_of_turn>"):
        reply = reply.removesuffix(closing)
    reply = reply.removeprefix("<think>\n\n</think>\n\n")
    assert read(spelled, reply, size) == ("", [("f", arguments)])


def test_two_calls_in_every_way_of_writing_them():
    one = '{"name": "f", "arguments": {"a": 1}}'
    tagged, listed = Spelling(), Spelling("[TOOL_CALLS]", "", "arguments", True)
    both = [("f", {"a": 1})] * 2
    assert read(tagged, f"<tool_call>\n{one}\n</tool_call>\n<tool_call>{one}</tool_call>") == ("", both)
    assert read(listed, f"[TOOL_CALLS] [{one}, {one}]") == ("", both)
    assert read(tagged, f"<tool_call>{one}</tool_call><tool_call>{one}</tool_call>", at_most=1) == ("", both[:1])


@pytest.mark.parametrize(
    "spelled", [Spelling(), Spelling("", "", "parameters"), Spelling("[TOOL_CALLS]", "", listed=True)]
)
@given(text=st.text(alphabet='<tool_call>/[TOOL_CALLS] {}"name:f,\\', max_size=60), size=st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_what_is_no_call_is_said_to_the_letter(spelled: Spelling, text: str, size: int):
    said, calls = read(spelled, text, size)
    assert calls or said == text


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": 3}</tool_call> and so on',
        '<tool_call>{"name": "f", "arguments"',
        "<tool_call>call f</tool_call>",
        'I would write {"name": "f", "parameters": {}} then',
        "a < b, <tool",
    ],
)
def test_mistaken_calls_are_content(text: str):
    assert read(Spelling(), text) == (text, [])


def test_an_object_is_a_call_only_where_it_is_all_that_is_said():
    bare, call = Spelling("", "", "parameters"), '{"name": "f", "parameters": {"a": 1}}'
    assert read(bare, f"\n{call}\n") == ("", [("f", {"a": 1})])
    for text in (f"Well: {call}", f"{call} is how", '{"name": "other"}'):
        assert read(bare, text) == (text, [])


def test_content_before_a_call_is_given_as_it_comes():
    reader = CallReader(Spelling(), frozenset({"f"}))
    assert list(reader.write("Let me see. <too")) == ["Let me see. "]
    assert list(reader.write("ls are>")) == ["<tools are>"]


def test_a_model_that_knows_no_tools_is_told_in_words():
    spelled = spelling(chat("gemma"))
    call = Message("assistant", None, tool_calls=(ToolCall("f", {"a": 1}),))
    told = spelled.messages([*ASK, call, Message("tool", "42")], TOOLS)
    assert [message.role for message in told] == ["system", "user", "assistant", "user"]
    assert (
        '"name": "f"' in told[0].content
        and told[2].content == '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    )
    assert "42" in told[3].content
    assert "Be kind." in spelled.messages([Message("system", "Be kind."), *ASK], TOOLS)[0].content
