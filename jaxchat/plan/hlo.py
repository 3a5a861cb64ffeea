"""A compiled program's text (XLA's HLO) as computations of instructions, and how often each of them runs.

Only what counting needs is read: shapes, operands, who calls whom. Of a loop, the count is what XLA noted, and where it
noted none (on TPUs) the bound in the loop's condition. A loop that something other than a count ends (decoding, until
every row is done) counts as one round of it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from jaxchat.errors import InputError

BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
INTEGERS = ("s32", "u32", "s64", "u64")
HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
INSTRUCTION = re.compile(r"^\s+(ROOT\s+)?%?([\w.\-]+) = (.*)$")
ARRAY = re.compile(r"(\w+)\[([\d,<= ]*)\](\{[^{}]*\})?")
CALLS = re.compile(
    r"\b(?:calls|body|condition|to_apply|called_computations|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)


@dataclass(frozen=True)
class Array:
    """One array of a shape. on_chip: it lies in a TPU's vector memory, not in HBM."""

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool = False

    @property
    def bytes(self) -> int:
        bits = BITS.get(self.dtype)
        if bits is None:
            found = re.search(r"\d+", self.dtype)  # f32, s8, f8e4m3fn, u4
            bits = int(found.group()) if found else 0
        return math.prod(self.dims) * bits // 8


@dataclass(frozen=True)
class Instruction:
    """shape: its result's arrays, a tuple's one after the other. rest: its attributes, as they stand."""

    name: str
    opcode: str
    shape: tuple[Array, ...]
    operands: tuple[str, ...]
    rest: str
    root: bool

    @property
    def bytes(self) -> int:
        """Of its result."""
        return sum(array.bytes for array in self.shape)

    def attribute(self, name: str) -> str | None:
        """`channel_id`, say, up to the next comma."""
        found = re.search(rf"\b{name}=([^,]+)", self.rest)
        return found.group(1) if found else None

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.rest)
        return found.group(1) if found else None


@dataclass
class Computation:
    """A sequence of instructions; a parameter's operand is its number."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        return next(one for one in reversed(self.instructions.values()) if one.root)


@dataclass
class Module:
    """A program. runs: how often each of its computations is executed, fused ones and loop bodies included."""

    computations: dict[str, Computation]
    entry: str
    runs: dict[str, int]

    def executed(self) -> Iterator[tuple[Computation, Instruction, int]]:
        """Every instruction that is executed, with how often."""
        for name, times in self.runs.items():
            computation = self.computations[name]
            for instruction in computation.instructions.values():
                yield computation, instruction, times


def parse(text: str) -> Module:
    """The program of `Compiled.as_text()`."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = computations[header.group(2)] = Computation(header.group(2))
            entry = header.group(2) if header.group(1) else entry
        elif current is not None and (found := INSTRUCTION.match(line)):
            root, name, body = found.groups()
            current.instructions[name] = _instruction(name, body, bool(root))
        elif line == "}":  # a kernel's attributes go on over several lines, some of which begin so
            current = None
    return Module(computations, entry, _runs(computations, entry))


def _instruction(name: str, body: str, root: bool) -> Instruction:
    body = re.sub(r"/\*.*?\*/", "", body)
    end = _closing(body, 0) + 1 if body.startswith("(") else body.index(" ")
    shape, body = body[:end], body[end:].lstrip()
    opcode, _, _ = body.partition("(")
    close = _closing(body, len(opcode))
    inside = body[len(opcode) + 1 : close]
    if opcode in ("parameter", "constant"):
        operands: tuple[str, ...] = (inside,)
    else:
        operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, opcode, arrays(shape), operands, body[close + 1 :], root)


def arrays(shape: str) -> tuple[Array, ...]:
    """`(f32[2,4]{1,0:S(1)}, s32[])` as its arrays, one after the other."""
    return tuple(
        Array(dtype, tuple(int(size.strip(" <=")) for size in dims.split(",") if size), "S(1)" in (layout or ""))
        for dtype, dims, layout in ARRAY.findall(shape)
    )


def _closing(text: str, opening: int) -> int:
    """Where the bracket that opens at `opening` closes."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise InputError(f"the compiled program has a line that is cut off: {text[:80]}")


def _runs(computations: dict[str, Computation], entry: str) -> dict[str, int]:
    """Callers follow what they call in the text, so that going backwards every count is complete when it is used."""
    runs: defaultdict[str, int] = defaultdict(int, {entry: 1})
    for name in reversed(computations):
        if not runs[name]:
            continue
        for instruction in computations[name].instructions.values():
            times = trips(computations, instruction) if instruction.opcode == "while" else 1
            for called in CALLS.findall(instruction.rest):
                for callee in re.findall(r"[\w.\-]+", called):
                    if callee in computations:
                        runs[callee] += runs[name] * times
    return {name: times for name, times in runs.items() if times}


def trips(computations: dict[str, Computation], loop: Instruction) -> int:
    """How often the body of a `while` runs."""
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest):
        return int(noted.group(1))
    condition = computations[loop.called("condition") or ""]
    reached = list(_reached(computations, condition))
    bounds = [
        int(one.operands[0])
        for one in reached
        if one.opcode == "constant" and one.shape[0].dtype in INTEGERS and one.operands[0].isdigit()
    ]
    counted = sum(one.opcode == "compare" for one in reached) == 1 and len(bounds) == 1
    return -(-bounds[0] // _step(computations, loop, condition)) if counted else 1


def _step(computations: dict[str, Computation], loop: Instruction, condition: Computation) -> int:
    """What a round of a loop adds to its count: more than 1 where the compiler has laid several rounds in one."""
    places = [one.attribute("index") for one in condition.instructions.values() if one.opcode == "get-tuple-element"]
    body = computations[loop.called("body") or ""]
    if len(places) != 1 or body.root.opcode != "tuple":
        return 1
    count = body.instructions[body.root.operands[int(places[0] or 0)]]
    inside = computations.get(count.called("calls") or "")
    added = inside.root if inside else count
    held = (inside or body).instructions
    steps = [int(held[name].operands[0]) for name in added.operands if held[name].opcode == "constant"]
    return steps[0] if added.opcode == "add" and len(steps) == 1 else 1


def _reached(computations: dict[str, Computation], computation: Computation) -> Iterator[Instruction]:
    """The instructions of a computation and of what it fuses."""
    for instruction in computation.instructions.values():
        yield instruction
        if (fused := instruction.called("calls")) in computations:
            yield from _reached(computations, computations[fused or ""])
