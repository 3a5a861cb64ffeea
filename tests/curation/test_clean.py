"""Cleaning folders: every row accounted for, the same output from any number of workers and from Beam."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import Conversation, Message, read_conversations
from jaxchat.curation.boilerplate import Boilerplate
from jaxchat.curation.chunks import File, chunks
from jaxchat.curation.clean import clean
from jaxchat.curation.language import Language
from jaxchat.curation.profanity import Profanity
from jaxchat.curation.steps import STEPS, Cleaning
from jaxchat.errors import InputError

FILES = ("conversations.jsonl", "dropped.jsonl", "rejected.jsonl", "stats.json")


def ugly(conversations: Callable[..., list[Conversation]]) -> list[Conversation | str | bytes]:
    """Good conversations with one of every trouble among them."""
    good = conversations(60)

    def talk(name: str, *texts: str) -> Conversation:
        return Conversation(name, tuple(Message("assistant" if i % 2 else "user", t) for i, t in enumerate(texts)))

    return [
        *good,
        good[3],
        dataclasses.replace(good[4], id="shouted", messages=tuple(
            dataclasses.replace(m, content=(m.content or "").upper()) for m in good[4].messages)),
        dataclasses.replace(good[5], id="near", messages=(
            *good[5].messages[:-1], dataclasses.replace(good[5].messages[-1], content="Well, thank you."))),
        talk("deleted", "What is this?", "[deleted]"),
        talk("links", "Where?", "https://example.com/a http://example.com/b"),
        talk("alone", "Anyone here?"),
        talk("round", *["I do not know what you mean by that"] * 12),
        talk("mail", "Write to ann.lee@example.com please, or to Bob", "I will write to ann.lee@example.com now"),
        talk("mojibake", "Das ist schÃ¶n, <b>sehr</b> sch&ouml;n", "Ja,   wirklich\u200b sehr schön, finde ich"),
        "", "{not json", b'{"messages": "\xff"}', '{"messages": []}',
        '{"messages": [{"role": "king", "content": "Hi"}]}',
    ]  # fmt: skip


def test_every_row_is_kept_dropped_or_rejected_with_its_reason(conversations, written, tmp_path) -> None:
    rows = ugly(conversations)
    stats = clean([written(rows)], tmp_path / "out", workers=1)
    kept = {c.id: c for c in read_conversations(tmp_path / "out")}
    dropped = [json.loads(line) for line in open(tmp_path / "out" / "dropped.jsonl", encoding="utf-8")]
    rejected = [json.loads(line) for line in open(tmp_path / "out" / "rejected.jsonl", encoding="utf-8")]
    assert stats["rows_in"] == len(rows) - 1 == len(kept) + len(dropped) + len(rejected)
    assert (stats["rows_used"], stats["rows_dropped"], stats["rows_rejected"]) == (
        len(kept),
        len(dropped),
        len(rejected),
    )
    assert {row["id"]: row["step"] for row in dropped} == {
        "c3": "exact-duplicates",
        "shouted": "exact-duplicates",
        "near": "near-duplicates",
        "deleted": "boilerplate",
        "links": "boilerplate",
        "alone": "length",
        "round": "repetition",
    }
    assert [row["position"] for row in rejected] == [71, 72, 73, 74]
    assert all(row["reason"] and row["file"] == "in/conversations.jsonl" for row in (*dropped, *rejected))
    assert kept["mail"].messages[0].content == "Write to <EMAIL> please, or to Bob"
    assert kept["mojibake"].messages[0].content == "Das ist schön, **sehr** schön"
    assert kept["mojibake"].messages[1].content == "Ja, wirklich sehr schön, finde ich"
    assert kept["mojibake"].meta["language"] == "de"
    assert sum(step["dropped"] for step in stats["steps"]) == stats["rows_dropped"]
    assert stats["personal_data"] == {"email": 2}
    assert stats["messages"] == sum(len(c.messages) for c in kept.values())
    assert json.loads((tmp_path / "out" / "stats.json").read_text(encoding="utf-8")) == stats


def test_cleaning_what_is_clean_changes_nothing(conversations, written, tmp_path) -> None:
    clean([written(ugly(conversations))], tmp_path / "once", workers=1)
    clean([tmp_path / "once"], tmp_path / "twice", workers=1)
    assert (tmp_path / "once" / "conversations.jsonl").read_bytes() == (
        tmp_path / "twice" / "conversations.jsonl"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"workers": 2}, {"runner": "beam", "workers": 1}, {"runner": "beam", "workers": 2}])
def test_the_same_whoever_runs_it(how, conversations, written, tmp_path, monkeypatch) -> None:
    first = written(ugly(conversations))
    second = written(conversations(3000, seed=1), "second")
    cleaning = Cleaning(language=Language(keep=("en", "de")))
    clean([first, second], tmp_path / "alone", cleaning, workers=1)
    clean([first, second], tmp_path / "other", cleaning, **how)
    for name in FILES:
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


def test_chunks_hold_every_line_once_with_its_number(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jaxchat.curation.chunks.SIZE", 50)
    lines = [b"\xef\xbb\xbf" + b"x" * 7] + [b"y" * (n % 70) for n in range(200)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    pieces = list(chunks(File(str(path), "a", 2)))
    assert len(pieces) > 50
    read = [(position & (1 << 40) - 1, line) for piece in pieces for position, line in piece.lines()]
    lines[0] = lines[0][3:]
    assert read == [(n, line) for n, line in enumerate(lines, 1) if line]
    assert [piece.number for piece in pieces] == sorted({piece.number for piece in pieces})


def test_compressed_shards_are_read_as_well(conversations, tmp_path) -> None:
    import zstandard

    rows = conversations(40)
    for n in range(2):
        text = "".join(json.dumps(c.to_json()) + "\n" for c in rows[20 * n : 20 * n + 20])
        (tmp_path / f"conversations-{n:05d}-of-00002.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    assert clean([tmp_path], None, workers=1)["rows_in"] == 40


def test_what_is_dropped_shows_no_personal_data_either(written, tmp_path) -> None:
    told = Conversation(
        "a", (Message("user", "I am ann.lee@example.com, who are you"), Message("assistant", "[removed]"))
    )
    other = Conversation("b", (Message("user", "How is the weather?"), Message("assistant", "Fine and sunny, thanks")))
    clean([written([told, other])], tmp_path / "out", workers=1)
    assert "ann.lee" not in (tmp_path / "out" / "dropped.jsonl").read_text()


def test_a_dry_run_writes_nothing(conversations, written, tmp_path, capsys) -> None:
    folder = written(ugly(conversations))
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "clean", str(folder), "--dry-run", "--workers", "1"]) == 0
    assert "would be left" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_skipped_steps_are_left_out(conversations, written, tmp_path) -> None:
    stats = clean([written(ugly(conversations))], None, skip=["boilerplate", "language"], workers=1)
    names = [step["name"] for step in stats["steps"]]
    assert names == [name for name in STEPS if name not in ("boilerplate", "language", "contamination", "entities")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out DIR"),
        (["--dry-run", "--skip", "repare"], "did you mean repair?"),
        (["--dry-run", "--language.keep", "english"], "did you mean en?"),
        (["--dry-run", "--decontaminate", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--dry-run", "--near-duplicates.similarity", "95"], "from 0.5 to 1"),
        (["--dry-run", "--profanity.scorer", "no.such:thing"], "MODULE:FUNCTION"),
        (["--dry-run", "--workers", "0"], "--workers"),
        (["--dry-run", "--runner", "SparklingRunner"], "SparklingRunner"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(arguments, said, conversations, written, capsys) -> None:
    assert main(["data", "clean", str(written(conversations(3))), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_nothing_left_is_no_folder(written, tmp_path) -> None:
    folder = written([Conversation("a", (Message("user", "Hello, is anyone here?"),))])
    with pytest.raises(InputError, match="no turn of the assistant"):
        clean([folder], tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_scorer_in_the_folder_one_works_in(written, tmp_path) -> None:
    """By the installed command, whose path does not hold that folder, in workers of its own."""
    (tmp_path / "my_scorer.py").write_text("def score(text, language):\n    return float('darn' in text)\n")
    answers = ["It was darn good, my friend.", "It was fine, my friend."] * 2000
    rows = [
        Conversation(f"{i}", (Message("user", f"How was {i}?"), Message("assistant", a))) for i, a in enumerate(answers)
    ]
    script = "import sys; sys.path.remove(''); from jaxchat.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = ["data", "clean", str(written(rows)), "--dry-run", "--workers", "2", "--json", "stats.json",
             "--profanity.scorer", "my_scorer:score", "--skip", "near-duplicates"]  # fmt: skip
    subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, check=True, capture_output=True)
    assert json.loads((tmp_path / "stats.json").read_text())["reasons"] == {"profanity: a profane turn": 2000}


def swears(text: str, language: str) -> float:
    return float("darn" in text)


def test_a_scorer_of_ones_own(written) -> None:
    talk = Conversation(
        "a", (Message("user", "Well, how was it?"), Message("assistant", "It was darn good, my friend."))
    )
    fine = Conversation(
        "b", (Message("user", "Well, how was it now?"), Message("assistant", "It was fine, my friend."))
    )
    folder = written([talk, fine])
    own = Profanity(scorer=f"{__name__}:swears")
    sys.modules[__name__].swears = swears  # importlib mode gives test modules names of their own
    stats = clean([folder], None, Cleaning(profanity=own), workers=1)
    assert stats["reasons"] == {"profanity: a profane turn": 1}
    assert clean([folder], None, workers=1)["rows_used"] == 2


def test_boilerplate_may_be_cut_off_instead(written, tmp_path) -> None:
    texts = ("What do you think of it?", "It is a fine piece of work.", "And now?", "[deleted]")
    talk = Conversation("a", tuple(Message("assistant" if i % 2 else "user", t) for i, t in enumerate(texts)))
    clean([written([talk])], tmp_path / "out", Cleaning(boilerplate=Boilerplate(act="trim")), workers=1)
    (kept,) = read_conversations(tmp_path / "out")
    assert [m.content for m in kept.messages] == list(texts[:2])


def test_the_language_is_kept_per_message_too(written) -> None:
    english = Message("user", "How do I say good morning to my neighbours in Germany?")
    german = Message("assistant", "Man sagt dort am Morgen einfach Guten Morgen zu den Nachbarn.")
    mixed = Conversation("a", (english, german))
    folder = written([mixed])
    for keep, used in ((("en", "de"), 1), (("en",), 0)):
        assert (
            clean([folder], None, Cleaning(language=Language(keep=keep, per="message")), workers=1)["rows_used"] == used
        )


def test_a_path_named_twice_is_refused(conversations, written) -> None:
    folder: Path = written(conversations(2))
    with pytest.raises(InputError, match="named twice"):
        clean([folder, folder], None, workers=1)
