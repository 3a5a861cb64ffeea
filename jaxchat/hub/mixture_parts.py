"""What the files of families with mixtures of experts share: keys and names of tensors, in both directions.

Folders hold each expert's weights as tensors of their own, published ones and those that transformers saves alike; as
transformers 5 computes, and saves when asked to, a layer's experts lie in one tensor. GGUF has one for each matrix.
"""

from __future__ import annotations

from typing import Any

from jaxchat.hub.families import Keys
from jaxchat.hub.huggingface_parts import unlike
from jaxchat.hub.layout import Part, Tensor
from jaxchat.models.config import DecoderConfig, Mixture

_ROUTER = Part("layers.mlp.router", "L D E", "E D")
HUGGINGFACE_FIXED = {"router_jitter_noise": (0, None)}


def mixture(config: DecoderConfig) -> Mixture:
    """The config's MLP, where experts of SwiGLU are mixed."""
    if not isinstance(config.mlp, Mixture) or config.mlp.activation != "silu":
        raise unlike(f"{config.mlp}")
    return config.mlp


def huggingface_keys(config: DecoderConfig) -> dict[str, Any]:
    """Those that transformers' families have in common; what losses weigh is a run's to say, so its defaults stand."""
    kind = mixture(config)
    return {
        "num_local_experts": kind.experts,
        "num_experts_per_tok": kind.chosen,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    }


def one_by_one(mlp: str, gate: str, up: str, down: str) -> list[Tensor]:
    """Each expert's tensors, by what a family calls its MLP and an expert's three matrices."""
    found = [Tensor(f"model.layers.{{L}}.{mlp}.gate.weight", _ROUTER)]
    for ours, theirs in (("gate", gate), ("up", up), ("down", down)):
        axes = ("L E F D", "D F") if ours == "down" else ("L E D F", "F D")
        name = f"model.layers.{{L}}.{mlp}.experts.{{E}}.{theirs}.weight"
        found.append(Tensor(name, Part(f"layers.mlp.experts.{ours}", *axes)))
    return found


def in_one() -> list[Tensor]:
    """A layer's experts in one tensor, as transformers 5 computes."""
    mlp, ours = "model.layers.{L}.mlp.", "layers.mlp.experts."
    gate_up = (Part(ours + name, "L E D F", "E F D") for name in ("gate", "up"))
    return [
        Tensor(mlp + "gate.weight", _ROUTER),
        Tensor(mlp + "experts.gate_up_proj", *gate_up, axis=1),
        Tensor(mlp + "experts.down_proj", Part(ours + "down", "L E F D", "E D F")),
    ]


def gguf_fixed(arch: str) -> dict[str, tuple[Any, ...]]:
    """Keys of llama.cpp's other mixtures: experts for every token, other ways to weigh."""
    return {
        f"{arch}.expert_shared_count": (0,),
        f"{arch}.expert_group_count": (0, 1),
        f"{arch}.expert_weights_scale": (0, 1),
        f"{arch}.expert_weights_norm": (True,),
        f"{arch}.expert_gating_func": (1,),
    }


def gguf_mixture(keys: Keys, arch: str) -> Mixture:
    """llama.cpp divides by the sum of the chosen ones' probabilities in both families."""
    return Mixture(keys.whole(f"{arch}.expert_count"), keys.whole(f"{arch}.expert_used_count"))


def gguf_keys(config: DecoderConfig, arch: str) -> dict[str, Any]:
    """`gguf_mixture` the other way."""
    kind = mixture(config)
    if not kind.normed:
        raise unlike("experts whose weights do not sum to one")
    return {f"{arch}.expert_count": kind.experts, f"{arch}.expert_used_count": kind.chosen}


def gguf_tensors() -> list[Tensor]:
    """Of a layer's MLP."""
    block, ours = "blk.{L}.ffn_", "layers.mlp.experts."
    return [
        Tensor(block + "gate_inp.weight", _ROUTER),
        Tensor(block + "gate_exps.weight", Part(ours + "gate", "L E D F", "E F D")),
        Tensor(block + "up_exps.weight", Part(ours + "up", "L E D F", "E F D")),
        Tensor(block + "down_exps.weight", Part(ours + "down", "L E F D", "E D F")),
    ]
