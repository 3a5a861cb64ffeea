"""A layout read backwards is its exact inverse, and a piece of a parameter is what the whole has there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jaxchat.hub.layout import Part, Tensor

SIZES = {"L": 3, "E": 2, "D": 6, "N": 4, "K": 2, "H": 4, "C": 2, "J": 2, "F": 5, "V": 7}

TENSORS = {
    "transposed": Tensor("a.{L}", Part("a", "L D F", "F D")),
    "heads in rows": Tensor("q.{L}", Part("q", "L D N H", "(N H) D")),
    "heads in columns": Tensor("o.{L}", Part("o", "L N H D", "D (N H)")),
    "interleaved pairs": Tensor("q.{L}", Part("q", "L D N (C J)", "(N J C) D")),
    "fused rows": Tensor("qkv.{L}", Part("q", "L D N H", "(N H) D"), Part("k", "L D K H", "(K H) D")),
    "fused columns": Tensor("qk.{L}", Part("q", "L D N H", "D (N H)"), Part("k", "L D K H", "D (K H)"), axis=1),
    "experts": Tensor("{L}.{E}.up", Part("up", "L E D F", "F D")),
    "experts in one": Tensor("{L}.experts", Part("up", "L E D F", "E F D")),
    "layers last": Tensor("{L}.x", Part("x", "D L", "D")),
    "single": Tensor("norm", Part("norm", "D", "D")),
}


def our_shape(part: Part) -> tuple[int, ...]:
    words = part.ours.replace("(C J)", "H").split()
    return tuple(SIZES[word] for word in words)


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS.keys())
def test_written_and_read_again_is_the_same(tensor: Tensor) -> None:
    rng = np.random.default_rng(0)
    params = {part.path: rng.standard_normal(our_shape(part), np.float32) for part in tensor.parts}
    file = {
        name: tensor.write(SIZES, at, lambda path, index: params[path][index]) for name, at in tensor.instances(SIZES)
    }
    assert {array.shape for array in file.values()} == {tensor.shape(SIZES)}
    assert sum(array.size for array in file.values()) == sum(array.size for array in params.values())

    def read(name: str, index: Any) -> np.ndarray:
        return file[name][index]

    for part in tensor.parts:
        whole = params[part.path]
        everything = tuple(slice(None) for _ in whole.shape)
        assert np.array_equal(tensor.read(part, SIZES, everything, read), whole)
        for _ in range(20):
            bounds = [sorted(rng.choice(size + 1, 2, replace=False)) for size in whole.shape]
            index = tuple(slice(int(a), int(b)) for a, b in bounds)
            assert np.array_equal(tensor.read(part, SIZES, index, read), whole[index])


def test_reads_no_more_than_the_piece_needs() -> None:
    tensor = TENSORS["heads in rows"]
    part = tensor.parts[0]
    asked: list[tuple[str, Any]] = []

    def read(name: str, index: Any) -> np.ndarray:
        asked.append((name, index))
        return np.zeros([s.stop - s.start for s in index], np.float32)

    tensor.read(part, SIZES, (slice(1, 2), slice(0, 3), slice(2, 4), slice(None)), read)
    assert asked == [("q.1", (slice(8, 16), slice(0, 3)))]


def test_pairs_lie_side_by_side_in_the_file_and_half_a_head_apart_with_us() -> None:
    tensor = Tensor("q.{L}", Part("q", "L D N (C J)", "(N J C) D"))
    rows = np.arange(16, dtype=np.float32)[:, None].repeat(6, 1)  # every row says its number
    ours = tensor.read(tensor.parts[0], {**SIZES, "L": 1}, (slice(None),) * 4, lambda name, index: rows[index])
    assert ours[0, 0].tolist() == [[0, 2, 1, 3], [4, 6, 5, 7], [8, 10, 9, 11], [12, 14, 13, 15]]


def test_arrays_begin_where_jax_takes_them_over() -> None:
    tensor = TENSORS["transposed"]
    index = (slice(None),) * 3
    array = tensor.read(tensor.parts[0], SIZES, index, lambda name, i: np.zeros((5, 6), np.float16))
    assert array.dtype == np.float32 and array.ctypes.data % 64 == 0
