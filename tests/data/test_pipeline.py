"""The batch of step k is a pure function of (packed rows, seed, k, global batch)."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import fields
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jaxchat.data.batch import Batch
from jaxchat.data.dataset import PackedRows, pack
from jaxchat.data.pipeline import Pipeline
from jaxchat.errors import InputError
from jaxchat.testing import small_conversations


def equal(a: Batch, b: Batch) -> None:
    for field in fields(Batch):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


@pytest.fixture(scope="module")
def pipeline(two_packed: list[PackedRows]) -> Pipeline:
    return Pipeline(two_packed, seed=5, batch=6)


def test_an_epoch_is_a_permutation_of_all_rows(two_packed: list[PackedRows], pipeline: Pipeline):
    every = sorted((i, row) for i, one in enumerate(two_packed) for row in range(one.rows["train"]))
    assert pipeline.steps_per_epoch == len(every) / 6
    drawn = np.concatenate([pipeline.rows(step) for step in range(len(every))])
    epochs = drawn.reshape(6, len(every), 2).tolist()
    assert all(sorted(map(tuple, epoch)) == every for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) == 6


def test_rows_are_the_rows_that_were_packed(two_packed: list[PackedRows], pipeline: Pipeline):
    batch = pipeline.batch(3)
    for b, (dataset, row) in enumerate(pipeline.rows(3)):
        np.testing.assert_array_equal(batch.tokens_BT[b], two_packed[dataset].read("train", [row])["tokens"][0])


@pytest.mark.parametrize("start", [0, 1, 7, 10**6])
@pytest.mark.parametrize("weights", [None, [3, 1]])
def test_resumed_is_never_stopped(two_packed: list[PackedRows], start: int, weights):
    pipeline = Pipeline(two_packed, weights, seed=2, batch=4)
    for step, batch in enumerate(islice(pipeline.stream(start), 12), start):
        equal(batch, pipeline.batch(step))
    later = Pipeline(two_packed, weights, seed=2, batch=4).stream(start + 5)
    equal(next(later), pipeline.batch(start + 5))


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("weights", [None, [1, 4]])
def test_processes_read_their_own_rows_of_the_same_batch(two_packed: list[PackedRows], count: int, weights):
    whole = Pipeline(two_packed, weights, seed=9, batch=6)
    parts = [Pipeline(two_packed, weights, seed=9, batch=6, process_index=i, process_count=count) for i in range(count)]
    streams = [part.stream(4) for part in parts]
    for step in (4, 5, 6):
        batches = [next(stream) for stream in streams]
        assert all(len(batch.tokens_BT) == 6 // count for batch in batches)
        expected = whole.batch(step)
        for field in fields(Batch):
            joined = np.concatenate([getattr(batch, field.name) for batch in batches])
            np.testing.assert_array_equal(joined, getattr(expected, field.name))
        for part in parts:
            np.testing.assert_array_equal(part.rows(step), whole.rows(step))


def test_weights_share_out_the_rows(two_packed: list[PackedRows]):
    pipeline = Pipeline(two_packed, [0.9, 0.1], seed=0, batch=50)
    drawn = np.concatenate([pipeline.rows(step) for step in range(40)])[:, 0]
    assert np.bincount(drawn).tolist() == [1800, 200]


def test_the_seed_and_nothing_else_changes_the_order(two_packed: list[PackedRows], pipeline: Pipeline):
    again, other = Pipeline(two_packed, seed=5, batch=6), Pipeline(two_packed, seed=6, batch=6)
    wider = Pipeline(two_packed, seed=5, batch=12)
    np.testing.assert_array_equal(pipeline.rows(8), again.rows(8))
    assert (pipeline.rows(8) != other.rows(8)).any()
    np.testing.assert_array_equal(wider.rows(4), np.concatenate([pipeline.rows(8), pipeline.rows(9)]))


def test_a_late_step_costs_what_the_first_does(pipeline: Pipeline):
    def seconds(start: int) -> float:
        began = time.perf_counter()
        next(pipeline.stream(start))
        return time.perf_counter() - began

    first = min(seconds(0) for _ in range(3))
    assert min(seconds(10**9) for _ in range(3)) < 3 * first + 0.2


@pytest.mark.parametrize("batch", [1, 4, 1000])
@pytest.mark.parametrize("count", [1, 2])
def test_heldout_batches_are_every_heldout_row_once(two_packed: list[PackedRows], batch: int, count: int):
    if batch % count:
        return
    made = [
        list(Pipeline(two_packed, batch=8, process_index=i, process_count=count).heldout_batches(batch))
        for i in range(count)
    ]
    joined = [np.concatenate([b.tokens_BT for b in batches]) for batches in zip(*made)]
    rows = np.concatenate([one.read("heldout", range(one.rows["heldout"]))["tokens"] for one in two_packed])
    assert all(len(tokens) == batch for tokens in joined)
    tokens = np.concatenate(joined)
    np.testing.assert_array_equal(tokens[: len(rows)], rows)
    weights = np.concatenate([np.concatenate([b.weights_BT for b in batches]) for batches in zip(*made)])
    assert (
        len(weights) - len(rows) < batch and not weights[len(rows) :].any() and weights[: len(rows)].any(axis=1).all()
    )
    assert Pipeline(two_packed, batch=8).heldout_rows == len(rows)


def test_nothing_held_out_is_no_batches(tmp_path: Path, chat, folder):
    pack([folder(small_conversations(10))], chat, tmp_path / "out", seq_len=128, heldout=0)
    assert list(Pipeline([PackedRows(tmp_path / "out")], batch=2).heldout_batches()) == []


def test_what_does_not_go_together_is_refused(tmp_path: Path, chat, folder, two_packed: list[PackedRows]):
    with pytest.raises(InputError, match=r"batch of 63 rows does not divide over 8 processes; set --data.batch 64"):
        Pipeline(two_packed, batch=63, process_count=8)
    pack([folder(small_conversations(10))], chat, tmp_path / "out", seq_len=64)
    with pytest.raises(InputError, match="differ in seq_len"):
        Pipeline([*two_packed, PackedRows(tmp_path / "out")], batch=2)
    with pytest.raises(InputError, match="3 held-out rows does not divide"):
        next(Pipeline(two_packed, batch=2, process_count=2).heldout_batches(3))


def test_rows_that_go_bad_under_way_are_an_input_error(tmp_path: Path, chat, folder):
    pack([folder(small_conversations(40))], chat, tmp_path / "out", seq_len=128, heldout=0)
    packed = PackedRows(tmp_path / "out")
    (tmp_path / "out" / "rows" / "packed_chat-train.array_record-00000-of-00001").write_bytes(b"gone")
    with pytest.raises(InputError, match="cannot read its train rows"):
        next(Pipeline([packed], batch=2).stream())


def test_tensorflow_comes_only_with_the_stream(two_packed: list[PackedRows]):
    script = f"""
import sys
from jaxchat.data.pipeline import PackedRows, Pipeline
pipeline = Pipeline([PackedRows({str(two_packed[0].folder)!r})], batch=2)
assert len(next(pipeline.heldout_batches()).tokens_BT) == 2
assert "tensorflow" not in sys.modules
next(pipeline.stream())
assert "tensorflow" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
