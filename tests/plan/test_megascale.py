"""What slices of TPUs send each other, as libtpu writes it, against closed forms."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.plan.collectives import collectives
from jaxchat.plan.hlo import parse
from jaxchat.plan.megascale import STRIDE

TEXT = """HloModule jit_f, is_scheduled=true

ENTRY %main (a: f32[2,64]) -> f32[2,64] {{
  %a = f32[2,64]{{1,0}} parameter(0)
  %begin = token[] after-all()
  %send = (f32[2,64]{{1,0}}, u32[], token[]) send(%a, %begin), channel_id=2, is_host_transfer=true, \
frontend_attributes={{{attributes}}}
  %recv = (f32[2,64]{{1,0}}, u32[], token[]) recv(%begin), channel_id=1, is_host_transfer=true, \
frontend_attributes={{{attributes}}}
  %recv-done = (f32[2,64]{{1,0}}, token[]) recv-done(%recv), channel_id=1, is_host_transfer=true
  ROOT %out = f32[2,64]{{1,0}} get-tuple-element(%recv-done), index=0
}}
"""
BYTES = 2 * 64 * 4
SLICES = f"{{{{{STRIDE},{2 * STRIDE}}},{{{STRIDE + 1},{2 * STRIDE + 1}}}}}"
PAIRS = f"{{{{{STRIDE}->{2 * STRIDE}}},{{{2 * STRIDE}->{STRIDE}}}}}"


@pytest.mark.parametrize(
    ("how", "target", "kind", "sent"),
    [
        ("ALL_REDUCE", '"{1,2}x{0:3}"', "all-reduce", BYTES),
        ("ALL_GATHER", '"{1,2}x{0:3}"', "all-gather", BYTES / 2),
        ("REDUCE_SCATTER", '"{1,2}x{0:3}"', "reduce-scatter", BYTES),
        ("ALL_TO_ALL", SLICES, "all-to-all", BYTES / 2),
        ("ONE_TO_ONE", PAIRS, "collective-permute", BYTES),
    ],
)
def test_every_way_in_which_slices_exchange_data(how, target, kind, sent):
    attributes = f'_xla_megascale_target={target},_xla_megascale_transfer_type="{how}"'
    (one,) = collectives(parse(TEXT.format(attributes=attributes)), make_mesh(MeshConfig(fsdp=4, slices=2)), 2)
    assert (one.kind, one.bytes, one.sent, one.axes, one.sliced, one.beside) == (
        kind,
        BYTES,
        sent,
        ("data",),
        True,
        True,
    )
    assert {len(group) for group in one.groups} == {2}


COMPILE = """
import json, os, sys
from jaxchat.plan.topology import ENVIRONMENT, topology
os.environ.update(ENVIRONMENT)
from functools import partial
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.plan.collectives import by_axes, collectives
from jaxchat.plan.hlo import parse

L, D = 5, 1024
mesh = make_mesh(MeshConfig(fsdp=-1, slices=2), topology("2xv5e:2x2").devices)
rows = P(("data", "fsdp"), None)

@partial(jax.shard_map, in_specs=(rows, P()), out_specs=rows, check_vma=False, mesh=mesh)
def through(x, w):
    def layer(x, w):
        grad = jax.lax.psum_scatter(x.T @ (x @ w), "fsdp", tiled=True)
        return x + jax.lax.all_gather(jax.lax.psum(grad, "data"), "fsdp", tiled=True)[: len(x)], None
    return jax.lax.scan(layer, x, w)[0]

with jax.set_mesh(mesh):
    x = jax.ShapeDtypeStruct((mesh.size * 128, D), jnp.float32, sharding=NamedSharding(mesh, rows))
    w = jax.ShapeDtypeStruct((L, D, D), jnp.float32, sharding=NamedSharding(mesh, P()))
    text = jax.jit(through).lower(x, w).compile().as_text()
print(json.dumps(by_axes(collectives(parse(text), mesh, 2))))
"""


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="compiling for TPUs needs libtpu")
def test_two_real_slices_sum_only_their_parts_of_a_gradient_between_them():
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, part = 5 * 1024 * 1024 * 4, 5 * 1024 * 1024 * 4 // 4
    assert json.loads(done.stdout.splitlines()[-1]) == [
        {"axes": "data", "network": "DCN", "bytes": {"all-reduce": part}},
        {"axes": "fsdp", "network": "ICI", "bytes": {"reduce-scatter": part, "all-gather": whole}},
    ]
