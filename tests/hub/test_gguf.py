"""GGUF files, written here as llama.cpp's converter writes them, are read as the model they hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import jax
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from jaxchat.errors import InputError
from jaxchat.hub import weights
from jaxchat.hub.families import by_architecture
from jaxchat.hub.gguf import Gguf
from jaxchat.hub.open import open_config
from jaxchat.models import config as parts
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model

CONFIG = DecoderConfig(
    vocab_size=96,
    layers=2,
    width=64,
    heads=4,
    kv_heads=2,
    head_size=16,
    hidden=96,
    kinds=(parts.Kind(rotary=parts.Rotary(1e5)),),
    context_length=128,
)


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to the rows of q and k: (half, pair) of every head becomes (pair, half)."""
    out = np.empty_like(rows)
    size = len(rows) // heads
    for head in range(heads):
        for i in range(size):
            half, pair = divmod(i, size // 2)
            out[head * size + 2 * pair + half] = rows[head * size + i]
    return out


def write(path: Path, config: DecoderConfig, params: Any, kind: Kind = Kind.F32, **metadata: Any) -> Path:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_freq_base(config.kinds[0].rotary.theta)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_layer_norm_rms_eps(config.norm.eps)
    for key, value in metadata.items():
        writer.add_string(f"llama.{key}", value)

    def add(name: str, array: np.ndarray) -> None:
        quantized = array.ndim > 1 and kind != Kind.F32
        data = gguf.quantize(array, kind) if quantized else array
        writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=kind if quantized else None)

    layers = params["layers"]
    add("token_embd.weight", params["embed"]["table"])
    add("output_norm.weight", params["norm"]["scale"])
    if not config.tied:
        add("output.weight", params["unembed"]["kernel"].T)
    for i in range(config.layers):
        attn, mlp, D = layers["attn"], layers["mlp"], config.width
        add(f"blk.{i}.attn_norm.weight", layers["attn_norm"]["scale"][i])
        add(f"blk.{i}.attn_q.weight", interleaved(attn["q"][i].reshape(D, -1).T, config.heads))
        add(f"blk.{i}.attn_k.weight", interleaved(attn["k"][i].reshape(D, -1).T, config.kv_heads))
        add(f"blk.{i}.attn_v.weight", attn["v"][i].reshape(D, -1).T)
        add(f"blk.{i}.attn_output.weight", attn["o"][i].reshape(-1, D).T)
        add(f"blk.{i}.ffn_norm.weight", layers["mlp_norm"]["scale"][i])
        for name in ("gate", "up", "down"):
            add(f"blk.{i}.ffn_{name}.weight", mlp[name][i].T)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def load(path: Path, mesh: Any) -> tuple[DecoderConfig, Any]:
    source = Gguf(path)
    form = by_architecture(source.metadata["general.architecture"], source.where)
    config = form.read(source.metadata, source.where)
    return config, weights.load(source, form, config, Model(config).abstract(), mesh)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1])
def test_reads_what_was_written(
    tmp_path: Path, params_of: Callable[..., Any], one_device: Any, kind: Kind, tied: bool
) -> None:
    config = CONFIG if tied else DecoderConfig(**{**vars(CONFIG), "tied": False})
    params = params_of(config)
    path = write(tmp_path / "model.gguf", config, params, kind)
    found, read = load(path, one_device)
    assert found == config
    assert open_config(str(path)) == config
    # The blocks of Q8_0 hold 127 steps to their largest value, those of Q4_1 15 from the least to the largest.
    bound = {Kind.F32: 0, Kind.BF16: 0, Kind.F16: 1e-3, Kind.Q8_0: 0.01, Kind.Q4_1: 0.1}[kind]
    worst = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()), read, params)
    assert max(jax.tree.leaves(worst)) <= bound


def test_every_device_reads_its_own_part(tmp_path: Path, params_of: Callable[..., Any]) -> None:
    from jaxchat.mesh import MeshConfig, make_mesh

    params = params_of(CONFIG)
    path = write(tmp_path / "model.gguf", CONFIG, params, Kind.Q8_0)
    whole = load_on(path, MeshConfig(), 1)
    split = load_on(path, make := MeshConfig(fsdp=4, tensor=2), 8)
    assert make_mesh(make).size == 8
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), whole, split)))
    assert len({shard.data.shape for shard in split["layers"]["mlp"]["up"].addressable_shards}) == 1
    assert split["layers"]["mlp"]["up"].addressable_shards[0].data.shape == (2, 16, 48)


def load_on(path: Path, mesh_config: Any, devices: int) -> Any:
    from jaxchat.mesh import make_mesh

    mesh = make_mesh(mesh_config, jax.devices()[:devices])
    with jax.set_mesh(mesh):
        return load(path, mesh)[1]


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, params_of: Callable[..., Any]) -> None:
    path = write(tmp_path / "model.gguf", CONFIG, params_of(CONFIG))
    size = path.stat().st_size
    for keep in (0, 2, 4, 20, 100, 900, size // 2, size - 1):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match=r"cut\.gguf"):
            Gguf(cut)


def test_what_is_not_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + os.urandom(1000))
    with pytest.raises(InputError, match="not a GGUF file"):
        Gguf(tmp_path / "x.gguf")
    with pytest.raises(InputError, match="No such file"):
        Gguf(tmp_path / "y.gguf")


def test_rotary_scaling_is_refused(tmp_path: Path, params_of: Callable[..., Any], one_device: Any) -> None:
    path = write(tmp_path / "model.gguf", CONFIG, params_of(CONFIG), **{"rope.scaling.type": "yarn"})
    with pytest.raises(InputError, match=r"llama\.rope\.scaling\.type is 'yarn'"):
        load(path, one_device)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "x.gguf"), "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match=r"general\.architecture is 'mamba'; jaxchat reads gemma2, gemma3, gpt2"):
        open_config(str(tmp_path / "x.gguf"))
