"""Qwen 3 with a mixture of experts for its MLP.

Sources: Yang et al. 2025; transformers' Qwen3MoeConfig. Layers without experts among those with them, which the format
foresees and no published model has, are refused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from jaxchat.hub import gguf_parts, huggingface_parts, mixture_parts
from jaxchat.hub.families import Family, Field, Format, Keys
from jaxchat.hub.huggingface_parts import alike, unlike
from jaxchat.models.config import DecoderConfig, Kind, Mixture

_ARCH = "qwen3moe"
_EXPERTS = mixture_parts.one_by_one("mlp", gate="gate_proj", up="up_proj", down="down_proj")


def _fields(plain: tuple[Field, ...], hidden: str) -> tuple[Field, ...]:
    """`hidden`: the key of an expert's size; the usual one is that of an MLP that no layer has."""
    return tuple(replace(field, theirs=hidden) if field.ours == "hidden" else field for field in plain)


def _parts(keys: Keys) -> dict[str, Any]:
    bias, window = keys.flag("attention_bias"), keys.flag("use_sliding_window")
    experts = keys.whole("num_experts") if "num_experts" in keys.json else keys.whole("num_local_experts", 128)
    return {
        "kinds": (
            Kind(huggingface_parts.window(keys, default=4096) if window else None, huggingface_parts.rotary(keys)),
        ),
        "norm": huggingface_parts.rms_norm(keys),
        "mlp": Mixture(experts, keys.whole("num_experts_per_tok", 8), keys.flag("norm_topk_prob")),
        "qkv_bias": bias,
        "out_bias": bias,
        "qk_norm": True,
    }


def _keys(config: DecoderConfig) -> dict[str, Any]:
    kind, experts = alike(config), mixture_parts.huggingface_keys(config)
    return {
        "hidden_act": "silu",
        "attention_bias": config.qkv_bias,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "intermediate_size": config.hidden,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": mixture_parts.mixture(config).normed,
        "rope_parameters": huggingface_parts.rope_of(kind.rotary),
        "rope_scaling": None,
        "use_sliding_window": kind.window is not None,
        "sliding_window": kind.window,
        "use_cache": True,
        "num_experts": experts.pop("num_local_experts"),
        **experts,
        **huggingface_parts.eps_of(config),
    }


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    return {
        "kinds": (Kind(rotary=gguf_parts.rotary(keys, _ARCH)),),
        "norm": gguf_parts.rms_norm(keys, _ARCH),
        "mlp": mixture_parts.gguf_mixture(keys, _ARCH),
        "qk_norm": True,
    }


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    if config.qkv_bias or not config.qk_norm:
        raise unlike("queries with a bias or without a norm")
    mixed = mixture_parts.gguf_keys(config, _ARCH)
    return gguf_parts.everywhere(config, _ARCH) | mixed | {f"{_ARCH}.feed_forward_length": config.hidden}


FAMILY = Family(
    name="qwen3_moe",
    model_types=("qwen3_moe",),
    classes=("Qwen3MoeForCausalLM",),
    huggingface=Format(
        family="qwen3_moe",
        fields=_fields(huggingface_parts.fields(context=32768, kv_heads=4), "moe_intermediate_size"),
        parts=_parts,
        keys=_keys,
        fixed={**huggingface_parts.FIXED, "decoder_sparse_step": (1,), "mlp_only_layers": ([], None)},
        tensors=partial(huggingface_parts.tensors, experts=_EXPERTS),
        others=(partial(huggingface_parts.tensors, experts=mixture_parts.in_one()),),
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=(_ARCH,),
    gguf=Format(
        family="qwen3_moe",
        fields=_fields(gguf_parts.fields(_ARCH), f"{_ARCH}.expert_feed_forward_length"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed=mixture_parts.gguf_fixed(_ARCH),
        tensors=partial(gguf_parts.tensors, experts=mixture_parts.gguf_tensors()),
    ),
)
