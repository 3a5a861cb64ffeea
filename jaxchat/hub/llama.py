"""The Llama family: Llama 2 and 3.x, TinyLlama, SmolLM and SmolLM2.

Sources: Touvron et al. 2023; Grattafiori et al. 2024; transformers' LlamaConfig; llama.cpp's converter, which reorders
the rows of q and k for its interleaved rotary positions, and calls Mixtral llama as well.
"""

from __future__ import annotations

from typing import Any

from jaxchat.errors import InputError
from jaxchat.hub import gguf_parts, huggingface_parts, mixture_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import alike, unlike
from jaxchat.hub.layout import Tensor
from jaxchat.models.config import DecoderConfig, Gated, Kind, Mixture


def _parts(keys: Keys) -> dict[str, Any]:
    bias = keys.flag("attention_bias")
    return {
        "kinds": (Kind(rotary=huggingface_parts.rotary(keys)),),
        "norm": huggingface_parts.rms_norm(keys),
        "mlp": Gated(bias=keys.flag("mlp_bias")),
        "qkv_bias": bias,
        "out_bias": bias,
    }


def _keys(config: DecoderConfig) -> dict[str, Any]:
    if config.width % config.heads:
        raise unlike("heads that do not divide the width")  # transformers' Llama refuses it
    return {
        "hidden_act": "silu",
        "attention_bias": config.qkv_bias,
        "attention_dropout": 0.0,
        "mlp_bias": huggingface_parts.silu_gated(config).bias,
        "initializer_range": 0.02,
        "rope_parameters": huggingface_parts.rope_of(alike(config).rotary),
        "rope_scaling": None,
        "use_cache": True,
        **huggingface_parts.eps_of(config),
    }


def _gguf_parts(keys: Keys) -> dict[str, Any]:
    rotary = gguf_parts.rotary(keys, "llama")
    if rotary.fraction != 1:
        turned = keys.json["llama.rope.dimension_count"]
        raise InputError(
            f"{keys.where}: llama.rope.dimension_count is {turned} of a head's {keys.shape['head_size']}; "
            "in this family whole heads are turned"
        )
    mixed = keys.whole("llama.expert_count", 0) > 0
    mlp = mixture_parts.gguf_mixture(keys, "llama") if mixed else Gated()
    return {"kinds": (Kind(rotary=rotary),), "norm": gguf_parts.rms_norm(keys, "llama"), "mlp": mlp}


def _gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    mixed = mixture_parts.gguf_keys(config, "llama") if isinstance(config.mlp, Mixture) else {}
    return gguf_parts.everywhere(config, "llama") | mixed


def _gguf_tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    experts = mixture_parts.gguf_tensors() if isinstance(config.mlp, Mixture) else []
    return gguf_parts.tensors(config, experts, side_by_side=True)


FAMILY = Family(
    name="llama",
    model_types=("llama",),
    classes=("LlamaForCausalLM",),
    huggingface=Format(
        family="llama",
        fields=huggingface_parts.fields(context=2048),
        parts=_parts,
        keys=_keys,
        fixed={**huggingface_parts.FIXED, "layer_types": (None,)},
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=("llama",),
    gguf=Format(
        family="llama",
        fields=gguf_parts.fields("llama"),
        parts=_gguf_parts,
        keys=_gguf_keys,
        fixed={**mixture_parts.gguf_fixed("llama"), "llama.attention.sliding_window": (0,)},
        tensors=_gguf_tensors,
        implied=gguf_parts.implied,
    ),
)
