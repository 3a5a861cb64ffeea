"""What a run with an adapter keeps of the model below it: where it lies, and a fingerprint of its weights.

RUN/adapter.json: {"base": {"source", "fingerprint"}, "adapter": its config}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.models.config_json import read_part, to_json
from jaxchat.models.decoder import Params
from jaxchat.models.lora import DoRA, LoRA

NAME = "adapter.json"


@dataclass(frozen=True)
class Base:
    """The model below an adapter: what it is opened by, and the fingerprint of its weights."""

    source: str
    fingerprint: str


@dataclass(frozen=True)
class AdapterRecord:
    """What RUN/adapter.json says."""

    base: Base
    adapter: LoRA | DoRA

    def write(self, run: Path) -> None:
        with replacing(run / NAME) as file:
            json.dump(to_json(self), file, indent=2)


def read_record(run: Path) -> AdapterRecord | None:
    """None where the run trains a whole model. Raises InputError where the file is damaged."""
    path = run / NAME
    try:
        return read_part(json.loads(path.read_text("utf-8")), AdapterRecord, str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it from a copy") from None


def fingerprint(params: Params) -> str:
    """The same for the same float32 weights, on whatever mesh they lie and whatever file they came from."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {np.asarray(_sums(leaf)).tolist()}\n".encode())
    return digest.hexdigest()


@jax.jit
def _sums(leaf: jax.Array) -> jax.Array:
    """Two sums, modulo 2^32, of the bits of all numbers, each times an odd number of its place: the order in which
    devices add up changes neither."""

    def sums(leaf: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
        found = []
        for start in (1, 0x9E3779B1):
            factor: Any = jnp.uint32(start)
            for axis in range(leaf.ndim):
                at = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
                factor = factor * jnp.uint32(0x85EBCA6B) + at * jnp.uint32(2)
            found.append(jnp.sum(bits * factor, dtype=jnp.uint32))
        return jnp.stack(found)

    return jax.sharding.auto_axes(sums, out_sharding=jax.P())(leaf)
