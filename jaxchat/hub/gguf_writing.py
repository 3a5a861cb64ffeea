"""GGUF files out: what llama.cpp and Ollama run, written a tensor at a time through the `gguf` package's writer."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxchat.errors import InputError

if TYPE_CHECKING:
    from gguf.constants import GGMLQuantizationType

# The format of matrices by our name for it, and its number in general.file_type.
KINDS = {"float32": ("F32", 0), "float16": ("F16", 1), "bfloat16": ("BF16", 32), "q8_0": ("Q8_0", 7)}
# Largest change that rounding to a format makes, as a share of the largest value. A block of Q8_0 has 127 steps to its
# largest value, whose size is itself rounded to float16.
ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-9, "q8_0": 0.5 / 127 + 2.0**-11}
# llama.cpp computes with these in float32 alone, whatever the others are in.
_FLOAT32 = ("*ffn_gate_inp*", "position_embd*", "rope_f*")
# Bytes a number takes at most, blocks' scales included.
BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "q8_0": 34 / 32}


def kind(name: str, shape: tuple[int, ...], dtype: str) -> GGMLQuantizationType:
    """The format of one tensor in a file of `dtype`: vectors stay in float32, as llama.cpp wants them, and a row that
    is no number of whole blocks is kept in float16."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2 or any(fnmatch.fnmatchcase(name, pattern) for pattern in _FLOAT32):
        return GGMLQuantizationType.F32
    wanted = GGMLQuantizationType[KINDS[dtype][0]]
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def round_as(dtype: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """What reading a tensor of a file of `dtype` gives back."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    def rounding(name: str, array: np.ndarray) -> np.ndarray:
        form = kind(name, array.shape, dtype)
        if form == GGMLQuantizationType.F32:
            return array
        return dequantize(_encoded(name, array, form), form)

    return rounding


def write(
    path: Path,
    tensors: Iterable[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]],
    metadata: Mapping[str, Any],
    dtype: str,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Writes (name, shape, function that makes the array) in order. One array is held at a time. `advance` is told the
    numbers written. `metadata` holds general.architecture; its ints are written in 32 bits, its bytes as an array.

    Raises:
        InputError: the disk is full, or a number is too large for `dtype`.
    """
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.gguf_writer import GGUFWriter

    listed = [(name, kind(name, shape, dtype), shape, make) for name, shape, make in tensors]
    writer = GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if key != "general.architecture":  # the writer has put it down already
            _add(writer, key, value)
    for name, form, shape, _ in listed:
        block, size = GGML_QUANT_SIZES[form]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), math.prod(shape) // block * size, form)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, form, _, make in listed:
            array = make()
            writer.write_tensor_data(_encoded(name, array, form))
            advance(array.size)
        writer.flush()
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error}; free some space or name another place") from error
    finally:
        writer.close()


def _encoded(name: str, array: np.ndarray, form: GGMLQuantizationType) -> np.ndarray:
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    if form == GGMLQuantizationType.F16 and np.abs(array).max() > np.finfo(np.float16).max:
        raise InputError(f"the tensor {name} holds {np.abs(array).max():g}, too large for float16; export as float32")
    return np.ascontiguousarray(quantize(np.ascontiguousarray(array), form))


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value if isinstance(value, bytes) else list(value))
