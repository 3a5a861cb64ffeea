"""Settings that a run could take: the least change that makes one fit, and all that are worth trying."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

from jaxchat.mesh import PRESETS
from jaxchat.models.config import Mixture
from jaxchat.models.decoder import Remat
from jaxchat.plan.chips import Tpu
from jaxchat.plan.estimate import Estimate, estimate
from jaxchat.plan.topology import NODE, Topology, topology
from jaxchat.plan.work import Setting, Work
from jaxchat.progress import Bar

PATIENCE = 30.0  # seconds until a search for the least change gives up
ROOM = 0.97  # of the memory, that an estimate may fill
# What slices are to be had in, smallest first.
SHAPES = {
    2: ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    3: ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16"),
}
NODES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Change:
    """What to change so that a run fits: flags or, where none are enough, the machines. bytes: estimated, at the peak.
    Without either: nothing was found."""

    flags: tuple[str, ...] = ()
    topology: str | None = None
    bytes: int = 0
    limit: int = 0

    @property
    def line(self) -> str:
        """As a sentence's end: `it fits with ...`."""
        if not self.flags and self.topology is None:
            return "no change of the mesh, of what is recomputed or of the machines was found that makes it fit"
        what = " ".join((*(() if self.topology is None else (f"--on {self.topology}",)), *self.flags))
        return f"it fits with {what} (about {self.bytes / 2**30:.1f} of {self.limit / 2**30:.2f} GiB)"

    def to_json(self) -> dict[str, Any]:
        return {
            "flags": list(self.flags),
            "topology": self.topology,
            "estimated_bytes": self.bytes,
            "limit_bytes": self.limit,
        }


def smallest_change(work: Work, setting: Setting, on: Topology) -> Change:
    """The least change that fits, by estimate: few flags before many, and machines last."""
    began = time.monotonic()
    for tried in _changes(setting, on):
        found = estimate(work, tried, on)
        if found is not None and found.bytes < ROOM * on.limit_bytes:
            return Change(tuple(tried.flags(setting)), None, found.bytes, on.limit_bytes)
        if time.monotonic() - began > PATIENCE / 2:
            break
    thrifty = replace(setting, remat="full", mesh=replace(setting.mesh, data=1, fsdp=-1, tensor=1, context=1))
    for larger in _larger(on):
        each = larger.count // math.gcd(larger.count, setting.batch)
        mesh = replace(thrifty.mesh, slices=larger.slices)
        tried = replace(thrifty, batch=setting.batch * each, accumulate=1, mesh=mesh)
        found = estimate(work, tried, larger)
        if found is not None and found.bytes < ROOM * larger.limit_bytes:
            said = replace(tried, mesh=replace(tried.mesh, slices=setting.mesh.slices)).flags(setting)
            return Change(tuple(said), larger.name, found.bytes, larger.limit_bytes)
        if time.monotonic() - began > PATIENCE:
            break
    return Change()


def _changes(setting: Setting, on: Topology) -> Iterator[Setting]:
    """One change, then two, then three: what is recomputed, micro-batches, the mesh."""
    remats = [remat for remat in get_args(Remat) if _order(remat) > _order(setting.remat)]
    meshes = [replace(setting.mesh, data=1, fsdp=-1, tensor=tensor, context=1) for tensor in (1, 2, 4, 8)]
    meshes = [mesh for mesh in meshes if mesh != setting.mesh]
    rows = setting.batch // setting.accumulate
    cuts = [setting.accumulate * n for n in (2, 4, 8, 16) if rows % n == 0 and rows // n >= on.count]
    for remat in remats:
        yield replace(setting, remat=remat)
    for accumulate in cuts:
        yield replace(setting, accumulate=accumulate)
    for mesh in meshes[:1]:
        yield replace(setting, mesh=mesh)
    for accumulate in cuts:
        yield replace(setting, remat="full", accumulate=accumulate)
    for mesh in meshes:
        yield replace(setting, remat="full", mesh=mesh)
    for mesh in meshes[:1]:
        for accumulate in cuts:
            yield replace(setting, remat="full", mesh=mesh, accumulate=accumulate)


def _order(remat: Remat) -> int:
    return get_args(Remat).index(remat)


def _larger(on: Topology) -> Iterator[Topology]:
    """The same chips, more of them."""
    if isinstance(on.chip, Tpu):
        shapes = SHAPES[on.chip.axes]
        each = [topology(f"{on.kind}:{shape}") for shape in shapes]
    else:
        each = [topology(f"{on.kind}:{NODE * nodes}") for nodes in NODES]
    yield from (one for one in each if one.chips > on.chips)


def candidates(work: Work, setting: Setting, on: Topology, rows: tuple[int, ...] = (1, 2, 4, 8)) -> list[Setting]:
    """All settings worth an estimate: meshes, what is recomputed, and rows of a step on each chip."""
    inner = on.count // on.slices
    mixed = isinstance(work.model.mlp, Mixture)
    presets = (replace(mesh, slices=on.slices) for mesh in PRESETS if mixed or mesh.expert == 1)
    meshes = {setting.mesh, *presets}
    for tensor in (1, 2, 4, 8):
        for context in (1, 2, 4):
            if inner % (tensor * context) == 0 and work.seq_len // context >= 2048:
                meshes.add(replace(setting.mesh, data=1, fsdp=-1, tensor=tensor, context=context))
    return [
        replace(setting, mesh=mesh, remat=remat, batch=batch, accumulate=1)
        for mesh in sorted(meshes, key=str)
        for remat in get_args(Remat)
        for batch in sorted({setting.batch, *(on.chips * each for each in rows)})
    ]


def ranked(work: Work, settings: list[Setting], on: Topology, bar: Bar) -> list[Estimate]:
    """Those that fit by estimate, the fastest first; of equals, those that need less memory."""
    found = []
    for setting in settings:
        one = estimate(work, setting, on)
        bar.advance()
        if one is not None and one.bytes < ROOM * on.limit_bytes:
            found.append(one)
    return sorted(found, key=lambda one: (-round(one.tokens_per_second(work.seq_len), -2), one.bytes))
