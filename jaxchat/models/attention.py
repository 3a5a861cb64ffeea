"""Attention backends, chosen by type.

A backend is called with queries (B, T, K, G, H), keys and values (B, K, S, H), a Sight, the sharding rules, `scale` (of
queries times keys) and `soft_cap` (c: scores s become c tanh(s / c); None: they stay), and returns (B, T, K, G, H) in
the dtype of the values. Its `refusal` says in a sentence why it cannot compute that, if so; called all the same, it
raises it as an InputError: none leaves a part of the mask out.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxchat.models.attention_cudnn import Cudnn
from jaxchat.models.attention_dot import SAVED, Dot
from jaxchat.models.attention_sight import Sight
from jaxchat.models.attention_splash import Splash
from jaxchat.sharding import Rules

__all__ = ["SAVED", "Auto", "Backend", "Cudnn", "Dot", "Sight", "Splash"]


@dataclass(frozen=True)
class Auto:
    """The fastest backend that computes what is asked for, on the devices and in the dtype it is asked in."""

    def choice(
        self, q_BTKGH: jax.Array, k_BKSH: jax.Array, sight: Sight, rules: Rules, soft_cap: float | None
    ) -> Splash | Cudnn | Dot:
        """Which one that is."""
        fast: tuple[Splash | Cudnn, ...] = (Splash(), Cudnn())
        return next((one for one in fast if not one.refusal(q_BTKGH, k_BKSH, sight, rules, soft_cap)), Dot())

    def __call__(
        self,
        q_BTKGH: jax.Array,
        k_BKSH: jax.Array,
        v_BKSH: jax.Array,
        sight: Sight,
        rules: Rules,
        *,
        scale: float,
        soft_cap: float | None = None,
    ) -> jax.Array:
        """Scaled dot-product attention; softmax in float32."""
        backend = self.choice(q_BTKGH, k_BKSH, sight, rules, soft_cap)
        return backend(q_BTKGH, k_BKSH, v_BKSH, sight, rules, scale=scale, soft_cap=soft_cap)


Backend = Auto | Dot | Splash | Cudnn
