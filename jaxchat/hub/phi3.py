"""Phi-3, Phi-3.5 and Phi-4-mini: Llama with projections fused in the file, a window, and LongRoPE over 4,096 tokens.

Sources: Abdin et al. 2024; transformers' Phi3Config.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import ORIGINAL, alike
from jaxchat.hub.layout import Part, Tensor
from jaxchat.models.config import DecoderConfig, Kind, LongRope

_HEADS = (("q", "N"), ("k", "K"), ("v", "K"))
_QKV = tuple(Part(f"layers.attn.{name}", f"L D {n} H", f"({n} H) D") for name, n in _HEADS)
_GATE_UP = tuple(Part(f"layers.mlp.{name}", "L D F", "F D") for name in ("gate", "up"))
_OUT, _DOWN = Part("layers.attn.o", "L N H D", "D (N H)"), Part("layers.mlp.down", "L F D", "D F")


def _tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    block = "model.layers.{L}."
    return (
        Tensor("model.embed_tokens.weight", Part("embed.table", "V D", "V D")),
        *huggingface_parts.norms(config),
        Tensor(block + "self_attn.qkv_proj.weight", *_QKV),
        Tensor(block + "self_attn.o_proj.weight", _OUT),
        Tensor(block + "mlp.gate_up_proj.weight", *_GATE_UP),
        Tensor(block + "mlp.down_proj.weight", _DOWN),
        *huggingface_parts.unembedding(config),
    )


def _gguf_tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    block = "blk.{L}."
    return (
        Tensor("token_embd.weight", Part("embed.table", "V D", "V D")),
        *gguf_parts.norms(config),
        Tensor(block + "attn_qkv.weight", *_QKV),
        Tensor(block + "attn_output.weight", _OUT),
        Tensor(block + "ffn_up.weight", *_GATE_UP),
        Tensor(block + "ffn_down.weight", _DOWN),
        *gguf_parts.unembedding(config),
    )


def _parts(keys: Keys) -> dict[str, Any]:
    kind = Kind(huggingface_parts.window(keys), huggingface_parts.rotary(keys))
    return {"kinds": (kind,), "norm": huggingface_parts.rms_norm(keys, 1e-5)}


def _keys(config: DecoderConfig) -> dict[str, Any]:
    huggingface_parts.silu_gated(config)
    kind = alike(config)
    scaling = None if kind.rotary is None else kind.rotary.scaling
    return {
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "rope_parameters": huggingface_parts.rope_of(kind.rotary),
        "rope_scaling": None,
        ORIGINAL: scaling.original if isinstance(scaling, LongRope) else config.context_length,
        "sliding_window": kind.window,
        "use_cache": True,
        **huggingface_parts.eps_of(config),
    }


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    rotary = gguf_parts.rotary(keys, "phi3")
    # llama.cpp attends to everything, whatever the file says of a window; the model has one.
    window = huggingface_parts.window(keys, "phi3.attention.sliding_window")
    return {"kinds": (Kind(window, rotary),), "norm": gguf_parts.rms_norm(keys, "phi3")}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    kind = alike(config)
    window = {} if kind.window is None else {"phi3.attention.sliding_window": kind.window}
    turned = {} if kind.rotary is None else {"phi3.rope.dimension_count": config.turned(kind.rotary)}
    return gguf_parts.eps_of(config, "phi3") | gguf_parts.rope_of(config, kind.rotary, "phi3") | window | turned


FAMILY = Family(
    name="phi3",
    model_types=("phi3",),
    classes=("Phi3ForCausalLM",),
    huggingface=Format(
        family="phi3",
        fields=huggingface_parts.fields(context=4096),
        parts=_parts,
        keys=_keys,
        fixed=huggingface_parts.FIXED,
        tensors=_tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("phi3",),
    gguf=Format(
        family="phi3",
        fields=gguf_parts.fields("phi3"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=gguf_parts.fixed("phi3"),
        tensors=_gguf_tensors,
    ),
)
