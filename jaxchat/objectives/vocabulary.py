"""Who unembeds what: which part of the vocabulary a device computes with, for whose tokens.

The weight is stored split over n devices of an axis (fsdp), by its width or by its vocabulary. Were each device to
unembed its own tokens alone, it would gather all of the weight and sum a gradient as large, for 128k tokens of
vocabulary gigabytes of memory and the largest messages of a step. So teams of g devices put their tokens together, and
each of a team unembeds 1/g of the vocabulary for all of them: messages and memory of the weight fall to 1/g, those of
the tokens grow g times.

D width, V vocabulary, C tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
from jax.sharding import PartitionSpec

Groups = list[list[int]]


@dataclass(frozen=True)
class Split:
    """How the vocabulary is split among devices, inside a shard_map.

    spec: how the weight is stored. width, vocab: which axis of it is D and which V. along: the one of both that is
    stored in parts. stored: mesh axes that hold these, over which they are gathered to compute. split: mesh axes that
    split V where it is stored and stay. team: devices of the one axis of `stored` that share a vocabulary; 1: none do.
    devices: of these.
    """

    spec: PartitionSpec
    width: int
    vocab: int
    along: int
    stored: tuple[str, ...]
    split: tuple[str, ...]
    team: int
    devices: int

    def weight(self, weight: jax.Array) -> jax.Array:
        """This device's part of the vocabulary in all of the width, from the weight as it is stored."""
        if self.team > 1 and self.along == self.width:
            weight = jax.lax.all_to_all(
                weight, self.stored[0], self.vocab, self.width, axis_index_groups=self._teams, tiled=True
            )
        if not self.stored or self.team == self.devices:
            return weight
        return jax.lax.all_gather(weight, self._axes, axis=self.along, axis_index_groups=self._peers, tiled=True)

    def stored_grad(self, grad: jax.Array, summed_over: tuple[str, ...]) -> jax.Array:
        """The way back: sums of all devices' gradients, of which each is left what it stores. Every device's share of
        the sum over `summed_over` comes in once."""
        if self.stored and self.team < self.devices:
            grad = jax.lax.psum_scatter(
                grad, self._axes, scatter_dimension=self.along, axis_index_groups=self._peers, tiled=True
            )
        if self.team > 1 and self.along == self.width:
            grad = jax.lax.all_to_all(
                grad, self.stored[0], self.width, self.vocab, axis_index_groups=self._teams, tiled=True
            )
        return total(grad, tuple(axis for axis in summed_over if axis not in self.stored))

    def tokens(self, x: jax.Array) -> jax.Array:
        """The team's tokens, member after member, from this device's, (C, ...)."""
        if self.team == 1:
            return x
        return jax.lax.all_gather(x, self.stored[0], axis_index_groups=self._teams, tiled=True)

    def own(self, x: jax.Array) -> jax.Array:
        """This device's tokens of the team's."""
        if self.team == 1:
            return x
        count = len(x) // self.team
        return jax.lax.dynamic_slice_in_dim(x, self._member * count, count)

    def own_total(self, x: jax.Array) -> jax.Array:
        """Of what each part of the vocabulary adds to every token of the team, the sum, for this device's tokens."""
        return self.own(self.total(x)[0])

    def total(self, *xs: jax.Array) -> tuple[jax.Array, ...]:
        """Sums over the parts of the vocabulary."""
        if self.team > 1:
            xs = jax.lax.psum(xs, self.stored[0], axis_index_groups=self._teams)
        return jax.lax.psum(xs, self.split) if self.split else xs

    def largest(self, x: jax.Array) -> jax.Array:
        """The largest over the parts of the vocabulary."""
        if self.team > 1:
            x = jax.lax.pmax(x, self.stored[0], axis_index_groups=self._teams)
        return jax.lax.pmax(x, self.split) if self.split else x

    def first(self, size: int) -> jax.Array | int:
        """The id of the first token of this device's part, which holds `size`."""
        part: jax.Array | int = jax.lax.axis_index(self.split) if self.split else 0
        return (part * self.team + self._member) * size

    @property
    def _member(self) -> jax.Array | int:
        """This device's place in its team."""
        if self.team == 1:
            return 0
        place = jax.lax.axis_index(self.stored[0])
        return place % self.team if self.along == self.width else place // (self.devices // self.team)

    @property
    def _axes(self) -> str | tuple[str, ...]:
        return self.stored[0] if self.team > 1 else self.stored

    @property
    def _teams(self) -> Groups:
        """Neighbours where the width is stored in parts. Where the vocabulary is, neighbours store what one of a team
        computes with, and a team is one of each such neighbourhood."""
        return self._near(self.team) if self.along == self.width else self._far(self.devices // self.team)

    @property
    def _peers(self) -> Groups | None:
        """Who computes with the same part of the vocabulary, one of each team."""
        if self.team == 1:
            return None
        return self._far(self.team) if self.along == self.width else self._near(self.devices // self.team)

    def _near(self, size: int) -> Groups:
        return [list(range(first, first + size)) for first in range(0, self.devices, size)]

    def _far(self, apart: int) -> Groups:
        return [list(range(first, self.devices, apart)) for first in range(apart)]


def split_vocabulary(weight: jax.Array, order: str, token_axes: tuple[str, ...], tokens: int) -> Split:
    """The split of a weight as it is stored, its axes in this order ("VD" or "DV"), where a device has `tokens` and
    `token_axes` of the mesh split those of all.

    Teams are as large as the tokens they move are fewer than the rows of the weight that they need not.
    """
    sizes, spec = jax.sharding.get_abstract_mesh().shape, jax.typeof(weight).sharding.spec
    width, vocab = order.index("D"), order.index("V")
    by_width, by_vocab = (devices_of(spec[axis]) for axis in (width, vocab))
    split = tuple(axis for axis in by_vocab if axis not in token_axes)
    along, stored = (width, by_width) if by_width else (vocab, by_vocab[len(split) :])
    part = weight.shape[vocab]
    for axis in split:
        part //= sizes[axis]
    devices, team = math.prod(sizes[axis] for axis in stored), 1
    while (
        len(stored) == 1 and devices % (2 * team) == 0 and part % (2 * team) == 0 and (2 * team) ** 2 * tokens <= part
    ):
        team *= 2
    return Split(spec, width, vocab, along, stored, split, team, devices)


def total(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The sum over mesh axes, if any."""
    return jax.lax.psum(x, axes) if axes else x


def devices_of(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes of an entry that have more than one device: a collective over one device is still a copy."""
    names = (entry,) if isinstance(entry, str) else tuple(entry or ())
    sizes = jax.sharding.get_abstract_mesh().shape
    return tuple(name for name in names if sizes[name] > 1)
