"""A training step compiles for TPUs that are not here, with the attention that is made for them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

STEP = """
import json
import sys
from dataclasses import replace

import jax
from jax.experimental import topologies

from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import Gated, Mixture
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny
from jaxchat.train.optim import OptimConfig
from jaxchat.train.program import build

described = topologies.get_topology_desc(
    platform="tpu",
    topology_name="v5e:2x2",
    chips_per_host_bounds=(2, 2, 1),
    wrap=(False, False, False),
    num_slices=1,
)
mixed = sys.argv[1] == "mixed"
mesh = make_mesh(MeshConfig(fsdp=2, context=1 if mixed else 2, expert=2 if mixed else 1), described.devices)
config = replace(tiny(), vocab_size=512, width=256, head_size=64, heads=4, kv_heads=2, context_length=2048)
config = replace(config, hidden=256, mlp=Mixture(experts=8, chosen=2) if mixed else Gated())
with jax.set_mesh(mesh):
    program = build(Model(config, dtype="bfloat16", remat="dots"), OptimConfig(), mesh, (4, 2048), 10)
    compiled = program.step.lower(program.state, program.batch).compile()
kernels, ragged = (compiled.as_text().count(name) for name in ('custom_call_target="tpu_custom_call"', "ragged"))
print(json.dumps({"kernels": kernels, "ragged": ragged, "bytes": compiled.memory_analysis().temp_size_in_bytes}))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="compiling for a TPU needs libtpu")
@pytest.mark.parametrize("mlp", ["gated", "mixed"])
def test_a_step_compiles_for_a_slice_that_splits_rows_and_their_sequence_or_experts(mlp):
    environment = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    environment |= {"TPU_LOG_DIR": "disabled", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", STEP, mlp], env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["kernels"] >= 3  # of the forward pass, and of the gradients of queries and of keys and values
    assert measured["bytes"] < 2**30
    assert (measured["ragged"] > 0) == (mlp == "mixed")  # the experts' products, which are dense nowhere
