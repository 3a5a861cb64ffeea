"""A small model of every family that has all of its features, as transformers makes it and as we read it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxchat.data.batch import Batch
from jaxchat.hub import weights
from jaxchat.hub.families import Family, Format, by_config, by_model_type
from jaxchat.hub.layout import Index
from jaxchat.mesh import make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model, Params

SHAPE = {
    "vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
IDS = {"bos_token_id": 257, "eos_token_id": 257, "pad_token_id": 256}  # where the defaults exceed the vocabulary
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.5, 5.0]}
CASES: dict[str, dict[str, Any]] = {
    "llama": {
        **SHAPE, "model_type": "llama", "attention_bias": True, "mlp_bias": True, "rope_theta": 5e5,
        "rope_scaling": LLAMA3,
    },
    "mistral": {**SHAPE, "model_type": "mistral", "sliding_window": 48, "head_dim": 24},
    "mixtral": {
        **SHAPE, "model_type": "mixtral", "sliding_window": 48, "head_dim": 24, "num_local_experts": 6,
        "num_experts_per_tok": 3,
    },
    "qwen2": {
        **SHAPE, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 48, "max_window_layers": 1,
        "rope_scaling": YARN, "tie_word_embeddings": True,
    },
    "qwen3": {**SHAPE, "model_type": "qwen3", "head_dim": 24, "rope_theta": 1e6},
    "qwen3_moe": {
        **SHAPE, "model_type": "qwen3_moe", "head_dim": 24, "rope_theta": 1e6, "attention_bias": True,
        "moe_intermediate_size": 40, "num_experts": 6, "num_experts_per_tok": 3, "norm_topk_prob": False,
        "use_sliding_window": True, "sliding_window": 48,
    },
    "smollm3": {
        **SHAPE, "model_type": "smollm3", "num_hidden_layers": 5, "use_sliding_window": True, "sliding_window": 48,
        "no_rope_layer_interval": 2, **IDS,
    },
    "gemma2": {
        **SHAPE, "model_type": "gemma2", "head_dim": 24, "sliding_window": 48, "query_pre_attn_scalar": 18,
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "hidden_activation": "gelu_pytorch_tanh",
    },
    "gemma3": {
        **SHAPE, "model_type": "gemma3_text", "num_hidden_layers": 4, "head_dim": 24, "sliding_window": 48,
        "query_pre_attn_scalar": 18, "sliding_window_pattern": 3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi3": {
        **SHAPE, "model_type": "phi3", "sliding_window": 48, "partial_rotary_factor": 0.5,
        "original_max_position_embeddings": 64, "rope_scaling": LONG, **IDS,
    },
    "gpt2": {
        "model_type": "gpt2", "vocab_size": 260, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512,
        "n_inner": 96, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
    },
}  # fmt: skip
# What of it llama.cpp knows: without what is not written to GGUF.
GGUF_CASES = {
    "llama": {**SHAPE, "model_type": "llama", "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8192}},
    "mixtral": {**CASES["mixtral"], "sliding_window": None},
    "qwen2": {**SHAPE, "model_type": "qwen2"},
    "qwen3": CASES["qwen3"],
    "qwen3_moe": {
        **CASES["qwen3_moe"], "attention_bias": False, "norm_topk_prob": True, "use_sliding_window": False,
    },
    "smollm3": {**SHAPE, "model_type": "smollm3", "num_hidden_layers": 5},
    "gemma2": {**CASES["gemma2"], "query_pre_attn_scalar": 24},
    "gemma3": {**CASES["gemma3"], "num_hidden_layers": 7, "sliding_window_pattern": 6, "query_pre_attn_scalar": 24},
    "phi3": {**SHAPE, "model_type": "phi3", "sliding_window": 48, "partial_rotary_factor": 0.5},
    "gpt2": CASES["gpt2"],
}  # fmt: skip
LENGTHS = (170, 105)  # of the conversations in the packed row of 300


def read(case: dict[str, Any]) -> DecoderConfig:
    return by_model_type(case, "config.json").huggingface.read(case, "config.json")


@dataclass(frozen=True)
class Held:
    """Tensors in memory, as a source."""

    held: dict[str, np.ndarray]
    where: str = "memory"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.held.items()}

    def read(self, name: str, index: Index) -> np.ndarray:
        return self.held[name][index]


def load(source: Any, form: Format, config: DecoderConfig) -> Params:
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        return weights.load(source, form, config, Model(config).abstract(), mesh)


def same(one: Any, other: Any) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), one, other))


@functools.cache
def transformers_model(name: str) -> Any:
    """With random weights large enough that all of it matters."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**CASES[name]), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, weight.shape[-1] ** -0.5)
            else:
                weight.add_(0.2 * torch.randn_like(weight))
    return model


@functools.cache
def state(name: str) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in transformers_model(name).state_dict().items()}


@functools.cache
def ours(name: str) -> tuple[Family, Model, Params]:
    """The family, its model and the same weights, read by its map."""
    config = read(transformers_model(name).config.to_dict())
    assert config == read(CASES[name]), "transformers says the same in other words"
    family = by_config(config)
    return family, Model(config), load(Held(state(name)), family.huggingface, config)


def batch() -> Batch:
    """Two rows of 300: two conversations and padding, and one conversation."""
    rng = np.random.default_rng(0)
    pad = 300 - sum(LENGTHS)
    segments = np.stack([np.repeat([1, 2, 0], [*LENGTHS, pad]), np.ones(300)]).astype(np.int32)
    positions = np.stack([np.concatenate([np.arange(n) for n in (*LENGTHS, pad)]), np.arange(300)]).astype(np.int32)
    weighted = (segments > 0) & (positions > 0)
    tokens = rng.integers(1, 256, (2, 300)).astype(np.int32)  # 0 is Gemma's padding, whose embedding torch never trains
    return Batch.of_rows(
        {"tokens": tokens, "weights": weighted.astype(np.float32), "segments": segments, "positions": positions}
    )


def conversations(rows: Batch) -> list[tuple[int, slice]]:
    """The row and the place of each."""
    return [(0, slice(0, LENGTHS[0])), (0, slice(LENGTHS[0], sum(LENGTHS))), (1, slice(0, 300))]
