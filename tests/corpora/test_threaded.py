"""Cornell, ConvoKit and Twitter: threads of people's turns, by hand and in the wild."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.corpora import grouping
from jaxchat.corpora.importing import import_corpus
from jaxchat.corpora.twitter import threads_of
from jaxchat.errors import InputError

Imported = tuple[list[Conversation], list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Imported]:
    """Writes files and imports their folder: (conversations, rejected, dropped, stats)."""

    def run(format: str, files: dict[str, str | bytes], **options: Any) -> Imported:
        folder, out = tmp_path / "in", tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        stats = import_corpus(format, [folder], out, options)
        read = [[json.loads(line) for line in (out / f"{name}.jsonl").open()] for name in ("rejected", "dropped")]
        return list(read_conversations(out)), *read, stats

    return run


def turns(conversation: Conversation) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in conversation.messages]


def fates(items: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    return {(item["file"], item["position"]): item["reason"] for item in items}


def fields(*values: str) -> str:
    return " +++$+++ ".join(values)


CORNELL: dict[str, str | bytes] = {
    "movie_lines.txt": "\n".join(
        [
            fields("L3", "u1", "m0", "ANNA", "Au revoir, Ren\xe9."),
            fields("L2", "u2", "m0", "RENE", "Non +++$+++ non."),
            fields("L1", "u1", "m0", "ANNA", "  Un caf\xe9?"),
            fields("L4", "u2", "m0", "RENE", ""),
            fields("L5", "u2", "m0", "RENE", "Wait!"),
            fields("L6", "u1", "m0", "ANNA", "Alone."),
            fields("L7", "u1", "m0", "ANNA", "Nobody names me."),
            "L8 u1 m0",
            fields("L1", "u1", "m0", "ANNA", "Twice"),
        ]
    ).encode("iso-8859-1"),
    "movie_conversations.txt": "\n".join(
        [
            fields("u1", "u2", "m0", "['L1', 'L2', 'L3', 'L4', 'L5']"),
            fields("u1", "u2", "m0", "['L6']"),
            fields("u1", "u2", "m0", "['L5', 'L99']"),
            fields("u1", "u2", "m0", "nothing"),
        ]
    ),
    "movie_titles_metadata.txt": fields("m0", "Le caf\xe9", "1999", "6.90", "10", "['comedy', 'drama']").encode(
        "iso-8859-1"
    ),
}


def test_cornell_lines_come_together_in_latin_1(imported):
    found, rejected, dropped, stats = imported("cornell", CORNELL)
    (conversation,) = found
    assert turns(conversation) == [
        ("user", "  Un café?"),
        ("assistant", "Non +++$+++ non."),
        ("user", "Au revoir, René."),
        ("assistant", "Wait!"),
    ]
    assert conversation.meta["title"] == "Le café" and conversation.meta["genres"] == ["comedy", "drama"]
    assert conversation.meta["rows"]["movie_lines.txt"] == [3, 2, 1, 5]
    assert fates(rejected) == {
        ("movie_lines.txt", 4): "no text",
        ("movie_lines.txt", 7): "no conversation names this line",
        ("movie_lines.txt", 8): "1 fields, not 5",
        ("movie_lines.txt", 9): "another line has the same id (L1)",
        ("movie_conversations.txt", 3): "a line is not in the input (L99)",
        ("movie_conversations.txt", 4): "no list of line ids in its last field",
    }
    assert set(fates(dropped)) == {("movie_conversations.txt", 2), ("movie_lines.txt", 6)}
    assert stats["rows_in"] == 14


def test_cornell_the_assistant_by_name_and_a_folder_by_one_of_its_files(imported, tmp_path: Path):
    found, *_ = imported("cornell", CORNELL, assistant="anna")
    assert [role for role, _ in turns(found[0])] == ["assistant", "user", "assistant", "user"]
    stats = import_corpus("cornell", [tmp_path / "in" / "movie_titles_metadata.txt"], tmp_path / "by_file")
    assert stats["conversations"] == 1
    (tmp_path / "in" / "movie_lines.txt").unlink()
    with pytest.raises(InputError, match=r"no movie_lines.txt here"):
        import_corpus("cornell", [tmp_path / "in"], tmp_path / "no")


def utterance(id: str, parent: str | None, text: str, speaker: str, score: int | None = None, **other: Any) -> str:
    row = {"id": id, "conversation_id": "a", "reply-to": parent, "text": text, "speaker": speaker}
    return json.dumps({**row, "meta": {} if score is None else {"score": score}, **other})


CONVOKIT = {
    "utterances.jsonl": "\n".join(
        [
            utterance("d", "c", "Best", "ann", 0, timestamp=4),
            utterance("b", "a", "Poor", "bob", 1, timestamp=2),
            utterance("c", "a", "Rich", "bob", 7, timestamp="3"),
            utterance("a", None, "", "ann", 3, timestamp=1),
            utterance("x", "y", "me and you", "bob"),
            utterance("y", "x", "you and me", "ann"),
            utterance("z", "gone", "lost", "ann"),
            json.dumps({"id": "o", "root": "o", "reply_to": None, "text": "old", "user": "ann"}),
            json.dumps({"id": "p", "root": "o", "reply_to": "o", "text": "form", "user": {"id": "bob"}}),
            json.dumps({"id": "q", "text": None, "conversation_id": "o"}),
            "{broken",
        ]
    ),
    "conversations.json": json.dumps({"a": {"meta": {"title": "On money"}}, "none": {"meta": {}}}),
    "speakers.json": "{}",
}


@pytest.mark.parametrize("run", [1, 1 << 25])
def test_convokit_trees_titles_cycles_and_old_names(imported, run: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grouping, "RUN", run)
    found, rejected, dropped, _ = imported("convokit", CONVOKIT)
    assert [(conversation.id, turns(conversation)) for conversation in found] == [
        ("a", [("user", "On money"), ("assistant", "Rich"), ("user", "Best")]),
        ("o", [("user", "old"), ("assistant", "form")]),
    ]
    assert found[0].meta["conversation"] == "a" and found[0].meta["rows"] == {"utterances.jsonl": [4, 3, 1]}
    assert {position: reason for (_, position), reason in fates(rejected).items()} == {
        5: "replies to itself (x -> y -> x)",
        6: "replies to itself (y -> x -> y)",
        7: "replies to what is not in the input (gone)",
        10: "`text` is not text",
        11: "not JSON: Expecting property name enclosed in double quotes at character 2",
    }
    assert [item["reason"] for item in dropped] == ["not on the best path"]
    found, *_ = imported("convokit", CONVOKIT, paths="all", title="no", min_turns=1, orphans="keep")
    assert [conversation.id for conversation in found] == ["a:b", "a:d", "z", "o"]


def test_cornell_reads_its_convokit_form(imported):
    found, *_ = imported("cornell", CONVOKIT)
    assert [conversation.source for conversation in found] == ["cornell", "cornell"]


TWITTER = """,tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id
0,3,acme,False,Tue,"@1 Sorry,
really",2,1.0
1,1,1,True,Tue,@acme Help!,"3,4",
2,4,1,True,Tue,@acme Anyone?,,3.0
3,5,acme,False,Tue,@1 Two answers,,3.0
4,6,2,True,Tue,broken off
again,,
5,7,2,True,Tue,@acme Lost,,999.0
6,8,3,True,Tue,a ring,,9
7,9,acme,False,Tue,of two,,8.0
8,x,3,True,Tue,no id,,
9,10,3,True,Tue,@acme alone,,
10,11,3,maybe,Tue,who,,
"""


def test_twitter_threads_are_rebuilt_from_reply_ids(imported):
    found, rejected, dropped, stats = imported("twitter", {"twcs.csv": TWITTER})
    (conversation,) = found
    assert turns(conversation) == [
        ("user", "@acme Help!"),
        ("assistant", "@1 Sorry,\nreally"),
        ("user", "@acme Anyone?"),
    ]
    assert {position: reason for (_, position), reason in fates(rejected).items()} == {
        7: "6 fields where the header has 8",
        8: "3 fields where the header has 8",
        9: "replies to what is not in the input (999)",
        10: "replies to itself (8 -> 9 -> 8)",
        11: "replies to itself (9 -> 8 -> 9)",
        12: "tweet_id is 'x', not a number",
        14: "inbound is 'maybe', neither True nor False",
    }
    assert fates(dropped) == {("twcs.csv", 6): "not on the best path", ("twcs.csv", 13): "fewer than 2 turns"}
    assert stats["rows_in"] == 12
    found, *_ = imported("twitter", {"twcs.csv": TWITTER}, assistant="first", paths="all", consecutive="keep")
    assert [[role for role, _ in turns(conversation)] for conversation in found] == [
        ["assistant", "user", "assistant"],
        ["assistant", "user", "user"],
    ]


def test_messages_that_hang_together_have_one_number():
    chance = random.Random(7)
    for _ in range(300):
        n = chance.randint(1, 12)
        ids = [chance.randint(0, 14) for _ in range(n)]
        parents = [chance.choice([-1, *range(15)]) for _ in range(n)]
        first = {name: n - 1 - place for place, name in enumerate(reversed(ids))}
        group = list(range(n))
        for i in range(n):
            joined = [first[ids[i]]]
            if first[ids[i]] == i and parents[i] in first:
                joined.append(first[parents[i]])
            for other in joined:
                group = [group[i] if number == group[other] else number for number in group]
        got = threads_of(np.array(ids), np.array(parents)).tolist()
        assert len(set(zip(got, group))) == len(set(got)) == len(set(group))


@pytest.mark.parametrize(
    ("format", "counts", "conversations"),
    [
        ("cornell", (1487, 868, 1, 618), 200),
        ("convokit", (1519, 226, 0, 1293), 50),
        ("twitter", (5000, 4549, 20, 431), 1305),
    ],
)
def test_in_the_wild(real_data: Path, tmp_path: Path, format: str, counts: tuple[int, ...], conversations: int):
    stats = import_corpus(format, [real_data / "formats" / format], tmp_path / "out")
    got = tuple(stats[name] for name in ("rows_in", "rows_used", "rows_rejected", "rows_dropped"))
    assert (got, stats["conversations"]) == (counts, conversations)


def test_the_broken_tweet_is_rejected_with_its_line(real_data: Path, tmp_path: Path):
    import_corpus("twitter", [real_data / "formats" / "twitter"], tmp_path / "out")
    (broken,) = [row for row in map(json.loads, (tmp_path / "out" / "rejected.jsonl").open()) if "CSV" in row["reason"]]
    with (real_data / "formats" / "twitter" / "twcs.csv").open(newline="\n", encoding="utf-8") as file:
        line = next(line for number, line in enumerate(file, 1) if number == broken["position"])
    assert line.rstrip("\r\n") == broken["row"] and line.startswith("2484,3399,")
