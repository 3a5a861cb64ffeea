"""Bytes that a program reads from and writes to a device's memory, counted on its text, loops multiplied out.

Between two fusions everything goes through memory; what a TPU keeps in its vector memory does not. A fusion that reads
a slice of an array, or writes one in place, moves the slice alone.
"""

from __future__ import annotations

from jaxchat.plan.hlo import Computation, Instruction, Module

# They name or pass on arrays and move nothing, or their computations are counted on their own.
FREE = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple", "while", "conditional", "call", "after-all"}
FREE |= {"opt-barrier", "partition-id", "replica-id", "iota", "custom-call-done", "copy-done", "async-done"}
SLICES = {"dynamic-slice", "slice", "gather"}


def traffic(module: Module) -> float:
    """Bytes of one execution on one device."""
    outer = _outer(module)
    total = 0.0
    for computation, instruction, times in module.executed():
        if computation.name in outer and instruction.opcode not in FREE:
            total += times * _moved(module, computation, instruction)
    return total


def _outer(module: Module) -> set[str]:
    """The entry, the bodies of loops and what is called: their instructions are executed one by one."""
    called = [
        one.called("body" if one.opcode == "while" else "to_apply")
        for _, one, _ in module.executed()
        if one.opcode in ("while", "call")
    ]
    return {module.entry, *filter(None, called)}


def _moved(module: Module, computation: Computation, one: Instruction) -> int:
    if one.opcode.endswith("-done"):
        return 0
    if one.opcode == "dynamic-update-slice":  # in place: the update is read, and written where it belongs
        update = computation.instructions.get(one.operands[1])
        return 2 * update.bytes if update else 0
    inside = module.computations.get(one.called("calls") or "") if one.opcode == "fusion" else None
    read = sum(_read(computation, one, place, name, inside) for place, name in enumerate(one.operands))
    return read + _written(one, inside)


def _read(computation: Computation, one: Instruction, place: int, name: str, inside: Computation | None) -> int:
    operand = computation.instructions.get(name)
    if operand is None:
        return 0
    whole = sum(array.bytes for array in operand.shape if not array.on_chip)
    if one.opcode in SLICES and place == 0:
        return min(whole, one.bytes)
    if inside is None or not whole:
        return whole
    parameter = next(
        (
            each.name
            for each in inside.instructions.values()
            if each.opcode == "parameter" and each.operands == (str(place),)
        ),
        None,
    )
    users = [each for each in inside.instructions.values() if parameter in each.operands and each.opcode != "parameter"]
    if users and all(each.opcode in SLICES and each.operands[0] == parameter for each in users):
        return min(whole, sum(each.bytes for each in users))
    if users and all(each.opcode == "dynamic-update-slice" and each.operands[0] == parameter for each in users):
        return 0
    return whole


def _written(one: Instruction, inside: Computation | None) -> int:
    whole = sum(array.bytes for array in one.shape if not array.on_chip)
    if inside is None:
        return whole
    written = 0
    updates = [each for each in inside.instructions.values() if each.opcode == "dynamic-update-slice"]
    replaced = sum(each.bytes for each in updates)
    for each in updates:
        update = inside.instructions.get(each.operands[1])
        written += update.bytes if update else 0
    return max(whole - replaced, 0) + written
