"""Attention by the Splash kernel of JAX: flash attention (Dao 2023) on TPUs that skips what its mask leaves out.

B rows, T queries, S keys, K key-value heads, G query heads to each of them, H head size, N = K * G.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
from jax.sharding import NamedSharding

from jaxchat.errors import InputError
from jaxchat.mesh import platform
from jaxchat.models.attention_dot import SAVED, Dot
from jaxchat.models.attention_sight import Sight, shards
from jaxchat.sharding import Rules

LANES = 128  # of a TPU's vector registers: blocks are multiples of it
BLOCKS = (512, 256, LANES)  # tokens of a block, the largest that divides a row first


@dataclass(frozen=True)
class Splash:
    """TPU kernels, in which no scores leave the chip. Causal and window masks choose the blocks that are computed at
    all, segment ids mask within them. Through a cache, where queries are few, attention is Dot.

    interpret: runs the kernels on any platform, slowly, as their tests do.
    """

    interpret: bool = False

    def refusal(
        self, q_BTKGH: jax.Array, k_BKSH: jax.Array, sight: Sight, rules: Rules, soft_cap: float | None
    ) -> str | None:
        """Why it cannot compute this, if so."""
        if not self.interpret and platform() != "tpu":
            return (
                f"splash attention runs on TPUs and these devices are of the kind {platform()!r}; set --attention auto"
            )
        split = shards(rules)
        T = q_BTKGH.shape[1]
        if T % (LANES * split):
            fitting = -(-T // (LANES * split)) * LANES * split
            over = f" over context={split}" if split > 1 else ""
            return (
                f"splash attention computes blocks of {LANES} tokens, and rows of {T} do not divide into them{over}; "
                f"set --data.seq-len {fitting} or --attention dot"
            )
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
        from jax.experimental.pallas.ops.tpu import splash_attention as splash

        split = shards(rules)
        T, S = q_BTKGH.shape[1], sight.slots
        seen = (T, S)
        mask: splash.Mask
        if sight.window is None:
            mask = splash.CausalMask(seen)
        else:
            mask = splash.LocalMask(seen, (sight.window - 1, 0), 0)
        q, kv = (next(size for size in BLOCKS if length % size == 0) for length in (T // split, S))
        sizes = splash.BlockSizes(block_q=q, block_kv=kv, block_q_dkv=q, block_kv_dkv=kv, block_q_dq=q, block_kv_dq=kv)
        axes = ("batch", "sequence", "kv_heads", "group", "head")
        q_spec, k_spec = rules.activation(*axes), rules.activation("batch", "kv_heads", "keys", "head")
        rows_spec, keys_spec = rules.activation("batch", "sequence"), rules.activation("batch", "keys")
        heads = q_BTKGH.shape[2] * q_BTKGH.shape[3]
        kernel = splash.make_splash_mha(
            splash.MultiHeadMask([mask] * heads),
            block_sizes=sizes,
            attn_logits_soft_cap=soft_cap,
            head_shards=1,
            q_seq_shards=split,
            residual_checkpoint_name=SAVED,
            interpret=self.interpret,
        )
        mesh = jax.sharding.get_abstract_mesh()
        kernel_spec = kernel.manual_sharding_spec(NamedSharding(mesh, rules.activation(None, "sequence")))
        kernel = jax.tree.map(jax.sharding.reshard, kernel, kernel_spec)

        @partial(
            jax.shard_map,
            in_specs=(kernel_spec, q_spec, k_spec, k_spec, rows_spec, keys_spec),
            out_specs=q_spec,
            check_vma=False,  # kernels do not say over which axes their results vary
        )
        def local(
            kernel: Callable[..., jax.Array],
            q_BTKGH: jax.Array,
            k_BKSH: jax.Array,
            v_BKSH: jax.Array,
            queries_BT: jax.Array,
            keys_BT: jax.Array,
        ) -> jax.Array:
            B, T, K, G, H = q_BTKGH.shape
            q_BNTH = q_BTKGH.reshape(B, T, K * G, H).transpose(0, 2, 1, 3)
            segments = splash.SegmentIds(queries_BT, keys_BT)
            mixed_BNTH = jax.vmap(kernel)(q_BNTH, k_BKSH, v_BKSH, segments)
            return mixed_BNTH.transpose(0, 2, 1, 3).reshape(B, T, K, G, H)

        return local(kernel, q_BTKGH * scale, k_BKSH, v_BKSH, sight.queries_BT, sight.keys_BT)
