"""safetensors in and out: read rectangle by rectangle, written in shards of bounded size with an index."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.hub.layout import Index
from jaxchat.hub.mapped import MappedFile

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 4 * 10**9
FLOATS = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
_NAMES = {dtype: name for name, dtype in FLOATS.items()}
# Before the header stands its length, and the tensors begin on a multiple of 8 bytes.
_LENGTH, _ALIGNMENT = struct.Struct("<Q"), 8


class Safetensors:
    """A folder's safetensors as a source of tensors.

    The files are those that model.safetensors.index.json lists, or model.safetensors, or all there are; or the one that
    is named. `dtypes`: those that occur, as safetensors names them. Raises InputError when a file is missing, not
    safetensors or not whole.
    """

    def __init__(self, folder: Path, file: str | None = None) -> None:
        self.where = str(folder)
        self._tensors: dict[str, tuple[MappedFile, int, np.dtype, tuple[int, ...]]] = {}
        for path in _paths(folder) if file is None else [folder / file]:
            mapped, first, header = _open(path)
            for name, entry in header.items():
                if name in self._tensors:
                    raise InputError(f"{folder}: the tensor {name} stands in two files; remove the files of one model")
                if entry["dtype"] not in FLOATS:
                    raise InputError(
                        f"{path}: the tensor {name} holds {entry['dtype']}; weights of {', '.join(FLOATS)} are read"
                    )
                start = first + entry["data_offsets"][0]
                self._tensors[name] = (mapped, start, FLOATS[entry["dtype"]], tuple(entry["shape"]))
        found = {dtype for _, _, dtype, _ in self._tensors.values()}
        self.dtypes = {name for name, dtype in FLOATS.items() if dtype in found}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: shape for name, (*_, shape) in self._tensors.items()}

    def read(self, name: str, index: Index) -> np.ndarray:
        """A rectangle of a tensor, in the file's own dtype."""
        file, start, dtype, shape = self._tensors[name]
        return file.read(start, dtype, shape, index)


def write(
    folder: Path,
    tensors: Iterable[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]],
    dtype: np.dtype,
    shard_bytes: int = SHARD_BYTES,
    advance: Callable[[int], None] = lambda count: None,
    single: str = SINGLE,
) -> list[Path]:
    """Writes (name, shape, function that makes the array) in order into `folder`, in files of up to `shard_bytes`
    (a larger tensor has one of its own), and an index where there are several. Returns the files; `single` is the name
    of the only one.

    One array is held at a time. `advance` is told the bytes written.

    Raises:
        InputError: the disk is full.
    """
    shards: list[dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]] = [{}]
    held = total = 0
    for name, shape, make in tensors:
        size = math.prod(shape) * dtype.itemsize
        if shards[-1] and held + size > shard_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = shape, make
        held, total = held + size, total + size

    of = len(shards)
    names = [single] if of == 1 else [f"model-{i:05}-of-{of:05}.safetensors" for i in range(1, of + 1)]
    for file, shard in zip(names, shards):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, (shape, _) in shard.items():
            start, end = end, end + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        with replacing(folder / file, "wb") as out:
            out.write(_LENGTH.pack(len(text)) + text)
            for _, make in shard.values():
                array = np.ascontiguousarray(make())
                out.write(array.reshape(-1).view(np.uint8).data)
                advance(array.nbytes)
    if of > 1:
        weight_map = {name: file for file, shard in zip(names, shards) for name in shard}
        with replacing(folder / INDEX) as out:
            json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, out, indent=2, sort_keys=True)
    return [folder / file for file in names]


def _paths(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{index} is not an index of safetensors ({error}); fetch it again") from error
        for name in names:
            if not (folder / name).is_file():
                raise InputError(f"{index} lists {name}, which is not there; the model is not whole, fetch it again")
        return [folder / name for name in names]
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"{folder} holds no .safetensors files; weights in another format are not read")
    return found


def _open(path: Path) -> tuple[MappedFile, int, dict[str, Any]]:
    """The file, where its tensors begin, and its header. The library checks that the header describes the whole file:
    its own reading is not used, since every page it touches stays in memory."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); fetch it again") from error
    with path.open("rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return MappedFile(path), _LENGTH.size + length, header
