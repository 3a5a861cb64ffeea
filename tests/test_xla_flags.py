"""What XLA is told, and who has the last word."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxchat.errors import InputError
from jaxchat.xla_flags import FLAGS, flags


def test_a_run_adds_to_its_platforms_flags_and_overrides_them():
    made = flags("cpu", ("xla_cpu_prefer_vector_width=256", "--xla_dump_hlo_as_text=true", "xla_dump_to=here"))
    assert made == FLAGS["cpu"] | {
        "xla_cpu_prefer_vector_width": "256",
        "xla_dump_hlo_as_text": True,
        "xla_dump_to": "here",
    }


def test_this_platforms_flags_are_known_to_the_compiler():
    assert jax.jit(lambda x: 2 * x, compiler_options=flags("cpu"))(jnp.float32(3)) == 6


COMPILE = """
import os
import sys
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxchat.plan.topology import ENVIRONMENT, topology
from jaxchat.xla_flags import flags
os.environ.update(ENVIRONMENT)
platform, *names = sys.argv[1:]
for name in names:
    placed = NamedSharding(Mesh(np.array(topology(name).devices), "x"), PartitionSpec("x"))
    x = jax.ShapeDtypeStruct((8,), np.float32, sharding=placed)
    jax.jit(lambda x: 2 * x).lower(x).compile(compiler_options=flags(platform))
"""


@pytest.mark.parametrize(
    ("needs", "platform", "names"),
    [
        ("libtpu", "tpu", ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")),
        ("jax_cuda12_plugin", "gpu", ("a100:8", "h100:8", "b200:8")),
    ],
)
def test_flags_are_known_to_the_compiler_of_every_generation(needs, platform, names):
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"compiling for them needs {needs}")
    command, environment = [sys.executable, "-c", COMPILE, platform, *names], os.environ | {"XLA_FLAGS": ""}
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_flag_of_one_platform_does_not_reach_another():
    assert flags("gpu", ("xla_tpu_scoped_vmem_limit_kib=1", "xla_gpu_autotune_level=0")) == FLAGS["gpu"] | {
        "xla_gpu_autotune_level": "0"
    }


@pytest.mark.parametrize("text", ["xla_cpu_prefer_vector_width", "vector=1"])
def test_what_is_no_flag_is_refused(text):
    with pytest.raises(InputError, match="is no flag of XLA"):
        flags("cpu", (text,))
