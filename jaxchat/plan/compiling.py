"""One program compiled for devices that are not here, and what the compiler says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jaxchat.plan.work import Phase

# Libtpu's two ways to say it: when a program is laid out in memory, and earlier, by the sum of what it holds.
TOO_LARGE = re.compile(r"(?:Used |required for HLO temporaries \()([\d.]+)([KMGT]?)\b")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Compiled:
    """peak: bytes of a device's memory in use at most. text: the program, in HLO; None where it was too large to be
    made."""

    peak: int
    text: str | None


def compiled(phase: Phase) -> Compiled:
    """Compiles a program. One that cannot fit comes back without its text, and with the peak it would have had."""
    import jax

    lowered = phase.lower()
    try:
        made = lowered.compile(compiler_options=phase.told)
    except jax.errors.JaxRuntimeError as error:
        wanted = TOO_LARGE.search(str(error))
        if "RESOURCE_EXHAUSTED" not in str(error) or wanted is None:
            raise
        return Compiled(int(float(wanted.group(1)) * UNITS[wanted.group(2)]), None)
    memory = made.memory_analysis()
    assert memory is not None
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = memory.peak_memory_in_bytes or used + memory.temp_size_in_bytes
    away = memory.host_argument_size_in_bytes if memory.peak_memory_in_bytes else 0  # libtpu's peak is of both memories
    return Compiled(peak - away, made.as_text())
