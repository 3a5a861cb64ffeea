"""What one training step sees: B rows of T tokens, several conversations packed into each."""

from __future__ import annotations

from dataclasses import dataclass

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """tokens: int32 ids. targets: the next token of each. weights: float32, how much each target counts (0: not trained).
    segments: which conversation of the row, from 1; 0 is padding. positions: of each token within its conversation."""

    tokens_BT: jax.Array
    targets_BT: jax.Array
    weights_BT: jax.Array
    segments_BT: jax.Array
    positions_BT: jax.Array
