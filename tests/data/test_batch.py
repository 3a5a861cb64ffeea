"""Batches are shifted by one token, padded without weight, and placed where their sharding says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxchat.data.batch import Batch, place, process_slice
from jaxchat.data.dataset import ARRAYS, PackedRows


def batch_of(packed: PackedRows, rows: int) -> Batch:
    return Batch.of_rows(packed.read("train", range(rows)))


def test_targets_are_the_next_tokens_and_never_of_another_conversation(two_packed: list[PackedRows]):
    rows = two_packed[0].read("train", range(6))
    batch = Batch.of_rows(rows)
    assert set(rows) == set(ARRAYS)
    np.testing.assert_array_equal(batch.targets_BT[:, :-1], batch.tokens_BT[:, 1:])
    assert not batch.weights_BT[:, -1].any() and batch.weights_BT.any()
    trained = batch.weights_BT[:, :-1] > 0
    assert np.all(batch.segments_BT[:, 1:][trained] == batch.segments_BT[:, :-1][trained])
    assert np.all(batch.segments_BT[:, :-1][trained] > 0)
    assert batch.weights_BT.sum() == rows["weights"].sum()
    dtypes = {
        name: getattr(batch, name).dtype.name for name in ("tokens_BT", "targets_BT", "weights_BT", "segments_BT")
    }
    assert dtypes == {"tokens_BT": "int32", "targets_BT": "int32", "weights_BT": "float32", "segments_BT": "int32"}


def test_padding_rows_weigh_nothing(two_packed: list[PackedRows]):
    batch = batch_of(two_packed[0], 3)
    padded = batch.padded(5, pad_id=256)
    assert padded.tokens_BT.shape == padded.weights_BT.shape == (5, batch.tokens_BT.shape[1])
    assert np.all(padded.tokens_BT[3:] == 256) and not padded.weights_BT[3:].any() and not padded.segments_BT[3:].any()
    for ours, theirs in zip(jax.tree.leaves(padded), jax.tree.leaves(batch)):
        np.testing.assert_array_equal(ours[:3], theirs)
        assert ours.dtype == theirs.dtype


MESHES = [(1, 1, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8)]


@pytest.mark.parametrize("shape", MESHES)
def test_placing_changes_no_value(two_packed: list[PackedRows], shape: tuple[int, int, int]):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    mesh = Mesh(devices, ("data", "fsdp", "tensor"))
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), None))
    batch = batch_of(two_packed[0], 8)
    placed = place(batch, sharding)
    for ours, theirs in zip(jax.tree.leaves(placed), jax.tree.leaves(batch)):
        assert ours.sharding == sharding and ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert process_slice(sharding, 8, batch.tokens_BT.shape[1]) == (0, 1)


class Elsewhere:
    """A sharding of whose devices this process has those of `mine`: what one of several processes sees."""

    def __init__(self, mine: list[slice]):
        self.mine = mine

    def addressable_devices_indices_map(self, shape: tuple[int, ...]):
        return {i: (rows, slice(None)) for i, rows in enumerate(self.mine)}


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ([slice(0, 2), slice(2, 4)], (0, 2)),
        ([slice(4, 6), slice(6, 8)], (1, 2)),
        ([slice(6, 8), slice(6, 8)], (3, 4)),
        ([slice(None), slice(None)], (0, 1)),
    ],
)
def test_the_part_of_a_process_is_read_off_its_devices(mine, expected):
    assert process_slice(Elsewhere(mine), 8, 16) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("mine", [[slice(0, 2), slice(4, 6)], [slice(2, 8)], [slice(1, 5)]])
def test_a_scattered_part_is_refused(mine):
    with pytest.raises(ValueError, match="no even, contiguous part"):
        process_slice(Elsewhere(mine), 8, 16)  # type: ignore[arg-type]


PROCESS = """
import sys
import jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxchat.data.batch import place, process_slice
from jaxchat.data.pipeline import PackedRows, Pipeline
packed = [PackedRows(sys.argv[3])]
whole = next(Pipeline(packed, batch=4).heldout_batches())
for shape in ((4, 1), (1, 4), (2, 2)):
    mesh = Mesh(np.array(jax.devices()).reshape(shape), ("data", "tensor"))
    sharding = NamedSharding(mesh, PartitionSpec("data", None))
    index, count = process_slice(sharding, 4, 128)
    assert count == (1 if shape[0] == 1 else 2) and index == (0 if count == 1 else jax.process_index()), (index, count)
    pipeline = Pipeline(packed, batch=4, process_index=index, process_count=count)
    placed = place(next(pipeline.heldout_batches()), sharding, 4)
    for ours, theirs in zip(jax.tree.leaves(placed), jax.tree.leaves(whole)):
        assert ours.shape == theirs.shape
        for shard in ours.addressable_shards:
            np.testing.assert_array_equal(shard.data, theirs[shard.index])
"""


def test_two_processes_place_one_batch(two_packed: list[PackedRows]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(i), str(two_packed[0].folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
