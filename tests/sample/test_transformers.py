"""The same weights, the same prompts: what is generated greedily is what transformers generates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxchat.mesh import make_mesh
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.testing import ByteTokenizer

CONFIG = replace(tiny(), vocab_size=ByteTokenizer.vocab_size)
LENGTHS = (5, 1, 23, 9, 16)
TOKENS = 20


@pytest.fixture(scope="module")
def llama():
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=CONFIG.vocab_size,
        hidden_size=CONFIG.width,
        intermediate_size=CONFIG.hidden,
        num_hidden_layers=CONFIG.layers,
        num_attention_heads=CONFIG.heads,
        num_key_value_heads=CONFIG.kv_heads,
        head_dim=CONFIG.head_size,
        tie_word_embeddings=True,
        rms_norm_eps=CONFIG.norm.eps,
        rope_parameters={"rope_type": "default", "rope_theta": CONFIG.kinds[0].rotary.theta},
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def engine(llama) -> Iterator[Engine]:
    weights = {name: value.numpy() for name, value in llama.state_dict().items()}
    N, K, H, D = CONFIG.heads, CONFIG.kv_heads, CONFIG.head_size, CONFIG.width

    def stacked(name: str, *shape: int) -> np.ndarray:
        """(outputs, inputs) of every layer, as (layers, inputs..., outputs...) of `shape`."""
        layers = [weights[f"model.layers.{i}.{name}.weight"].T for i in range(CONFIG.layers)]
        return np.stack(layers).reshape(CONFIG.layers, *shape)

    params = {
        "embed": {"table": weights["model.embed_tokens.weight"]},
        "layers": {
            "attn_norm": {"scale": stacked("input_layernorm", D)},
            "attn": {
                "q": stacked("self_attn.q_proj", D, N, H),
                "k": stacked("self_attn.k_proj", D, K, H),
                "v": stacked("self_attn.v_proj", D, K, H),
                "o": stacked("self_attn.o_proj", N, H, D),
            },
            "mlp_norm": {"scale": stacked("post_attention_layernorm", D)},
            "mlp": {
                "gate": stacked("mlp.gate_proj", D, -1),
                "up": stacked("mlp.up_proj", D, -1),
                "down": stacked("mlp.down_proj", -1, D),
            },
        },
        "norm": {"scale": weights["model.norm.weight"]},
    }
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        placed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding.spec), params, Model(CONFIG).abstract())
    with Engine(Model(CONFIG), placed, ByteTokenizer(), mesh) as engine:
        yield engine


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_tokens_are_those_of_transformers(llama, engine, penalty):
    import torch

    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 256, length).tolist() for length in LENGTHS]
    greedy = Sampling(temperature=0, repetition_penalty=penalty, max_tokens=TOKENS)
    for prompt, completion in zip(prompts, generate(engine, prompts, greedy), strict=True):
        theirs = llama.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            repetition_penalty=penalty,
            max_new_tokens=TOKENS,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert list(completion.token_ids) == theirs[0, len(prompt) :].tolist()
        assert len(set(completion.token_ids)) > 3  # not stuck on one token, which any two models could agree on
