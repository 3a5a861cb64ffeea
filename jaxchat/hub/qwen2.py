"""Qwen 2 and 2.5: biases where queries, keys and values are made, and a window in the upper layers of some.

Sources: Yang et al. 2024; transformers' Qwen2Config.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import FULL, SLIDING, unlike
from jaxchat.models.config import DecoderConfig, Kind


def kinds(keys: Keys) -> tuple[Kind, ...]:
    """Of the layers: those from `max_window_layers` on look through the window, if it is used."""
    window = huggingface_parts.window(keys, default=4096) if keys.flag("use_sliding_window") else None
    layers, full = keys.shape["layers"], keys.whole("max_window_layers", 28)
    types = huggingface_parts.layer_types(keys, [FULL if layer < full else SLIDING for layer in range(layers)])
    return huggingface_parts.windowed(types, window, huggingface_parts.rotary(keys))


def keys_of(config: DecoderConfig) -> dict[str, Any]:
    """`kinds` the other way, and what Qwen 3 has as well."""
    huggingface_parts.silu_gated(config)
    windows = huggingface_parts.windows_of(config)
    return {
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_parameters": huggingface_parts.rope_of(config.kinds[0].rotary),
        "rope_scaling": None,
        "use_sliding_window": windows["sliding_window"] is not None,
        "max_window_layers": windows["layer_types"].count(FULL),
        "use_cache": True,
        **windows,
        **huggingface_parts.eps_of(config),
    }


def _parts(keys: Keys) -> dict[str, Any]:
    return {"kinds": kinds(keys), "norm": huggingface_parts.rms_norm(keys), "qkv_bias": True}


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    rotary = gguf_parts.rotary(keys, "qwen2")
    return {"kinds": (Kind(rotary=rotary),), "norm": gguf_parts.rms_norm(keys, "qwen2"), "qkv_bias": True}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    if not config.qkv_bias:
        raise unlike("queries without a bias")
    return gguf_parts.everywhere(config, "qwen2")


FAMILY = Family(
    name="qwen2",
    model_types=("qwen2",),
    classes=("Qwen2ForCausalLM",),
    huggingface=Format(
        family="qwen2",
        fields=huggingface_parts.fields(context=32768),
        parts=_parts,
        keys=keys_of,
        fixed=huggingface_parts.FIXED,
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("qwen2",),
    gguf=Format(
        family="qwen2",
        fields=gguf_parts.fields("qwen2"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=gguf_parts.fixed("qwen2"),
        tensors=gguf_parts.tensors,
    ),
)
