"""DailyDialog: a dialogue a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxchat.chat.conversation import read_conversations
from jaxchat.corpora.dailydialog import closed_up
from jaxchat.corpora.importing import import_corpus

TEXT = """Tea ? __eou__ Yes , please . __eou__ It ’ s here .
好的。 __eou__ 谢谢 __eou__

no mark at all
One __eou__  __eou__ two
Alone __eou__
"""


def test_turns_alternate_from_the_user(tmp_path: Path):
    (tmp_path / "dialogues_text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "dialogues_act.txt").write_text("1 2 3\n")
    stats = import_corpus("dailydialog", [tmp_path], tmp_path / "out")
    first, second = read_conversations(tmp_path / "out")
    assert [(m.role, m.content) for m in first.messages] == [
        ("user", "Tea ?"),
        ("assistant", "Yes , please ."),
        ("user", "It ’ s here ."),
    ]
    assert [m.content for m in second.messages] == ["好的。", "谢谢"] and second.meta["rows"] == {
        "dialogues_text.txt": [2]
    }
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").open()]
    assert [(row["position"], row["reason"]) for row in rejected] == [
        (4, "no __eou__ in the line"),
        (5, "turn 2 is empty, so that it is unknown who says what follows"),
    ]
    assert stats["files"] == ["dialogues_text.txt"] and stats["rows_dropped"] == 1
    import_corpus("dailydialog", [tmp_path / "dialogues_text.txt"], tmp_path / "closed", {"spacing": "no"})
    assert next(read_conversations(tmp_path / "closed")).messages[2].content == "It’s here."


@pytest.mark.parametrize(
    ("apart", "closed"),
    [
        ("I ’ d like that , Ann .", "I’d like that, Ann."),
        ("Don ' t ! ( Really ? )", "Don't! (Really?)"),
        ("It costs $ 5 , ' so to say '", "It costs $5, ' so to say '"),
        ("a . b", "a. b"),
    ],
)
def test_spaces_are_closed_as_people_write(apart: str, closed: str):
    assert closed_up(apart) == closed


def test_in_the_wild(real_data: Path, tmp_path: Path):
    stats = import_corpus("dailydialog", [real_data / "formats" / "dailydialog"], tmp_path / "out")
    assert (stats["rows_in"], stats["rows_used"], stats["messages"]) == (2000, 2000, 14772)
