"""The Llama family: its configs in both directions, what is refused, and the same logits as transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.hub import weights
from jaxchat.hub.families import by_architecture, by_config, by_model_type
from jaxchat.models import presets
from jaxchat.models.config import DecoderConfig, Kind, RMSNorm, Rotary
from jaxchat.models.decoder import Model

# As their authors published them.
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
    "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
    "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "use_cache": True, "vocab_size": 49152,
}  # fmt: skip
LLAMA2 = {
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
    "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
    "rms_norm_eps": 1e-05, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
LLAMA3 = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 14336, "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256,
}  # fmt: skip
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False, "vocab_size": 32768,
}  # fmt: skip


def read(config_json: dict[str, Any]) -> DecoderConfig:
    return by_model_type(config_json, "config.json").huggingface.read(config_json, "config.json")


def test_published_configs() -> None:
    assert read(SMOLLM2) == presets.smollm2_135m()
    assert read(LLAMA3) == presets.llama3_8b()
    assert (
        read(LLAMA2).kv_heads == 32 and read(LLAMA2).kinds[0].rotary == Rotary(10_000) and read(LLAMA2).head_size == 128
    )
    assert read(MISTRAL).parameters == 7_248_023_552
    assert read({**LLAMA3, "rope_parameters": {"rope_theta": 2e5, "rope_type": "default"}}).kinds[0].rotary == Rotary(
        2e5
    )


def turned(theta: float) -> tuple[Kind, ...]:
    return (Kind(rotary=Rotary(theta)),)


CONFIGS = [
    presets.tiny(),
    presets.nano(),
    presets.smollm2_135m(),
    presets.llama3_8b(),
    replace(presets.tiny(), tied=False, head_size=16, norm=RMSNorm(1e-6), kinds=turned(12345.5)),
    replace(presets.tiny(), width=40, heads=6, kv_heads=3),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_written_is_read_again(config: DecoderConfig) -> None:
    assert read(by_config(config).write_config(config)) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_transformers_reads_our_config_the_same(config: DecoderConfig) -> None:
    from transformers import AutoConfig

    written = by_config(config).write_config(config)
    theirs = AutoConfig.for_model(**written)
    assert read(theirs.to_dict()) == config
    # And nothing that we wrote is turned into something else.
    assert {key: theirs.to_dict().get(key) for key in written if key in theirs.to_dict()}.items() <= {
        **written,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.kinds[0].rotary.theta},
    }.items()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}}, "rope_scaling.rope_type"),
        ({"rope_parameters": {"rope_type": "ntk", "rope_theta": 1e4}}, "rope_parameters.rope_type"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling: low_freq_factor"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"model_type": "bert"}, "model_type"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": "30"}, "num_hidden_layers"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused_by_its_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=rf"^config\.json: {key} is"):
        read({**LLAMA3, **changes})


def test_a_window_over_the_whole_context_is_none() -> None:
    config = read({**MISTRAL, "sliding_window": 4096, "max_position_embeddings": 4096})
    assert config.context_length == 4096


GGUF = {
    "general.architecture": "llama", "llama.block_count": 2, "llama.embedding_length": 32,
    "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.feed_forward_length": 64,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.context_length": 256, "llama.rope.dimension_count": 8,
    "vocab_size": 256, "tied": True,
}  # fmt: skip


def test_gguf_metadata() -> None:
    assert by_architecture("llama", "x.gguf").read(GGUF, "x.gguf") == presets.tiny()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type"),
        ({"llama.expert_count": 8}, "llama.expert_used_count"),
        ({"llama.expert_shared_count": 1}, "llama.expert_shared_count"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count"),
        ({"llama.attention.head_count_kv": np.array([1, 2])}, "llama.attention.head_count_kv"),
    ],
)
def test_gguf_metadata_that_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=rf"^x\.gguf: {key} is"):
        by_architecture("llama", "x.gguf").read({**GGUF, **changes}, "x.gguf")


def logits(model: Model, params: Any, ids_BT: np.ndarray) -> np.ndarray:
    @jax.jit
    def compute(params: Any, ids_BT: jax.Array) -> jax.Array:
        positions_BT = jnp.broadcast_to(jnp.arange(ids_BT.shape[1]), ids_BT.shape)
        return model.logits(params, model.hidden(params, ids_BT, positions_BT, jnp.ones_like(ids_BT)))

    return np.asarray(compute(params, ids_BT))


def transformers_logits(config: DecoderConfig, params: Any, ids_BT: np.ndarray) -> np.ndarray:
    """Of transformers' own model with our weights in it, all of them and no others."""
    import torch
    import transformers

    family = by_config(config)
    theirs = transformers.AutoConfig.for_model(**family.write_config(config))
    model = transformers.AutoModelForCausalLM.from_config(theirs, dtype=torch.float32).eval()
    state = {
        name: torch.from_numpy(np.array(make()))
        for name, _, make in weights.tensors(params, family, config, np.dtype(np.float32))
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == [] and missing == (["lm_head.weight"] if config.tied else [])
    model.tie_weights()
    with torch.no_grad():
        return model(torch.from_numpy(ids_BT)).logits.numpy()


@pytest.mark.parametrize(
    "config",
    [
        presets.tiny(),
        replace(presets.tiny(), tied=False),
        replace(presets.tiny(), tied=False, head_size=16, kv_heads=4, kinds=turned(1e5)),
        replace(presets.tiny(), width=40, heads=6, kv_heads=3, norm=RMSNorm(1e-3)),
    ],
    ids=["tied", "untied", "wide heads", "heads that do not divide the width"],
)
def test_logits_are_transformers(config: DecoderConfig, params_of: Callable[..., Any], one_device: Any) -> None:
    params = params_of(config)
    ids_BT = np.random.default_rng(1).integers(0, config.vocab_size, (2, 200))
    theirs = transformers_logits(config, params, ids_BT)
    assert np.abs(theirs).max() > 1
    assert np.abs(logits(Model(config), params, ids_BT) - theirs).max() < 1e-4
