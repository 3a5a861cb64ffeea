"""Machines by name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from jaxchat.errors import InputError
from jaxchat.plan.topology import topology


@pytest.mark.parametrize(
    ("name", "chips", "devices", "slices", "rings"),
    [
        ("v5p:4x4x4", 64, 64, 1, (True, True, True)),
        ("v5e:4x16", 64, 64, 1, (False, True)),
        ("2xv6e:16x16", 512, 512, 2, (True, True)),
        ("tpu7x:2x2x4", 16, 32, 1, (False, False, True)),
        ("h100:8", 8, 8, 1, (True,)),
        ("b200:32", 32, 32, 4, (True,)),
    ],
)
def test_names(name, chips, devices, slices, rings):
    made = topology(name)
    assert (made.chips, made.count, made.slices, made.rings) == (chips, devices, slices, rings)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("v9:2x2", "no topology is called v9:2x2"),
        ("v5p", "no topology"),
        ("v5p:4x4", "3 dimensions; write v5p:4x4x4"),
        ("h100:2x4", "GPUs have no shape"),
        ("h100:13", "do not fill nodes"),
        ("v5e:0x4", "no chips"),
    ],
)
def test_what_does_not_exist_is_refused(name, reason):
    with pytest.raises(InputError, match=reason):
        topology(name)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="compiling for TPUs needs libtpu")
def test_an_axis_may_share_a_dimension_of_the_slice_with_another():
    program = """
import os
from jaxchat.plan.topology import ENVIRONMENT, topology
os.environ.update(ENVIRONMENT)
from jaxchat.mesh import MeshConfig, make_mesh
print(dict(make_mesh(MeshConfig(fsdp=-1, tensor=4), topology("v5e:16x16").devices).shape))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert "'fsdp': 64, 'expert': 1, 'context': 1, 'tensor': 4" in done.stdout, done.stderr[-2000:]
