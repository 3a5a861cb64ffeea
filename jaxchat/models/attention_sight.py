"""Who may see whom: what every attention backend must keep, in the form that each can use.

B rows, T queries, S keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from jaxchat.sharding import Rules, names

# Scores of one row and head that are held at once. What needs more is computed in parts, so that memory grows with a
# row's length and not with its square.
HELD = 1024 * 1024


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sight:
    """Which keys each query sees.

    places_BT: where a query stands among the keys: it sees none behind (B may be 1, for all rows). queries_BT, keys_BT:
    both sides' segment ids in packed rows, of which a query sees its own; None through a cache. held_BTS: the mask by
    pairs, made once for all layers; None where it would be too large, and is made in parts. slots: S. window: a query
    sees itself and the `window - 1` tokens before it; None: all before it.
    """

    places_BT: jax.Array
    queries_BT: jax.Array | None
    keys_BT: jax.Array | None
    held_BTS: jax.Array | None
    slots: int = field(metadata={"static": True})
    window: int | None = field(metadata={"static": True})

    @classmethod
    def packed(cls, queries_BT: jax.Array, keys_BT: jax.Array, window: int | None = None) -> Sight:
        """Of packed rows, from both sides' segment ids: one conversation, and not the future.

        With segments [1 1 2 2 0]::

            1 . . . .      a conversation's first token sees itself
            1 1 . . .
            . . 1 . .      the second conversation never sees the first
            . . 1 1 .
            . . . . 1      padding (0) sees padding alone, which keeps its softmax finite; it carries no loss
        """
        length = queries_BT.shape[1]
        sight = cls(jnp.arange(length)[None, :], queries_BT, keys_BT, None, length, window)
        return sight._made()

    @classmethod
    def cached(cls, positions_BT: jax.Array, slots: int, window: int | None = None) -> Sight:
        """Through a cache of `slots` tokens: a query at position p sees slots 0 to p; padding (-1), slot 0."""
        return cls(jnp.maximum(positions_BT, 0), None, None, None, slots, window)._made()

    @property
    def mask(self) -> jax.Array:
        """Who sees whom by pairs, (B, T, S), bool."""
        if self.held_BTS is not None:
            return self.held_BTS
        s, places_BT1 = jnp.arange(self.slots)[None, None, :], self.places_BT[:, :, None]
        mask_BTS = s <= places_BT1
        if self.window is not None:
            mask_BTS &= s > places_BT1 - self.window
        if self.queries_BT is not None and self.keys_BT is not None:
            mask_BTS &= self.queries_BT[:, :, None] == self.keys_BT[:, None, :]
        return mask_BTS

    def _made(self) -> Sight:
        if self.places_BT.shape[1] * self.slots > HELD:
            return self
        return replace(self, held_BTS=self.mask)


def shards(rules: Rules) -> int:
    """Over how many devices of the mesh the rules split a row's queries."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return math.prod(sizes[name] for name in names(rules.activation("sequence")[0]))
