"""What the readers of talks, with models and between people, make of their formats."""

from __future__ import annotations

import json

from jaxchat.chat.conversation import ToolCall
from tests.corpora.turns_said import A, S, U, chat, turn

SHARED = [
    {
        "id": "a",
        "conversations": [turn("human", "hi"), turn("gpt", ""), turn("human", "\u200b \n"), turn("gpt", "yes")],
    },
    {
        "id": "b",
        "conversations": [turn("gpt", "first"), turn("human", "q"), turn("gpt", "x"), turn("gpt", "y", weight=0)],
    },
    {"id": "c", "conversations": [turn("human", "q"), turn("human", "r"), turn("bing", "s")], "system": "Be kind"},
    {"id": "d", "conversations": [turn("human", "only")]},
    {"id": "e", "conversations": []},
    {"id": "f", "conversations": [turn("martian", "q"), turn("gpt", "a")]},
    {"id": "g", "conversations": [{"value": "q"}]},
    {"id": "h", "conversations": [turn("gpt", "alone")]},
    {
        "id": "i",
        "conversations": [
            turn("human", "fly"),
            turn("function_call", '{"name": "up", "arguments": {"m": 9}}'),
            turn("observation", {"ok": True}),
            turn("gpt", "done"),
        ],
        "tools": '[{"name": "up", "parameters": {}}]',
    },
]


def test_sharegpt(import_files):
    made = import_files("sharegpt", {"s.json": SHARED})
    by_id = {conversation.id: conversation for conversation in made.conversations}
    turns = {c.id: turns for c, turns in zip(made.conversations, made.turns)}
    assert turns["a"] == [(U, "hi\n\n\u200b \n"), (A, "yes")] and by_id["a"].meta["empty_turns"] == 1
    assert turns["b"] == [(A, "first"), (U, "q"), (A, "x"), (A, "y")]  # trained on and not: two messages
    assert [message.train for message in by_id["b"].messages] == [1, 1, 1, 0]
    assert turns["c"] == [(S, "Be kind"), (U, "q\n\nr"), (A, "s")]
    assert by_id["i"].messages[1].tool_calls == (ToolCall("up", {"m": 9}),)
    assert turns["i"][2] == ("tool", '{"ok": true}')
    assert by_id["i"].tools == ({"type": "function", "function": {"name": "up", "parameters": {}}},)
    assert [(row["row"]["id"], row["reason"]) for row in made.rejected] == [
        ("d", "the assistant says nothing in it"),
        ("e", "no turns in it"),
        ("f", "turn 1: 'martian' is no role's name"),
        ("g", "turn 1 has no role and text; its keys are value"),
    ]


def test_sharegpt_options(import_files):
    cut = import_files("sharegpt", {"s.json": SHARED}, leading="cut", consecutive="keep")
    turns = {c.id: turns for c, turns in zip(cut.conversations, cut.turns)}
    assert turns["b"] == [(U, "q"), (A, "x"), (A, "y")] and turns["c"][1:3] == [(U, "q"), (U, "r")]
    assert [row["row"]["id"] for row in cut.dropped] == ["h"]
    drop = import_files("sharegpt", {"s.json": SHARED}, leading="drop")
    assert [row["row"]["id"] for row in drop.dropped] == ["b", "h"]


def test_messages_in_older_and_looser_forms(import_files):
    ask, say = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}}
    done = {"role": "function", "name": "f", "content": "1"}
    rows = [
        {"messages": [{"role": "developer", "content": "s"}, ask, call, done], "functions": [{"name": "f"}]},
        {"messages": [{"role": "user", "content": [{"text": "a"}, {"type": "text", "text": "b"}]}, say]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, say]},
        {"prompt": [ask], "completion": [say]},
        {"input": {"messages": [ask], "tools": []}, "preferred_output": [say], "non_preferred_output": [ask]},
        {"messages_display": "user: a\nb\nassistant: None\ntool: 1\nassistant: c: d"},
        {"messages_display": "hello"},
    ]
    made = import_files("messages", {"m.jsonl": rows})
    assert made.turns == [
        [(S, "s"), (U, "a"), (A, None), ("tool", "1")],
        [(U, "ab"), (A, "b")],
        [(U, "a"), (A, "b")],
        [(U, "a"), (A, "b")],
        [(U, "a\nb"), (A, ""), ("tool", "1"), (A, "c: d")],
    ]
    assert made.conversations[0].messages[2].tool_calls == (ToolCall("f", {"x": 1}),)
    assert made.conversations[0].tools == ({"type": "function", "function": {"name": "f"}},)
    assert [m.content for m in made.conversations[3].rejected] == ["a", "a"]
    assert made.conversations[4].messages[1].train == 0
    assert [row["position"] for row in made.rejected] == [3, 7]


def test_lccc_spaces_and_shapes(import_files):
    talks = [["你 好 ！", "h i 你 好"], ["我 爱 happy day", "3 D 真 好", "a 5 0"], ["一 个"], [], ["x", 3]]
    by_split = import_files("lccc", {"l.json": {"train": talks, "valid": talks[:1]}})
    assert by_split.turns == [
        [(U, "你好！"), (A, "hi你好")],
        [(U, "我爱happy day"), (A, "3D真好"), (U, "a50")],
        [(U, "你好！"), (A, "hi你好")],
    ]
    assert [c.meta["split"] for c in by_split.conversations] == ["train", "train", "valid"]
    assert by_split.counts == (3, 2, 1) and by_split.dropped[0]["reason"] == "fewer than 2 turns"
    assert import_files("lccc", {"l.json": talks}).turns == by_split.turns[:2]
    one_line = json.dumps({"train": talks, "valid": talks[:1]})
    assert import_files("lccc", {"l.json": one_line}).turns == by_split.turns
    odd_key = import_files("lccc", {"l.json": b'{"tr\xffain": [["a", "b"]], "\\ud800": [["c", "d"]]}'})
    assert [c.meta["split"][:2] for c in odd_key.conversations] == ["tr", "\ufffd\ufffd"]
    assert import_files("lccc", {"l.jsonl": talks}, spaces="keep", assistant="first").turns[0] == [
        (A, "你 好 ！"),
        (U, "h i 你 好"),
    ]


HALF = '{"a": "\\ud800"}'
CALLED = {"role": A, "content": None, "tool_calls": [{"function": {"name": "f", "arguments": HALF}}]}


def test_half_a_character_in_json_inside_json_is_no_characters_loss(import_files):
    """What could not be written stays the text that it was, or its row is rejected."""
    twice = {**CALLED, "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(HALF)}}]}
    made = import_files("messages", {"c.jsonl": [{"messages": [*chat("q"), call]} for call in (CALLED, twice)]})
    assert [c.messages[1].tool_calls[0].arguments for c in made.conversations] == [HALF, HALF]
    calls = turn("function_call", '{"name": "\\ud800", "arguments": {}}')
    rows = [{"conversations": [turn("human", "q"), calls]}, {"conversations": [turn("human", "q"), turn("gpt", "a")]},
            {"conversations": [turn("human", "q"), turn("gpt", "a")], "tools": f"[{HALF}]"}]  # fmt: skip
    assert import_files("sharegpt", {"s.json": rows}).counts == (1, 2, 0)
