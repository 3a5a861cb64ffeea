"""Parameters from the tensors of a file, and back, a piece at a time: no step holds a whole model on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxchat.errors import InputError
from jaxchat.hub.families import Family, Format, sizes
from jaxchat.hub.layout import Index, Part, Read, Sizes, Tensor
from jaxchat.models.config import DecoderConfig

Params = dict[str, Any]
# Rounds one of a file's tensors, by its name: what reading it back will give.
Rounding = Callable[[str, np.ndarray], np.ndarray]

# Rows compared at a time where one tensor must be a copy of another.
ROWS = 4096


class Source(Protocol):
    """A file, or a folder of files, of named tensors. `where` names it in errors."""

    @property
    def where(self) -> str: ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape."""
        ...

    def read(self, name: str, index: Index) -> np.ndarray:
        """A rectangle of one tensor: one slice an axis, step 1; any float dtype."""
        ...


@dataclass(frozen=True)
class _Prefixed:
    """A source under longer names than its own."""

    source: Source
    prefix: str

    @property
    def where(self) -> str:
        return self.source.where

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {self.prefix + name: shape for name, shape in self.source.shapes().items()}

    def read(self, name: str, index: Index) -> np.ndarray:
        return self.source.read(name.removeprefix(self.prefix), index)


def _named(source: Source, form: Format) -> Source:
    """The source under the names that `form` knows, where the file leaves out how they begin."""
    prefix = form.named(source.shapes())
    return _Prefixed(source, prefix) if prefix else source


def _listed(source: Source, form: Format, config: DecoderConfig) -> tuple[Tensor, ...]:
    """The file's tensors, by the names under which it holds most of them."""
    length, found = sizes(config), source.shapes()

    def share(listed: tuple[Tensor, ...]) -> float:
        names = [name for tensor in listed for name, _ in tensor.instances(length)]
        return sum(name in found for name in names) / len(names)

    return max((tensors(config) for tensors in (form.tensors, *form.others)), key=share)


def load(
    source: Source,
    form: Format,
    config: DecoderConfig,
    abstract: Params,
    mesh: Mesh,
    advance: Callable[[int], None] = lambda count: None,
) -> Params:
    """The parameters, lying on `mesh` as `abstract` (Model.abstract()) says; each device's part is read for it alone.

    `advance` is told the numbers read.

    Raises:
        InputError: a tensor of the file is missing, extra or has another shape than `config` asks for.
    """
    source = _named(source, form)
    check(source, form, config)
    wanted = _parts(_listed(source, form, config))

    def read(name: str, index: Index) -> np.ndarray:
        array = source.read(name, index)
        advance(array.size)
        return array

    def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> jax.Array:
        assert isinstance(shape.sharding, NamedSharding)
        sharding = NamedSharding(mesh, shape.sharding.spec)
        return _leaf(*wanted.pop(_name(path)), sizes(config), shape, sharding, read)

    params = jax.tree_util.tree_map_with_path(leaf, abstract)
    if wanted:
        raise ValueError(f"the model has no parameters {', '.join(wanted)}, which its family's file reads")
    return params


def round_in_place(params: Params, form: Format, config: DecoderConfig, how: Rounding) -> dict[str, float]:
    """Gives `params` the values that a file holds once `how` has rounded each of its tensors; a leaf at a time, so that
    one copy is held. Returns the largest change in each leaf, as a share of its largest value.
    """
    length = sizes(config)
    changes = {}
    for path, (tensor, part) in _parts(form.tensors(config)).items():
        before = _get(params, path)
        places = dict(tensor.instances(length))
        made: dict[str, np.ndarray] = {}

        def read(
            name: str,
            index: Index,
            tensor: Tensor = tensor,
            places: Mapping[str, dict[str, int]] = places,
            made: dict[str, np.ndarray] = made,
        ) -> np.ndarray:
            if name not in made:  # the last one made is kept, since devices ask for its parts in turn
                made.clear()
                made[name] = how(name, tensor.write(length, places[name], partial(_take, params)))
            return made[name][index]

        after = _leaf(tensor, part, length, before, before.sharding, read)
        changes[path] = float(_change(before, after))
        inner, _, last = path.rpartition(".")
        (_get(params, inner) if inner else params)[last] = after
    return changes


@jax.jit
def _change(before: jax.Array, after: jax.Array) -> jax.Array:
    largest = jnp.max(jnp.abs(before))
    return jnp.max(jnp.abs(after - before)) / jnp.maximum(largest, jnp.finfo(before.dtype).tiny)


def check(source: Source, form: Format, config: DecoderConfig) -> None:
    """Raises InputError unless the file holds exactly the tensors of `config`, in their shapes."""
    source = _named(source, form)
    length, found = sizes(config), source.shapes()
    listed = _listed(source, form, config)
    wanted = {name: tensor.shape(length) for tensor in listed for name, _ in tensor.instances(length)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"{source.where}: the tensor {missing[0]}{_more(missing)} is missing; the model is not whole")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise InputError(
                f"{source.where}: the tensor {name} has the shape {found[name]}; the model's config asks for {shape}"
            )
    implied = form.implied(config)
    extra = [name for name in found if name not in wanted and name not in implied and not form.ignores(name)]
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
    for name, shape, make in whole(params, family.huggingface, config):
        yield name, shape, partial(_as, dtype, make)


def whole(
    params: Params, form: Format, config: DecoderConfig
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
    """The same in the parameters' own dtype, for either kind of file."""
    length = sizes(config)
    for tensor in form.tensors(config):
        for name, at in tensor.instances(length):
            yield name, tensor.shape(length), partial(tensor.write, length, at, partial(_take, params))
    for name, array in form.implied(config).items():
        yield name, array.shape, array.copy


def _as(dtype: np.dtype, make: Callable[[], np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(make().astype(dtype, copy=False))


def _take(params: Params, path: str, index: tuple[slice | int, ...]) -> np.ndarray:
    return gather(_get(params, path), index)


def _get(params: Params, path: str) -> Any:
    leaf: Any = params
    for key in path.split("."):
        leaf = leaf[key]
    return leaf


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _parts(listed: Iterable[Tensor]) -> dict[str, tuple[Tensor, Part]]:
    return {part.path: (tensor, part) for tensor in listed for part in tensor.parts}


def _leaf(tensor: Tensor, part: Part, length: Sizes, shape: Any, sharding: NamedSharding, read: Read) -> jax.Array:
    """One parameter of the shape and dtype of `shape`, each device's piece read for it alone."""
    pieces: dict[str, np.ndarray] = {}  # devices that hold the same piece share one read

    def piece(index: Index | None) -> np.ndarray:
        key = str(index)
        if key not in pieces:
            pieces[key] = tensor.read(part, length, index or (), read).astype(shape.dtype, copy=False)
        return pieces[key]

    return jax.make_array_from_callback(shape.shape, sharding, piece)


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
