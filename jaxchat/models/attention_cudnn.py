"""Attention by cuDNN's flash attention, on NVIDIA GPUs.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size, N = K * G.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxchat.errors import InputError
from jaxchat.mesh import platform
from jaxchat.models.attention_dot import Dot
from jaxchat.models.attention_sight import Sight
from jaxchat.sharding import Rules

LARGEST_HEAD = 128  # of all GPUs that have the kernels; the newest take 256


@dataclass(frozen=True)
class Cudnn:
    """GPU kernels, in which no scores leave the chip. Causality, windows and segments all stand in a mask by pairs,
    two bytes each in the activations' dtype and the same for all heads: the kernels' other masks know neither segments
    nor windows beside them. Through a cache, where queries are few, attention is Dot.
    """

    def refusal(
        self, q_BTKGH: jax.Array, k_BKSH: jax.Array, sight: Sight, rules: Rules, soft_cap: float | None
    ) -> str | None:
        """Why it cannot compute this, if so."""
        T, H = q_BTKGH.shape[1], q_BTKGH.shape[-1]
        if platform() != "gpu":
            return (
                f"cudnn attention runs on GPUs and these devices are of the kind {platform()!r}; set --attention auto"
            )
        if q_BTKGH.dtype not in (jnp.bfloat16, jnp.float16):
            dtype = q_BTKGH.dtype
            return f"cudnn attention computes in 16 bits, not in {dtype}; set --compute bfloat16 or --attention dot"
        if soft_cap is not None:
            return f"cudnn attention cannot cap scores, and the model caps them at {soft_cap:g}; set --attention dot"
        if H % 8 or H > LARGEST_HEAD:
            return (
                f"cudnn attention takes heads of up to {LARGEST_HEAD} in multiples of 8, and the model's have {H}; "
                "set --attention dot"
            )
        if T % 2:
            return f"cudnn attention takes rows of an even length, not of {T}; set --data.seq-len {T + 1}"
        return None

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
        if sight.queries_BT is None:
            return Dot()(q_BTKGH, k_BKSH, v_BKSH, sight, rules, scale=scale, soft_cap=soft_cap)
        if reason := self.refusal(q_BTKGH, k_BKSH, sight, rules, soft_cap):
            raise InputError(reason)
        q_spec = rules.activation("batch", "sequence", "kv_heads", "group", "head")
        k_spec = rules.activation("batch", "kv_heads", "keys", "head")
        mask_spec = rules.activation("batch", "sequence", "keys")

        @partial(jax.shard_map, in_specs=(q_spec, k_spec, k_spec, mask_spec), out_specs=q_spec, check_vma=False)
        def local(q_BTKGH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array) -> jax.Array:
            B, T, K, G, H = q_BTKGH.shape
            mixed_BTNH = jax.nn.dot_product_attention(
                q_BTKGH.reshape(B, T, K * G, H),
                k_BKSH.swapaxes(1, 2),
                v_BKSH.swapaxes(1, 2),
                mask=mask_BTS[:, None],
                is_causal=mask_BTS.shape[2] == T,  # then half of the blocks can be skipped
                scale=scale,
                implementation="cudnn",
            )
            return mixed_BTNH.reshape(B, T, K, G, H)

        return local(q_BTKGH, k_BKSH, v_BKSH, sight.mask)
