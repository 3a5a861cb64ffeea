"""What the config.json files of most families share, and their names of tensors, in both directions.

Sources: transformers' config classes for keys and what a missing one means, its modeling_rope_utils for the scaling of
rotary positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from jaxchat.errors import InputError
from jaxchat.hub.families import Field, Keys
from jaxchat.hub.layout import Part, Tensor
from jaxchat.models.config import (
    DecoderConfig,
    Gated,
    Kind,
    LayerNorm,
    Llama3,
    LongRope,
    RMSNorm,
    Rotary,
    Stretched,
    Yarn,
    shortest,
)

SLIDING, FULL = "sliding_attention", "full_attention"
ORIGINAL = "original_max_position_embeddings"
IGNORED = ("model.layers.*.self_attn.rotary_emb.inv_freq",)
COPIES = {"lm_head.weight": "model.embed_tokens.weight"}
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
    "rope_interleaved": (False, None),
}


def fields(context: int, tied: bool = False, kv_heads: int | None = None) -> tuple[Field, ...]:
    """The plain fields; `context`, `tied`, `kv_heads`: what a missing key means (None: as many as query heads)."""
    return (
        Field("vocab_size", "vocab_size"),
        Field("layers", "num_hidden_layers"),
        Field("width", "hidden_size"),
        Field("heads", "num_attention_heads"),
        Field("kv_heads", "num_key_value_heads", lambda keys: kv_heads or keys.get("num_attention_heads")),
        Field("head_size", "head_dim", lambda keys: keys["hidden_size"] // keys["num_attention_heads"]),
        Field("hidden", "intermediate_size"),
        Field("tied", "tie_word_embeddings", lambda keys: tied),
        Field("context_length", "max_position_embeddings", lambda keys: context),
    )


def rms_norm(keys: Keys, eps: float = 1e-6, offset: float = 0.0) -> RMSNorm:
    """The norm of all families but GPT-2."""
    return RMSNorm(keys.number("rms_norm_eps", eps), offset)


def eps_of(config: DecoderConfig, offset: float = 0.0) -> dict[str, float]:
    """`rms_norm` the other way."""
    if isinstance(config.norm, LayerNorm) or config.norm.offset != offset:
        raise unlike(f"{config.norm}")
    return {"rms_norm_eps": config.norm.eps}


def rotary(keys: Keys, theta: float = 10_000.0) -> Rotary:
    """From `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` of those before; `theta`: if neither
    says."""
    for name in ("rope_parameters", "rope_scaling"):
        if not isinstance(keys.json.get(name) or {}, dict):
            raise keys.refused(name, "it reads an object there")
    said = {key: keys.json[key] for key in ("rope_theta", "partial_rotary_factor") if keys.json.get(key) is not None}
    old, new = (dict(keys.json.get(name) or {}) for name in ("rope_scaling", "rope_parameters"))
    if keys.json.get(ORIGINAL) is not None:
        new[ORIGINAL] = keys.json[ORIGINAL]
    return rotary_of(keys.of("rope_parameters" if new else "rope_scaling", said | old | new), theta)


def rotary_of(rope: Keys, theta: float) -> Rotary:
    """From one object of `rope_parameters`."""
    kind = rope.json.get("rope_type", rope.json.get("type", "default"))
    context = rope.shape["context_length"]
    original = 0 if kind in ("default", "linear") else rope.whole(ORIGINAL, context)
    scaling: Stretched | Llama3 | Yarn | LongRope | None
    if kind == "default":
        scaling = None
    elif kind == "linear":
        scaling = Stretched(rope.number("factor"))
    elif kind == "llama3":
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        scaling = Llama3(rope.number("factor"), low, high, original)
    elif kind == "yarn":
        factor = rope.number("factor", context / original)
        fast, slow = rope.number("beta_fast", 32.0), rope.number("beta_slow", 1.0)
        scaling = Yarn(factor, original, _yarn_attention(rope, factor), fast, slow, rope.flag("truncate", True))
    elif kind in ("longrope", "su"):
        factor = rope.number("factor", context / original)
        grown = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        short, long = (_numbers(rope, f"{name}_factor") for name in ("short", "long"))
        scaling = LongRope(short, long, original, rope.number("attention_factor", grown))
    else:
        raise InputError(
            f"{rope.where}.rope_type is {kind!r}, which jaxchat's decoder does not compute; "
            "it turns positions plainly or by linear, llama3, yarn or longrope scaling"
        )
    return Rotary(rope.number("rope_theta", theta), scaling, rope.number("partial_rotary_factor", 1.0))


def _yarn_attention(rope: Keys, factor: float) -> float:
    def grown(times: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * times * math.log(factor) + 1

    scale, all_dims = rope.json.get("mscale"), rope.json.get("mscale_all_dim")
    default = grown(scale) / grown(all_dims) if scale and all_dims else grown(1)
    return rope.number("attention_factor", default)


def _numbers(rope: Keys, key: str) -> tuple[float, ...]:
    values = rope.json.get(key)
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise InputError(f"{rope.where}: {key} is no list of numbers; the file is not a whole model's")
    return tuple(map(float, values))


def rope_of(rotary: Rotary | None) -> dict[str, Any]:
    """`rotary_of` the other way."""
    if rotary is None:
        raise unlike("layers without rotary positions")
    rope: dict[str, Any]
    match rotary.scaling:
        case None:
            rope = {"rope_type": "default"}
        case Stretched(factor):
            rope = {"rope_type": "linear", "factor": factor}
        case Llama3(factor, low, high, original):
            rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high}
            rope[ORIGINAL] = original
        case Yarn(factor, original, attention, fast, slow, whole):
            rope = {"rope_type": "yarn", "factor": factor, ORIGINAL: original, "attention_factor": attention}
            rope |= {"beta_fast": fast, "beta_slow": slow, "truncate": whole}
        case LongRope(short, long, original, attention):
            rope = {"rope_type": "longrope", "short_factor": list(short), "long_factor": list(long)}
            rope |= {ORIGINAL: original, "attention_factor": attention}
    if rotary.fraction != 1:
        rope["partial_rotary_factor"] = rotary.fraction
    return rope | {"rope_theta": rotary.theta}


def alike(config: DecoderConfig) -> Kind:
    """The kind of all layers, where they are of one."""
    if len(config.kinds) > 1:
        raise unlike("layers of several kinds")
    return config.kinds[0]


def layer_types(keys: Keys, default: list[str]) -> list[str]:
    """Of every layer, in order."""
    types = keys.json.get("layer_types") or default
    if len(types) < keys.shape["layers"] or not set(types) <= {SLIDING, FULL}:
        raise keys.refused("layer_types", f"it reads {SLIDING} or {FULL} for each of {keys.shape['layers']} layers")
    return types[: keys.shape["layers"]]


def window(keys: Keys, key: str = "sliding_window", default: int | None = None) -> int | None:
    """None where no position of the model reaches over it."""
    if keys.json.get(key, default) is None:
        return None
    size = keys.whole(key, default)
    return size if size < keys.shape["context_length"] else None


def windowed(types: list[str], window: int | None, rotary: Rotary) -> tuple[Kind, ...]:
    """Kinds of layers that differ in their window alone."""
    return shortest(tuple(Kind(window if kind == SLIDING else None, rotary) for kind in types))


def windows_of(config: DecoderConfig) -> dict[str, Any]:
    """`windowed` the other way; layers without a window are full."""
    kinds = [config.kind(layer) for layer in range(config.layers)]
    sizes = {kind.window for kind in kinds} - {None}
    if len(sizes) > 1:
        raise unlike("windows of several sizes")
    return {
        "sliding_window": next(iter(sizes), None),
        "layer_types": [FULL if kind.window is None else SLIDING for kind in kinds],
    }


def silu_gated(config: DecoderConfig) -> Gated:
    """The config's MLP, where it is SwiGLU."""
    if not isinstance(config.mlp, Gated) or config.mlp.activation != "silu":
        raise unlike(f"{config.mlp}")
    return config.mlp


def unlike(what: str) -> InputError:
    """What `Format.keys` raises for a config that its family cannot describe."""
    return InputError(f"a family does not describe {what}")


def tensors(config: DecoderConfig, experts: Iterable[Tensor] = ()) -> tuple[Tensor, ...]:
    """The names that all families but Phi-3 and GPT-2 agree on: a part's are there where the config has the part.
    experts: what a family with a mixture of them has for its MLP."""
    attn = "model.layers.{L}.self_attn."
    found = [
        Tensor("model.embed_tokens.weight", Part("embed.table", "V D", "V D")),
        *norms(config),
        Tensor(attn + "q_proj.weight", Part("layers.attn.q", "L D N H", "(N H) D")),
        Tensor(attn + "k_proj.weight", Part("layers.attn.k", "L D K H", "(K H) D")),
        Tensor(attn + "v_proj.weight", Part("layers.attn.v", "L D K H", "(K H) D")),
        Tensor(attn + "o_proj.weight", Part("layers.attn.o", "L N H D", "D (N H)")),
        *(experts or _mlp(config)),
    ]
    if config.qkv_bias:
        found += [
            Tensor(attn + "q_proj.bias", Part("layers.attn.q_bias", "L N H", "(N H)")),
            Tensor(attn + "k_proj.bias", Part("layers.attn.k_bias", "L K H", "(K H)")),
            Tensor(attn + "v_proj.bias", Part("layers.attn.v_bias", "L K H", "(K H)")),
        ]
    if config.out_bias:
        found.append(Tensor(attn + "o_proj.bias", Part("layers.attn.o_bias", "L D", "D")))
    if config.qk_norm:
        found += [
            Tensor(attn + f"{name}_norm.weight", Part(f"layers.attn.{name}_norm.scale", "L H", "H")) for name in "qk"
        ]
    return (*found, *unembedding(config))


def _mlp(config: DecoderConfig) -> list[Tensor]:
    mlp = "model.layers.{L}.mlp."
    found = [
        Tensor(mlp + "gate_proj.weight", Part("layers.mlp.gate", "L D F", "F D")),
        Tensor(mlp + "up_proj.weight", Part("layers.mlp.up", "L D F", "F D")),
        Tensor(mlp + "down_proj.weight", Part("layers.mlp.down", "L F D", "D F")),
    ]
    if isinstance(config.mlp, Gated) and config.mlp.bias:
        found += [
            Tensor(mlp + "gate_proj.bias", Part("layers.mlp.gate_bias", "L F", "F")),
            Tensor(mlp + "up_proj.bias", Part("layers.mlp.up_bias", "L F", "F")),
            Tensor(mlp + "down_proj.bias", Part("layers.mlp.down_bias", "L D", "D")),
        ]
    return found


def norms(config: DecoderConfig) -> list[Tensor]:
    """Around attention and MLP, and the last. Where there are norms after both, the names change their meaning."""
    names = {"attn_norm": "input", "mlp_norm": "post_attention"}
    if config.post_norms:
        names = {
            "attn_norm": "input",
            "attn_post_norm": "post_attention",
            "mlp_norm": "pre_feedforward",
            "mlp_post_norm": "post_feedforward",
        }
    each = [
        Tensor(f"model.layers.{{L}}.{theirs}_layernorm.weight", Part(f"layers.{ours}.scale", "L D", "D"))
        for ours, theirs in names.items()
    ]
    return [*each, Tensor("model.norm.weight", Part("norm.scale", "D", "D"))]


def unembedding(config: DecoderConfig) -> tuple[Tensor, ...]:
    """None where it is the embedding."""
    return () if config.tied else (Tensor("lm_head.weight", Part("unembed.kernel", "D V", "V D")),)
