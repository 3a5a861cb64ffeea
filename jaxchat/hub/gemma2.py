"""Gemma 2: capped scores and logits, norms before and after, a window in every other layer, GeGLU, scaled embeddings.

Sources: Gemma Team 2024; transformers' Gemma2Config; llama.cpp, which has the alternation and the scale fixed.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import FULL, SLIDING, unlike
from jaxchat.models.config import DecoderConfig, Gated, Kind, LayerNorm, Rotary, shortest

FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
}


def shape(keys: Keys) -> dict[str, Any]:
    """What Gemma 2 and 3 have in common, and no key says."""
    return {"mlp": Gated("gelu_tanh"), "post_norms": True, "embed_scale": keys.shape["width"] ** 0.5}


def parts(keys: Keys, score_cap: float | None, logit_cap: float | None) -> dict[str, Any]:
    """What config.json says of both alike; the caps are what a missing key means."""
    bias, size = keys.flag("attention_bias"), keys.shape["head_size"]
    scalar = keys.whole("query_pre_attn_scalar", 256)
    return {
        **shape(keys),
        "norm": huggingface_parts.rms_norm(keys, offset=1.0),
        "qkv_bias": bias,
        "out_bias": bias,
        "query_scale": None if scalar == size else scalar**-0.5,
        "score_cap": _cap(keys, "attn_logit_softcapping", score_cap),
        "logit_cap": _cap(keys, "final_logit_softcapping", logit_cap),
    }


def _cap(keys: Keys, key: str, default: float | None) -> float | None:
    return None if keys.json.get(key, default) is None else keys.number(key, default)


def keys_of(config: DecoderConfig) -> dict[str, Any]:
    """`parts` the other way."""
    scalar = config.head_size if config.query_scale is None else round(config.query_scale**-2)
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": config.qkv_bias,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "query_pre_attn_scalar": scalar,
        "attn_logit_softcapping": config.score_cap,
        "final_logit_softcapping": config.logit_cap,
        "use_cache": True,
        **huggingface_parts.eps_of(config, offset=1.0),
    }


def gguf_parts_of(keys: Keys, arch: str, large: int) -> dict[str, Any]:
    """What GGUF says of both alike. `large`: layers of the size whose scale is of the width over the heads."""
    wide = keys.shape["width"] // keys.shape["heads"]
    other = keys.shape["layers"] == large and wide != keys.shape["head_size"]
    return {
        **shape(keys),
        "norm": gguf_parts.rms_norm(keys, arch, offset=1.0),
        "query_scale": wide**-0.5 if other else None,
        "score_cap": _cap(keys, f"{arch}.attn_logit_softcapping", None),
        "logit_cap": _cap(keys, f"{arch}.final_logit_softcapping", None),
    }


def gguf_keys_of(config: DecoderConfig, arch: str, rotary: Rotary | None) -> dict[str, Any]:
    """`gguf_parts_of` the other way."""
    if isinstance(config.norm, LayerNorm) or config.norm.offset != 1:
        raise unlike(f"{config.norm}")
    caps = {"attn_logit_softcapping": config.score_cap, "final_logit_softcapping": config.logit_cap}
    said = {f"{arch}.{key}": cap for key, cap in caps.items() if cap is not None}
    return gguf_parts.eps_of(config, arch) | gguf_parts.rope_of(config, rotary, arch) | said


def _kinds(keys: Keys) -> tuple[Kind, ...]:
    types = [FULL if layer % 2 else SLIDING for layer in range(keys.shape["layers"])]
    window = huggingface_parts.window(keys, default=4096)
    return huggingface_parts.windowed(
        huggingface_parts.layer_types(keys, types), window, huggingface_parts.rotary(keys)
    )


def _parts(keys: Keys) -> dict[str, Any]:
    return {"kinds": _kinds(keys), **parts(keys, 50.0, 30.0)}


def _keys(config: DecoderConfig) -> dict[str, Any]:
    rope = huggingface_parts.rope_of(config.kinds[0].rotary)
    return keys_of(config) | huggingface_parts.windows_of(config) | {"rope_parameters": rope}


def _gguf_kinds(layers: int, window: int, rotary: Rotary | None) -> tuple[Kind, ...]:
    return shortest(tuple(Kind(None if layer % 2 else window, rotary) for layer in range(layers)))


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    window, rotary = keys.whole("gemma2.attention.sliding_window", 4096), gguf_parts.rotary(keys, "gemma2")
    return {"kinds": _gguf_kinds(keys.shape["layers"], window, rotary), **gguf_parts_of(keys, "gemma2", 46)}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    window, rotary = config.kinds[0].window, config.kinds[0].rotary
    if window is None or config.kinds != _gguf_kinds(config.layers, window, rotary):
        raise unlike("other layers than every other one with a window")
    return gguf_keys_of(config, "gemma2", rotary) | {"gemma2.attention.sliding_window": window}


FAMILY = Family(
    name="gemma2",
    model_types=("gemma2",),
    classes=("Gemma2ForCausalLM",),
    huggingface=Format(
        family="gemma2",
        fields=huggingface_parts.fields(context=8192, tied=True, kv_heads=4),
        parts=_parts,
        keys=_keys,
        fixed=FIXED,
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("gemma2",),
    gguf=Format(
        family="gemma2",
        fields=gguf_parts.fields("gemma2"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=gguf_parts.fixed("gemma2"),
        tensors=gguf_parts.tensors,
    ),
)
