"""Every block format that models are passed on in is read as its specification computes it, whole or in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from jaxchat.hub.gguf import Gguf

# A reference takes a block's bytes apart one number at a time, as ggml's C code does; `half` reads a float16.
Block = bytes


def half(block: Block, at: int) -> float:
    return float(np.frombuffer(block[at : at + 2], np.float16)[0])


def q8_0(b: Block) -> Iterator[float]:
    yield from (half(b, 0) * int(np.int8(np.uint8(b[2 + i]))) for i in range(32))


def q4(b: Block, base: int, least: float, shift: int) -> Iterator[float]:
    for high in (0, 4):
        yield from (half(b, 0) * ((b[base + i] >> high & 15) - shift) + least for i in range(16))


def q5(b: Block, base: int, least: float, shift: int) -> Iterator[float]:
    fifth = int.from_bytes(b[base - 4 : base], "little")
    for high in (0, 4):
        for i in range(16):
            value = (b[base + i] >> high & 15) | (fifth >> (i + 4 * high) & 1) << 4
            yield half(b, 0) * (value - shift) + least


def scale_and_least(s: Block, j: int) -> tuple[int, int]:
    """Of 12 bytes, the j-th pair of 6-bit numbers of Q4_K and Q5_K."""
    if j < 4:
        return s[j] & 63, s[j + 4] & 63
    return (s[j + 4] & 15) | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4


def q45_k(b: Block, fifths: bool) -> Iterator[float]:
    base = 48 if fifths else 16
    for j in range(8):
        scale, least = scale_and_least(b[4:16], j)
        for i in range(32):
            value = b[base + j // 2 * 32 + i] >> j % 2 * 4 & 15
            value += 16 * (b[16 + i] >> j & 1) if fifths else 0
            yield half(b, 0) * scale * value - half(b, 2) * least


def q6_k(b: Block) -> Iterator[float]:
    for n in range(2):
        low, high, scales = b[64 * n :], b[128 + 32 * n :], b[192 + 8 * n :]
        for j in range(4):
            for i in range(32):
                value = (low[i + j % 2 * 32] >> j // 2 * 4 & 15) | (high[i] >> 2 * j & 3) << 4
                scale = int(np.int8(np.uint8(scales[2 * j + i // 16])))
                yield half(b, 208) * scale * (value - 32)


def q2_k(b: Block) -> Iterator[float]:
    for n in range(2):
        for j in range(4):
            for i in range(32):
                scale = b[8 * n + 2 * j + i // 16]
                value = b[16 + 32 * n + i] >> 2 * j & 3
                yield half(b, 80) * (scale & 15) * value - half(b, 82) * (scale >> 4)


def q3_k(b: Block) -> Iterator[float]:
    s = b[96:108]
    scales = [(s[i % 8] >> i // 8 * 4 & 15) | (s[8 + i % 4] >> i // 4 * 2 & 3) << 4 for i in range(16)]
    for n in range(2):
        for j in range(4):
            for i in range(32):
                value = (b[32 + 32 * n + i] >> 2 * j & 3) - (0 if b[i] >> (4 * n + j) & 1 else 4)
                yield half(b, 108) * (scales[8 * n + 2 * j + i // 16] - 32) * value


# How a block is read, and where its float16 numbers lie.
BLOCKS: dict[Kind, tuple[Callable[[Block], Iterator[float]], tuple[int, ...]]] = {
    Kind.Q8_0: (q8_0, (0,)),
    Kind.Q4_0: (lambda b: q4(b, 2, 0.0, 8), (0,)),
    Kind.Q4_1: (lambda b: q4(b, 4, half(b, 2), 0), (0, 2)),
    Kind.Q5_0: (lambda b: q5(b, 6, 0.0, 16), (0,)),
    Kind.Q5_1: (lambda b: q5(b, 8, half(b, 2), 0), (0, 2)),
    Kind.Q2_K: (q2_k, (80, 82)),
    Kind.Q3_K: (q3_k, (108,)),
    Kind.Q4_K: (lambda b: q45_k(b, False), (0, 2)),
    Kind.Q5_K: (lambda b: q45_k(b, True), (0, 2)),
    Kind.Q6_K: (q6_k, (208,)),
}


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_a_block_is_read_as_specified(tmp_path: Path, kind: Kind) -> None:
    reference, halves = BLOCKS[kind]
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    chance = np.random.default_rng(kind.value)
    rows, across = 6, 512 // numbers
    data = chance.integers(0, 256, (rows, across, size), np.uint8)
    for at in halves:
        values = chance.uniform(-0.05, 0.05, (rows, across, 1)).astype(np.float16)
        data[:, :, at : at + 2] = values.view(np.uint8)
    expected = np.array([[x for block in row for x in reference(block.tobytes())] for row in data])

    writer = gguf.GGUFWriter(str(tmp_path / "x.gguf"), "llama")
    writer.add_tensor("x.weight", data.reshape(rows, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source = Gguf(tmp_path / "x.gguf")
    assert source.shapes() == {"x.weight": (rows, 512)}
    whole = source.read("x.weight", (slice(0, rows), slice(0, 512)))
    assert np.abs(whole - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.array_equal(source.read("x.weight", (slice(2, 5), slice(70, 300))), whole[2:5, 70:300])
