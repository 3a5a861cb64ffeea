"""Parameters from the tensors of a file, and back, a piece at a time: no step holds a whole model on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxchat.errors import InputError
from jaxchat.hub.families import Family, Format, sizes
from jaxchat.hub.layout import Index, Tensor
from jaxchat.models.config import DecoderConfig

Params = dict[str, Any]

# Rows compared at a time where one tensor must be a copy of another.
ROWS = 4096


class Source(Protocol):
    """A file, or a folder of files, of named tensors. `where` names it in errors."""

    where: str

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape."""
        ...

    def read(self, name: str, index: Index) -> np.ndarray:
        """A rectangle of one tensor: one slice an axis, step 1; any float dtype."""
        ...


def load(source: Source, form: Format, config: DecoderConfig, abstract: Params, mesh: Mesh) -> Params:
    """The parameters, lying on `mesh` as `abstract` (Model.abstract()) says; each device's part is read for it alone.

    Raises:
        InputError: a tensor of the file is missing, extra or has another shape than `config` asks for.
    """
    check(source, form, config)
    length = sizes(config)
    wanted = {part.path: (tensor, part) for tensor in form.tensors(config) for part in tensor.parts}

    def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> jax.Array:
        tensor, part = wanted.pop(jax.tree_util.keystr(path, simple=True, separator="."))
        pieces: dict[str, np.ndarray] = {}  # devices that hold the same piece share one read

        def piece(index: Index | None) -> np.ndarray:
            key = str(index)
            if key not in pieces:
                pieces[key] = tensor.read(part, length, index or (), source.read).astype(shape.dtype, copy=False)
            return pieces[key]

        assert isinstance(shape.sharding, NamedSharding)
        return jax.make_array_from_callback(shape.shape, NamedSharding(mesh, shape.sharding.spec), piece)

    params = jax.tree_util.tree_map_with_path(leaf, abstract)
    if wanted:
        raise ValueError(f"the model has no parameters {', '.join(wanted)}, which its family's file reads")
    return params


def check(source: Source, form: Format, config: DecoderConfig) -> None:
    """Raises InputError unless the file holds exactly the tensors of `config`, in their shapes."""
    length, found = sizes(config), source.shapes()
    wanted = {name: tensor.shape(length) for tensor in form.tensors(config) for name, _ in tensor.instances(length)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"{source.where}: the tensor {missing[0]}{_more(missing)} is missing; the model is not whole")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise InputError(
                f"{source.where}: the tensor {name} has the shape {found[name]}; the model's config asks for {shape}"
            )
    extra = [name for name in found if name not in wanted and not form.ignores(name)]
    for name in list(extra):
        if form.copies.get(name) in wanted:
            _check_copy(source, name, form.copies[name])
            extra.remove(name)
    if extra:
        raise InputError(
            f"{source.where}: the tensor {extra[0]}{_more(extra)} is none of the model's that the config describes; "
            "jaxchat would compute something else without it"
        )


def tensors(
    params: Params, family: Family, config: DecoderConfig, dtype: np.dtype
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
    """(name, shape, function that makes the array) of every tensor of a Hugging Face file with these parameters.

    The parameters may be sharded over this host's devices; each array is gathered when its function is called.
    """
    length = sizes(config)

    def take(path: str, index: tuple[slice | int, ...]) -> np.ndarray:
        leaf: Any = params
        for key in path.split("."):
            leaf = leaf[key]
        return gather(leaf, index)

    def make(tensor: Tensor, at: dict[str, int]) -> np.ndarray:
        return np.ascontiguousarray(tensor.write(length, at, take).astype(dtype, copy=False))

    for tensor in family.huggingface.tensors(config):
        for name, at in tensor.instances(length):
            yield name, tensor.shape(length), partial(make, tensor, at)


def gather(array: jax.Array | np.ndarray, index: tuple[slice | int, ...]) -> np.ndarray:
    """A slice of an array on the host, `index` a whole axis or a number for each; only the shards in it are fetched."""
    if isinstance(array, np.ndarray):
        return array[index]
    if not array.is_fully_addressable:
        raise InputError("these parameters lie on several hosts; export from their checkpoint, on one host")
    out = np.empty([size for size, i in zip(array.shape, index) if isinstance(i, slice)], array.dtype)
    for shard in array.addressable_shards:
        bounds = [s.indices(size)[:2] for s, size in zip(shard.index, array.shape)]
        inside = all(isinstance(i, slice) or start <= i < stop for i, (start, stop) in zip(index, bounds))
        if shard.replica_id == 0 and inside:
            there = tuple(slice(*bound) for i, bound in zip(index, bounds) if isinstance(i, slice))
            local = tuple(i if isinstance(i, slice) else i - start for i, (start, _) in zip(index, bounds))
            # A CPU's array is seen, not copied, so cut it on the host; another device's is cut before it travels.
            on_host = next(iter(shard.data.devices())).platform == "cpu"
            out[there] = np.asarray(shard.data)[local] if on_host else np.asarray(shard.data[local])
    return out


def _check_copy(source: Source, name: str, original: str) -> None:
    shape, other = source.shapes()[name], source.shapes()[original]
    rest = tuple(slice(0, size) for size in shape[1:])
    pieces = [(slice(row, min(row + ROWS, shape[0])), *rest) for row in range(0, shape[0], ROWS)]
    same = shape == other and all(
        np.array_equal(source.read(name, piece), source.read(original, piece)) for piece in pieces
    )
    if not same:
        raise InputError(
            f"{source.where}: the tensors {name} and {original} differ, and the config ties them; "
            "set tie_word_embeddings to false"
        )


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
