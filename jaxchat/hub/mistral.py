"""Mistral 7B and its kin: Llama with a window over what each token sees, in the versions that have one.

Sources: Jiang et al. 2023; transformers' MistralConfig. In GGUF they are called llama, and have no window.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub import huggingface_parts
from jaxchat.hub.families import Family, Format, Keys
from jaxchat.hub.huggingface_parts import alike
from jaxchat.hub.llama import FAMILY as LLAMA
from jaxchat.models.config import DecoderConfig, Kind


def _parts(keys: Keys) -> dict[str, Any]:
    # A window that is null is none; a missing one means 4096.
    window = huggingface_parts.window(keys, default=4096)
    return {
        "kinds": (Kind(window, huggingface_parts.rotary(keys)),),
        "norm": huggingface_parts.rms_norm(keys),
    }


def _keys(config: DecoderConfig) -> dict[str, Any]:
    huggingface_parts.silu_gated(config)
    kind = alike(config)
    return {
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_parameters": huggingface_parts.rope_of(kind.rotary),
        "rope_scaling": None,
        "sliding_window": kind.window,
        "use_cache": True,
        **huggingface_parts.eps_of(config),
    }


FAMILY = Family(
    name="mistral",
    model_types=("mistral",),
    classes=("MistralForCausalLM",),
    huggingface=Format(
        family="mistral",
        fields=huggingface_parts.fields(context=4096 * 32, kv_heads=8),
        parts=_parts,
        keys=_keys,
        fixed={**huggingface_parts.FIXED, "layer_types": (None,)},
        tensors=huggingface_parts.tensors,
        ignored=huggingface_parts.IGNORED,
        copies=huggingface_parts.COPIES,
    ),
    architectures=LLAMA.architectures,
    gguf=LLAMA.gguf,
)
