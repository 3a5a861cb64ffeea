"""Every family, with all that it has and a window shorter than what is read, against transformers' own implementation:
logits, gradients, generated tokens; and its files in both directions."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from jaxchat.data.batch import Batch, place
from jaxchat.errors import InputError
from jaxchat.hub import safetensors, weights
from jaxchat.hub.families import by_config, families, sizes
from jaxchat.hub.safetensors import Safetensors
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import Kind, Llama3, LongRope, Rotary, Yarn
from jaxchat.models.config_json import from_json, to_json
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import losses
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.testing import ByteTokenizer
from tests.hub.family_cases import (
    CASES,
    GGUF_CASES,
    IDS,
    LONG,
    Held,
    batch,
    conversations,
    load,
    ours,
    read,
    same,
    state,
    transformers_model,
)

GREEDY = 64


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_are_transformers(name: str) -> None:
    import torch

    _, model, params = ours(name)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 256, length).tolist() for length in (90, 70)]
    with Engine(model, params, ByteTokenizer(), make_mesh(devices=jax.devices()[:1]), slots=len(prompts)) as engine:
        completions = generate(engine, prompts, Sampling(temperature=0, max_tokens=GREEDY))
    for prompt, completion in zip(prompts, completions, strict=True):
        theirs = transformers_model(name).generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=GREEDY,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert list(completion.token_ids) == theirs[0, len(prompt) :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma3", "gpt2", "qwen2"])
def test_logits_split_over_eight_devices_are_whole(name: str) -> None:
    """Layers of several kinds, biases and learned positions on a mesh that splits widths, heads and sequence."""
    family, model, _ = ours(name)
    rows = batch()

    @jax.jit
    def logits(params: Params, rows: Batch) -> jax.Array:
        return model.logits(params, model.hidden(params, rows.tokens_BT, rows.positions_BT, rows.segments_BT))

    def on(mesh: jax.sharding.Mesh) -> np.ndarray:
        with jax.set_mesh(mesh):
            placed = place(rows, NamedSharding(mesh, model.rules.activation("batch", "sequence")))
            held = weights.load(Held(state(name)), family.huggingface, model.config, model.abstract(), mesh)
            return np.asarray(logits(held, placed))

    split = on(make_mesh(MeshConfig(fsdp=2, tensor=2, context=2)))
    np.testing.assert_allclose(split, on(make_mesh(devices=jax.devices()[:1])), atol=5e-5)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("name", CASES)
def test_logits_are_transformers(name: str) -> None:
    import torch

    family, model, params = ours(name)
    assert family.name == name
    rows = batch()

    @jax.jit
    def logits(params: Params) -> jax.Array:
        return model.logits(params, model.hidden(params, rows.tokens_BT, rows.positions_BT, rows.segments_BT))

    found = np.asarray(logits(params))
    for row, where in conversations(rows):
        with torch.no_grad():
            theirs = transformers_model(name)(torch.from_numpy(rows.tokens_BT[row, where].astype(np.int64))[None])
        expected = theirs.logits[0].numpy()
        assert np.abs(expected).max() > 1
        difference = np.abs(found[row, where] - expected).max()
        print(f"{name}: largest difference of logits {difference:.2e}")
        assert difference < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_transformers(name: str) -> None:
    import torch

    family, model, params = ours(name)
    rows = batch()

    placed = place(rows, NamedSharding(jax.sharding.get_mesh(), model.rules.activation("batch", "sequence")))

    @jax.jit
    def gradient(params: Params, rows: Batch) -> Params:
        def loss(params: Params) -> jax.Array:
            both = losses(model, params, rows)
            return both.total / both.weight

        return jax.grad(loss)(params)

    theirs = transformers_model(name)
    theirs.zero_grad()
    total: Any = 0.0
    for row, where in conversations(rows):
        tokens = torch.from_numpy(rows.tokens_BT[row, where].astype(np.int64))
        total = total + torch.nn.functional.cross_entropy(
            theirs(tokens[None]).logits[0, :-1], tokens[1:], reduction="sum"
        )
    (total / float(rows.weights_BT.sum())).backward()
    expected = {key: weight.grad.numpy() for key, weight in theirs.named_parameters()}
    form = family.huggingface
    if form.others:  # as transformers computes: it has no parameters of one expert alone
        form = replace(form, tensors=form.others[0])
    found = {key: make() for key, _, make in weights.whole(gradient(params, placed), form, model.config)}
    assert found.keys() == expected.keys()
    worst = max(np.linalg.norm(found[key] - expected[key]) / np.linalg.norm(expected[key]) for key in expected)
    print(f"{name}: largest relative difference of a gradient {worst:.2e}")
    assert worst < 1e-3


@pytest.mark.parametrize("name", CASES)
def test_an_export_loads_in_transformers_and_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    import torch
    import transformers

    family, model, params = ours(name)
    config = model.config
    (tmp_path / "config.json").write_text(json.dumps(family.write_config(config) | IDS))
    kind = np.dtype(np.float32)
    safetensors.write(tmp_path, weights.tensors(params, family, config, kind), kind)
    again, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {key: value.tolist() for key, value in again.state_dict().items()} == {
        key: value.tolist() for key, value in state(name).items()
    }
    assert read(again.config.to_dict()) == config
    assert same(load(Safetensors(tmp_path), family.huggingface, config), params)


@pytest.mark.parametrize("name", GGUF_CASES)
def test_gguf_has_llama_cpps_names_and_comes_back(name: str) -> None:
    import gguf

    config = read(GGUF_CASES[name])
    family = by_config(config)
    form = family.gguf
    assert form is not None and family.name == name
    assert form.read(form.write(config), "x.gguf") == config
    # The names, by llama.cpp's own table from Hugging Face's.
    arch = next(arch for arch, text in gguf.MODEL_ARCH_NAMES.items() if text == family.architectures[0])
    table = gguf.get_tensor_name_map(arch, config.layers)
    length = sizes(config)
    theirs = {part.path: tensor for tensor in form.tensors(config) for part in tensor.parts}
    for tensor in family.huggingface.tensors(config):
        for hf_name, at in tensor.instances(length):
            hf_name = re.sub(r"experts\.\d+", "experts", hf_name)  # whose tensors its converter stacks
            expected = table.get_name(hf_name, try_suffixes=(".weight", ".bias"))
            assert expected == theirs[tensor.parts[0].path].name.format(**at)
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        shapes = Model(config).abstract()
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.integers(-99, 99, leaf.shape).astype(np.float32), shapes)
    file = {tensor_name: make() for tensor_name, _, make in weights.whole(params, form, config)}
    implied = form.implied(config)
    assert sum(array.size for array in file.values()) == config.parameters + sum(a.size for a in implied.values())
    assert sorted(implied) == (["rope_freqs.weight"] if name == "llama" else [])
    assert same(load(Held(file), form, config), params)
    if config.norm.eps == 1e-6 and getattr(config.norm, "offset", 0):
        assert np.array_equal(file["output_norm.weight"], params["norm"]["scale"] + 1)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("name", CASES)
def test_a_config_is_the_same_through_json_and_counts_its_parameters(name: str) -> None:
    config = read(CASES[name])
    assert from_json(json.loads(json.dumps(to_json(config))), "model.json") == config
    assert from_json(to_json(config), "model.json").family == name
    tensors = by_config(config).huggingface.tensors(config)
    length = sizes(config)
    counted = sum(math.prod(tensor.shape(length)) for tensor in tensors for _ in tensor.instances(length))
    assert counted == config.parameters
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(Model(config).abstract()))


def test_the_cases_use_what_the_families_have() -> None:
    configs = {name: read(case) for name, case in CASES.items()}
    assert set(configs) == {family.name for family in families()}
    scalings = {type(kind.rotary.scaling) for config in configs.values() for kind in config.kinds if kind.rotary}
    assert scalings >= {Llama3, Yarn, LongRope}
    assert len(configs["gemma3"].kinds) == 3 and configs["gemma3"].layers % 3
    assert configs["smollm3"].kinds == (Kind(None, Rotary(2e6)), Kind(48, None))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
        ("gemma3", {"layer_types": ["chunked_attention"] * 4}, "layer_types is"),
        ("qwen2", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_scaling.rope_type is 'dynamic'"),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": 1}}, "short_factor is no list of numbers"),
        ("phi3", {"rope_scaling": {**LONG, "long_factor": [1.0]}}, "4 short and 1 long factors"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers is"),
        ("mixtral", {"router_jitter_noise": 0.1}, "router_jitter_noise is 0.1"),
        ("mixtral", {"num_experts_per_tok": 7}, "of 6 experts a token takes 1 to as many"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\]"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("mistral", {"model_type": "mamba"}, "reads models of the types gemma2, gemma3_text, gpt2, llama"),
    ],
)
def test_what_is_not_computed_is_refused_by_its_key(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read({**CASES[name], **changes})
    assert "\n" not in str(raised.value)


def test_gpt2_as_its_authors_published_it_leaves_out_the_beginning_of_names() -> None:
    family, model, params = ours("gpt2")
    short = {
        name.removeprefix("transformer."): array for name, array in state("gpt2").items() if name != "lm_head.weight"
    }
    short |= {f"h.{layer}.attn.bias": np.ones((1, 1, 8, 8), np.float32) for layer in range(3)}
    assert same(load(Held(short), family.huggingface, model.config), params)


@pytest.mark.usefixtures("one_device")
def test_layers_of_several_kinds_decode_as_they_read() -> None:
    """Rounds of three kinds with a rest, through a cache in the training layout, and recomputed."""
    _, model, params = ours("gemma3")
    tokens_BT = np.random.default_rng(2).integers(0, 256, (2, 80)).astype(np.int32)
    positions_BT, segments_BT = np.tile(np.arange(80), (2, 1)), np.ones((2, 80), np.int32)
    whole = jax.jit(model.hidden)(params, tokens_BT, positions_BT, segments_BT)
    cached = jax.jit(model.cached)
    cache, parts = model.empty_cache(2, 128), []
    for begin, end in ((0, 60), (60, 70), (70, 80)):
        x_BTD, cache = cached(params, tokens_BT[:, begin:end], positions_BT[:, begin:end], cache)
        parts.append(x_BTD)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, atol=2e-4)
