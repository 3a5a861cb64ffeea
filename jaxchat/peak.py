"""What a device could do at best: the figure that model FLOP utilisation divides by."""

from __future__ import annotations

import re

# Dense bf16 FLOP/s of one JAX device, from the makers' data sheets, by the words that `device_kind` begins with; the
# longest match counts. A device is a chip, but half a chip on TPU v2, v3 and 7x.
PEAK_FLOPS: dict[str, float] = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GB200": 2500e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bf16 FLOP/s of one device of this kind (`jax.Device.device_kind`); None where the table has none."""
    known = [kind for kind in PEAK_FLOPS if re.match(rf"{kind}(?![0-9A-Za-z])", device_kind)]
    return PEAK_FLOPS[max(known, key=len)] if known else None
