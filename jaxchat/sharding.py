"""Rules: from the logical axes that model code names to the mesh axes that carry them. The only such table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jax.sharding import PartitionSpec

from jaxchat.errors import InputError

MeshAxes = str | tuple[str, ...] | None

# The width of a weight is split for storage (fsdp) and gathered for use; what tensor splits stays split.
WEIGHTS: dict[str, MeshAxes] = {
    "layers": None,
    "positions": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head": None,
    "hidden": "tensor",
    "experts": "expert",
    "routes": None,
    "rank": None,
    # An unembedding of its own: no token looks up its width, and whoever computes with a part of the vocabulary gathers
    # that part alone.
    "read": None,
    "words": ("tensor", "fsdp"),
}
# `keys` are the tokens that queries look at: whole on every device, while the queries' own `sequence` may be split.
# Gathering them, rather than passing them around a ring, lets every kernel mask as it does on one device, and costs
# little: shared by a group of heads, they are small beside what is computed with them (Llama 3, 2024, section 3.3.2).
ACTIVATIONS: dict[str, MeshAxes] = {
    "batch": ("data", "fsdp", "expert"),
    "sequence": "context",
    "keys": None,
    "embed": None,
    "heads": "tensor",
    "kv_heads": "tensor",
    "group": None,
    "head": None,
    "hidden": "tensor",
    "rank": None,
    "vocab": "tensor",
    "routes": None,
}
# Weight axes that are split only to store them: a layer gathers them just before it computes.
GATHERED = ("embed",)


@dataclass(frozen=True)
class Rules:
    """Where each logical axis lies. Weights and activations are named apart: one `embed` is split, the other whole."""

    weights: tuple[tuple[str, MeshAxes], ...] = tuple(WEIGHTS.items())
    activations: tuple[tuple[str, MeshAxes], ...] = tuple(ACTIVATIONS.items())

    def weight(self, *axes: str | None) -> PartitionSpec:
        """How a weight with these logical axes is stored."""
        return _spec(dict(self.weights), axes, "weight")

    def gathered(self, *axes: str | None) -> PartitionSpec:
        """How the same weight lies while a layer computes with it: fsdp gathered, tensor still split."""
        table = {axis: None if axis in GATHERED else mesh for axis, mesh in self.weights}
        return _spec(table, axes, "weight")

    def activation(self, *axes: str | None) -> PartitionSpec:
        """How an activation with these logical axes lies."""
        return _spec(dict(self.activations), axes, "activation")

    def by_rows(self) -> Rules:
        """These rules where tokens come one at a time: there is no sequence to split, so its devices take more rows."""
        table = dict(self.activations)
        rows = names(table["batch"]) + names(table["sequence"])
        return replace(self, activations=tuple((table | {"batch": rows, "sequence": None}).items()))


def names(mesh_axes: MeshAxes) -> tuple[str, ...]:
    """The mesh axes of one entry of a table."""
    return (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()


def _spec(table: Mapping[str, MeshAxes], axes: tuple[str | None, ...], kind: str) -> PartitionSpec:
    entries: list[MeshAxes] = []
    used: dict[str, str] = {}
    for axis in axes:
        if axis is not None and axis not in table:
            raise InputError(f"no sharding rule for the {kind} axis {axis!r}; the rules name {', '.join(table)}")
        mesh_axes = None if axis is None else table[axis]
        for mesh_axis in names(mesh_axes):
            if mesh_axis in used:
                raise InputError(
                    f"the sharding rules put both {used[mesh_axis]!r} and {axis!r} of a {kind} on the mesh axis "
                    f"{mesh_axis!r}; give one of them another"
                )
            used[mesh_axis] = str(axis)
        entries.append(mesh_axes)
    return PartitionSpec(*entries)
