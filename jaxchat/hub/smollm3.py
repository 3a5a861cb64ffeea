"""SmolLM3: Llama, in which every fourth layer knows no positions.

Sources: Bakouch et al. 2025; Yang et al. 2025 (RNoPE); transformers' SmolLM3Config; llama.cpp, where the four
are fixed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import FULL, SLIDING, unlike
from jaxchat.models.config import DecoderConfig, Gated, Kind, Rotary, shortest


def _parts(keys: Keys) -> dict[str, Any]:
    layers, interval = keys.shape["layers"], keys.whole("no_rope_layer_interval", 4)
    turned = keys.json.get("no_rope_layers") or [int((layer + 1) % interval != 0) for layer in range(layers)]
    if len(turned) != layers:
        raise keys.refused("no_rope_layers", f"it reads 1 or 0 for each of {layers} layers")
    window = huggingface_parts.window(keys) if keys.flag("use_sliding_window") else None
    types = huggingface_parts.layer_types(keys, [FULL if one or window is None else SLIDING for one in turned])
    rotary = huggingface_parts.rotary(keys, 2e6)
    kinds = (
        Kind(window if kind == SLIDING else None, rotary if one else None)
        for kind, one in zip(types, turned, strict=True)
    )
    bias = keys.flag("attention_bias")
    return {
        "kinds": shortest(tuple(kinds)),
        "norm": huggingface_parts.rms_norm(keys),
        "mlp": Gated(bias=keys.flag("mlp_bias")),
        "qkv_bias": bias,
        "out_bias": bias,
    }


def _keys(config: DecoderConfig) -> dict[str, Any]:
    windows = huggingface_parts.windows_of(config)
    return {
        "hidden_act": "silu",
        "attention_bias": config.qkv_bias,
        "attention_dropout": 0.0,
        "mlp_bias": huggingface_parts.silu_gated(config).bias,
        "initializer_range": 0.02,
        "no_rope_layers": [int(config.kind(layer).rotary is not None) for layer in range(config.layers)],
        "rope_parameters": huggingface_parts.rope_of(_rotary(config)),
        "rope_scaling": None,
        "use_sliding_window": windows["sliding_window"] is not None,
        "use_cache": True,
        **windows,
        **huggingface_parts.eps_of(config),
    }


def _rotary(config: DecoderConfig) -> Rotary:
    found = {kind.rotary for kind in config.kinds if kind.rotary is not None}
    if len(found) != 1:
        raise unlike(f"{len(found)} ways of turning")
    return found.pop()


def _gguf_kinds(layers: int, rotary: Rotary) -> tuple[Kind, ...]:
    return shortest(tuple(Kind(rotary=rotary if (layer + 1) % 4 else None) for layer in range(layers)))


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    kinds = _gguf_kinds(keys.shape["layers"], gguf_parts.rotary(keys, "smollm3"))
    return {"kinds": kinds, "norm": gguf_parts.rms_norm(keys, "smollm3")}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    rotary = _rotary(config)
    if config.kinds != _gguf_kinds(config.layers, rotary):
        raise unlike("other layers than every fourth without positions")
    return gguf_parts.eps_of(config, "smollm3") | gguf_parts.rope_of(config, rotary, "smollm3")


FAMILY = Family(
    name="smollm3",
    model_types=("smollm3",),
    classes=("SmolLM3ForCausalLM",),
    huggingface=Format(
        family="smollm3",
        fields=huggingface_parts.fields(context=32768, tied=True, kv_heads=4),
        parts=_parts,
        keys=_keys,
        fixed=huggingface_parts.FIXED,
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("smollm3",),
    gguf=Format(
        family="smollm3",
        fields=gguf_parts.fields("smollm3"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=gguf_parts.fixed("smollm3"),
        tensors=partial(gguf_parts.tensors, side_by_side=True),
    ),
)
