"""Silence where no TPU is: libtpu, which plans need on any machine, is also what JAX looks for a TPU with when it
starts, and where it finds none it complains at length."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

PCI = Path("/sys/bus/pci/devices")
GOOGLE = "0x1ae0"
OTHERS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")


def look_for_no_tpu() -> None:
    """Has JAX, which must not have been imported yet, compute on the CPU, where libtpu is here and a TPU surely not.
    Leaves the choice to JAX where someone made one, or may have another accelerator."""
    if "JAX_PLATFORMS" in os.environ or not find_spec("libtpu") or any(map(find_spec, OTHERS)):
        return
    try:
        vendors = {(device / "vendor").read_text().strip() for device in PCI.iterdir()}
    except OSError:
        return
    if GOOGLE not in vendors:
        os.environ["JAX_PLATFORMS"] = "cpu"
