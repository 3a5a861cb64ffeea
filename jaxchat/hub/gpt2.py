"""GPT-2: learned positions, LayerNorm, biases everywhere, an MLP without a gate, q, k and v fused in the file.

Sources: Radford et al. 2019; transformers' GPT2Config, whose Conv1D weights have their inputs in front; llama.cpp.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub.families import Family, Field, Format, Keys
from jaxchat.hub.huggingface_parts import unlike
from jaxchat.hub.layout import Part, Tensor
from jaxchat.models.config import DecoderConfig, Kind, LayerNorm, Plain

_HEADS = (("q", "N"), ("k", "K"), ("v", "K"))
_BIASES = tuple(Part(f"layers.attn.{name}_bias", f"L {n} H", f"({n} H)") for name, n in _HEADS)
_NORMS = (("attn_norm", "ln_1", "attn_norm"), ("mlp_norm", "ln_2", "ffn_norm"))


def _norms(block: str, last: str, theirs: int) -> list[Tensor]:
    each = [(f"layers.{names[0]}", block + names[theirs], "L ") for names in _NORMS]
    return [
        Tensor(f"{name}.{kind}", Part(f"{ours}.{part}", f"{layers}D", "D"))
        for ours, name, layers in [*each, ("norm", last, "")]
        for kind, part in (("weight", "scale"), ("bias", "bias"))
    ]


def _tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    block = "transformer.h.{L}."
    qkv = (Part(f"layers.attn.{name}", f"L D {n} H", f"D ({n} H)") for name, n in _HEADS)
    head = () if config.tied else (Tensor("lm_head.weight", Part("unembed.kernel", "D V", "V D")),)
    return (
        Tensor("transformer.wte.weight", Part("embed.table", "V D", "V D")),
        Tensor("transformer.wpe.weight", Part("positions.table", "P D", "P D")),
        *_norms(block, "transformer.ln_f", 1),
        Tensor(block + "attn.c_attn.weight", *qkv, axis=1),
        Tensor(block + "attn.c_attn.bias", *_BIASES),
        Tensor(block + "attn.c_proj.weight", Part("layers.attn.o", "L N H D", "(N H) D")),
        Tensor(block + "attn.c_proj.bias", Part("layers.attn.o_bias", "L D", "D")),
        Tensor(block + "mlp.c_fc.weight", Part("layers.mlp.up", "L D F", "D F")),
        Tensor(block + "mlp.c_fc.bias", Part("layers.mlp.up_bias", "L F", "F")),
        Tensor(block + "mlp.c_proj.weight", Part("layers.mlp.down", "L F D", "F D")),
        Tensor(block + "mlp.c_proj.bias", Part("layers.mlp.down_bias", "L D", "D")),
        *head,
    )


def _gguf_tensors(config: DecoderConfig) -> tuple[Tensor, ...]:
    block = "blk.{L}."
    qkv = (Part(f"layers.attn.{name}", f"L D {n} H", f"({n} H) D") for name, n in _HEADS)
    head = () if config.tied else (Tensor("output.weight", Part("unembed.kernel", "D V", "V D")),)
    return (
        Tensor("token_embd.weight", Part("embed.table", "V D", "V D")),
        Tensor("position_embd.weight", Part("positions.table", "P D", "P D")),
        *_norms(block, "output_norm", 2),
        Tensor(block + "attn_qkv.weight", *qkv),
        Tensor(block + "attn_qkv.bias", *_BIASES),
        Tensor(block + "attn_output.weight", Part("layers.attn.o", "L N H D", "D (N H)")),
        Tensor(block + "attn_output.bias", Part("layers.attn.o_bias", "L D", "D")),
        Tensor(block + "ffn_up.weight", Part("layers.mlp.up", "L D F", "F D")),
        Tensor(block + "ffn_up.bias", Part("layers.mlp.up_bias", "L F", "F")),
        Tensor(block + "ffn_down.weight", Part("layers.mlp.down", "L F D", "D F")),
        Tensor(block + "ffn_down.bias", Part("layers.mlp.down_bias", "L D", "D")),
        *head,
    )


def _shape(keys: Keys, eps: float) -> dict[str, Any]:
    return {
        "kv_heads": keys.shape["heads"],
        "head_size": keys.shape["width"] // keys.shape["heads"],
        "kinds": (Kind(rotary=None),),
        "norm": LayerNorm(eps),
        "mlp": Plain(),
        "qkv_bias": True,
        "out_bias": True,
        "learned_positions": True,
    }


def _eps(config: DecoderConfig) -> float:
    if not isinstance(config.norm, LayerNorm):
        raise unlike(f"{config.norm}")
    return config.norm.eps


def _keys(config: DecoderConfig) -> dict[str, Any]:
    return {
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": _eps(config),
        "scale_attn_weights": True,
        "use_cache": True,
    }


FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    classes=("GPT2LMHeadModel",),
    huggingface=Format(
        family="gpt2",
        fields=(
            Field("vocab_size", "vocab_size"),
            Field("layers", "n_layer"),
            Field("width", "n_embd"),
            Field("heads", "n_head"),
            Field("hidden", "n_inner", lambda keys: 4 * keys["n_embd"]),
            Field("context_length", "n_positions", lambda keys: 1024),
            Field("tied", "tie_word_embeddings", lambda keys: True),
        ),
        parts=lambda keys: _shape(keys, keys.number("layer_norm_epsilon", 1e-5)),
        keys=_keys,
        fixed={
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
            "quantization_config": (None,),
        },
        tensors=_tensors,
        ignored=("*.attn.bias", "*.attn.masked_bias"),
        copies={"lm_head.weight": "transformer.wte.weight"},
        optional="transformer.",
    ),
    architectures=("gpt2",),
    gguf=Format(
        family="gpt2",
        fields=(
            Field("layers", "gpt2.block_count"),
            Field("width", "gpt2.embedding_length"),
            Field("heads", "gpt2.attention.head_count"),
            Field("hidden", "gpt2.feed_forward_length"),
            Field("context_length", "gpt2.context_length"),
            Field("vocab_size", "vocab_size"),
            Field("tied", "tied"),
        ),
        parts=lambda keys: _shape(keys, keys.number("gpt2.attention.layer_norm_epsilon")),
        keys=lambda config: {"gpt2.attention.layer_norm_epsilon": _eps(config)},
        fixed={},
        tensors=_gguf_tensors,
    ),
)
