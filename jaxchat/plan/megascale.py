"""What TPU slices send each other, as the compiler writes it: transfers through the hosts, which a runtime of Google's
(Megascale) makes into collectives. A slice's program names its own devices alone, from 0; other slices by number.

    recv(...), frontend_attributes={..._xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
"""

from __future__ import annotations

import re

from jaxchat.errors import InputError
from jaxchat.plan.hlo import Instruction

KINDS = {
    "ALL_GATHER": "all-gather",
    "ALL_REDUCE": "all-reduce",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_TO_ALL": "all-to-all",
    "ONE_TO_ONE": "collective-permute",
}
STRIDE = 100_000  # the devices of slice 0 are numbered from 100,000, those of slice 1 from 200,000


def kind(one: Instruction) -> str | None:
    """The collective whose result arrives here, or None: this is something else. What leaves for it does not count."""
    named = re.search(r'_xla_megascale_transfer_type="(\w+)"', one.rest) if one.opcode == "recv" else None
    if named is None:
        return None
    if named.group(1) not in KINDS:
        raise InputError(f"slices exchange data in a way that is not known: {named.group(1)}; report it")
    return KINDS[named.group(1)]


def groups(one: Instruction, devices: int, slices: int) -> tuple[tuple[int, ...], ...]:
    """Who takes part together, one device of each slice, by their places among `devices` that lie slice by slice.

    Of a permutation, the pairs. Devices with the same place in their slices meet, which is how jaxchat.mesh lays them.
    """
    text = one.rest.partition("_xla_megascale_target=")[2]
    each = devices // slices
    if found := re.match(r'"\{([\d,]+)\}x', text):
        together = [tuple(int(number) - 1 for number in found.group(1).split(","))]
    else:
        listed = re.match(r"\{((?:\{[^}]*\},?)*)\}", text)
        several = re.findall(r"\{([^}]*)\}", listed.group(1)) if listed else []
        together = [tuple(int(number) // STRIDE - 1 for number in re.findall(r"\d+", group)) for group in several]
    found_groups = dict.fromkeys(together)  # in order, once
    if not found_groups:
        raise InputError(f"slices exchange data between devices in a form that is not known: {text[:80]}; report it")
    return tuple(tuple(index * each + place for index in group) for group in found_groups for place in range(each))
