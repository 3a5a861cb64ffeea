"""What is planned: the programs of a run on a mesh, as functions and shapes, and what of them may be changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import Mesh

from jaxchat.mesh import AXES, MeshConfig
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Remat
from jaxchat.xla_flags import Flag

Tree = Any


@dataclass(frozen=True)
class Setting:
    """What decides whether a run fits and how fast it is. batch: rows of a step, over all chips."""

    mesh: MeshConfig
    batch: int
    accumulate: int = 1
    remat: Remat = "none"

    def flags(self, other: Setting) -> list[str]:
        """What to say on the command line to come from `other` to this."""
        said = [
            f"--mesh.{axis} {getattr(self.mesh, axis)}"
            for axis in AXES
            if getattr(self.mesh, axis) != getattr(other.mesh, axis)
        ]
        if self.batch != other.batch:
            said.append(f"--data.batch {self.batch}")
        if self.accumulate != other.accumulate:
            said.append(f"--accumulate {self.accumulate}")
        if self.remat != other.remat:
            said.append(f"--remat {self.remat}")
        return said


@dataclass(frozen=True)
class Phase:
    """One program: a training step, the reading of a prompt, or one token more.

    holds: what it takes, as trees of shapes with their shardings, by kind ("parameters", "optimizer", ...). kept: what
    its forward pass leaves for the backward pass, a tree of shapes. flops: of all devices, as model FLOP utilisation
    counts them; computed: with what is computed again. tokens: that one execution works through.
    told: XLA's flags when it is compiled.
    """

    name: str
    lower: Callable[[], jax.stages.Lowered]
    holds: dict[str, Tree]
    kept: Callable[[], Tree]
    flops: float
    computed: float
    tokens: int
    told: dict[str, Flag] = field(default_factory=dict)


Build = Callable[[Setting, Mesh], list[Phase]]


@dataclass(frozen=True)
class Work:
    """A run. build: its programs in a setting on a mesh, which is set; raises InputError where they do not go together.
    steps: of the whole run, where it is known without its data."""

    setting: Setting
    model: DecoderConfig
    seq_len: int
    steps: int | None
    build: Build = field(repr=False)
