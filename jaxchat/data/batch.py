"""What a training step takes in. Shapes: B rows, T tokens in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """Rows of packed conversations, on the host (numpy) or on devices (jax).

    `targets_BT[b, t]` is the token behind `tokens_BT[b, t]`, and `weights_BT[b, t]` its weight in the loss: 0 for what
    is not trained on, for the first token of a conversation, in the padding and at the end of the row. `segments_BT`
    are 1, 2, ... conversation by conversation, 0 in the padding: a token sees those of its own segment alone.
    `positions_BT` count from 0 in every segment.
    """

    tokens_BT: Any  # int32
    targets_BT: Any  # int32
    weights_BT: Any  # float32
    segments_BT: Any  # int32
    positions_BT: Any  # int32

    @staticmethod
    def of_rows(rows: Mapping[str, np.ndarray]) -> Batch:
        """The batch of packed rows (`tokens`, `weights`, `segments`, `positions`, each [B, T]), shifted by one."""
        return Batch(
            tokens_BT=rows["tokens"],
            targets_BT=_next(rows["tokens"]),
            weights_BT=_next(rows["weights"]),
            segments_BT=rows["segments"],
            positions_BT=rows["positions"],
        )

    def padded(self, rows: int, pad_id: int) -> Batch:
        """This batch with rows of nothing but padding, of no weight, behind it: `rows` of them in all."""
        missing = rows - len(self.tokens_BT)

        def pad(name: str) -> np.ndarray:
            fill = pad_id if name in ("tokens_BT", "targets_BT") else 0
            return np.pad(getattr(self, name), ((0, missing), (0, 0)), constant_values=fill)

        return Batch(**{field.name: pad(field.name) for field in fields(Batch)})


def _next(x_BT: np.ndarray) -> np.ndarray:
    """The values one token on; 0 at the end of the row."""
    return np.concatenate([x_BT[:, 1:], np.zeros_like(x_BT[:, :1])], axis=1)


def place(batch: Batch, sharding: jax.sharding.Sharding, rows: int | None = None) -> Batch:
    """The batch on the devices of `sharding`, each process giving the rows that it holds.

    `rows`: of the whole batch, over all processes; by default what `batch` holds times the number of processes whose
    devices hold different rows. See process_slice for which rows a process is to hold.
    """

    def put(x_BT: np.ndarray) -> jax.Array:
        shape = None if rows is None else (rows, x_BT.shape[1])
        return jax.make_array_from_process_local_data(sharding, np.ascontiguousarray(x_BT), shape)

    return jax.tree.map(put, batch)


def process_slice(sharding: jax.sharding.Sharding, rows: int, seq_len: int) -> tuple[int, int]:
    """Which part of a batch of `rows` this process is to hold for `place`: (index, count), as Pipeline takes them.

    Processes whose devices hold the same rows (a tensor-parallel group, say) get the same part.
    """
    places = sharding.addressable_devices_indices_map((rows, seq_len)).values()
    spans = {index[0].indices(rows)[:2] for index in places if index is not None}
    first, last = min(start for start, _ in spans), max(stop for _, stop in spans)
    count, rest = divmod(rows, last - first)
    if rest or first % (last - first) or sum(stop - start for start, stop in spans) != last - first:
        raise ValueError(f"this process's devices hold no even, contiguous part of the {rows} rows under {sharding}")
    return first // (last - first), count
