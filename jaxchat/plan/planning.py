"""A run compiled for machines that are not here: what it needs, how fast it can be, and what to change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.sharding import Mesh

from jaxchat.errors import InputError
from jaxchat.mesh import make_mesh
from jaxchat.plan.collectives import Collective, by_axes, by_kind, by_role, collectives
from jaxchat.plan.compiling import compiled
from jaxchat.plan.estimate import estimate
from jaxchat.plan.hlo import parse
from jaxchat.plan.memory import least, on_device, on_host
from jaxchat.plan.roofline import Roofline, mfu, roofline
from jaxchat.plan.search import Change, candidates, ranked, smallest_change
from jaxchat.plan.topology import Topology
from jaxchat.plan.traffic import traffic
from jaxchat.plan.work import Phase, Setting, Work
from jaxchat.progress import Bar

Json = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """One program on one topology. memory: bytes of a device by kind. peak: of all of them at once, as the compiler
    says or, when nothing was compiled, at least. roofline, found: None and empty where it does not fit."""

    phase: Phase
    memory: Mapping[str, int]
    peak: int
    compiled: bool
    fits: bool
    seconds: float
    found: Sequence[Collective] = ()
    roofline: Roofline | None = None


@dataclass(frozen=True)
class Plan:
    """What one topology can do for a run. changes: what would make it fit, the smallest first."""

    topology: Topology
    setting: Setting
    sizes: Mapping[str, int]
    seq_len: int
    steps: int | None
    made: Sequence[Made]
    price: float
    change: Change | None = None

    @property
    def train(self) -> Made:
        return self.made[0]

    @property
    def fits(self) -> bool:
        return all(one.fits for one in self.made)

    @property
    def tokens_per_second(self) -> float | None:
        line = self.train.roofline
        return None if line is None else self.train.phase.tokens / line.step

    def hours(self) -> float | None:
        """Of the whole run, or None where its length is known only from its data."""
        line = self.train.roofline
        return None if line is None or self.steps is None else self.steps * line.step / 3600

    @property
    def advice(self) -> str:
        """What does not fit, and what to change; empty where all fits."""
        said = []
        for one in self.made:
            if not one.fits:
                need = f"{'' if one.compiled else 'at least '}{one.peak / 2**30:.2f}"
                said.append(f"{one.phase.name} needs {need} of {self.topology.limit_bytes / 2**30:.2f} GiB a chip")
        return "; ".join([*said, *([self.change.line] if self.change else [])])

    def to_json(self) -> Json:
        """As DESIGN's "What programs read" names it, and more."""
        line, topology = self.train.roofline, self.topology
        hours = self.hours()
        speed = self.tokens_per_second
        hourly = self.price * topology.chips
        return {
            "topology": topology.name,
            "chips": topology.chips,
            "devices": topology.count,
            "slices": topology.slices,
            "fits": self.fits,
            "mesh": {axis: size for axis, size in self.sizes.items() if size > 1},
            "batch": self.setting.batch,
            "seq_len": self.seq_len,
            "accumulate": self.setting.accumulate,
            "remat": self.setting.remat,
            "limit_bytes": topology.limit_bytes,
            **_program(self.train, topology, self.devices),
            "step_seconds": None if line is None else line.step,
            "tokens_per_second": speed,
            "hours": hours,
            "dollars": None if hours is None else hours * hourly,
            "dollars_per_hour": hourly,
            "dollars_per_billion_tokens": None if speed is None else 1e9 / speed / 3600 * hourly,
            "advice": self.advice,
            "change": None if self.change is None else self.change.to_json(),
            "serve": {one.phase.name: _serving(one, topology, self.devices) for one in self.made[1:]},
        }

    @property
    def devices(self) -> int:
        return self.topology.count


def _program(one: Made, topology: Topology, devices: int) -> Json:
    line = one.roofline
    return {
        "compiled": one.compiled,
        "peak_bytes": one.peak,
        "memory": dict(one.memory),
        "host_bytes": on_host(one.phase.holds),
        "collectives": by_kind(one.found),
        "sent_bytes": by_role(one.found),
        "network": by_axes(one.found, topology.near),
        "model_flops_per_chip": one.phase.flops / topology.chips,
        "mfu": None if line is None else mfu(one.phase.flops, line.step, topology, devices),
        "roofline": None
        if line is None
        else {
            "compute_seconds": line.compute,
            "memory_seconds": line.memory,
            "overlapped_network_seconds": line.beside,
            "exposed_network_seconds": line.alone,
            "serial_seconds": line.serial,
            "bound": line.bound,
        },
        "compile_seconds": one.seconds,
    }


def _serving(one: Made, topology: Topology, devices: int) -> Json:
    line = one.roofline
    return _program(one, topology, devices) | {
        "fits": one.fits,
        "seconds": None if line is None else line.step,
        "tokens_per_second": None if line is None else one.phase.tokens / line.step,
    }


def plan(
    work: Work, topologies: Sequence[Topology], price: Mapping[str, float], rows_per_chip: int | None = None
) -> Iterator[Plan]:
    """A plan for each topology, in turn, with progress shown. rows_per_chip: of a step, instead of the setting's batch.

    Raises InputError where the setting and a topology do not go together, or its compiler is not installed.
    """
    with Bar("planning", total=len(topologies), unit="topologies") as bar:
        for topology in topologies:
            setting = replace(work.setting, mesh=replace(work.setting.mesh, slices=topology.slices))
            if rows_per_chip is not None:
                setting = replace(setting, batch=rows_per_chip * topology.chips)
            yield _plan(work, setting, topology, price, bar)
            bar.advance()


def search(work: Work, topology: Topology, price: Mapping[str, float], most: int) -> Iterator[Plan]:
    """Tries meshes, what is recomputed and rows a chip, compiles the `most` fastest of those that fit by estimate, and
    yields what came of them."""
    setting = replace(work.setting, mesh=replace(work.setting.mesh, slices=topology.slices))
    settings = candidates(work, setting, topology)
    with Bar(f"estimating for {topology.name}", total=len(settings), unit="settings") as bar:
        found = ranked(work, settings, topology, bar)
    with Bar(f"compiling for {topology.name}", total=min(most, len(found)), unit="settings") as bar:
        for one in found[:most]:
            yield _plan(work, one.setting, topology, price, bar)
            bar.advance()


def _plan(work: Work, setting: Setting, topology: Topology, price: Mapping[str, float], bar: Bar) -> Plan:
    mesh = mesh_of(setting, topology)
    guess = estimate(work, setting, topology)
    change = None
    if guess is not None and guess.bytes > topology.limit_bytes:  # said before a compiler takes minutes to agree
        change = smallest_change(work, setting, topology)
        need = f"{guess.bytes / 2**30:.1f} of {topology.limit_bytes / 2**30:.2f} GiB a chip"
        bar.write(f"{topology.name}: train needs about {need} by estimate; {change.line}")
    with jax.set_mesh(mesh):
        made = [program(phase, topology, mesh, bar) for phase in work.build(setting, mesh)]
    if all(one.fits for one in made):
        change = None
    elif change is None:
        change = smallest_change(work, setting, topology)
    kind = topology.kind
    return Plan(topology, setting, dict(mesh.shape), work.seq_len, work.steps, made, price[kind], change)


def mesh_of(setting: Setting, topology: Topology) -> Mesh:
    """All of the topology's devices as the setting has them. Raises InputError where it leaves some idle."""
    mesh = make_mesh(setting.mesh, topology.devices)
    if mesh.size < topology.count:
        raise InputError(
            f"the mesh uses {mesh.size} of the {topology.count} devices of {topology.name}; let an axis take all that "
            "are left, with --mesh.fsdp -1, say"
        )
    return mesh


def program(phase: Phase, topology: Topology, mesh: Mesh, bar: Bar) -> Made:
    """One program: refused without compiling where what it holds for certain is already too much."""
    began = time.monotonic()
    certain = least(phase)
    if sum(certain.values()) > topology.limit_bytes:
        seconds = time.monotonic() - began
        return Made(phase, certain, sum(certain.values()), False, False, seconds)
    bar.write(f"{topology.name}: compiling {phase.name} for {mesh.size} devices; billions of parameters take minutes")
    result = compiled(phase)
    seconds = time.monotonic() - began
    held = {kind: on_device(tree) for kind, tree in phase.holds.items()}
    if phase.name == "train":
        held["activations"] = on_device(phase.kept())
    memory = held | {"temporaries": max(result.peak - sum(held.values()), 0)}
    fits = result.text is not None and result.peak <= topology.limit_bytes
    if result.text is None:
        return Made(phase, memory, result.peak, True, False, seconds)
    module = parse(result.text)
    found = collectives(module, mesh, topology.slices)
    line = roofline(phase.computed, traffic(module), found, topology, mesh)
    return Made(phase, memory, result.peak, True, fits, seconds, found, line)
