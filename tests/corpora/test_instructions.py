"""What the readers of instructions make of their formats."""

from __future__ import annotations

from tests.corpora.turns_said import A, S, U


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
