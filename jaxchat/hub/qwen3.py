"""Qwen 3: queries and keys are normed head by head.

Sources: Yang et al. 2025; transformers' Qwen3Config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts
from jaxchat.hub.families import Family, Field, Format, Keys
from jaxchat.hub.huggingface_parts import unlike
from jaxchat.hub.qwen2 import keys_of, kinds
from jaxchat.models.config import DecoderConfig, Kind


def _fields() -> tuple[Field, ...]:
    """A missing head_dim means 128 here, whatever the width."""
    plain = huggingface_parts.fields(context=32768)
    return tuple(replace(field, default=lambda keys: 128) if field.ours == "head_size" else field for field in plain)


def _parts(keys: Keys) -> dict[str, Any]:
    bias = keys.flag("attention_bias")
    return {
        "kinds": kinds(keys),
        "norm": huggingface_parts.rms_norm(keys),
        "qkv_bias": bias,
        "out_bias": bias,
        "qk_norm": True,
    }


def _keys(config: DecoderConfig) -> dict[str, Any]:
    return keys_of(config) | {"attention_bias": config.qkv_bias}


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    rotary = gguf_parts.rotary(keys, "qwen3")
    return {"kinds": (Kind(rotary=rotary),), "norm": gguf_parts.rms_norm(keys, "qwen3"), "qk_norm": True}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    if config.qkv_bias or not config.qk_norm:
        raise unlike("queries with a bias or without a norm")
    return gguf_parts.everywhere(config, "qwen3")


FAMILY = Family(
    name="qwen3",
    model_types=("qwen3",),
    classes=("Qwen3ForCausalLM",),
    huggingface=Format(
        family="qwen3",
        fields=_fields(),
        parts=_parts,
        keys=_keys,
        fixed=huggingface_parts.FIXED,
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("qwen3",),
    gguf=Format(
        family="qwen3",
        fields=gguf_parts.fields("qwen3"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=gguf_parts.fixed("qwen3"),
        tensors=gguf_parts.tensors,
    ),
)
