"""Near duplicates: planted copies are found, and nothing else is."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from jaxchat.chat.conversation import Conversation, Message, read_conversations
from jaxchat.curation.clean import clean
from jaxchat.curation.near_duplicates import ALIKE, SKETCH, NearDuplicates, alike, clusters, pairs_of_band
from jaxchat.curation.steps import STEPS, Cleaning

ONLY = [name for name in STEPS if name != "near-duplicates"]


@pytest.mark.parametrize(("count", "copies"), [(1000, 200), pytest.param(10_000, 1000, marks=pytest.mark.slow)])
def test_planted_copies_are_found_and_nothing_else(count, copies, conversations, check_planted, tmp_path) -> None:
    found = check_planted.near_duplicates(conversations(count), copies, tmp_path)
    assert found["recall"] >= 0.95 and found["precision"] >= 0.99


def test_the_first_stays_and_the_copy_says_of_whom(conversations, written, check_planted, tmp_path) -> None:
    one, other = conversations(2)
    copy = check_planted.planted.altered(one, 0.03, random.Random(0), "word")
    stats = clean([written([one, other, copy])], tmp_path / "out", skip=ONLY, workers=1)
    assert [c.id for c in read_conversations(tmp_path / "out")] == [one.id, other.id]
    assert stats["duplicates"]["near-duplicates"] == {
        "clusters": 1,
        "sizes": {"2": 1},
        "largest": [{"id": one.id, "conversations": 2}],
    }
    assert f'"of": "{one.id}"' in (tmp_path / "out" / "dropped.jsonl").read_text()


def test_short_ones_differ_by_the_word_that_matters(written, tmp_path) -> None:
    def sum_of(n: int) -> Conversation:
        return Conversation(str(n), (Message("user", f"What is 2 and {n}?"), Message("assistant", f"It is {2 + n}.")))

    assert clean([written(map(sum_of, range(50)))], None, skip=ONLY, workers=1)["rows_used"] == 50


@pytest.mark.parametrize("answers", ["keep", "untrain", "drop"])
def test_an_answer_given_before(answers, conversations, written, tmp_path) -> None:
    one, other = conversations(2, seed=4)
    long = "Bread rises because yeast feeds on sugar and gives off gas, which the dough holds in small bubbles. " * 3
    rows = [
        dataclasses.replace(c, messages=(*c.messages, Message("user", "Why?"), Message("assistant", text)))
        for c, text in ((one, long), (other, long.replace("small", "tiny")))
    ]
    cleaning = Cleaning(near_duplicates=NearDuplicates(answers=answers))
    stats = clean([written(rows)], tmp_path / "out", cleaning, skip=ONLY, workers=1)
    kept = list(read_conversations(tmp_path / "out"))
    assert len(kept) == (1 if answers == "drop" else 2)
    assert kept[0] == rows[0]
    if answers == "untrain":
        assert [m.train for m in kept[1].messages if m.role == "assistant"][-1] == 0
        assert sum(m.train == 0 for m in kept[1].messages) == 1
        assert stats["steps"][-1]["found"] == {"answers not to train on": 1}
    elif answers == "keep":
        assert kept[1] == rows[1]


def test_a_bucket_of_copies_has_few_pairs_and_all_its_members_in_them() -> None:
    sketches = np.tile(np.arange(SKETCH, dtype=np.uint8), (500, 1))
    pairs = list(alike(sketches))
    assert pairs == [(0, j) for j in range(1, 500)]


def test_pairs_of_a_band_are_those_of_its_buckets() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 40, 200).astype(np.uint64)
    sketches = rng.integers(0, 3, (200, SKETCH)).astype(np.uint8)
    expected = set()
    for value in range(40):
        members = np.flatnonzero(hashes == value)
        expected |= {(int(members[i]), int(members[j])) for i, j in alike(sketches[members])}
    found = pairs_of_band(hashes, sketches)
    assert {tuple(pair) for pair in found.tolist()} == expected
    assert len(expected) > 100
    assert all((sketches[i] == sketches[j]).mean() >= ALIKE for i, j in expected)


def test_clusters_go_back_to_the_one_that_stays() -> None:
    assert clusters({5: 3, 3: 1, 9: 5, 8: 7}) == {1: 3, 7: 1}
