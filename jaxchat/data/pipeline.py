"""Batches for training and evaluation, from packed rows.

The batch of step k is a pure function of (packed rows, seed, k, global batch): nothing is kept between steps, so that a
run resumes at any step without cost, and any number of processes gets the same rows in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxchat.data.batch import Batch, place, process_slice
from jaxchat.data.config import Corpus, DataConfig, Folder, Packed
from jaxchat.data.dataset import ARRAYS, PackedRows
from jaxchat.data.order import Order
from jaxchat.data.prepare import prepare
from jaxchat.data.tensorflow import load
from jaxchat.errors import InputError

__all__ = ["Batch", "Corpus", "DataConfig", "Folder", "Packed", "Pipeline", "place", "prepare", "process_slice"]

# Batches read ahead of the step that takes them, and read at once.
PREFETCH, READERS = 4, 2


class Pipeline:
    """The batches of a run: `batch` rows a step over all processes, of which this one, `process_index` of
    `process_count`, reads only its own, a contiguous part.

    `weights` mix the datasets as DataConfig.sources says. Raises InputError for datasets that do not go together, and
    when the batch does not divide over the processes.
    """

    def __init__(
        self,
        packed: Sequence[PackedRows],
        weights: Sequence[float] | None = None,
        *,
        seed: int = 0,
        batch: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if batch < 1 or batch % process_count:
            raise InputError(
                f"a batch of {batch} rows does not divide over {process_count} processes; "
                f"set --data.batch {max(1, math.ceil(batch / process_count)) * process_count}"
            )
        for one in packed:
            for what in ("seq_len", "tokenizer"):
                if one.stats[what] != packed[0].stats[what]:
                    raise InputError(f"{one.folder} and {packed[0].folder} differ in {what}; pack one of them again")
        self.packed, self.batch_size = list(packed), batch
        self.seq_len, self.pad_id = packed[0].seq_len, packed[0].pad_id
        self.order = Order([one.rows["train"] for one in packed], weights, seed)
        self.process_index, self.process_count = process_index, process_count

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many rows are seen as there are. Epochs follow each other without a gap: a batch may hold
        the end of one and the beginning of the next."""
        return int(self.order.sizes.sum()) / self.batch_size

    def rows(self, step: int) -> np.ndarray:
        """(dataset, row) of each row of the whole batch of `step`, int64[B, 2]: the same for every process."""
        tf = load()
        dataset_B, row_B = self.order.rows(tf, tf.range(self.batch_size, dtype=tf.int64) + step * self.batch_size)
        return np.stack([dataset_B.numpy(), row_B.numpy()], axis=1)

    def batch(self, step: int) -> Batch:
        """This process's rows of the batch of `step`, on the host."""
        mine = self._mine(self.batch_size)
        return Batch.of_rows(self._read(*self.rows(step)[mine].T))

    def stream(self, start: int = 0) -> Iterator[Batch]:
        """The batches of steps `start`, `start` + 1, ... without end, read ahead by tf.data in threads of its own."""
        tf = load()
        mine = self._mine(self.batch_size)
        positions = tf.range(mine.start, mine.stop, dtype=tf.int64)
        types = [tf.float32 if name == "weights" else tf.int32 for name in ARRAYS]
        plain = tf.autograph.experimental.do_not_convert
        failed: list[InputError] = []

        def read(dataset_B: np.ndarray, row_B: np.ndarray) -> list[np.ndarray]:
            try:
                rows = self._read(dataset_B, row_B)
            except InputError as error:
                failed.append(error)  # TensorFlow would make it an error of its own
                raise
            return [rows[name] for name in ARRAYS]

        dataset = (
            tf.data.Dataset.range(start, np.iinfo(np.int64).max // self.batch_size)
            .map(plain(lambda step: self.order.rows(tf, step * self.batch_size + positions)))
            .map(plain(lambda *at: tf.numpy_function(read, at, types)), num_parallel_calls=READERS, deterministic=True)
            .prefetch(PREFETCH)
        )
        options = tf.data.Options()
        options.threading.private_threadpool_size = READERS
        options.threading.max_intra_op_parallelism = 1
        try:
            for arrays in dataset.with_options(options).as_numpy_iterator():
                yield Batch.of_rows(dict(zip(ARRAYS, arrays)))
        except Exception:
            if failed:
                raise failed[0] from None
            raise

    @property
    def heldout_rows(self) -> int:
        return sum(one.rows["heldout"] for one in self.packed)

    def heldout_batches(self, batch: int | None = None) -> Iterator[Batch]:
        """All held-out rows once, in order, `batch` at a time (by default the training batch) over all processes; the
        last batch is filled up with rows of no weight."""
        batch = batch or self.batch_size
        if batch % self.process_count:
            raise InputError(f"a batch of {batch} held-out rows does not divide over {self.process_count} processes")
        at = [(i, row) for i, one in enumerate(self.packed) for row in range(one.rows["heldout"])]
        mine = self._mine(batch)
        for first in range(0, len(at), batch):
            local = np.array(at[first : first + batch][mine], np.int64).reshape(-1, 2)
            yield Batch.of_rows(self._read(local[:, 0], local[:, 1], "heldout")).padded(
                mine.stop - mine.start, self.pad_id
            )

    def _mine(self, batch: int) -> slice:
        part = batch // self.process_count
        return slice(self.process_index * part, (self.process_index + 1) * part)

    def _read(self, dataset_B: np.ndarray, row_B: np.ndarray, split: Any = "train") -> dict[str, np.ndarray]:
        """The rows, in this order, from whichever datasets they are in."""
        out = {
            name: np.zeros((len(row_B), self.seq_len), np.float32 if name == "weights" else np.int32) for name in ARRAYS
        }
        for i in np.unique(dataset_B):
            here = np.flatnonzero(dataset_B == i)
            rows = self.packed[i].read(split, row_B[here])
            for name in ARRAYS:
                out[name][here] = rows[name]
        return out
