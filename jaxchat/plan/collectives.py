"""What a compiled program sends between chips: each collective's kind, bytes and executions, over which mesh axes.

On TPUs a collective that runs beside other work is spread over several fusions; it is counted once. Loops are
multiplied out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from jaxchat.errors import InputError
from jaxchat.plan import megascale
from jaxchat.plan.hlo import Instruction, Module

Kind = Literal["all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"]
KINDS: dict[str, Kind] = {
    kind: kind for kind in ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
} | {"ragged-all-to-all": "all-to-all"}
Groups = tuple[tuple[int, ...], ...]
Role = Literal["gathered", "summed", "exchanged"]
ROLES: dict[Kind, Role] = {"all-gather": "gathered", "all-reduce": "summed", "reduce-scatter": "summed"}
# Loops that XLA makes of a product and the collective before or behind it, which is then passed on around a ring.
RINGS: dict[str, Role] = {"windowed_dot_general_body_ag": "gathered", "windowed_dot_general_body_rs": "summed"}


@dataclass(frozen=True)
class Collective:
    """One collective of a program.

    result_bytes: of its result on one chip, each time; that of a reduce-scatter is only the chip's shard. count: how
    often it runs in a step. groups: who takes part together, by their places in the mesh. beside: it can run beside
    other work. axes: of the mesh, that a group spans. sliced: a group spans several slices. role: what it does, which a
    permutation may do in part, as a step of a ring.
    """

    kind: Kind
    result_bytes: int
    count: int
    groups: Groups
    beside: bool
    axes: tuple[str, ...] = ()
    sliced: bool = False
    role: Role = "exchanged"

    @property
    def bytes(self) -> int:
        """Of all its results in a step."""
        return self.result_bytes * self.count

    @property
    def sent(self) -> float:
        """Bytes that a chip sends in a step, by algorithms that send the least (Thakur et al. 2005): rings and direct
        exchange."""
        n = len(self.groups[0]) if self.groups else 2
        part = (n - 1) / n
        each = {
            "all-gather": part,
            "all-reduce": 2 * part,
            "reduce-scatter": n - 1.0,
            "all-to-all": part,
            "collective-permute": 1.0,
        }
        return self.bytes * each[self.kind]


def collectives(module: Module, mesh: Mesh, slices: int = 1) -> list[Collective]:
    """All that a step executes; what a group of one chip does is none. slices: the mesh's first axis spans so many."""
    found: list[Collective] = []
    spread: dict[tuple[str, ...], int] = {}
    fused, started = (_called_by(module, opcode) for opcode in ("fusion", "async-start"))
    for computation, instruction, times in module.executed():
        beside = computation.name in fused | started
        made = _collective(instruction, times, mesh, slices, beside)
        if made is None or (made.groups and len(made.groups[0]) == 1):
            continue
        ring: Role = next((role for name, role in RINGS.items() if name in computation.name), "exchanged")
        made = replace(made, role=ROLES.get(made.kind, ring))
        if computation.name in fused and (key := _identity(instruction)):
            if key in spread:
                found[spread[key]] = max(found[spread[key]], made, key=lambda one: one.count)
                continue
            spread[key] = len(found)
        found.append(made)
    return found


def _called_by(module: Module, opcode: str) -> set[str]:
    """Computations that instructions of this kind call."""
    called = (one.called("calls") for _, one, _ in module.executed() if one.opcode == opcode)
    return {name for name in called if name}


def _identity(instruction: Instruction) -> tuple[str, ...] | None:
    """What the pieces of one collective share: the chain that the compiler gave it, or the channel and what is sent."""
    if chain := re.search(r'chain_id="([^"]+)"', instruction.rest):
        return "chain", chain.group(1), str(instruction.attribute("channel_id"))
    channel = instruction.attribute("channel_id")
    return ("channel", channel, instruction.opcode, str(_dims(instruction))) if channel else None


def _dims(instruction: Instruction) -> list[tuple[int, ...]]:
    return [array.dims for array in instruction.shape]


def _collective(one: Instruction, times: int, mesh: Mesh, slices: int, beside: bool) -> Collective | None:
    between = megascale.kind(one)
    name = between or one.opcode.removesuffix("-start")
    if name not in KINDS:
        return None
    started = one.opcode.endswith("-start")
    shape = one.shape
    if between:
        shape, groups = shape[:1], megascale.groups(one, mesh.size, slices)
    else:
        if started and name != "all-reduce":  # its result holds what goes in as well, and what comes out behind that
            shape = shape[len(one.operands) : 2 * len(one.operands)]
        here = mesh.size if mesh.devices.flat[0].platform != "tpu" else mesh.size // slices  # a program a slice
        groups = _pairs(one) if name == "collective-permute" else replica_groups(one.rest, here)
    axes: tuple[str, ...] = ()
    sliced = False
    if groups:
        spots = np.array(np.unravel_index(np.array(groups[0]), mesh.devices.shape))
        axes = tuple(axis for axis, at in zip(mesh.axis_names, spots) if len(set(at.tolist())) > 1)
        sliced = any(len({place * slices // mesh.size for place in group}) > 1 for group in groups)
    beside = beside or started or between is not None or "async_collective_name" in one.rest
    return Collective(KINDS[name], sum(array.bytes for array in shape), times, groups, beside, axes, sliced)


def _pairs(one: Instruction) -> Groups:
    """Of a permutation, who sends to whom; nobody to himself."""
    inside = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", one.rest)
    pairs = re.findall(r"\{(\d+),(\d+)\}", inside.group(1)) if inside else []
    return tuple((int(a), int(b)) for a, b in pairs if a != b)


def replica_groups(rest: str, devices: int) -> Groups:
    """The groups of an instruction's attributes in any of the forms that XLA writes; none named: all devices."""
    text = rest.partition("replica_groups=")[2]
    if not text:
        return (tuple(range(devices)),)
    if text.startswith("mesh["):
        return _of_mesh(text)
    if found := re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, dims, turned = found.groups()
        return _rows(_iota(dims, turned).reshape(_numbers(shape)))
    inside = text[1 : text.index("}}") + 1] if text.startswith("{{") else ""
    groups = tuple(_numbers(group) for group in re.findall(r"\{([\d,]*)\}", inside))
    return groups or (tuple(range(devices)),)


def _of_mesh(text: str) -> Groups:
    """`mesh['a'=2,'b'=4] {'b'}`: those that differ in b alone. An axis may be cut: `'b':(2)2` are 2 parts behind 2."""
    found = re.match(r"mesh\[(.*?)\](?=\s*\{)\s*\{(.*?)\}", text)
    if found is None:
        raise InputError(f"the compiled program names groups of devices in a form that is not known: {text[:80]}")
    described, over = found.groups()
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", described)}
    order = re.search(r"device_ids=\(?\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?", described)
    ids = np.arange(int(np.prod(list(sizes.values()))))
    if order and (order.group(2) or order.group(3)):
        ids = _iota(order.group(2) or order.group(1), order.group(3)).reshape(-1)
    wanted = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", over)
    shape: list[int] = []
    kept: list[int] = []
    gone: list[int] = []
    for name, size in sizes.items():
        cut = next(((int(before), int(parts)) for other, before, parts in wanted if other == name and before), None)
        parts = (cut[0], cut[1], size // (cut[0] * cut[1])) if cut else (size,)
        for i, part in enumerate(parts):
            inside = any(other == name for other, *_ in wanted) and (cut is None or i == 1)
            (gone if inside else kept).append(len(shape))
            shape.append(part)
    grid = ids.reshape(shape).transpose(kept + gone)
    return _rows(grid.reshape(-1, int(np.prod([shape[i] for i in gone], dtype=int))))


def _iota(dims: str, turned: str | None) -> np.ndarray:
    shape = _numbers(dims)
    grid = np.arange(int(np.prod(shape))).reshape(shape)
    return grid.transpose(_numbers(turned)) if turned else grid


def _rows(grid: np.ndarray) -> Groups:
    return tuple(tuple(int(i) for i in row) for row in grid)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def by_kind(found: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """`{"all-gather": {"bytes", "count", "sent_bytes"}, ...}`, of a step on one chip."""
    summed: dict[str, dict[str, float]] = {}
    for one in found:
        kind = summed.setdefault(one.kind, {"bytes": 0, "count": 0, "sent_bytes": 0.0})
        kind["bytes"] += one.bytes
        kind["count"] += one.count
        kind["sent_bytes"] += one.sent
    return dict(sorted(summed.items()))


def by_role(found: Sequence[Collective]) -> dict[Role, float]:
    """Bytes that a chip sends in a step so that arrays are gathered, summed, and exchanged, however it is done."""
    sent: dict[Role, float] = {"gathered": 0.0, "summed": 0.0, "exchanged": 0.0}
    for one in found:
        sent[one.role] += one.sent
    return sent


def by_axes(found: Sequence[Collective], near: str = "ICI") -> list[dict[str, object]]:
    """The same by the mesh axes that they span and the network they go over: "DCN" between slices, else `near`."""
    summed: dict[tuple[str, str], dict[str, float]] = {}
    for one in found:
        place = summed.setdefault((" x ".join(one.axes), "DCN" if one.sliced else near), {})
        place[one.kind] = place.get(one.kind, 0) + one.bytes
    return [{"axes": axes, "network": network, "bytes": kinds} for (axes, network), kinds in sorted(summed.items())]
