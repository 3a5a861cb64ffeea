"""A packed dataset holds what was packed, keeps the held-out apart, and is whole or absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxchat.chat.conversation import Conversation, Message, read_conversations, split_hash
from jaxchat.chat.template import ChatFormat
from jaxchat.data.dataset import PackedRows, pack, summary
from jaxchat.data.packing import SplitTurns
from jaxchat.errors import InputError
from jaxchat.testing import ByteTokenizer, small_conversations


def segments(packed: PackedRows, split: str) -> Counter[tuple[tuple[int, float], ...]]:
    """What stands in the rows: (token, weight) of every segment."""
    rows = packed.read(split, range(packed.rows[split]))  # type: ignore[arg-type]
    found: Counter[tuple[tuple[int, float], ...]] = Counter()
    for tokens, weights, numbers, positions in zip(*(rows[n] for n in ("tokens", "weights", "segments", "positions"))):
        for number in range(1, numbers.max() + 1):
            here = np.flatnonzero(numbers == number)
            np.testing.assert_array_equal(here, np.arange(here[0], here[-1] + 1))
            np.testing.assert_array_equal(positions[here], np.arange(len(here)))
            found[tuple(zip(tokens[here].tolist(), weights[here].tolist()))] += 1
        padding = numbers == 0
        assert not padding[: np.count_nonzero(~padding)].any()
        assert np.all(tokens[padding] == packed.pad_id) and not weights[padding].any()
    return found


@pytest.mark.parametrize("train_on", ["assistant", "all"])
def test_every_conversation_is_in_one_split_as_its_template_renders_it(tmp_path, chat, folder, train_on):
    conversations = small_conversations(50)
    stats = pack([folder(conversations)], chat, tmp_path / "out", seq_len=200, heldout=0.3, train_on=train_on)
    packed = PackedRows(tmp_path / "out")
    for split in ("train", "heldout"):
        expected: Counter[tuple[tuple[int, float], ...]] = Counter()
        for conversation in conversations:
            if (split_hash(conversation) < 0.3) == (split == "heldout"):
                example = chat.example(conversation)
                weights = (
                    example.weights if train_on == "assistant" else np.array([0.0] + [1.0] * (len(example.ids) - 1))
                )
                expected[tuple(zip(example.ids.tolist(), weights.tolist()))] += 1
        assert segments(packed, split) == expected
        of = stats["splits"][split]
        assert of["conversations"] == sum(expected.values()) > 5
        assert of["fill"] == of["tokens"] / (200 * of["rows"])
    assert json.loads((tmp_path / "out" / "stats.json").read_text()) == stats


def test_duplicates_are_held_out_together(tmp_path, chat, folder):
    conversations = small_conversations(40)
    copies = [replace(conversation, id=f"copy of {conversation.id}", meta={"n": 2}) for conversation in conversations]
    pack([folder([*conversations, *copies])], chat, tmp_path / "out", seq_len=200, heldout=0.3)
    held = [conversation.id for conversation in read_conversations(tmp_path / "out" / "heldout")]
    assert 0 < len(held) < 80
    assert {f"copy of {id}" for id in held if id.startswith("small")} == {id for id in held if id.startswith("copy")}
    train, heldout = (segments(PackedRows(tmp_path / "out"), split) for split in ("train", "heldout"))
    assert not set(train) & set(heldout) and len(train) + len(heldout) < 80


def test_the_heldout_folder_is_all_that_is_never_trained_on(tmp_path, chat, folder):
    conversations = small_conversations(60)
    pack([folder(conversations)], chat, tmp_path / "out", seq_len=200, heldout=0.25)
    held = list(read_conversations(PackedRows(tmp_path / "out").heldout))
    assert held == [conversation for conversation in conversations if split_hash(conversation) < 0.25]
    stats = json.loads((tmp_path / "out" / "heldout" / "stats.json").read_text())
    assert stats["conversations"] == len(held) and stats["rows_in"] == stats["rows_used"] + stats["rows_dropped"] == 60


def test_the_same_conversations_give_the_same_rows(tmp_path, chat, folder):
    source = folder(small_conversations(30))
    for name in ("a", "b"):
        pack([source], chat, tmp_path / name, seq_len=150)
    a, b = PackedRows(tmp_path / "a"), PackedRows(tmp_path / "b")
    assert a.rows == b.rows
    for name, array in a.read("train", range(a.rows["train"])).items():
        np.testing.assert_array_equal(array, b.read("train", range(b.rows["train"]))[name])


def test_long_conversations_are_split_and_said_to_be(tmp_path, chat, folder):
    conversations = small_conversations(10, turns=30, words=10)
    stats = pack([folder(conversations)], chat, tmp_path / "out", seq_len=128, heldout=0, long=SplitTurns(overlap=40))
    of = stats["splits"]["train"]
    assert of["conversations_split"] > 5 and of["tokens_repeated"] > 0
    assert of["tokens_in"] + of["tokens_repeated"] == of["tokens"] + of["tokens_cut"] + of["tokens_untrained"]
    text = "\n".join(summary(stats))
    assert f"{of['conversations_split']} conversations split in {of['pieces_of_split']} pieces" in text
    assert f"{of['fill']:.2%} full" in text and "0 cut (0 tokens)" in text


def test_conversations_that_the_template_refuses_are_kept_with_the_reason(tmp_path, folder):
    strict = ChatFormat(
        ByteTokenizer(),
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages here') }}{% endif %}"
        + ByteTokenizer.chat_template,
    )
    refused = Conversation("s", (Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b")))
    source = folder([*small_conversations(8), refused])
    stats = pack([source], strict, tmp_path / "out", seq_len=200, heldout=0)
    rows = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert stats["splits"]["train"]["conversations_rejected"] == 1
    assert [row["conversation"]["id"] for row in rows] == ["s"] and "no system messages here" in rows[0]["reason"]
    with pytest.raises(InputError, match=r"1 of 1 conversations are refused .*no system messages here"):
        pack([folder([refused], "refused")], strict, tmp_path / "none", seq_len=200, heldout=0)
    assert not (tmp_path / "none").exists()


ALONE = [Conversation("a", (Message("user", "Anyone?"),))]


@pytest.mark.parametrize(
    ("conversations", "heldout", "message"),
    [
        ([], 0.1, "no conversations"),
        (ALONE, 0.0, "no assistant's turn"),
        (small_conversations(3), 0.999999, "are held out"),
    ],
)
def test_nothing_to_train_on_is_refused(tmp_path, chat, folder, conversations, heldout, message):
    with pytest.raises(InputError, match=message):
        pack([folder(conversations)], chat, tmp_path / "out", seq_len=64, heldout=heldout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("seq_len", "heldout"), [(1, 0.1), (64, 1.0), (64, -0.1)])
def test_lengths_and_shares_that_mean_nothing_are_refused(tmp_path, chat, folder, seq_len, heldout):
    with pytest.raises(InputError):
        pack([folder(small_conversations(3))], chat, tmp_path / "out", seq_len=seq_len, heldout=heldout)


def test_a_taken_folder_is_left_alone(tmp_path, chat, folder):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="not empty"):
        pack([folder(small_conversations(3))], chat, tmp_path / "out", seq_len=64)


@pytest.mark.parametrize("damage", ["cut", "gone", "stats", "nonsense", "version", "empty", "bytes"])
def test_a_damaged_folder_is_refused_in_words(tmp_path: Path, chat, folder, damage):
    out = tmp_path / "out"
    pack([folder(small_conversations(20))], chat, out, seq_len=128, heldout=0)
    rows, stats = out / "rows" / "packed_chat-train.array_record-00000-of-00001", out / "stats.json"
    match damage:
        case "cut":
            os.truncate(rows, rows.stat().st_size // 2)
        case "gone":
            rows.unlink()
        case "stats":
            stats.unlink()
        case "nonsense":
            stats.write_text("{")
        case "version":
            stats.write_text(json.dumps({**json.loads(stats.read_text()), "version": 0}))
        case "empty":
            out = tmp_path / "nothing"
        case "bytes":
            content = bytearray(rows.read_bytes())
            content[100:60_000] = os.urandom(len(content[100:60_000]))
            rows.write_bytes(content)
    with pytest.raises(InputError, match="pack the data again"):
        PackedRows(out).read("train", [0])


KILLED = """
import sys, time
from jaxchat.chat.template import ChatFormat
from jaxchat.data.dataset import pack
from jaxchat.testing import ByteTokenizer
class Slow(ByteTokenizer):
    def encode_with_offsets(self, text):
        time.sleep(0.2)
        return super().encode_with_offsets(text)
pack([sys.argv[1]], ChatFormat(Slow()), sys.argv[2], seq_len=128)
"""


def test_a_killed_writer_leaves_nothing_to_be_taken_for_whole(tmp_path: Path, chat, folder):
    source, out = folder(small_conversations(200)), tmp_path / "out"
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source), str(out)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    partial = tmp_path / ".out.partial" / "heldout" / "stats.json"
    while not partial.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists() and not out.exists()
    pack([source], chat, out, seq_len=128)
    assert not partial.exists()
    packed = PackedRows(out)
    assert len(packed.read("train", range(packed.rows["train"]))["tokens"]) == packed.rows["train"]


def test_chitchat_fills_rows_of_1024(tmp_path: Path, smollm2_gguf, folder):
    from jaxchat.chat.tokenizer import load_tokenizer
    from jaxchat.corpora.importing import import_corpus

    pytest.importorskip("chitchat_dataset")
    import_corpus("chitchat", [], tmp_path / "chitchat")
    part = [one for i, one in enumerate(read_conversations(tmp_path / "chitchat")) if i % 8 == 0]
    stats = pack([folder(part)], ChatFormat(load_tokenizer(smollm2_gguf)), tmp_path / "out", seq_len=1024)
    of = stats["splits"]["train"]
    assert of["fill"] > 0.97 and of["conversations_rejected"] == 0 and of["tokens_cut"] == 0


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, chat, folder):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    source = folder(small_conversations(300))
    # A limit on a file's size is refused like a full disk, and asks for no rights to set.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(InputError, match="no space left"):
            pack([source], chat, tmp_path / "out", seq_len=512)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
