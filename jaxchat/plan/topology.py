"""Machines by name, and their devices as the compiler sees them, with none of them here.

`v5p:4x4x4` is a slice of 64 chips, `2xv5e:16x16` two slices of 256 that the data-centre network joins, `h100:8` a node
of GPUs and `h100:32` four nodes.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxchat.errors import InputError
from jaxchat.plan.chips import CHIPS, Chip, Gpu, Tpu

NODE = 8  # GPUs that NVLink joins
SHARE = 0.75  # of a GPU's memory, that JAX takes for itself when nothing else is said
# What libtpu reads, and JAX, before it is loaded: that no TPU is here, and that none is to be asked for.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_ACCELERATOR_TYPE": "v5p-8",  # only so that libtpu does not complain that it found none
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
EXAMPLE = "name a TPU slice (v5p:4x4x4, 2xv5e:16x16) or GPUs (h100:8)"


@dataclass(frozen=True)
class Topology:
    """name: as given. kind: of its chips. shape: of a slice, in chips, or the number of GPUs of a node. slices: how
    many."""

    name: str
    kind: str
    shape: tuple[int, ...]
    slices: int

    @property
    def chip(self) -> Chip:
        """What is known of each."""
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        """In all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def count(self) -> int:
        """JAX devices, in all slices."""
        return self.chips * (self.chip.cores if isinstance(self.chip, Tpu) else 1)

    @property
    def limit_bytes(self) -> int:
        """Memory of a device that a program may fill."""
        return self.chip.memory if isinstance(self.chip, Tpu) else int(self.chip.memory * SHARE)

    @property
    def rings(self) -> tuple[bool, ...]:
        """Whether each dimension of a slice closes to a ring."""
        ring = self.chip.ring if isinstance(self.chip, Tpu) else 1
        return tuple(size % ring == 0 for size in self.shape)

    @property
    def near(self) -> str:
        """The network within a slice or node."""
        return "ICI" if isinstance(self.chip, Tpu) else "NVLink"

    def check(self) -> None:
        """Raises InputError where the compiler for it is not installed."""
        if isinstance(self.chip, Gpu):
            _need("jax_cuda12_plugin", "GPUs", "plan-gpu")
        else:
            _need("libtpu", "TPUs", "plan")

    @cached_property
    def devices(self) -> Sequence[Any]:
        """JAX's devices to compile for."""
        from jax.experimental import topologies

        if isinstance(self.chip, Gpu):
            described = topologies.get_topology_desc(
                platform="cuda",
                topology=f"{self.slices}x1x{math.prod(self.shape)}",
                target_config=_target(self.chip),
            )
            return described.devices
        shape = self.shape + (1,) * (3 - len(self.shape))
        host = tuple(min(size, most) for size, most in zip(shape, (2, 2, 1)))
        more = {"chip_config_name": "megacore"} if self.chip.megacore else {}
        try:
            described = topologies.get_topology_desc(
                platform="tpu",
                topology_name=f"{self.kind}:{'x'.join(map(str, self.shape))}",
                chips_per_host_bounds=host,
                wrap=self.rings + (False,) * (3 - len(self.shape)),
                num_slices=self.slices,
                **more,
            )
        except Exception as error:
            raise InputError(f"there is no slice {self.name}: {str(error).splitlines()[0][:200]}") from error
        return described.devices


def topology(name: str) -> Topology:
    """The machines of this name. Raises InputError for one that does not exist."""
    found = re.fullmatch(r"(?:(\d+)x)?([a-z]+\d+\w*):(\d+(?:x\d+)*)", name)
    if found is None or found.group(2) not in CHIPS:
        raise InputError(f"no topology is called {name}; {EXAMPLE}, of {', '.join(CHIPS)}")
    slices, kind, size = int(found.group(1) or 1), found.group(2), tuple(map(int, found.group(3).split("x")))
    chip = CHIPS[kind]
    if slices < 1 or min(size) < 1:
        raise InputError(f"{name} has no chips; {EXAMPLE}")
    if isinstance(chip, Tpu):
        if len(size) != chip.axes:
            shape = "x".join(["4"] * chip.axes)
            raise InputError(f"{name}: slices of {kind} have {chip.axes} dimensions; write {kind}:{shape}, say")
        return Topology(name, kind, size, slices)
    if len(size) != 1:
        raise InputError(f"{name}: GPUs have no shape, only a number; write {kind}:8, say")
    nodes = math.ceil(size[0] / NODE)
    if size[0] % nodes:
        raise InputError(f"{name}: {size[0]} GPUs do not fill nodes of {NODE}; write {kind}:{nodes * NODE}")
    return Topology(name, kind, (size[0] // nodes,), nodes * slices)


def _need(module: str, what: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"compiling for {what} that is not here needs the {extra} extra; pip install 'jaxchat[{extra}]'"
        )


def _target(gpu: Gpu) -> str:
    """The device as XLA's GpuTargetConfigProto, in text."""
    major, minor = gpu.capability
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: {gpu.shared_per_block}
  shared_memory_per_core: {gpu.shared_per_core}
  core_count: {gpu.cores} fpus_per_core: {gpu.fpus_per_core} clock_rate_ghz: {gpu.clock_ghz}
  memory_bandwidth: {int(gpu.bandwidth)} l2_cache_size: {gpu.cache} device_memory_size: {gpu.memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{gpu.kind}"
"""
