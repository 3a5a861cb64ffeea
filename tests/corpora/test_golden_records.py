"""Conversations of the real pieces that a person read beside the files they come from, by their fingerprints: the texts
are not ours to copy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from jaxchat.chat.conversation import Message, read_conversations
from jaxchat.corpora.importing import import_corpus


def fingerprint(messages: tuple[Message, ...]) -> str:
    content = json.dumps([[message.role, message.content] for message in messages], ensure_ascii=False)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest() if messages else ""


GOLDEN: list[tuple[str, str, str, str, str, str]] = [
    # The best path goes by rank 0, and ends on a question that nobody answered.
    ("oasst", "oasst/en_100_tree.jsonl", "d7b728f8-94ae-4cf1-967a-7e4df0df13d4", "uau", "dd83922149030139", ""),
    # Two turns of the model in a row, and no other.
    ("sharegpt", "sharegpt/sharegpt_sample.json", "vH636g3_0", "a", "19925582fc1f9e8d", ""),
    ("sharegpt", "sharegpt/sharegpt_sample.json", "ufsbA0x_0", "sua", "6642aed75d6d051e", ""),
    ("preference", "hh_rlhf/test.jsonl.gz", "test.jsonl.gz:5", "ua", "36b4643b0a5ee725", "3f285f536d29787f"),
    # The pair differs before the last turn, and the chosen one has two turns of the assistant in a row.
    ("preference", "hh_rlhf/test.jsonl.gz", "test.jsonl.gz:1255", "uauaa", "41d1a0465f27285c", "f47d40727a9c5336"),
    # Single letters, which had spaces between them as all characters do.
    ("lccc", "lccc/toy_data.json", "toy_data.json:21", "uau", "68b0a06131aa1b8f", ""),
    ("alpaca", "alpaca/alpaca_zh_demo.json", "alpaca_zh_demo.json:2", "ua", "08edb376d3892aa2", ""),
    (
        "messages",
        "openai_messages/openai_cookbook_drone_3rows.jsonl",
        "openai_cookbook_drone_3rows.jsonl:2",
        "sua",
        "e44c11a8c39e2557",
        "",
    ),
]


@pytest.mark.parametrize(("format", "file", "id", "roles", "expected", "rejected"), GOLDEN)
def test_conversations_read_by_hand(
    real_data: Path, tmp_path: Path, format: str, file: str, id: str, roles: str, expected: str, rejected: str
):
    import_corpus(format, [real_data / "formats" / file], tmp_path / "out")
    (found,) = [conversation for conversation in read_conversations(tmp_path / "out") if conversation.id == id]
    assert "".join(message.role[0] for message in found.messages) == roles
    assert (fingerprint(found.messages), fingerprint(found.rejected)) == (expected, rejected)


ROWS = [
    # format, file, (used, rejected, dropped), conversations
    ("alpaca", "alpaca/alpaca_tiny.json", (100, 0, 0), 100),
    ("alpaca", "alpaca/alpaca_zh_demo.json", (1000, 0, 0), 1000),
    ("alpaca", "alpaca/seed_tasks.jsonl", (175, 0, 0), 175),
    ("belle", "belle/chinese_vicuna_chat_sample.jsonl", (3, 0, 0), 3),
    ("belle", "belle/zh_seed_tasks.json", (175, 0, 0), 175),
    ("dolly", "dolly/dolly_3rows.jsonl", (3, 0, 0), 3),
    ("firefly", "firefly/dummy_data.jsonl", (33, 0, 0), 33),
    ("lccc", "lccc/toy_data.json", (1400, 0, 0), 1400),
    ("sharegpt", "sharegpt/axolotl_conversation.json", (1, 0, 0), 1),
    ("sharegpt", "sharegpt/axolotl_conversation.missingturns.json", (1, 0, 0), 1),
    ("sharegpt", "sharegpt/dummy_conversation.json", (500, 0, 0), 500),
    ("sharegpt", "sharegpt/sharegpt_sample.json", (253, 0, 0), 253),
    ("ultrachat", "ultrachat/row0_abbrev.json", (1, 0, 0), 1),
    ("messages", "openai_messages/MockAirlineDomainEnv-few_shot.jsonl", (19, 0, 0), 19),
    ("messages", "openai_messages/azure_chat_train.jsonl", (449, 0, 0), 449),
    ("messages", "openai_messages/azure_dpo_chat.jsonl", (12, 0, 0), 12),
    ("messages", "openai_messages/openai_cookbook_drone_3rows.jsonl", (3, 0, 0), 3),
    ("oasst", "oasst/en_100_tree.jsonl", (100, 0, 0), 100),
    ("oasst", "oasst/en_100_message.jsonl", (100, 0, 0), 100),
    ("preference", "hh_rlhf/test.jsonl.gz", (2308, 4, 0), 2308),  # 4 answers are empty
    ("preference", "ultrafeedback/ultrafeedback_binarized_16rows.jsonl", (12, 0, 4), 12),  # 4 ties
    ("preference", "openai_messages/azure_dpo_chat.jsonl", (12, 0, 0), 12),
]


@pytest.mark.parametrize(("format", "file", "rows", "conversations"), ROWS)
def test_every_row_of_every_file(
    real_data: Path, tmp_path: Path, format: str, file: str, rows: tuple[int, int, int], conversations: int
):
    stats = import_corpus(format, [real_data / "formats" / file], tmp_path / "out")
    assert (stats["rows_used"], stats["rows_rejected"], stats["rows_dropped"]) == rows
    assert (stats["rows_in"], stats["conversations"]) == (sum(rows), conversations)


def test_all_paths_of_the_trees_go_to_every_last_message(real_data: Path, tmp_path: Path):
    source = real_data / "formats" / "oasst" / "en_100_tree.jsonl"

    def leaves(message: dict) -> int:
        return sum(map(leaves, message["replies"])) or 1

    last = sum(leaves(json.loads(line)["prompt"]) for line in source.open(encoding="utf-8"))
    stats = import_corpus("oasst", [source], tmp_path / "out", {"paths": "all"})
    assert stats["rows_used"] == 100 and stats["conversations"] == last
    assert len({conversation.id for conversation in read_conversations(tmp_path / "out")}) == last


def test_preferences_share_a_prompt_and_differ(real_data: Path, tmp_path: Path):
    import_corpus("preference", [real_data / "formats" / "hh_rlhf"], tmp_path / "out")
    for conversation in read_conversations(tmp_path / "out"):
        assert conversation.rejected and conversation.rejected != conversation.messages
        assert conversation.rejected[0] == conversation.messages[0]
        assert conversation.rejected[-1].role == conversation.messages[-1].role == "assistant"
