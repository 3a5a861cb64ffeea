"""What is known of each kind of chip: memory and the speeds of memory and networks, from the makers' data sheets.

Figures are of one JAX device, which is a chip, but half a chip on TPU 7x.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxchat.errors import InputError
from jaxchat.peak import peak_flops

GiB, GB = 2**30, 1e9


@dataclass(frozen=True)
class Tpu:
    """kind: as `jax.Device.device_kind` says. memory: what the compiler lets a program use, bytes. bandwidth: of HBM.
    link: of one link in one direction. network: of a chip's share of its host's connection to other slices. All in
    bytes a second. cores: JAX devices a chip. axes: dimensions of a slice. ring: a dimension closes where its size is a
    multiple of it. megacore: its two cores compute as one device."""

    kind: str
    memory: int
    bandwidth: float
    link: float
    network: float
    axes: int
    ring: int
    cores: int = 1
    megacore: bool = False


@dataclass(frozen=True)
class Gpu:
    """memory: of the device, bytes. bandwidth: of HBM. link: of NVLink in one direction. network: of its connection to
    other nodes. All in bytes a second. The rest is what XLA's compiler asks to know of a device."""

    kind: str
    memory: int
    bandwidth: float
    link: float
    network: float
    capability: tuple[int, int]
    cores: int
    clock_ghz: float
    cache: int
    shared_per_block: int
    shared_per_core: int
    fpus_per_core: int = 128


Chip = Tpu | Gpu

_HOPPER = Gpu(
    "NVIDIA H100 80GB HBM3",
    84_942_979_072,
    3352 * GB,
    450 * GB,
    50 * GB,
    capability=(9, 0),
    cores=132,
    clock_ghz=1.98,
    cache=52_428_800,
    shared_per_block=232_448,
    shared_per_core=233_472,
)
CHIPS: dict[str, Chip] = {
    "v4": Tpu("TPU v4", int(30.75 * GiB), 1228 * GB, 45 * GB, 6.25 * GB, axes=3, ring=4, megacore=True),
    "v5e": Tpu("TPU v5 lite", int(15.75 * GiB), 819 * GB, 45 * GB, 3.125 * GB, axes=2, ring=16),
    "v5p": Tpu("TPU v5", int(95.74 * GiB), 2765 * GB, 90 * GB, 6.25 * GB, axes=3, ring=4, megacore=True),
    "v6e": Tpu("TPU v6 lite", int(31.25 * GiB), 1640 * GB, 90 * GB, 12.5 * GB, axes=2, ring=16),
    "tpu7x": Tpu("TPU7x", int(94.75 * GiB), 3690 * GB, 45 * GB, 6.25 * GB, axes=3, ring=4, cores=2),
    "a100": Gpu(
        "NVIDIA A100-SXM4-80GB",
        85_100_068_864,
        2039 * GB,
        300 * GB,
        25 * GB,
        capability=(8, 0),
        cores=108,
        clock_ghz=1.41,
        cache=41_943_040,
        shared_per_block=166_912,
        shared_per_core=167_936,
        fpus_per_core=64,
    ),
    "h100": _HOPPER,
    "h200": replace(_HOPPER, kind="NVIDIA H200", memory=150_109_880_320, bandwidth=4800 * GB, cache=62_914_560),
    "b200": replace(
        _HOPPER,
        kind="NVIDIA B200",
        memory=191_514_411_008,
        bandwidth=7672 * GB,
        link=900 * GB,
        capability=(10, 0),
        cores=148,
        clock_ghz=1.965,
        cache=132_644_864,
    ),
}


def flops(chip: Chip) -> float:
    """Peak dense bf16 FLOP/s of one device."""
    peak = peak_flops(chip.kind)
    if peak is None:
        raise InputError(f"the peak of {chip.kind} is not known; add it to jaxchat/peak.py")
    return peak
