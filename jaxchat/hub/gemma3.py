"""Gemma 3, the text models: as Gemma 2 without caps, with normed queries and keys, and a window in five of six layers,
whose positions turn by another theta.

Sources: Gemma Team 2025; transformers' Gemma3TextConfig; llama.cpp, which has the six and the local theta fixed.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.gemma2 import FIXED, gguf_keys_of, gguf_parts_of, keys_of, parts
from jaxchat.hub.huggingface_parts import FULL, SLIDING, rope_of, rotary_of, unlike
from jaxchat.models.config import DecoderConfig, Kind, Rotary, shortest

EVERY, LOCAL, GLOBAL = 6, 10_000.0, 1_000_000.0


def _kinds(keys: Keys) -> tuple[Kind, ...]:
    every = keys.whole("sliding_window_pattern", keys.json.get("_sliding_window_pattern", EVERY))
    layers = keys.shape["layers"]
    types = [SLIDING if (layer + 1) % every else FULL for layer in range(layers)]
    # One object for each kind of layer, or, in older files, a key for each theta and one scaling for the full ones.
    rope = keys.json.get("rope_parameters") or {}
    full = {"rope_theta": keys.json.get("rope_theta", GLOBAL)} | (keys.json.get("rope_scaling") or {})
    local = {"rope_theta": keys.json.get("rope_local_base_freq", LOCAL)}
    wide = rotary_of(keys.of("rope_parameters.full_attention", rope.get(FULL) or full), GLOBAL)
    near = rotary_of(keys.of("rope_parameters.sliding_attention", rope.get(SLIDING) or local), LOCAL)
    of = {FULL: Kind(None, wide), SLIDING: Kind(keys.whole("sliding_window", 4096), near)}
    return shortest(tuple(of[kind] for kind in huggingface_parts.layer_types(keys, types)))


def _parts(keys: Keys) -> dict[str, Any]:
    return {"kinds": _kinds(keys), "qk_norm": True, **parts(keys, None, None)}


def _both(config: DecoderConfig) -> tuple[Kind, Kind]:
    """The local and the global kind of layer."""
    local = {kind for kind in config.kinds if kind.window is not None} or {Kind(4096, Rotary(LOCAL))}
    wide = {kind for kind in config.kinds if kind.window is None} or {Kind(None, Rotary(GLOBAL))}
    if len(local) > 1 or len(wide) > 1:
        raise unlike("more than two kinds of layers")
    return local.pop(), wide.pop()


def _keys(config: DecoderConfig) -> dict[str, Any]:
    local, wide = _both(config)
    windows = huggingface_parts.windows_of(config) | {"sliding_window": local.window}
    rope = {FULL: rope_of(wide.rotary), SLIDING: rope_of(local.rotary)}
    return keys_of(config) | windows | {"rope_parameters": rope}


def _gguf_kinds(layers: int, local: Kind, wide: Kind) -> tuple[Kind, ...]:
    return shortest(tuple(local if (layer + 1) % EVERY else wide for layer in range(layers)))


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    wide = gguf_parts.rotary(keys, "gemma3")
    near = Rotary(keys.number("gemma3.rope.freq_base_swa", LOCAL))
    local = Kind(keys.whole("gemma3.attention.sliding_window", 1024), near)
    kinds = _gguf_kinds(keys.shape["layers"], local, Kind(None, wide))
    return {"kinds": kinds, "qk_norm": True, **gguf_parts_of(keys, "gemma3", 62)}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    local, wide = _both(config)
    if local.rotary != Rotary(LOCAL) or config.kinds != _gguf_kinds(config.layers, local, wide):
        raise unlike("other layers than five of six with a window, turned by 10,000")
    return gguf_keys_of(config, "gemma3", wide.rotary) | {"gemma3.attention.sliding_window": local.window}


FAMILY = Family(
    name="gemma3",
    model_types=("gemma3_text",),
    classes=("Gemma3ForCausalLM",),
    huggingface=Format(
        family="gemma3",
        fields=huggingface_parts.fields(context=131_072, tied=True, kv_heads=4),
        parts=_parts,
        keys=_keys,
        fixed=FIXED,
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("gemma3",),
    gguf=Format(
        family="gemma3",
        fields=gguf_parts.fields("gemma3"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=gguf_parts.fixed("gemma3"),
        tensors=gguf_parts.tensors,
    ),
)
