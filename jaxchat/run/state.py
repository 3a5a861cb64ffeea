"""The state that a run begins with or goes on from, and the frozen weights below an adapter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh

from jaxchat.errors import InputError
from jaxchat.models import lora
from jaxchat.models.decoder import Model, Params
from jaxchat.models.quantised import is_quantised
from jaxchat.run.config import Pretrained, Train
from jaxchat.run.parts import Parts
from jaxchat.train.folder import RunFolder
from jaxchat.train.program import Program
from jaxchat.train.state import TrainState

if TYPE_CHECKING:
    from jaxchat.hub.checkpoints import Checkpoints


def first_state(
    config: Train,
    made: Program,
    parts: Parts,
    folder: RunFolder,
    mesh: Mesh,
    checkpoints: Checkpoints,
    restored: int | None,
) -> tuple[TrainState, Params | None]:
    """The state to go on from, and the weights below an adapter."""
    adapter = config.adapter
    if adapter is None:
        if restored is not None:
            return checkpoints.restore(restored, made.state), None
        return made.start(parts.params if parts.params is not None else _fresh(made.model, config.seed)), None
    from jaxchat.hub.adapter import AdapterRecord, Base, fingerprint, read_record
    from jaxchat.hub.open import open_base

    assert isinstance(config.model, Pretrained)
    record, source = read_record(folder.path), config.model.source
    if parts.params is not None:
        base = parts.params
        record = AdapterRecord(Base(source, fingerprint(base)), adapter)
    elif record is None:
        raise InputError(f"{folder.path} has lost its adapter.json; restore it from a copy")
    else:
        base = open_base(record, folder.path, mesh, source)
    if jax.process_index() == 0:
        AdapterRecord(Base(source, record.base.fingerprint), adapter).write(folder.path)
    frozen = lora.held(base, made.model, adapter.base)
    if restored is not None:
        return checkpoints.restore(restored, made.state), frozen
    return made.start(lora.init(made.model, adapter, frozen, jax.random.key(config.seed))), frozen


def sizes(state: TrainState, frozen: Params | None) -> str:
    """What a run trains and what it takes, over all devices, beside activations and gradients."""
    trained, kept = count(state.params), 0 if frozen is None else count(frozen)
    bytes_of = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for name, tree in _held(state, frozen)}
    sizes = ", ".join(f"{name} {count / 1e6:,.1f} MB" for name, count in bytes_of.items())
    return f"training {trained:,} of {trained + kept:,} parameters ({trained / (trained + kept):.2%}): {sizes}"


def _held(state: TrainState, frozen: Params | None) -> list[tuple[str, Any]]:
    frozen_weights = [] if frozen is None else [("frozen weights", frozen)]
    return [("trained weights", state.params), ("optimizer state", state.opt_state), *frozen_weights]


def count(params: Params) -> int:
    """Parameters; the scales of weights in few bits are none."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params, is_leaf=is_quantised))


def _fresh(model: Model, seed: int) -> Params:
    return jax.jit(model.init)(jax.random.key(seed))
