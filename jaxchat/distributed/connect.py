"""Connections between CPU processes, made before any work."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxchat.distributed.agreement import meet


def connect(mesh: Mesh) -> None:
    """Makes every group of the mesh's processes that a collective may run over.

    Gloo makes a group when it is first used, and gives its members 30 seconds to come, which the first step's
    compilation on a busy machine exceeds. Other networks wait, and are left alone.
    """
    if jax.process_count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    split = [axis for axis, size in mesh.shape.items() if size > 1]
    groups = [axes for n in range(1, len(split) + 1) for axes in itertools.combinations(split, n)]

    def talk() -> jax.Array:
        return jnp.stack([jax.lax.psum(jnp.float32(1), axes) for axes in groups])

    program = jax.jit(jax.shard_map(talk, mesh=mesh, in_specs=(), out_specs=PartitionSpec(), check_vma=False))
    compiled = program.lower().compile()
    meet("connect")
    jax.block_until_ready(compiled())
