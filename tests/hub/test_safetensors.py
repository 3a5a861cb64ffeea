"""safetensors folders: bit for bit there and back on any mesh, and one sentence for one that is not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxchat.errors import InputError
from jaxchat.hub import safetensors, weights
from jaxchat.hub.families import by_config
from jaxchat.hub.safetensors import Safetensors
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model

FLOAT32, BFLOAT16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
Q0 = "model.layers.0.self_attn.q_proj.weight"


def load(folder: Path, config: DecoderConfig, mesh: Any = None) -> Any:
    mesh = mesh or make_mesh(MeshConfig(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        abstract = Model(config).abstract()
    return weights.load(Safetensors(folder), by_config(config).huggingface, config, abstract, mesh)


def same(a: Any, b: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b)))


def edit(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any) -> Path:
    return write_huggingface(tmp_path / "model", tiny, params_of(tiny))


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(fsdp=4, tensor=2), MeshConfig(data=8)], ids=str)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_there_and_back_bit_for_bit(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, dtype: Any, mesh: Any, tied: bool
) -> None:
    config = replace(tiny, tied=tied)
    params = params_of(config)
    first = write_huggingface(tmp_path / "first", config, params, dtype)
    ours = load(first, config, make_mesh(mesh, jax.devices()[:1] if mesh == MeshConfig() else None))
    assert same(ours, params)
    second = write_huggingface(tmp_path / "second", config, ours, dtype, shard_bytes=20_000)
    files = sorted(second.glob("*.safetensors"))
    assert len(files) > 2 and not (second / "model.safetensors").exists()
    before = load_file(first / "model.safetensors")
    after: dict[str, np.ndarray] = {}
    for file in files:
        after |= load_file(file)
    assert before.keys() == after.keys() and ("lm_head.weight" in after) is not tied
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert same(load(second, config), params)


def test_the_index_lists_every_tensor_where_it_is(tmp_path: Path, tiny: DecoderConfig, params_of: Any) -> None:
    family, params = by_config(tiny), params_of(tiny)
    files = safetensors.write(tmp_path, weights.tensors(params, family, tiny, FLOAT32), FLOAT32, shard_bytes=30_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    held = {name: file.name for file in files for name in load_file(file)}
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == 4 * tiny.parameters
    table = 4 * tiny.vocab_size * tiny.width
    assert all(sum(array.nbytes for array in load_file(file).values()) <= max(30_000, table) for file in files)


def test_transformers_writes_what_we_read(tmp_path: Path, tiny: DecoderConfig, params_of: Any) -> None:
    import torch
    import transformers

    params, family = params_of(tiny), by_config(tiny)
    config = transformers.AutoConfig.for_model(**family.write_config(tiny))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    state = {n: torch.from_numpy(np.array(make())) for n, _, make in weights.tensors(params, family, tiny, FLOAT32)}
    model.load_state_dict(state, strict=False)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    read = json.loads((tmp_path / "config.json").read_text())
    assert family.huggingface.read(read, "config.json") == tiny
    assert Safetensors(tmp_path).dtypes == {"BF16"}
    assert same(load(tmp_path, tiny), params)


def test_float16(folder: Path, tiny: DecoderConfig, params_of: Any) -> None:
    edit(folder, lambda tensors: tensors.update({name: x.astype(np.float16) for name, x in tensors.items()}))
    expected = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), params_of(tiny))
    assert same(load(folder, tiny), expected)


def test_a_file_cut_off_is_refused(folder: Path, tiny: DecoderConfig) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for keep in (0, 5, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:keep])
        with pytest.raises(InputError, match=r"model\.safetensors is not a whole safetensors file"):
            Safetensors(folder)


def test_a_missing_file_of_the_index_is_refused(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    folder = write_huggingface(tmp_path, tiny, params_of(tiny), shard_bytes=30_000)
    second = sorted(folder.glob("*.safetensors"))[1]
    second.unlink()
    with pytest.raises(InputError, match=second.name):
        Safetensors(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(InputError, match="is not an index"):
        Safetensors(folder)


def test_a_missing_tensor_is_named(folder: Path, tiny: DecoderConfig) -> None:
    edit(folder, lambda tensors: tensors.pop(Q0))
    with pytest.raises(InputError, match=f"the tensor {Q0} is missing"):
        load(folder, tiny)


def test_an_extra_tensor_is_named(folder: Path, tiny: DecoderConfig) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    edit(folder, lambda tensors: tensors.update({name: np.zeros(32, np.float32)}))
    with pytest.raises(InputError, match=f"the tensor {name} is none of the model's"):
        load(folder, tiny)


def test_a_layer_more_than_the_config_says_is_refused(folder: Path, tiny: DecoderConfig) -> None:
    with pytest.raises(InputError, match=r"model\.layers\.1\..* \(and 8 more\) is none of the model's"):
        load(folder, replace(tiny, layers=1))


def test_a_misshaped_tensor_is_named(folder: Path, tiny: DecoderConfig) -> None:
    edit(folder, lambda tensors: tensors.update({Q0: np.zeros((32, 31), np.float32)}))
    with pytest.raises(InputError, match=rf"the tensor {Q0} has the shape \(32, 31\).*\(32, 32\)"):
        load(folder, tiny)


def test_integers_are_refused(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({Q0: np.zeros((32, 32), np.int8)}))
    with pytest.raises(InputError, match=f"the tensor {Q0} holds I8"):
        Safetensors(folder)


def test_old_buffers_are_passed_over(folder: Path, tiny: DecoderConfig, params_of: Any) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit(folder, lambda tensors: tensors.update({name: np.ones(4, np.float32)}))
    assert same(load(folder, tiny), params_of(tiny))


def test_a_tied_copy_may_stand_in_the_file_if_it_is_one(folder: Path, tiny: DecoderConfig, params_of: Any) -> None:
    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    edit(folder, add)
    assert same(load(folder, tiny), params_of(tiny))

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"][259, 31] += 1

    edit(folder, spoil)
    with pytest.raises(InputError, match=r"lm_head\.weight and model\.embed_tokens\.weight differ"):
        load(folder, tiny)


def test_a_full_disk_is_one_sentence(small_disk: Any, tiny: DecoderConfig, params_of: Any) -> None:
    tensors = weights.tensors(params_of(tiny), by_config(tiny), tiny, FLOAT32)
    with pytest.raises(InputError, match=r"no space left to write .*model\.safetensors"):
        safetensors.write(small_disk("60k"), tensors, FLOAT32)
