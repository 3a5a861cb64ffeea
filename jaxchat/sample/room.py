"""How long conversations may be in the memory there is."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxchat.errors import InputError
from jaxchat.models.decoder import Model

STEP = 128  # tokens of which a context is a multiple, where memory decides it
LEAST = 512  # with fewer there is no conversation


def free_bytes(mesh: Mesh) -> int:
    """What is free on the devices of this process, or of this machine's memory where they share it."""
    devices = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    found = [device.memory_stats() for device in devices]
    if all(stats and "bytes_limit" in stats for stats in found):
        return sum(stats["bytes_limit"] - stats["bytes_in_use"] for stats in found if stats)
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def cache_bytes(model: Model, slots: int, context: int) -> int:
    """What keys and values of so many answers, of so many tokens each, take."""
    c = model.config
    return 2 * c.layers * slots * context * c.kv_heads * c.head_size * jnp.dtype(model.dtype).itemsize


def context_within(model: Model, slots: int, room: float) -> int:
    """The longest context, up to the model's own, with which the cache of so many answers takes `room` bytes at most.

    Raises InputError where not even a short one fits.
    """
    whole = model.config.context_length
    fits = int(room / cache_bytes(model, slots, 1)) // STEP * STEP
    if fits < min(LEAST, whole):
        least = cache_bytes(model, slots, min(LEAST, whole))
        raise InputError(
            f"{slots} answers of {min(LEAST, whole)} tokens need {least / 1e9:.2f} GB of memory, {room / 1e9:.2f} GB "
            "may be taken; set --slots lower or --cache-share higher"
        )
    return min(fits, whole)
