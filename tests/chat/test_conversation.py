from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jaxchat.chat.conversation import Conversation, Message, ToolCall, read_conversations, split_hash
from jaxchat.errors import InputError

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda x: st.lists(x, max_size=3), max_leaves=5)
CALLS = st.builds(ToolCall, TEXT, st.dictionaries(TEXT, JSON, max_size=3) | st.just("not json"), st.none() | TEXT)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=st.none() | TEXT,
    name=st.none() | TEXT,
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    tool_call_id=st.none() | TEXT,
    train=st.sampled_from([0.0, 0.5, 1.0]),
    extra=st.dictionaries(st.sampled_from(["reasoning_content", "mood"]), JSON, max_size=2),
)
CONVERSATIONS = st.builds(
    Conversation,
    id=TEXT,
    messages=st.lists(MESSAGES, max_size=4).map(tuple),
    tools=st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2).map(tuple),
    source=TEXT,
    meta=st.dictionaries(st.sampled_from(["topic", "lang"]), JSON, max_size=2),
    rejected=st.lists(MESSAGES, max_size=2).map(tuple),
)


@given(CONVERSATIONS)
def test_a_conversation_comes_back_equal_from_its_line(conversation: Conversation) -> None:
    line = json.dumps(conversation.to_json(), ensure_ascii=False)
    assert Conversation.from_json(json.loads(line)) == conversation


def test_the_written_form_is_openais() -> None:
    call = ToolCall("weather", {"city": "Zürich"}, "call_1")
    conversation = Conversation("a", (Message("assistant", None, tool_calls=(call,), train=0.5),))
    function = {"name": "weather", "arguments": '{"city": "Zürich"}'}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        "train": 0.5,
    }
    assert conversation.to_json() == {"id": "a", "messages": [message]}


def test_the_worse_conversation_is_messages_and_other_forms_of_it_are_kept_as_they_are() -> None:
    row = {"messages": [{"role": "user", "content": "a"}], "rejected": [{"role": "robot", "content": "b"}]}
    with pytest.raises(ValueError, match="rejected message 0: role 'robot'"):
        Conversation.from_json(row)
    assert Conversation.from_json({**row, "rejected": "b"}).meta == {"rejected": "b"}
    assert "rejected" not in Conversation.from_json({**row, "rejected": []}).to_json()


def test_arguments_as_text_and_as_an_object_are_one_call() -> None:
    assert ToolCall("f", '{"a": 1}') == ToolCall("f", {"a": 1})
    assert ToolCall("f", "[1]").arguments == "[1]"
    assert ToolCall("f", "{broken").arguments == "{broken"


def test_openais_weight_is_train_and_unknown_keys_are_kept() -> None:
    row = {
        "messages": [
            {"role": "assistant", "content": "no", "weight": 0, "reasoning_content": "hm"},
            {"role": "assistant", "content": "yes", "weight": 1},
        ],
        "parallel_tool_calls": False,
        "meta": {"lang": "en"},
    }
    conversation = Conversation.from_json(row)
    assert [message.train for message in conversation.messages] == [0.0, 1.0]
    assert conversation.messages[0].extra == {"reasoning_content": "hm"}
    assert conversation.meta == {"parallel_tool_calls": False, "lang": "en"}


@pytest.mark.parametrize(
    "row, reason",
    [
        ([], "a JSON object, not a list"),
        ({}, "no list of `messages`"),
        ({"messages": "hi"}, "no list of `messages`"),
        ({"messages": ["hi"]}, "message 0 is text"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "bot"}]}, "message 1: role 'bot'"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "message 0: `content` is a list"),
        ({"messages": [{"role": "user", "content": "a", "train": -1}]}, "`train` is -1"),
        ({"messages": [{"role": "user", "content": "a", "train": True}]}, "`train` is True"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "tool call 0 names no function"),
        ({"messages": [], "tools": ["f"]}, "`tools` is not a list of objects"),
        ({"messages": [{"role": "user", "content": "a\ud800"}]}, "half of a surrogate pair"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_reason(row: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Conversation.from_json(row)


def lines(*texts: str) -> bytes:
    rows = [{"id": text, "messages": [{"role": "user", "content": text}]} for text in texts]
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def contents(path: Path) -> list[str | None]:
    return [conversation.messages[0].content for conversation in read_conversations(path)]


def test_a_folder_and_a_file_are_read_line_by_line(tmp_path: Path) -> None:
    # U+2028 ends a line for some readers, never in JSON lines; an empty line holds nothing.
    (tmp_path / "conversations.jsonl").write_bytes(lines("a\u2028b", "c") + b"\n" + lines("d"))
    assert contents(tmp_path) == contents(tmp_path / "conversations.jsonl") == ["a\u2028b", "c", "d"]


def test_shards_are_read_in_order_and_none_may_be_missing(tmp_path: Path) -> None:
    for i, texts in enumerate((["a", "b"], ["c"])):
        frames = [zstandard.compress(lines(text)) for text in texts]
        (tmp_path / f"conversations-{i:05d}-of-00002.jsonl.zst").write_bytes(b"".join(frames))
    assert contents(tmp_path) == ["a", "b", "c"]
    (tmp_path / "conversations-00001-of-00002.jsonl.zst").unlink()
    with pytest.raises(InputError, match="1 shards found"):
        contents(tmp_path)


def test_a_conversation_without_an_id_is_named_for_its_line(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text('\n{"messages": []}\n')
    assert [conversation.id for conversation in read_conversations(tmp_path / "chats.jsonl")] == ["chats.jsonl:2"]


@pytest.mark.parametrize("line", [b"{", b'{"messages": 1}', b'{"messages": [], "id": "\xe9"}'])
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "conversations.jsonl").write_bytes(lines("a") + line + b"\n")
    with pytest.raises(InputError, match=r"conversations\.jsonl, line 2: "):
        contents(tmp_path)


def test_missing_places_and_damaged_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        contents(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no conversations\.jsonl"):
        contents(tmp_path)
    (tmp_path / "conversations-00000-of-00001.jsonl.zst").write_bytes(b"no zstd at all")
    with pytest.raises(InputError, match="not readable as zstd"):
        contents(tmp_path)


def test_a_split_depends_on_roles_and_contents_alone() -> None:
    chat = Conversation("a", (Message("user", "hi"), Message("assistant", "hello")), source="x")
    # Written down, since what one version held out must stay held out in the next.
    assert split_hash(chat) == 0.6116109689949654
    assert split_hash(dataclasses.replace(chat, id="b", source="y", meta={"z": 1})) == split_hash(chat)
    swapped = (Message("assistant", "hi"), Message("user", "hello"))
    moved = (Message("user", "hih"), Message("assistant", "ello"))
    assert len({split_hash(dataclasses.replace(chat, messages=m)) for m in (chat.messages, swapped, moved)}) == 3


def test_a_group_stays_on_one_side() -> None:
    talks = [Conversation(str(i), (Message("user", str(i)),), meta={"group": "one chat"}) for i in range(3)]
    assert len({split_hash(talk) for talk in talks}) == 1
    assert split_hash(talks[0]) != split_hash(dataclasses.replace(talks[0], meta={"group": "another"}))


def test_splits_are_spread_evenly() -> None:
    hashes = [split_hash(Conversation("", (Message("user", str(i)),))) for i in range(4000)]
    assert all(0 <= value < 1 for value in hashes)
    assert abs(sum(value < 0.1 for value in hashes) - 400) < 60
