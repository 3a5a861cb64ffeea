"""Reddit's dumps: threads of comments, with or without submissions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from jaxchat.chat.conversation import read_conversations
from jaxchat.corpora.importing import import_corpus


def comment(id: str, parent: str, body: str, author: str, score: int = 1, **other: Any) -> dict[str, Any]:
    return {"id": id, "parent_id": parent, "link_id": "t3_s", "body": body, "author": author, "score": score, **other}


SUBMISSION = {"id": "s", "title": "Which tea?", "selftext": "Green or black", "author": "ann", "score": 5,
              "created_utc": "10", "subreddit": "tea", "edited": False}  # fmt: skip
COMMENTS = [
    comment("c", "t1_b", "Why?", "ann", created_utc=30.5),
    comment("a", "t3_s", "Neither", "cy", 2, created_utc=20, edited=25.0),
    comment("b", "t3_s", "Black", "bob", 9, created_utc="21"),
    comment("d", "t1_c", "Because.", "[deleted]", created_utc=40),
    comment("e", "t1_gone", "Who?", "eve"),
    comment("f", "t1_e", "Me", "bob"),
    comment("x", "t1_y", "ring", "bob"),
    comment("y", "t1_x", "ring", "ann"),
    {"id": "z"},
    comment("w", "s", "where", "bob"),
]


def imported(tmp_path: Path, rows: dict[str, list[Any]], **options: Any):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    for name, items in rows.items():
        content = "".join(json.dumps(item) + "\n" for item in items).encode()
        (folder / name).write_bytes(zstandard.compress(content) if name.endswith(".zst") else content)
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    stats = import_corpus("reddit", [folder], out, options)
    rejected = {row["position"]: row["reason"] for row in map(json.loads, (out / "rejected.jsonl").open())}
    talks = {
        conversation.id: [(message.role[0], message.content) for message in conversation.messages]
        for conversation in read_conversations(out)
    }
    return talks, rejected, stats


def test_the_best_path_of_a_thread_opens_with_the_submission(tmp_path: Path):
    talks, rejected, stats = imported(tmp_path, {"RC_2020-01.zst": COMMENTS, "RS_2020-01.zst": [SUBMISSION]})
    assert talks == {
        "t3_s": [("u", "Which tea?\n\nGreen or black"), ("a", "Black"), ("u", "Why?\nBecause.")],
    }
    assert rejected == {
        5: "replies to what is not in the input (t1_gone)",
        6: "replies to what was rejected (t1_e)",
        7: "replies to itself (t1_x -> t1_y -> t1_x)",
        8: "replies to itself (t1_y -> t1_x -> t1_y)",
        9: "neither a comment with a `body` nor a submission with a `title`",
        10: "no `parent_id` of a comment or submission",
    }
    assert stats["rows_in"] == 11 and stats["reasons"]["replies to itself"] == 2


def test_without_the_submission_threads_open_with_direct_replies(tmp_path: Path):
    talks, *_ = imported(tmp_path, {"comments.jsonl": COMMENTS}, assistant="alternate", paths="all", min_turns=1)
    assert talks == {
        "t1_a": [("u", "Neither")],
        "t1_b": [("u", "Black"), ("a", "Why?"), ("u", "Because.")],
    }
    talks, *_ = imported(tmp_path, {"comments.jsonl": COMMENTS}, orphans="keep")
    assert talks["t1_e"] == [("u", "Who?"), ("a", "Me")]


def test_scores_leave_replies_out(tmp_path: Path):
    rows = {"comments.jsonl": COMMENTS, "submissions.jsonl": [SUBMISSION]}
    talks, _, stats = imported(tmp_path, rows, min_score="2", paths="all", max_depth=2)
    assert sorted(talks) == ["t3_s:t1_a", "t3_s:t1_b"] and stats["rows_dropped"] == 2


@pytest.mark.parametrize(("name", "counts"), [("RC_2015-01_1row.jsonl", (1, 0, 0, 1)), ("", (59, 0, 9, 50))])
def test_in_the_wild_where_nobody_answers(real_data: Path, tmp_path: Path, name: str, counts: tuple[int, ...]):
    stats = import_corpus("reddit", [real_data / "formats" / "reddit" / name], tmp_path / "out")
    assert tuple(stats[key] for key in ("rows_in", "rows_used", "rows_rejected", "rows_dropped")) == counts
