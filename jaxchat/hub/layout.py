"""How a tensor of a file relates to our parameters, written down once and read in both directions.

A layout names the axes of an array by letters: `L D N H`. Axes that a file keeps folded into one are grouped, the
slowest first: `(N H) D` is a matrix whose rows are all heads' rows, head by head. What our layout has and the file's
lacks is stacked: the file holds one tensor for each value of that letter, and its name says which,
`model.layers.{L}.self_attn.q_proj.weight`.

    Tensor("model.layers.{L}.self_attn.q_proj.weight", Part("layers.attn.q", ours="L D N H", theirs="(N H) D"))

Several parts in one tensor lie one after another along its axis `axis` (a fused q, k and v).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Sizes = Mapping[str, int]
Index = tuple[slice, ...]
# Reads a rectangle of one of the file's tensors: (name, one slice an axis) -> array of any float dtype.
Read = Callable[[str, Index], np.ndarray]
# Reads a rectangle of one of our parameters: (path, one slice or number an axis) -> array without the numbered axes.
Take = Callable[[str, tuple[slice | int, ...]], np.ndarray]


@dataclass(frozen=True)
class Part:
    """One of our parameters, `path` in the tree joined by dots, and how its axes lie in the file's tensor. plus: what
    the file's numbers have above ours."""

    path: str
    ours: str
    theirs: str
    plus: float = 0.0


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, or one for each value of the letters in its name."""

    name: str
    parts: tuple[Part, ...]
    axis: int = 0

    def __init__(self, name: str, *parts: Part, axis: int = 0) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "axis", axis)

    @property
    def stacked(self) -> tuple[str, ...]:
        """The letters that the name spells out."""
        return tuple(letter for letter in _letters(self.parts[0].ours) if f"{{{letter}}}" in self.name)

    def instances(self, sizes: Sizes) -> Iterator[tuple[str, dict[str, int]]]:
        """The file's name, and the values of the stacked letters, of every tensor that this one stands for."""
        for values in itertools.product(*(range(sizes[letter]) for letter in self.stacked)):
            at = dict(zip(self.stacked, values))
            yield self.name.format(**at), at

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Of each of the file's tensors."""
        shapes = [_shape(part.theirs, sizes) for part in self.parts]
        whole = list(shapes[0])
        whole[self.axis] = sum(shape[self.axis] for shape in shapes)
        return tuple(whole)

    def offset(self, part: Part, sizes: Sizes) -> int:
        """Where `part` begins along `axis`."""
        before = itertools.takewhile(lambda other: other is not part, self.parts)
        return sum(_shape(other.theirs, sizes)[self.axis] for other in before)

    def read(self, part: Part, sizes: Sizes, index: Sequence[slice], read: Read) -> np.ndarray:
        """A rectangle of our parameter, float32, from the file, reading no more of the file than it must.

        `index`: one slice with step 1 for each of our axes.
        """
        ours = _groups(part.ours)
        bounds = [_bounds(s, size) for s, size in zip(index, _shape(part.ours, sizes), strict=True)]
        wanted = {letter: (0, sizes[letter]) for group in ours for letter in group}
        wanted |= {group[0]: bound for group, bound in zip(ours, bounds) if len(group) == 1}
        # An axis of ours that is itself folded is read whole and cut at the end.
        cut = tuple(slice(*bound) if len(group) > 1 else slice(None) for group, bound in zip(ours, bounds))

        out = _empty([_length(bound) for bound in bounds])
        for values in itertools.product(*(range(*wanted[letter]) for letter in self.stacked)):
            at = dict(zip(self.stacked, values))
            block = self._block(part, sizes, wanted, self.name.format(**at), read)
            place = tuple(
                at[group[0]] - bound[0] if group[0] in at else slice(None) for group, bound in zip(ours, bounds)
            )
            out[place] = block[tuple(c for group, c in zip(ours, cut) if group[0] not in at)]
        if part.plus:
            out -= np.float32(part.plus)
        return out

    def _block(self, part: Part, sizes: Sizes, wanted: Mapping[str, tuple[int, int]], name: str, read: Read):
        """One of the file's tensors, cut to `wanted` and turned to our axes, the stacked ones left out."""
        theirs = _groups(part.theirs)
        slices: list[slice] = []
        inner: list[slice] = []
        unfolded: list[int] = []
        for axis, group in enumerate(theirs):
            # A fold is contiguous along its slowest letter: read that letter's range, cut the faster ones afterwards.
            (start, stop), rest = wanted[group[0]], [sizes[letter] for letter in group[1:]]
            first = self.offset(part, sizes) if axis == self.axis else 0
            slices.append(slice(first + start * math.prod(rest), first + stop * math.prod(rest)))
            unfolded += [stop - start, *rest]
            inner += [slice(None), *(slice(*wanted[letter]) for letter in group[1:])]
        array = read(name, tuple(slices)).reshape(unfolded)[tuple(inner)]
        order = [letter for group in theirs for letter in group]
        ours = [group for group in _groups(part.ours) if group[0] not in self.stacked]
        array = array.transpose([order.index(letter) for group in ours for letter in group])
        return array.reshape([math.prod(_length(wanted[letter]) for letter in group) for group in ours])

    def write(self, sizes: Sizes, at: Mapping[str, int], take: Take) -> np.ndarray:
        """The file's tensor for the stacked letters' values `at`, from our parameters: the exact inverse of `read`."""
        arrays = []
        for part in self.parts:
            ours = _groups(part.ours)
            array = take(part.path, tuple(at.get(group[0], slice(None)) for group in ours))
            order = [letter for group in ours for letter in group if letter not in at]
            array = array.reshape([sizes[letter] for letter in order])
            theirs = [letter for group in _groups(part.theirs) for letter in group]
            array = array.transpose([order.index(letter) for letter in theirs])
            array = array.reshape(_shape(part.theirs, sizes))
            arrays.append(array + np.asarray(part.plus, array.dtype) if part.plus else array)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=self.axis)


def our_shape(part: Part, sizes: Sizes) -> tuple[int, ...]:
    """The shape of the parameter that `part` fills."""
    return _shape(part.ours, sizes)


def _groups(layout: str) -> list[tuple[str, ...]]:
    """`(N H) D` -> [("N", "H"), ("D",)]."""
    return [tuple(found.strip("()").split()) for found in re.findall(r"\([^()]*\)|\w+", layout)]


def _letters(layout: str) -> list[str]:
    return [letter for group in _groups(layout) for letter in group]


def _shape(layout: str, sizes: Sizes) -> tuple[int, ...]:
    return tuple(math.prod(sizes[letter] for letter in group) for group in _groups(layout))


def _empty(shape: Sequence[int]) -> np.ndarray:
    """Like np.empty, beginning on a boundary of 64 bytes, so that JAX on a CPU takes it over without a copy."""
    size = math.prod(shape)
    spare = np.empty(size + 16, np.float32)
    first = -spare.ctypes.data % 64 // 4
    return spare[first : first + size].reshape(shape)


def _bounds(s: slice, size: int) -> tuple[int, int]:
    start, stop, step = s.indices(size)
    if step != 1:
        raise ValueError(f"a rectangle is cut with step 1, not {step}")
    return start, stop


def _length(bound: tuple[int, int]) -> int:
    return bound[1] - bound[0]
