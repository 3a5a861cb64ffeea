"""The Llama family: Llama 2 and 3, SmolLM2, and Mistral where its window is off.

Sources: Touvron et al. 2023; transformers' LlamaConfig and MistralConfig for keys and what a missing one means;
llama.cpp's converter for GGUF, which reorders the rows of q and k for its interleaved rotary positions.
"""

from __future__ import annotations

from typing import Any

from jaxchat.errors import InputError
from jaxchat.hub.families import Family, Field, Format, Json
from jaxchat.hub.layout import Part, Tensor
from jaxchat.models.config import DecoderConfig


def _tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    block = "model.layers.{L}."
    tensors = (
        Tensor("model.embed_tokens.weight", Part("embed.table", "V D", "V D")),
        Tensor(block + "input_layernorm.weight", Part("layers.attn_norm.scale", "L D", "D")),
        Tensor(block + "self_attn.q_proj.weight", Part("layers.attn.q", "L D N H", "(N H) D")),
        Tensor(block + "self_attn.k_proj.weight", Part("layers.attn.k", "L D K H", "(K H) D")),
        Tensor(block + "self_attn.v_proj.weight", Part("layers.attn.v", "L D K H", "(K H) D")),
        Tensor(block + "self_attn.o_proj.weight", Part("layers.attn.o", "L N H D", "D (N H)")),
        Tensor(block + "post_attention_layernorm.weight", Part("layers.mlp_norm.scale", "L D", "D")),
        Tensor(block + "mlp.gate_proj.weight", Part("layers.mlp.gate", "L D F", "F D")),
        Tensor(block + "mlp.up_proj.weight", Part("layers.mlp.up", "L D F", "F D")),
        Tensor(block + "mlp.down_proj.weight", Part("layers.mlp.down", "L F D", "D F")),
        Tensor("model.norm.weight", Part("norm.scale", "D", "D")),
    )
    return tensors if config.tied else (*tensors, Tensor("lm_head.weight", Part("unembed.kernel", "D V", "V D")))


def _gguf_tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    block = "blk.{L}."
    tensors = (
        Tensor("token_embd.weight", Part("embed.table", "V D", "V D")),
        Tensor(block + "attn_norm.weight", Part("layers.attn_norm.scale", "L D", "D")),
        # The file holds each pair that is rotated together side by side, we hold them half a head apart.
        Tensor(block + "attn_q.weight", Part("layers.attn.q", "L D N (C J)", "(N J C) D")),
        Tensor(block + "attn_k.weight", Part("layers.attn.k", "L D K (C J)", "(K J C) D")),
        Tensor(block + "attn_v.weight", Part("layers.attn.v", "L D K H", "(K H) D")),
        Tensor(block + "attn_output.weight", Part("layers.attn.o", "L N H D", "D (N H)")),
        Tensor(block + "ffn_norm.weight", Part("layers.mlp_norm.scale", "L D", "D")),
        Tensor(block + "ffn_gate.weight", Part("layers.mlp.gate", "L D F", "F D")),
        Tensor(block + "ffn_up.weight", Part("layers.mlp.up", "L D F", "F D")),
        Tensor(block + "ffn_down.weight", Part("layers.mlp.down", "L F D", "D F")),
        Tensor("output_norm.weight", Part("norm.scale", "D", "D")),
    )
    return tensors if config.tied else (*tensors, Tensor("output.weight", Part("unembed.kernel", "D V", "V D")))


def _before(config_json: Json, where: str) -> dict[str, Any]:
    """One place for rotary positions, whichever version wrote the file: `rope_theta`, and nothing that scales them."""
    keys = dict(config_json)
    rope = dict(keys.pop("rope_parameters", None) or {})
    scaling = keys.pop("rope_scaling", None)
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    for key, value in (("rope_parameters.rope_type", kind), ("rope_scaling", scaling)):
        if value not in (None, "default", {"rope_type": "default"}, {"type": "default"}):
            raise InputError(
                f"{where}: {key} is {value}, which jaxchat's decoder does not compute yet; "
                "it reads models whose rotary positions are not scaled"
            )
    keys |= {key: value for key, value in rope.items() if value is not None}
    if keys.get("model_type") == "mistral":
        _check_window(keys, where)
        keys.setdefault("num_key_value_heads", 8)
        keys.setdefault("max_position_embeddings", 4096 * 32)
    return keys


def _check_window(keys: Json, where: str) -> None:
    """A window that no position of the model reaches over is as good as none; a missing key means 4096."""
    window = keys.get("sliding_window", 4096)
    if window is not None and window < keys.get("max_position_embeddings", 4096 * 32):
        raise InputError(
            f"{where}: sliding_window is {window}, which jaxchat's decoder does not compute yet; "
            f"set it to null to attend to everything, or read a model without a window"
        )


def _constants(config: DecoderConfig) -> dict[str, Any]:
    # transformers' Llama insists on width = heads x head size; its Mistral is the same model and does not.
    mistral = config.width % config.heads != 0
    return {
        "architectures": ["MistralForCausalLM" if mistral else "LlamaForCausalLM"],
        "model_type": "mistral" if mistral else "llama",
        **({"sliding_window": None} if mistral else {"attention_bias": False, "mlp_bias": False}),
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_scaling": None,
        "use_cache": True,
    }


def _before_gguf(metadata: Json, where: str) -> Json:
    width, heads = metadata.get(_gguf("embedding_length"), 0), metadata.get(_gguf("attention.head_count"), 1)
    head_size = metadata.get(_gguf("attention.key_length"), width // heads if isinstance(heads, int) else 0)
    rotated = metadata.get(_gguf("rope.dimension_count"), head_size)
    if rotated != head_size:
        raise InputError(
            f"{where}: {_gguf('rope.dimension_count')} is {rotated} of a head's {head_size}; "
            "jaxchat's decoder rotates whole heads"
        )
    return metadata


def _gguf(key: str) -> str:
    return f"llama.{key}"


FAMILY = Family(
    name="llama",
    model_types=("llama", "mistral"),
    constants=_constants,
    fits=lambda config: True,
    huggingface=Format(
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("layers", "num_hidden_layers"),
            Field("width", "hidden_size"),
            Field("heads", "num_attention_heads"),
            Field("kv_heads", "num_key_value_heads", lambda keys: keys.get("num_attention_heads")),
            Field("head_size", "head_dim", lambda keys: keys["hidden_size"] // keys["num_attention_heads"]),
            Field("hidden", "intermediate_size"),
            Field("rope_theta", "rope_theta", lambda keys: 10_000.0),
            Field("norm_eps", "rms_norm_eps", lambda keys: 1e-6),
            Field("tied", "tie_word_embeddings", lambda keys: False),
            Field("context_length", "max_position_embeddings", lambda keys: 2048),
        ),
        fixed={
            "hidden_act": ("silu", "swish"),
            "attention_bias": (False, None),
            "mlp_bias": (False, None),
            "rope_interleaved": (False, None),
            "partial_rotary_factor": (1.0, None),
            "pretraining_tp": (1, None),
            "quantization_config": (None,),
            "layer_types": (None,),
        },
        tensors=_tensors,
        before=_before,
        ignored=("model.layers.*.self_attn.rotary_emb.inv_freq",),
        copies={"lm_head.weight": "model.embed_tokens.weight"},
    ),
    architectures=("llama",),
    gguf=Format(
        fields=(
            Field("layers", _gguf("block_count")),
            Field("width", _gguf("embedding_length")),
            Field("heads", _gguf("attention.head_count")),
            Field("kv_heads", _gguf("attention.head_count_kv"), lambda keys: keys.get(_gguf("attention.head_count"))),
            Field(
                "head_size",
                _gguf("attention.key_length"),
                lambda keys: keys[_gguf("embedding_length")] // keys[_gguf("attention.head_count")],
            ),
            Field("hidden", _gguf("feed_forward_length")),
            Field("rope_theta", _gguf("rope.freq_base"), lambda keys: 10_000.0),
            Field("norm_eps", _gguf("attention.layer_norm_rms_epsilon")),
            Field("context_length", _gguf("context_length")),
            Field("vocab_size", "vocab_size"),
            Field("tied", "tied"),
        ),
        fixed={
            _gguf("rope.scaling.type"): ("none",),
            _gguf("expert_count"): (0,),
            _gguf("attention.sliding_window"): (0,),
        },
        tensors=_gguf_tensors,
        before=_before_gguf,
    ),
)
