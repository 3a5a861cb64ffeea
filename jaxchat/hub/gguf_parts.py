"""What llama.cpp's GGUF files of most families share: keys and names of tensors, in both directions.

Sources: llama.cpp's converter and its loader of each architecture, for what a key says and what is fixed in its code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxchat.errors import InputError
from jaxchat.hub.families import Field, Keys
from jaxchat.hub.huggingface_parts import alike, unlike
from jaxchat.hub.layout import Part, Tensor
from jaxchat.models.config import DecoderConfig, LayerNorm, Llama3, RMSNorm, Rotary, Stretched
from jaxchat.models.rotary import llama3_divisors

FREQS = "rope_freqs"  # the key that stands for the tensor rope_freqs.weight


def fields(arch: str) -> tuple[Field, ...]:
    """The plain fields, under the architecture's name."""
    heads, width = f"{arch}.attention.head_count", f"{arch}.embedding_length"
    return (
        Field("layers", f"{arch}.block_count"),
        Field("width", width),
        Field("heads", heads),
        Field("kv_heads", f"{arch}.attention.head_count_kv", lambda keys: keys.get(heads)),
        Field("head_size", f"{arch}.attention.key_length", lambda keys: keys[width] // keys[heads]),
        Field("hidden", f"{arch}.feed_forward_length"),
        Field("context_length", f"{arch}.context_length"),
        Field("vocab_size", "vocab_size"),
        Field("tied", "tied"),
    )


def fixed(arch: str) -> dict[str, tuple[Any, ...]]:
    """Keys that ask for more than a dense decoder."""
    return {f"{arch}.expert_count": (0,)}


def rms_norm(keys: Keys, arch: str, offset: float = 0.0) -> RMSNorm:
    """The norm of all families but GPT-2."""
    return RMSNorm(keys.number(f"{arch}.attention.layer_norm_rms_epsilon"), offset)


def eps_of(config: DecoderConfig, arch: str) -> dict[str, Any]:
    """`rms_norm` the other way."""
    if isinstance(config.norm, LayerNorm):
        raise unlike(f"{config.norm}")
    return {f"{arch}.attention.layer_norm_rms_epsilon": config.norm.eps}


def rotary(keys: Keys, arch: str) -> Rotary:
    """Positions that are turned plainly, or stretched."""
    kind = keys.json.get(f"{arch}.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise InputError(
            f"{keys.where}: {arch}.rope.scaling.type is {kind!r}, which jaxchat does not read from GGUF; "
            "take the model's Hugging Face folder"
        )
    size = keys.shape["head_size"]
    turned = keys.whole(f"{arch}.rope.dimension_count", size)
    factor = keys.number(f"{arch}.rope.scaling.factor", 1.0) if kind == "linear" else 1.0
    theta = keys.number(f"{arch}.rope.freq_base", 10_000.0)
    scaling = _llama3(keys, turned, theta) or (None if factor == 1 else Stretched(factor))
    return Rotary(theta, scaling, turned / size)


def _llama3(keys: Keys, turned: int, theta: float) -> Llama3 | None:
    """Llama 3.1's and 3.2's, which the file says by what the turning of each pair is divided by."""
    said = keys.json.get(FREQS)
    if said is None:
        return None
    scaling = Llama3(float(round(max(said))), low=1.0, high=4.0, original=8192)
    if len(said) != turned // 2 or not np.allclose(llama3_divisors(turned, theta, scaling), said, rtol=1e-4):
        raise InputError(
            f"{keys.where}: the tensor rope_freqs.weight scales rotary positions in another way than Llama 3.1 does, "
            "which jaxchat does not read from GGUF; take the model's Hugging Face folder"
        )
    return scaling


def implied(config: DecoderConfig) -> dict[str, np.ndarray]:
    """The tensor that says so."""
    rotary = config.kinds[0].rotary
    if rotary is None or not isinstance(rotary.scaling, Llama3):
        return {}
    divisors = llama3_divisors(config.turned(rotary), rotary.theta, rotary.scaling)
    return {"rope_freqs.weight": divisors}


def rope_of(config: DecoderConfig, rotary: Rotary | None, arch: str) -> dict[str, Any]:
    """`rotary` the other way."""
    if rotary is None:
        raise unlike("layers without rotary positions")
    turned = {} if rotary.fraction == 1 else {f"{arch}.rope.dimension_count": config.turned(rotary)}
    base = {f"{arch}.rope.freq_base": rotary.theta}
    if rotary.scaling is None:
        return base | turned
    if isinstance(rotary.scaling, Stretched):
        stretched = {f"{arch}.rope.scaling.type": "linear", f"{arch}.rope.scaling.factor": rotary.scaling.factor}
        return base | turned | stretched
    if isinstance(rotary.scaling, Llama3):
        return base | turned | {FREQS: llama3_divisors(config.turned(rotary), rotary.theta, rotary.scaling).tolist()}
    raise InputError(
        f"rotary positions scaled as {type(rotary.scaling).__name__} are not written to GGUF; export to Hugging Face"
    )


def everywhere(config: DecoderConfig, arch: str) -> dict[str, Any]:
    """The keys of a family whose layers are of one kind without a window."""
    kind = alike(config)
    if kind.window is not None:
        raise InputError(f"{arch} has no window in GGUF; export to Hugging Face")
    return eps_of(config, arch) | rope_of(config, kind.rotary, arch)


def tensors(config: DecoderConfig, experts: Iterable[Tensor] = (), *, side_by_side: bool = False) -> tuple[Tensor, ...]:
    """The names that all families but Phi-3 and GPT-2 agree on. experts: what stands for the MLP where they are mixed.

    side_by_side: the file holds each pair that is rotated together side by side, we hold them half a head apart.
    """
    block = "blk.{L}."
    ours, theirs = ("(C J)", "J C") if side_by_side else ("H", "H")
    found = [
        Tensor("token_embd.weight", Part("embed.table", "V D", "V D")),
        *norms(config),
        Tensor(block + "attn_q.weight", Part("layers.attn.q", f"L D N {ours}", f"(N {theirs}) D")),
        Tensor(block + "attn_k.weight", Part("layers.attn.k", f"L D K {ours}", f"(K {theirs}) D")),
        Tensor(block + "attn_v.weight", Part("layers.attn.v", "L D K H", "(K H) D")),
        Tensor(block + "attn_output.weight", Part("layers.attn.o", "L N H D", "D (N H)")),
    ]
    found += experts or [
        Tensor(block + "ffn_gate.weight", Part("layers.mlp.gate", "L D F", "F D")),
        Tensor(block + "ffn_up.weight", Part("layers.mlp.up", "L D F", "F D")),
        Tensor(block + "ffn_down.weight", Part("layers.mlp.down", "L F D", "D F")),
    ]
    if config.qkv_bias:
        found += [
            Tensor(block + "attn_q.bias", Part("layers.attn.q_bias", f"L N {ours}", f"(N {theirs})")),
            Tensor(block + "attn_k.bias", Part("layers.attn.k_bias", f"L K {ours}", f"(K {theirs})")),
            Tensor(block + "attn_v.bias", Part("layers.attn.v_bias", "L K H", "(K H)")),
        ]
    if config.qk_norm:
        plus = _offset(config)
        found += [
            Tensor(block + f"attn_{name}_norm.weight", Part(f"layers.attn.{name}_norm.scale", "L H", "H", plus))
            for name in "qk"
        ]
    return (*found, *unembedding(config))


def norms(config: DecoderConfig) -> list[Tensor]:
    """Around attention and MLP, and the last; the file holds what the normed vectors are multiplied by."""
    names = {"attn_norm": "attn_norm", "mlp_norm": "ffn_norm"}
    if config.post_norms:
        names |= {"attn_post_norm": "post_attention_norm", "mlp_post_norm": "post_ffw_norm"}
    plus = _offset(config)
    each = [
        Tensor(f"blk.{{L}}.{theirs}.weight", Part(f"layers.{ours}.scale", "L D", "D", plus))
        for ours, theirs in names.items()
    ]
    return [*each, Tensor("output_norm.weight", Part("norm.scale", "D", "D", plus))]


def unembedding(config: DecoderConfig) -> tuple[Tensor, ...]:
    """None where it is the embedding."""
    return () if config.tied else (Tensor("output.weight", Part("unembed.kernel", "D V", "V D")),)


def _offset(config: DecoderConfig) -> float:
    return 0.0 if isinstance(config.norm, LayerNorm) else config.norm.offset
