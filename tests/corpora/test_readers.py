"""What each reader makes of its format, hand-written and, where the packages or $JAXCHAT_REAL_DATA are here, real."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jaxchat.chat.conversation import Conversation, ToolCall, read_conversations
from jaxchat.corpora import READERS, make_reader, reader_class
from jaxchat.corpora.importing import import_corpus
from jaxchat.errors import InputError
from tests.corpora.turns_said import turn


def imported(tmp_path: Path, format: str, content: Any, name: str, **options: Any):
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    stats = import_corpus(format, [file], tmp_path / "out", options)
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    return list(read_conversations(tmp_path / "out")), rejected, stats


def turns(conversation: Conversation) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in conversation.messages]


def text(sender: str, words: str) -> dict[str, str]:
    return {"text": words, "timestamp": "2018-05-02T19:38:15Z", "sender": sender}


CHITCHAT = {
    "one": {
        "messages": [[text("x", "Hi"), text("x", ""), text("x", "Anyone?")], [text("y", "Me")]],
        "prompt": "Say hi",
    },
    "twice": {"messages": [[text("y", "Hello")], [text("y", "again")], [text("x", "Yes  ")]], "start": "2018"},
    "alone": {"messages": [[text("x", "Hello?")]]},
    "three": {"messages": [[text("x", "a")], [text("y", "b")], [text("z", "c")]]},
    "none": {"messages": []},
    "odd": {"messages": [[{"text": 3, "sender": "x"}]]},
    "string": "hello",
}


def test_chitchat_turns_are_what_one_side_sends(tmp_path: Path):
    found, rejected, stats = imported(tmp_path, "chitchat", CHITCHAT, "dataset.json")
    assert [conversation.id for conversation in found] == ["one", "twice", "alone"]
    assert turns(found[0]) == [("user", "Hi\nAnyone?"), ("assistant", "Me")]
    assert turns(found[1]) == [("user", "Hello\nagain"), ("assistant", "Yes  ")]
    assert found[0].meta == {"prompt": "Say hi", "rows": {"dataset.json": [1]}}
    assert [(row["position"], next(iter(row["row"]))) for row in rejected] == [
        (4, "three"),
        (5, "none"),
        (6, "odd"),
        (7, "string"),
    ]
    assert stats["rows_in"] == 7 and stats["rows_used"] == 3 and stats["messages"] == 5


def test_chitchat_options_join_and_drop(tmp_path: Path):
    found, _, stats = imported(tmp_path, "chitchat", CHITCHAT, "dataset.json", join="space", min_turns="2")
    assert turns(found[0])[0] == ("user", "Hi Anyone?")
    assert (stats["rows_used"], stats["rows_dropped"], stats["rows_rejected"]) == (2, 1, 4)
    dropped = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert dropped["reason"] == "fewer than 2 turns" and dropped["row"] == {"alone": CHITCHAT["alone"]}


def test_chitchat_cuts_long_chats_where_the_user_begins(tmp_path: Path):
    said = [[text("xy"[n % 2], str(n))] for n in range(5)]
    found, _, stats = imported(tmp_path, "chitchat", {"long": {"messages": said}}, "dataset.json", max_turns="2")
    assert [conversation.id for conversation in found] == ["long-1", "long-2", "long-3"]
    assert [turns(one) for one in found] == [
        [("user", "0"), ("assistant", "1")],
        [("user", "2"), ("assistant", "3")],
        [("user", "4")],
    ]
    assert {conversation.meta["group"] for conversation in found} == {"long"}
    assert (stats["rows_in"], stats["rows_used"]) == (1, 1)
    with pytest.raises(InputError, match="--max-turns 3: take an even number"):
        import_corpus("chitchat", [tmp_path / "dataset.json"], tmp_path / "odd", {"max_turns": "3"})


def test_the_chitchat_package_is_read_whole_and_never_imported(tmp_path: Path):
    pytest.importorskip("chitchat_dataset")
    sys.modules.pop("chitchat_dataset", None)
    stats = import_corpus("chitchat", [], tmp_path / "out")
    assert "chitchat_dataset" not in sys.modules
    assert (stats["rows_in"], stats["rows_used"], stats["conversations"]) == (7168, 7168, 7168)
    assert stats["messages"] == 138_737
    for conversation in read_conversations(tmp_path / "out"):
        roles = [message.role for message in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)


CHATTERBOT = """
categories:
- weather
conversations:
- - Is it cold?
  - Yes
- - What is 40 + 2?
  - 42
  - Sure?
  - true
- - Nobody answers this.
- not a list
- - Tell me: what
  - {a: mapping}
- - ""
  - Empty question
"""


def test_chatterbot_takes_scalars_as_they_are_written(tmp_path: Path):
    found, rejected, stats = imported(tmp_path, "chatterbot", CHATTERBOT, "weather.yml")
    assert [turns(conversation) for conversation in found] == [
        [("user", "Is it cold?"), ("assistant", "Yes")],
        [("user", "What is 40 + 2?"), ("assistant", "42"), ("user", "Sure?"), ("assistant", "true")],
    ]
    assert found[0].id == "weather.yml:1" and found[0].meta["categories"] == ["weather"]
    assert [(row["position"], row["reason"].split(",")[0]) for row in rejected] == [
        (3, "one message only"),
        (4, "not a list of messages"),
        (5, "message 1 is not text (a colon or dash in it wants quotes)"),
        (6, "message 1 is empty"),
    ]
    assert stats["rows_in"] == 6


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a: [", "not YAML"), (b"conversations: 3", "no list of"), (b"- caf\xe9", "not UTF-8"), (b"", "no list of")],
)
def test_a_file_that_is_no_corpus_is_one_rejected_row(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.yml").write_bytes(content)
    (tmp_path / "b.yml").write_text(CHATTERBOT)
    stats = import_corpus("chatterbot", [tmp_path], tmp_path / "out")
    assert (stats["rows_in"], stats["rows_used"], stats["rows_rejected"]) == (7, 2, 5)
    first = json.loads((tmp_path / "out" / "rejected.jsonl").read_text().splitlines()[0])
    assert first["file"] == "a.yml" and first["reason"].startswith(reason)


@pytest.mark.parametrize(("language", "rows"), [("english", 2026), ("chinese", 467)])
def test_the_chatterbot_package_by_language(tmp_path: Path, language: str, rows: int):
    pytest.importorskip("chatterbot_corpus")
    stats = import_corpus("chatterbot", [], tmp_path / "out", {"language": language})
    assert stats["rows_in"] == rows and stats["rows_rejected"] <= 1
    with pytest.raises(InputError, match="no language chines; did you mean chinese"):
        import_corpus("chatterbot", [], tmp_path / "no", {"language": "chines"})


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "take_off", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}


TOOL = {"type": "function", "function": {"name": "take_off", "parameters": {"type": "object", "properties": {}}}}
ROWS: list[Any] = [
    {"messages": [{"role": "user", "content": "Up!"}, call(json.dumps(json.dumps({"height": 9})))], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": "Up!"}, call({"height": 9})], "tools": [TOOL], "seed": 7, "id": "mine"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
    {"messages": [{"role": "user", "content": "Up!"}, call("up, up!")]},
    {"messages": []},
    {"messages": [{"role": "robot", "content": "a"}]},
    {"message": "user: Hi"},
    ["not an object"],
]


@pytest.mark.parametrize("form", ["lines", "array"])
def test_messages_as_lines_and_as_an_array(tmp_path: Path, form: str):
    content = "\n".join(map(json.dumps, ROWS)) if form == "lines" else json.dumps(ROWS, indent=1)
    found, rejected, _ = imported(tmp_path, "messages", content, "chat.jsonl")
    calls = [conversation.messages[1].tool_calls for conversation in found]
    assert calls[0] == calls[1] == (ToolCall("take_off", {"height": 9}, "c"),)
    assert calls[3][0].arguments == "up, up!"
    assert found[0].tools == (TOOL,) and found[0].messages[1].content is None
    assert [conversation.id for conversation in found] == ["chat.jsonl:1", "mine", "chat.jsonl:3", "chat.jsonl:4"]
    assert found[1].meta == {"seed": 7, "rows": {"chat.jsonl": [2]}}
    assert found[2].messages[1].train == 0.0
    assert [(row["position"], row["row"]) for row in rejected] == [(n, ROWS[n - 1]) for n in (5, 6, 7, 8)]
    assert rejected[2]["reason"] == "no list of `messages`; its keys are message"


def test_messages_in_the_wild(real_data: Path, tmp_path: Path):
    stats = import_corpus("messages", [real_data / "formats" / "openai_messages"], tmp_path / "out")
    assert (stats["rows_in"], stats["rows_used"], stats["rows_rejected"]) == (483, 483, 0)
    calls = [
        call.arguments
        for conversation in read_conversations(tmp_path / "out")
        for message in conversation.messages
        for call in message.tool_calls
    ]
    assert calls == [{"altitude": 100}, {"altitude": 100}, {"location": "current"}]


def test_every_reader_loads_and_says_what_it_reads():
    for format in READERS:
        cls = reader_class(format)
        assert cls.__doc__ and cls.suffixes and isinstance(make_reader(format), cls)


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("chitchats", {}, "no format is called chitchats; did you mean chitchat?"),
        ("chitchat", {"jion": "space"}, "no option jion; did you mean join?"),
        ("chitchat", {"join": "tab"}, "join is one of newline, space, not tab"),
        ("chitchat", {"min-turns": "two"}, "min_turns is int, not two"),
    ],
)
def test_formats_and_options_that_do_not_exist(format: str, options: dict, message: str):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        make_reader(format, options)


@pytest.mark.parametrize("format", ["alpaca", "belle", "dolly", "firefly", "lccc", "oasst", "preference", "sharegpt"])
def test_whatever_json_holds_is_rejected_in_words(import_files, format: str):
    odd: list[Any] = [None, 3, "text", [], {}, [[]], [None], {"id": None}, {"conversations": 3}, {"instruction": ""}]
    odd += [{"instances": [3]}, {"conversation": [[]]}, {"prompt": None}, {"replies": [], "message_id": "a"}, {"a": {}}]
    odd += [
        {"chosen": [], "rejected": {}},
        {"prompt": {"message_id": "m", "text": "t", "role": "prompter", "replies": [3]}},
    ]
    answer = {"message_id": "n", "text": "t", "role": "assistant"}
    tree = {"message_id": "m", "text": "t", "role": "prompter", "replies": [answer]}
    good = {"instruction": "a", "input": "b", "output": "c", "response": "c", "target": "c", "prompt": tree}
    if format == "lccc":
        good = ["a", "b"]  # type: ignore[assignment]
    if format == "sharegpt":
        good = {"conversations": [turn("human", "a"), turn("gpt", "b")]}
    if format == "preference":
        good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    made = import_files(format, {"x.json": [*odd, good]})
    assert len(made.conversations) >= 1 and made.stats["rows_in"] == len(odd) + 1
    assert all(row["reason"] for row in made.rejected) and len(made.rejected) + len(made.dropped) >= len(odd) - 1
    assert make_reader(format)
