"""The computation of a run, and whether its model, batch and mesh go together."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxchat.errors import InputError
from jaxchat.models import lora
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model
from jaxchat.run.config import Train
from jaxchat.sharding import Rules
from jaxchat.train.checks import check_batch, check_model, check_seq_len
from jaxchat.train.divergence import Skip, skipping
from jaxchat.train.offload import offloaded
from jaxchat.train.program import Program, build


def program(config: Train, model: DecoderConfig, mesh: Mesh, steps: int) -> Program:
    """The computation of a run of `steps`, of `model` on `mesh`, which is set (`jax.set_mesh`): what a plan compiles.

    Raises InputError when model, batch and mesh do not go together. Allocates nothing.
    """
    handle = check_shape(config, model, mesh)
    shape = config.data.batch, config.data.seq_len
    made = build(
        handle, config.optim, mesh, shape, steps, config.accumulate, config.routing, config.adapter, config.xla
    )
    if isinstance(config.on_divergence, Skip):
        made = replace(made, step=skipping(made.step))
    return offloaded(made, config.offload) if config.offload else made


def check_shape(config: Train, model: DecoderConfig, mesh: Mesh) -> Model:
    """The model as the run computes it, which its batches were traced through: attention refuses while it is traced."""
    check_model(model, dict(mesh.shape), Rules())
    check_batch(config.data.batch, config.data.seq_len, config.accumulate, dict(mesh.shape), Rules())
    check_seq_len(config.data.seq_len, model)
    handle = Model(model, dtype=config.compute, remat=config.remat, attention=config.attention)
    spec = handle.rules.activation("batch", "sequence")
    rows = jax.ShapeDtypeStruct((config.data.batch, config.data.seq_len), np.int32, sharding=NamedSharding(mesh, spec))
    jax.eval_shape(handle.hidden, handle.abstract(), rows, rows, rows)
    if config.adapter is not None:
        if "parameters" in config.offload:
            raise InputError("an adapter is too small to be worth waiting elsewhere; take parameters out of --offload")
        lora.targets(handle, config.adapter)
    return handle
