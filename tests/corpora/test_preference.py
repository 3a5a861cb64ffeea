"""What the reader of preferences makes of their many forms: pairs, ratings, verdicts, votes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaxchat.chat.conversation import Conversation
from tests.corpora.turns_said import A, S, U, chat, turn


def pair(*better: tuple[str, str], worse: str) -> tuple[list, list]:
    return list(better), [*better[:-1], (A, worse)]


def marked(*turns: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {text}" for i, text in enumerate(turns))


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
    """As jaxchat serve --feedback writes it: the last vote on an answer counts, "none" takes it back, tools and models
    are told."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    rows = [
        {"id": name, "rating": rating, "model": model, "messages": chat("q", answer), "tools": tools, "comment": name}
        for name, rating, model, answer in (
            ("1", "down", "m", "good"), ("2", "down", "n", "bad"), ("1", "up", "m", "good"), ("3", "up", "n", "odd"),
            ("3", "none", "n", "odd"))
    ]  # fmt: skip
    made = import_files("preference", {"thumbs.jsonl": rows})
    assert made.counts == (2, 0, 3)
    assert {(row["position"], row["reason"]) for row in made.dropped} == {
        (1, "judged anew later on"), (4, "judged anew later on"), (5, "its vote was taken back"),
    }  # fmt: skip
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
