"""The least time that a step can take: by arithmetic, by memory and by networks.

Collectives that run beside other work cost nothing until they take longer than it; the others add to it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jax.sharding import Mesh

from jaxchat.plan.chips import Tpu, flops
from jaxchat.plan.collectives import Collective
from jaxchat.plan.topology import Topology


@dataclass(frozen=True)
class Roofline:
    """Seconds of a step. beside: of collectives that overlap with computing; alone: of those that do not."""

    compute: float
    memory: float
    beside: float
    alone: float

    @property
    def step(self) -> float:
        """What overlaps takes as long as the longest of it."""
        return max(self.compute, self.memory, self.beside) + self.alone

    @property
    def serial(self) -> float:
        """Nothing overlaps."""
        return max(self.compute, self.memory) + self.beside + self.alone

    @property
    def bound(self) -> str:
        """What decides."""
        parts = {"compute": self.compute, "memory": self.memory, "network": self.beside + self.alone}
        return max(parts, key=lambda name: parts[name])


def roofline(computed: float, moved: float, found: Sequence[Collective], topology: Topology, mesh: Mesh) -> Roofline:
    """computed: FLOPs of all devices. moved: bytes of a device's memory. found: collectives of a device."""
    network: defaultdict[bool, float] = defaultdict(float)
    for one in found:
        network[one.beside] += seconds(one, topology, mesh)
    compute = computed / mesh.size / flops(topology.chip)
    return Roofline(compute, moved / topology.chip.bandwidth, network[True], network[False])


def seconds(one: Collective, topology: Topology, mesh: Mesh) -> float:
    """Of all executions of a collective. Between slices it is done in steps: within each, then across, each chip with
    its part."""
    group = max(one.groups, key=len, default=(0, 1))
    crossing = topology.slices if one.sliced and len(group) >= topology.slices else len(group)
    within = len(group) // crossing if one.sliced else len(group)
    fast = one.sent if within > 1 else 0.0
    slow = _across(one, crossing, within) if one.sliced else 0.0
    return fast / _bandwidth(one, group, topology, mesh) + slow / topology.chip.network


def _across(one: Collective, slices: int, within: int) -> float:
    """Bytes that a chip sends to other slices, of which `slices` take part with `within` chips each."""
    part = (slices - 1) / slices
    each = {
        "all-gather": part / within,
        "all-reduce": 2 * part / within,
        "reduce-scatter": slices - 1.0,
        "all-to-all": part,
        "collective-permute": 1.0,
    }
    return one.bytes * each[one.kind]


def _bandwidth(one: Collective, group: Sequence[int], topology: Topology, mesh: Mesh) -> float:
    """Bytes a second that a device sends to its group, within a slice."""
    chip = topology.chip
    if not isinstance(chip, Tpu):
        return chip.link
    devices = mesh.devices.flat
    places = [devices[place].coords for place in group if _slice(devices[place]) == _slice(devices[group[0]])]
    spans = [len({place[axis] for place in places}) for axis in range(len(topology.shape))]
    links = sum(
        (2 if ring and span == size else 1)
        for span, ring, size in zip(spans, topology.rings, topology.shape)
        if span > 1
    )
    # Each byte of an exchange travels a quarter of a ring on average, each of a gather one link.
    hops = max(1.0, max(spans) / 4) if one.kind == "all-to-all" else 1.0
    return chip.link * max(links, 1) / hops / chip.cores


def _slice(device: object) -> int:
    return getattr(device, "slice_index", 0) or 0


def mfu(model_flops: float, step: float, topology: Topology, devices: int) -> float:
    """Model FLOP utilisation of a step of so many seconds."""
    return model_flops / devices / step / flops(topology.chip) if step and math.isfinite(step) else 0.0
