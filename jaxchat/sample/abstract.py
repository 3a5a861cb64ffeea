"""The programs that the engine runs, to be compiled without weights: what a plan needs.

B rows, T tokens of a piece, W words of a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxchat.models.decoder import Model
from jaxchat.sample import steps
from jaxchat.sample.generate import SLOTS
from jaxchat.sample.methods import Sampling, methods
from jaxchat.sample.runner import PIECES
from jaxchat.sharding import names


@dataclass(frozen=True)
class Abstract:
    """One program. takes: shapes by kind. tokens: of a row that one execution (of decoding: one round of its loop)
    works through."""

    lower: Callable[[], jax.stages.Lowered]
    takes: dict[str, Any]
    rows: int
    tokens: int


def programs(model: Model, mesh: Mesh, slots: int) -> dict[str, Abstract]:
    """The "prefill" of the longest piece of every row's prompt, and the "decode" of a token more of each.

    slots: tokens that a row holds. `mesh` is set.
    """
    model = replace(model, rules=model.rules.by_rows())
    shards = int(np.prod([mesh.shape[name] for name in names(model.rules.activation("batch")[0])], dtype=int))
    B, T = -(-SLOTS // shards) * shards, min(max(length for _, length in PIECES), slots)

    def shape(dtype: Any, *sizes: int) -> Any:
        axes = ("batch", *(None,) * (len(sizes) - 1))
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, model.rules.activation(*axes)))

    params = model.abstract()
    state = jax.eval_shape(lambda: steps.empty_state(model, B, slots))
    counts, flags = (shape(kind, B) for kind in (np.int32, bool))
    allowed_RW = shape(np.int32, B, -(-model.config.vocab_size // 32))
    by = jax.tree.map(lambda x: shape(x.dtype, B), methods([Sampling()] * B))
    batch = steps.Batch(None, counts, counts, counts, flags, flags, flags, allowed_RW, by)
    piece = shape(np.int32, B, T)
    one, stops = jax.ShapeDtypeStruct((), np.int32), jax.ShapeDtypeStruct((1,), np.int32)
    takes = {"parameters": params, "cache": state.cache}
    return {
        "prefill": Abstract(
            lambda: steps.read.lower(model, slots, params, state.cache, None, piece, piece), takes, B, T
        ),
        "decode": Abstract(
            lambda: steps.advance.lower(model, slots, params, state, batch, one, stops),
            takes | {"history": state.history},
            B,
            1,
        ),
    }
