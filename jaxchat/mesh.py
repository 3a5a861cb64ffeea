"""The device mesh: five named axes over the devices that are there, all Explicit, so that shardings live in types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxchat.errors import InputError


@dataclass(frozen=True)
class MeshConfig:
    """How many devices each axis takes; -1 on one axis takes all that the others leave.

    data: whole copies of the model, each on its own rows. fsdp: rows too, with parameters and optimizer state split.
    tensor: each layer's heads and hidden units split. context: the sequence split. expert: a mixture's experts split.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1
    expert: int = 1


AXES = tuple(field.name for field in fields(MeshConfig))


def resolve(config: MeshConfig, devices: int) -> dict[str, int]:
    """Axis sizes with -1 filled in for `devices` devices.

    Raises:
        InputError: an axis of size 0 or below -1, two axes of -1, or sizes that `devices` cannot fill.
    """
    sizes = {axis: getattr(config, axis) for axis in AXES}
    for axis, size in sizes.items():
        if size == 0 or size < -1:
            raise InputError(
                f"mesh axis {axis} is {size}; set --mesh.{axis} to 1 or more, or to -1 for all devices that are left"
            )
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise InputError(
            f"mesh axes {' and '.join(open_axes)} are both -1; only one axis can take the devices that are left"
        )
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if open_axes:
        if devices % fixed:
            raise InputError(
                f"{devices} devices do not divide over the mesh's fixed axes ({fixed}); change one of them"
            )
        sizes[open_axes[0]] = devices // fixed
    elif fixed > devices:
        shape = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1)
        raise InputError(f"the mesh {shape} needs {fixed} devices and {devices} are here; make an axis smaller")
    return sizes


def make_mesh(config: MeshConfig = MeshConfig(), devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all five axes (size 1 where unused) over the first devices that fill it.

    The axis order puts what talks most (tensor, then context) on neighbouring devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = resolve(config, len(devices))
    grid = np.asarray(devices[: math.prod(sizes.values())])
    order = ("data", "fsdp", "expert", "context", "tensor")
    if len(grid) == len(devices) and devices[0].platform == "tpu":
        from jax.experimental import mesh_utils

        grid = mesh_utils.create_device_mesh([sizes[axis] for axis in order], devices=devices)
    grid = grid.reshape([sizes[axis] for axis in order])
    return Mesh(grid, order, axis_types=(AxisType.Explicit,) * len(order))


def platform() -> str:
    """What kind of devices compute, `cpu`, `gpu` or `tpu`: those of the mesh that is set, also while tracing for it."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()
