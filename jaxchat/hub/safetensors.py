"""safetensors in and out: read rectangle by rectangle, written in shards of bounded size with an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.hub.layout import Index

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# A shard is held in host memory while it is written.
SHARD_BYTES = 4 * 10**9
_FLOATS = ("F32", "F16", "BF16")


class Safetensors:
    """A folder's safetensors as a source of tensors.

    The files are those that model.safetensors.index.json lists, or model.safetensors, or all there are. `dtypes`: those
    that occur, as safetensors names them. Raises InputError when a file is missing, not safetensors or not whole.
    """

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._files: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: set[str] = set()
        for path in _paths(folder):
            file = _open(path)
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name in self._files:
                    raise InputError(f"{folder}: the tensor {name} stands in two files; remove the files of one model")
                piece = file.get_slice(name)
                if piece.get_dtype() not in _FLOATS:
                    raise InputError(
                        f"{path}: the tensor {name} holds {piece.get_dtype()}; weights of {', '.join(_FLOATS)} are read"
                    )
                self.dtypes.add(piece.get_dtype())
                self._files[name] = file
                self._shapes[name] = tuple(piece.get_shape())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return self._shapes

    def read(self, name: str, index: Index) -> np.ndarray:
        """A rectangle of a tensor, in the file's own dtype."""
        return self._files[name].get_slice(name)[index]


def write(
    folder: Path,
    tensors: Iterable[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]],
    dtype: np.dtype,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Writes (name, shape, function that makes the array) in order into `folder`, in files of up to `shard_bytes`
    (a larger tensor has one of its own), and an index where there are several. Returns the files.

    Raises:
        InputError: the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    shards: list[dict[str, Callable[[], np.ndarray]]] = [{}]
    held = total = 0
    for name, shape, make in tensors:
        size = int(np.prod(shape)) * dtype.itemsize
        if shards[-1] and held + size > shard_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = make
        held, total = held + size, total + size

    of = len(shards)
    names = [SINGLE] if of == 1 else [f"model-{i:05}-of-{of:05}.safetensors" for i in range(1, of + 1)]
    for file, shard in zip(names, shards):
        try:
            save_file({name: make() for name, make in shard.items()}, folder / file, metadata={"format": "pt"})
        except (SafetensorError, OSError) as error:
            raise InputError(f"cannot write {folder / file}: {error}; free some space or name another place") from error
        (folder / file).chmod(0o644)  # the library leaves a file that only its owner may read
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


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np").__enter__()
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); fetch it again") from error
