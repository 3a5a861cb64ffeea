"""The device mesh: five named axes over the devices that are there, all Explicit, so that shardings live in types.
Several slices are more copies along `data`."""

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
    slices: TPU slices, or nodes of GPUs, that a slower network joins (DCN). Each holds `data` copies of the model and
    all of the other axes, so that what crosses the network is one sum of gradients a step.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1
    expert: int = 1
    slices: int = 1


AXES = tuple(field.name for field in fields(MeshConfig) if field.name != "slices")

# Meshes by what is trained, for configs to begin from; `jaxchat plan --search` tries them all. Any goes over several
# slices, with `replace(SHARDED, slices=2)`.
COPIES = MeshConfig(data=-1)
SHARDED = MeshConfig(fsdp=-1)
TENSOR = MeshConfig(fsdp=-1, tensor=4)
LONG = MeshConfig(fsdp=-1, context=4)
EXPERTS = MeshConfig(fsdp=-1, expert=8)
PRESETS = (COPIES, SHARDED, TENSOR, LONG, EXPERTS)


def resolve(config: MeshConfig, devices: int) -> dict[str, int]:
    """Axis sizes with -1 filled in for `devices` devices; `data` counts the copies of all slices.

    Raises:
        InputError: an axis of size 0 or below -1, two axes of -1, or sizes that `devices` cannot fill.
    """
    if config.slices < 1 or devices % config.slices:
        raise InputError(f"{devices} devices do not divide over {config.slices} slices; change --mesh.slices")
    sizes = _fill(config, devices // config.slices)
    return sizes | {"data": sizes["data"] * config.slices}


def _fill(config: MeshConfig, devices: int) -> dict[str, int]:
    """Axis sizes within one slice."""
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

    The axis order puts what talks most (tensor, then context) on neighbouring devices, and what talks least (data) on
    different slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = resolve(config, len(devices))
    order = ("data", "fsdp", "expert", "context", "tensor")
    shape = [sizes[axis] // (config.slices if axis == "data" else 1) for axis in order]
    each = [_grid(some, shape) for some in _slices(devices, config.slices)]
    return Mesh(np.concatenate(each), order, axis_types=(AxisType.Explicit,) * len(order))


def _grid(devices: list[jax.Device], shape: list[int]) -> np.ndarray:
    """The first devices of one slice in this shape."""
    if math.prod(shape) == len(devices) and devices[0].platform == "tpu":
        from jax.experimental import mesh_utils

        try:
            return mesh_utils.create_device_mesh(shape, devices=devices)
        except NotImplementedError:  # an axis shares a dimension of the slice with another
            return mesh_utils.create_device_mesh(shape, devices=devices, allow_split_physical_axes=True)
    return np.asarray(devices[: math.prod(shape)]).reshape(shape)


def _slices(devices: list[jax.Device], count: int) -> list[list[jax.Device]]:
    """The devices slice by slice: as the machine numbers its slices or, where it knows none, in stretches."""
    size = len(devices) // count
    of = [getattr(device, "slice_index", None) or 0 for device in devices]
    if len(set(of)) == 1:
        return [devices[first : first + size] for first in range(0, len(devices), size)][:count]
    groups = [[device for device, index in zip(devices, of) if index == one] for one in sorted(set(of))]
    if count == 1 and devices[0].platform != "tpu":  # nodes of GPUs may be one mesh
        return [devices]
    if {len(group) for group in groups} != {size}:
        raise InputError(f"the devices are of {len(groups)} slices; set --mesh.slices {len(groups)}")
    return groups


def platform() -> str:
    """What kind of devices compute, `cpu`, `gpu` or `tpu`: those of the mesh that is set, also while tracing for it."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()
