"""Meshes are filled exactly, and refused in one sentence."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxchat.errors import InputError
from jaxchat.mesh import PRESETS, MeshConfig, make_mesh, resolve
from jaxchat.sharding import Rules


def test_minus_one_takes_what_is_left():
    assert resolve(MeshConfig(data=-1, tensor=2), 8)["data"] == 4
    assert make_mesh(MeshConfig(fsdp=-1)).shape["fsdp"] == len(jax.devices())


def test_slices_hold_copies_and_every_other_axis_lies_within_one():
    assert resolve(MeshConfig(slices=2, data=2, fsdp=-1), 8) == {
        "data": 4,
        "fsdp": 2,
        "tensor": 1,
        "context": 1,
        "expert": 1,
    }
    mesh = make_mesh(MeshConfig(slices=2, fsdp=2, tensor=2))
    first, second = ({device.id for device in part.flat} for part in mesh.devices)
    assert first == {0, 1, 2, 3} and second == {4, 5, 6, 7}
    with pytest.raises(InputError, match="8 devices do not divide over 3 slices"):
        resolve(MeshConfig(slices=3), 8)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("slices", [1, 2])
def test_every_preset_fills_a_slice_and_several(preset, slices):
    sizes = resolve(replace(preset, slices=slices), 32 * slices)
    assert math.prod(sizes.values()) == 32 * slices
    assert sizes["data"] == slices * resolve(preset, 32)["data"]


def test_axes_are_explicit_and_all_there():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    assert dict(mesh.shape) == {"data": 1, "fsdp": 2, "expert": 1, "context": 1, "tensor": 2}
    assert set(mesh.axis_types) == {AxisType.Explicit}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MeshConfig(data=16), "data=16 needs 16 devices and 8 are here"),
        (MeshConfig(data=-1, fsdp=-1), "only one axis"),
        (MeshConfig(data=-1, fsdp=3), "8 devices do not divide"),
        (MeshConfig(tensor=0), "--mesh.tensor"),
        (MeshConfig(expert=-2), "--mesh.expert"),
    ],
)
def test_what_cannot_be_filled_is_refused(config, reason):
    with pytest.raises(InputError, match=reason):
        resolve(config, 8)


def test_weights_and_activations_lie_apart():
    rules = Rules()
    assert rules.weight("embed", "hidden") == PartitionSpec("fsdp", "tensor")
    assert rules.gathered("embed", "hidden") == PartitionSpec(None, "tensor")
    assert rules.activation("batch", "sequence", "embed") == PartitionSpec(("data", "fsdp", "expert"), "context", None)


def test_rules_that_collide_or_are_missing_are_refused():
    with pytest.raises(InputError, match="'vocab' and 'hidden' of a weight on the mesh axis 'tensor'"):
        Rules().weight("vocab", "hidden")
    with pytest.raises(InputError, match="no sharding rule for the weight axis 'colour'"):
        Rules().weight("colour")
