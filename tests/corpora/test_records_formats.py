"""What the readers of instructions, of talks with models, of trees and of preferences make of their formats."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from jaxchat.chat.conversation import Conversation, ToolCall
from jaxchat.corpora import make_reader

S, U, A = "system", "user", "assistant"


def test_alpaca(import_files):
    rows = [
        {"instruction": "Add", "input": "1, 2", "output": "3", "text": "### Instruction"},
        {"instruction": "Sing", "input": "<noinput>", "output": "La"},
        {"instruction": "And?", "input": "", "output": "So", "system": "Be brief", "history": [["q", "a"]]},
        {"instruction": "Nothing", "input": "", "output": " "},
        {"id": "s", "instruction": "Do", "instances": [{"input": "1", "output": "2"}, {"input": "", "output": "4"}]},
        {"instruction": 3},
        {"instruction": "x", "input": [], "output": "y"},
    ]
    made = import_files("alpaca", {"a.json": rows})
    assert made.turns == [
        [(U, "Add\n\n1, 2"), (A, "3")],
        [(U, "Sing"), (A, "La")],
        [(S, "Be brief"), (U, "q"), (A, "a"), (U, "And?"), (A, "So")],
        [(U, "Do\n\n1"), (A, "2")],
        [(U, "Do"), (A, "4")],
    ]
    assert [c.id for c in made.conversations] == ["a.json:1", "a.json:2", "a.json:3", "s:1", "s:2"]
    assert made.conversations[0].meta == {"rows": {"a.json": [1]}}
    assert [(row["position"], row["reason"]) for row in made.rejected] == [
        (4, "`output` is empty"),
        (6, "`instruction` is not text"),
        (7, "`input` is not text"),
    ]
    assert import_files("alpaca", {"a.json": rows}, join="space").turns[0][0] == (U, "Add 1, 2")


def test_dolly(import_files):
    rows = [
        {"instruction": "Who?", "context": "Ann came.", "response": "Ann", "category": "closed_qa"},
        {"instruction": "Say hi", "context": "", "response": "Hi", "category": "open"},
    ]
    assert import_files("dolly", {"d.jsonl": rows}).turns[0] == [(U, "Who?\n\nAnn came."), (A, "Ann")]
    assert import_files("dolly", {"d.jsonl": rows}, context="before").turns[0][0] == (U, "Ann came.\n\nWho?")
    dropped = import_files("dolly", {"d.jsonl": rows}, context="drop")
    assert dropped.counts == (1, 0, 1) and dropped.conversations[0].meta["category"] == "open"


def test_belle_in_all_its_forms(import_files):
    rows = [
        {"instruction": "你好", "input": "", "output": "您好"},
        {
            "instruction": "Human:你是谁？ \nAssistant:我是助手\nHuman: 谢谢\nAssistant:",
            "input": "",
            "output": "不客气",
        },
        {"id": 7, "conversations": [{"from": "human", "value": "一"}, {"from": "assistant", "value": "二"}]},
        {"input": ["一", "三"], "output": ["二", "四"]},
        {"input": ["一"], "output": []},
        {"instruction": "续写", "instances": [{"input": "无", "output": "好"}]},
    ]
    made = import_files("belle", {"b.jsonl": rows})
    assert made.turns == [
        [(U, "你好"), (A, "您好")],
        [(U, "你是谁？"), (A, "我是助手"), (U, "谢谢"), (A, "不客气")],
        [(U, "一"), (A, "二")],
        [(U, "一"), (A, "二"), (U, "三"), (A, "四")],
        [(U, "续写"), (A, "好")],
    ]
    assert made.counts == (5, 1, 0) and made.conversations[2].id == "7"


def test_firefly_and_ultrachat(import_files):
    rows = [
        {"kind": "Poem", "input": "写诗", "target": "床前"},
        {
            "conversation_id": 3,
            "category": "x",
            "conversation": [{"human": "一", "assistant": "二"}],
            "dataset": "moss",
        },
        {"kind": "Poem", "input": "写诗"},
    ]
    made = import_files("firefly", {"f.jsonl": rows})
    assert made.turns == [[(U, "写诗"), (A, "床前")], [(U, "一"), (A, "二")]]
    assert made.conversations[1].id == "3" and made.conversations[1].meta["dataset"] == "moss"
    assert made.rejected[0]["reason"] == "no `target`; its keys are kind, input"
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [{"id": "0", "data": ["a", "b", "c"]}, {"prompt": "a", "prompt_id": "p", "messages": chat}, {"data": ["a"]}]
    made = import_files("ultrachat", {"u.jsonl": rows})
    assert made.turns == [[(U, "a"), (A, "b"), (U, "c")], [(U, "a"), (A, "b")]]
    assert [c.id for c in made.conversations] == ["0", "p"]
    assert made.rejected[0]["reason"] == "the assistant says nothing in it"


def turn(who: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"from": who, "value": text, **more}


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


def node(name: str, text: str, rank: int | None = None, replies: tuple = (), **more: Any) -> dict[str, Any]:
    role = "assistant" if name.count(".") % 2 else "prompter"
    return {
        "message_id": name,
        "text": text,
        "role": role,
        "rank": rank,
        "lang": "en",
        "replies": list(replies),
        **more,
    }


TREE = node(
    "r",
    "q",
    replies=(
        node("r.0", "unranked", None),
        node("r.1", "second", 1, (node("r.1.0", "why?", replies=(node("r.1.0.0", "so", 0),)),)),
        node("r.2", "best", 0, (node("r.2.0", "ok"),)),
        node("r.3", "gone", -1, deleted=True, replies=(node("r.3.0", "too"),)),
    ),
)


def flat(message: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    row = {key: value for key, value in message.items() if key != "replies"}
    below = [row for reply in message["replies"] for row in flat(reply, message["message_id"])]
    return [{**row, "parent_id": parent, "message_tree_id": "r"}, *below]


ALL = [
    [(U, "q"), (A, "unranked")],
    [(U, "q"), (A, "second"), (U, "why?"), (A, "so")],
    [(U, "q"), (A, "best"), (U, "ok")],
]


@pytest.mark.parametrize("form", ["tree", "nested", "flat", "flat, out of order"])
def test_oasst_in_all_its_forms(import_files, form: str):
    other = {**node("z", "hola", lang="es", replies=(node("z.0", "buenas", 0),))}
    rows = {"tree": [{"message_tree_id": "r", "prompt": TREE}], "nested": [TREE], "flat": flat(TREE)}
    rows["flat, out of order"] = flat(TREE)[::-1]
    best = import_files("oasst", {"o.jsonl": [*rows[form], other]}, language="EN")
    assert best.turns == [ALL[2]]
    assert best.conversations[0].id == "r" and best.conversations[0].meta["lang"] == "en"
    assert "begins in es, not EN" in {row["reason"] for row in best.dropped}
    made = import_files("oasst", {"o.jsonl": rows[form]}, paths="all")
    assert sorted(map(str, made.turns)) == sorted(map(str, ALL))
    assert len({c.id for c in made.conversations}) == 3
    if form.startswith("flat"):
        assert best.counts == (3, 0, 7) and made.counts == (7, 0, 2)
        assert {row["reason"] for row in made.dropped} == {"deleted", "below a deleted message"}
    kept = import_files("oasst", {"o.jsonl": rows[form]}, deleted="keep")
    assert kept.turns == [[(U, "q"), (A, "gone"), (U, "too")]]


def test_oasst_what_is_no_tree(import_files):
    row = flat(node("a", "q", replies=(node("a.0", "b", 0),)))
    lost = {**row[1], "message_id": "lost", "parent_id": "nowhere"}
    ring = [{**row[1], "message_id": name, "parent_id": parent} for name, parent in (("x", "y"), ("y", "x"))]
    bad = [
        {"message_id": 3},
        {**row[0], "role": "king"},
        {"prompt": {"message_id": "p", "text": "alone", "role": "prompter"}},
    ]
    made = import_files("oasst", {"o.jsonl": [*row, lost, *ring, *bad]})
    assert made.turns == [[(U, "q"), (A, "b")]] and made.counts == (2, 5, 1)
    reasons = " | ".join(row["reason"] for row in made.rejected)
    for part in ("not in the input", "replies to itself", "without `message_id`", "role 'king'"):
        assert part in reasons


def pair(*better: tuple[str, str], worse: str) -> tuple[list, list]:
    return list(better), [*better[:-1], (A, worse)]


def marked(*turns: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {text}" for i, text in enumerate(turns))


def chat(*turns: str) -> list[dict[str, Any]]:
    return [{"role": (U, A)[i % 2], "content": text} for i, text in enumerate(turns)]


SIMPLE = pair((U, "q"), (A, "good"), worse="bad")
TEXTS = {"chosen": "good", "rejected": "bad"}
SAID = {"role": A, "content": "good"}, {"role": A, "content": "bad"}
RATED = [{"response": text, "overall_score": score} for text, score in (("mid", 5), ("bad", 1), ("good", 9.5))]
PAIRS: list[tuple[dict[str, Any], tuple[list, list]]] = [
    (
        {"chosen": marked("q", "a", "r", "good"), "rejected": marked("q", "a", "r", "bad")},
        pair((U, "q"), (A, "a"), (U, "r"), (A, "good"), worse="bad"),
    ),
    (
        {"chosen": marked("q", "good"), "rejected": marked("q", "bad", "r", "s")},
        ([(U, "q"), (A, "good")], [(U, "q"), (A, "bad"), (U, "r"), (A, "s")]),
    ),
    ({"prompt": "q", "chosen": chat("q", "good"), "rejected": chat("q", "bad"), "score_chosen": 8.5}, SIMPLE),
    ({"prompt": "q", **TEXTS}, SIMPLE),
    ({"prompt": "\n\nHuman: q\n\nAssistant:", **TEXTS}, SIMPLE),
    ({"system": "s", "question": "q", **TEXTS}, pair((S, "s"), (U, "q"), (A, "good"), worse="bad")),
    ({"instruction": "q", "input": "x", "output": ["good", "bad"]}, pair((U, "q\n\nx"), (A, "good"), worse="bad")),
    ({"prompt": "q", "response_0": "bad", "response_1": "good", "better_response_id": 1}, SIMPLE),
    (
        {"conversations": [turn("human", "q")], "chosen": turn("gpt", "good"), "rejected": turn("gpt", "bad")},
        SIMPLE,
    ),
    ({"messages": chat("q", "good"), **TEXTS}, SIMPLE),
    ({"prompt": chat("q"), "chosen": [SAID[0]], "rejected": [SAID[1]]}, SIMPLE),
    ({"instruction": "q", "completions": RATED}, SIMPLE),
    ({"input": {"messages": chat("q")}, "preferred_output": [SAID[0]], "non_preferred_output": [SAID[1]]}, SIMPLE),
    ({"messages": chat("q"), **TEXTS}, SIMPLE),
    ({"messages": chat("q"), "chosen": SAID[0], "rejected": SAID[1]}, SIMPLE),
    ({"messages": chat("q"), "chosen": [SAID[0], SAID[0]], "rejected": [SAID[1]]},
     ([(U, "q"), (A, "good"), (A, "good")], [(U, "q"), (A, "bad")])),
    ({"messages": chat("q", "good"), "rejected": chat("q", "bad")}, SIMPLE),
    ({"messages": chat("q", "good"), "rejected": [SAID[1]]}, SIMPLE),
    ({"prompt": "q", "response_a": "bad", "response_b": "good", "winner": "b"}, SIMPLE),
    ({"prompt": "q", "answer_a": "good", "answer_b": "bad", "preference": "Answer A"}, SIMPLE),
    ({"prompt": "q", "response_a": "good", "response_b": "bad", "model_a": "x", "model_b": "y", "winner": "x"}, SIMPLE),
    ({"conversation_a": chat("q", "bad"), "conversation_b": chat("q", "good"), "winner": "model_b"}, SIMPLE),
    ({"prompt": '["q", "r"]', "response_a": '["a", "bad"]', "response_b": '["a", "good"]', "winner_model_a": 0,
      "winner_model_b": 1, "winner_tie": 0}, pair((U, "q"), (A, "a"), (U, "r"), (A, "good"), worse="bad")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), PAIRS)
def test_preferences_in_their_forms(import_files, row: dict[str, Any], expected: tuple[list, list]):
    made = import_files("preference", {"p.jsonl": [row]})
    worse = [(message.role, message.content) for message in made.conversations[0].rejected]
    assert (made.turns[0], worse) == expected


def test_our_own_preferences_come_back_as_they_were(import_files):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    called = {
        "role": A,
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    rows = [
        {"id": "one", "source": "arena", "messages": chat("q", "good"), "rejected": chat("q", "bad"), "tools": tools,
         "meta": {"rater": 7, "group": "q"}},
        {"id": "two", "source": "arena", "messages": [*chat("q"), called], "rejected": chat("q", "bad", "r", "s")},
    ]  # fmt: skip
    made = import_files("preference", {"conversations.jsonl": rows})
    assert [replace(c, meta={k: v for k, v in c.meta.items() if k != "rows"}) for c in made.conversations] == [
        Conversation.from_json(row) for row in rows
    ]
    written = [c.to_json() for c in made.conversations]
    for format in ("preference", "messages", "hf"):
        again = import_files(format, {"conversations.jsonl": written}).conversations
        assert [(c.id, c.messages, c.rejected, c.tools) for c in again] == [
            (c.id, c.messages, c.rejected, c.tools) for c in made.conversations
        ]


def test_an_arenas_verdicts(import_files):
    rows = [
        {"question_id": "q1", "prompt": "q", "response_a": "bad", "response_b": "good", "model_a": "x", "model_b": "y",
         "winner": "model_b", "judge": "r1"},
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "tie (bothbad)"},
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "c"},
        {"prompt": "q", "response_a": "a", "response_b": "b"},
        {"prompt": ["q", "r"], "response_a": ["a", None], "response_b": ["a", "b"], "winner": "a"},
        {"conversation_a": chat("q", "a"), "conversation_b": chat("other", "b"), "winner": "a"},
    ]  # fmt: skip
    made = import_files("preference", {"votes.jsonl": rows})
    assert made.counts == (1, 4, 1)
    assert made.conversations[0].id == "q1"
    assert made.conversations[0].meta | {"rows": 0} == {
        "question_id": "q1", "winner": "model_b", "judge": "r1", "chosen_model": "y", "rejected_model": "x", "rows": 0,
    }  # fmt: skip
    assert made.dropped[0]["reason"] == "a tie: neither was preferred (tie (bothbad))"
    assert [row["reason"].partition(";")[0] for row in made.rejected] == [
        "`winner` is 'c', neither a nor b nor a tie",
        "it does not say which was preferred",
        "not an answer to every question",
        "chosen and rejected have no prompt in common",
    ]
    assert import_files("preference", {"votes.jsonl": rows}, ties="keep").counts == (2, 4, 0)
    table = (
        'prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"[""q""]","[""a""]","[""b""]",1,0,0\n'
    )
    assert import_files("preference", {"votes.csv": table}).turns == [[(U, "q"), (A, "a")]]


def test_answers_with_a_thumb_up_or_down_make_pairs(import_files):
    rows = [
        {"prompt": "q", "completion": "good", "label": True, "user": 1},
        {"prompt": chat("q"), "completion": [SAID[1]], "label": False},
        {"messages": chat("q", "worse"), "rating": "thumbs_down"},
        {"prompt": "alone", "completion": "a", "label": True},
        {"prompt": "same", "completion": "a", "label": 1},
        {"prompt": "same", "completion": "a", "label": 0},
        {"prompt": "q", "completion": "a", "label": "perhaps"},
        {"prompt": "q", "completion": " ", "label": True},
        {"prompt": "p", "chosen": "good", "rejected": "bad", "label": 1},
    ]
    made = import_files("preference", {"feedback.jsonl": rows})
    pairs = {(c.messages[-1].content, c.rejected[-1].content): c for c in made.conversations}
    assert set(pairs) == {("good", "bad"), ("good", "worse")} and made.counts == (4, 2, 3)
    assert {row["position"] for row in made.dropped} == {4, 5, 6}
    assert len({c.meta["group"] for c in made.conversations if c.meta["rows"]["feedback.jsonl"] != [9]}) == 1
    assert {tuple(c.meta["rows"]["feedback.jsonl"]) for c in made.conversations} == {(1, 2), (1, 3), (9,)}


def test_the_feedback_that_a_server_keeps(import_files):
    """As jaxchat serve --feedback writes it: the last vote on an answer counts, tools and models are told."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    rows = [
        {"id": name, "rating": rating, "model": model, "messages": chat("q", answer), "tools": tools, "comment": name}
        for name, rating, model, answer in (
            ("1", "down", "m", "good"), ("2", "down", "n", "bad"), ("1", "up", "m", "good"))
    ]  # fmt: skip
    made = import_files("preference", {"thumbs.jsonl": rows})
    assert made.counts == (2, 0, 1) and made.dropped[0]["reason"] == "judged anew later on"
    (one,) = made.conversations
    assert (one.messages[-1].content, one.rejected[-1].content, one.tools) == ("good", "bad", tuple(tools))
    assert (one.meta["chosen_model"], one.meta["rejected_model"], one.meta["comment"]) == ("m", "n", "1")


def test_preferences_that_are_none(import_files):
    rows = [
        {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 5, "score_rejected": 4.5},
        {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 5, "score_rejected": 5.0},
        {"prompt": "q", "chosen": "same", "rejected": "same"},
        {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 1, "score_rejected": 2},
        {"prompt": "q", "chosen": " ", "rejected": "bad"},
        {"chosen": marked("q", "a"), "rejected": marked("other", "a")},
        {"chosen": marked("q"), "rejected": marked("r")},
        {"prompt": "q", "chosen": "good"},
        {"prompt": "q", "response_0": "a", "response_1": "b"},
    ]
    made = import_files("preference", {"p.jsonl": rows})
    assert made.counts == (1, 6, 2)
    assert [(row["position"], row["reason"]) for row in made.dropped] == [
        (2, "a tie: both have one score"),
        (3, "chosen and rejected are the same"),
    ]
    assert [row["reason"].partition(";")[0] for row in made.rejected] == [
        "the chosen has the lower score",
        "the chosen answer is empty",
        "chosen and rejected have no prompt in common",
        "the chosen conversation does not end with the assistant's turn",
        "no pair of a better and a worse ending",
        "`better_response_id` is neither 0 nor 1",
    ]
    assert import_files("preference", {"p.jsonl": rows}, ties="keep").counts == (2, 6, 1)
    wide = import_files("preference", {"p.jsonl": [*rows, {**rows[0], "score_rejected": 1}]}, min_margin=1)
    assert [c.meta["rows"]["p.jsonl"] for c in wide.conversations] == [[10]]
    early = [
        {
            "chosen": "\n\nHuman: q\n\nAssistant: a",
            "rejected": "\n\nHuman: q\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        }
    ]
    assert import_files("preference", {"p.jsonl": [*early, rows[0]]}, diverging="drop").counts == (1, 0, 1)


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
