"""Every family, with all that it has and a window shorter than what is read, against transformers' own implementation:
logits, gradients, generated tokens; and its files in both directions."""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from jaxchat.data.batch import Batch, place
from jaxchat.errors import InputError
from jaxchat.hub import peft, safetensors, weights
from jaxchat.hub.families import Family, Format, by_config, by_model_type, families, sizes
from jaxchat.hub.layout import Index
from jaxchat.hub.safetensors import Safetensors
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import lora
from jaxchat.models.config import DecoderConfig, Kind, Llama3, LongRope, Rotary, Yarn
from jaxchat.models.config_json import from_json, to_json
from jaxchat.models.decoder import Model, Params
from jaxchat.models.lora import DoRA, LoRA
from jaxchat.objectives.language_model import losses
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.testing import ByteTokenizer

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
GREEDY = 64


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


@pytest.fixture
def mesh() -> Iterator[None]:
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        yield


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


@pytest.mark.usefixtures("mesh")
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
@pytest.mark.usefixtures("mesh")
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


@pytest.mark.usefixtures("mesh")
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


def random_adapter(model: Model, adapter: LoRA, params: Params) -> Params:
    fresh = lora.init(model, adapter, params, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), fresh)


def assert_same_logits(theirs: Any, model: Model, params: Params) -> None:
    import torch

    rows = batch()
    found = model.logits(params, model.hidden(params, rows.tokens_BT, rows.positions_BT, rows.segments_BT))
    for row, where in conversations(rows):
        with torch.no_grad():
            expected = theirs(torch.from_numpy(rows.tokens_BT[row, where].astype(np.int64))[None]).logits[0].numpy()
        assert np.abs(np.asarray(found)[row, where] - expected).max() < 1e-4


def copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)


ADAPTERS = {
    **dict.fromkeys(CASES, LoRA(rank=3, alpha=5)),
    "phi3": LoRA(rank=3, alpha=5, rank_stabilised=True),
    "gpt2": DoRA(rank=3, alpha=5, targets=("q", "v", "down")),
    "qwen2": DoRA(rank=3, alpha=5),
}


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize("name", CASES)
def test_an_adapter_written_for_peft_computes_the_same_there_and_comes_back(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    _, model, params = ours(name)
    adapter = ADAPTERS[name]
    moved = random_adapter(model, adapter, params)
    merged = lora.merged(lora.attached(params, moved, adapter))
    peft.write(tmp_path, model, moved, adapter, merged, "somewhere")
    theirs = PeftModel.from_pretrained(copy.deepcopy(transformers_model(name)), tmp_path).eval()
    assert_same_logits(theirs, model, lora.attached(params, moved, adapter))
    said = json.loads((tmp_path / peft.CONFIG).read_text())
    again = peft.merge(tmp_path, said, model.config, copied(params))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), again, merged)


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt2", {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}),
        ("phi3", {"target_modules": "all-linear", "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"qkv_proj": 9}}),
        ("llama", {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 2], "use_dora": True}),
        ("qwen3", {"target_modules": ["o_proj"], "use_rslora": True}),
    ],
)
def test_an_adapter_that_peft_made_is_read(name: str, said: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    _, model, params = ours(name)
    theirs = get_peft_model(copy.deepcopy(transformers_model(name)), LoraConfig(r=4, lora_alpha=6, **said)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    theirs.save_pretrained(tmp_path)
    found = peft.merge(tmp_path, json.loads((tmp_path / peft.CONFIG).read_text()), model.config, copied(params))
    assert_same_logits(theirs, model, found)


def test_gpt2_as_its_authors_published_it_leaves_out_the_beginning_of_names() -> None:
    family, model, params = ours("gpt2")
    short = {
        name.removeprefix("transformer."): array for name, array in state("gpt2").items() if name != "lm_head.weight"
    }
    short |= {f"h.{layer}.attn.bias": np.ones((1, 1, 8, 8), np.float32) for layer in range(3)}
    assert same(load(Held(short), family.huggingface, model.config), params)


@pytest.mark.usefixtures("mesh")
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
