"""Mixtral: Mistral with a mixture of experts for its MLP.

Sources: Jiang et al. 2024; transformers' MixtralConfig. In GGUF it is called llama, and has no window.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxchat.hub import huggingface_parts, mixture_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import alike
from jaxchat.hub.llama import FAMILY as LLAMA
from jaxchat.models.config import DecoderConfig, Kind, Mixture

_EXPERTS = mixture_parts.one_by_one("block_sparse_moe", gate="w1", up="w3", down="w2")


def _parts(keys: Keys) -> dict[str, Any]:
    return {
        "kinds": (Kind(huggingface_parts.window(keys), huggingface_parts.rotary(keys, theta=1e6)),),
        "norm": huggingface_parts.rms_norm(keys, eps=1e-5),
        "mlp": Mixture(keys.whole("num_local_experts", 8), keys.whole("num_experts_per_tok", 2)),
    }


def _keys(config: DecoderConfig) -> dict[str, Any]:
    kind = alike(config)
    return {
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_parameters": huggingface_parts.rope_of(kind.rotary),
        "rope_scaling": None,
        "sliding_window": kind.window,
        "use_cache": True,
        "router_jitter_noise": 0.0,
        **mixture_parts.huggingface_keys(config),
        **huggingface_parts.eps_of(config),
    }


FAMILY = Family(
    name="mixtral",
    model_types=("mixtral",),
    classes=("MixtralForCausalLM",),
    huggingface=Format(
        family="mixtral",
        fields=huggingface_parts.fields(context=4096 * 32, kv_heads=8),
        parts=_parts,
        keys=_keys,
        fixed={**huggingface_parts.FIXED, **mixture_parts.HUGGINGFACE_FIXED, "layer_types": (None,)},
        tensors=partial(huggingface_parts.tensors, experts=_EXPERTS),
        others=(partial(huggingface_parts.tensors, experts=mixture_parts.in_one()),),
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=LLAMA.architectures,
    gguf=LLAMA.gguf,
)
