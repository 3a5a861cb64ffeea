"""Small models in every form, made here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.hub import safetensors, weights
from jaxchat.hub.families import by_config
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import presets
from jaxchat.models.config import DecoderConfig
from jaxchat.models.config_json import to_json
from jaxchat.models.decoder import Model
from jaxchat.testing import CHATML

MARKERS = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def tokenizer() -> HuggingFaceTokenizer:
    """A real tokenizer of 260 tokens: the bytes but one that UTF-8 never has, a pair of them, and ChatML's markers."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    texts = [*sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"ÿ"}), "th"]
    backend = tokenizers.Tokenizer(models.BPE({text: i for i, text in enumerate(texts)}, [("t", "h")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in MARKERS])
    return HuggingFaceTokenizer(backend, {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}, {"default": CHATML})


@pytest.fixture(scope="session")
def tiny() -> DecoderConfig:
    return replace(presets.tiny(), vocab_size=260)


def random_params(config: DecoderConfig, seed: int = 0) -> Any:
    """Parameters with no special values: scales are not ones. float32 numbers that bfloat16 holds exactly."""
    with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        shapes = Model(config).abstract()
    rng = np.random.default_rng(seed)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        values = rng.standard_normal(shape.shape, np.float32) * 0.2
        values += "scale" in jax.tree_util.keystr(path)
        return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture(scope="session")
def params_of() -> Callable[..., Any]:
    return random_params


@pytest.fixture(scope="session")
def write_huggingface(tokenizer: HuggingFaceTokenizer) -> Callable[..., Path]:
    """Writes a folder as anybody's might be, by the same map."""

    def write(folder: Path, config: DecoderConfig, params: Any, dtype: Any = np.float32, **more: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        family = by_config(config)
        (folder / "config.json").write_text(json.dumps(family.write_config(config)))
        safetensors.write(folder, weights.tensors(params, family, config, np.dtype(dtype)), np.dtype(dtype), **more)
        tokenizer.save(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def write_run(tokenizer: HuggingFaceTokenizer) -> Callable[..., Path]:
    """Writes a run with a checkpoint for each step in `losses`, its parameters made from the step."""
    from jaxchat.hub.checkpoints import Checkpoints
    from jaxchat.train.state import TrainState

    def write(folder: Path, config: DecoderConfig, losses: dict[int, float]) -> Path:
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps(to_json(config)))
        tokenizer.save(folder / "tokenizer")
        checkpoints = Checkpoints(folder / "checkpoints", keep=len(losses))
        for step, loss in losses.items():
            state = TrainState(np.int32(step), random_params(config, step), {"m": np.zeros(4, np.float32)})
            checkpoints.save(step, jax.tree.map(jax.numpy.asarray, state), {"loss": loss}, wait=True)
        checkpoints.close()
        return folder

    return write


@pytest.fixture
def one_device() -> Any:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        yield mesh


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of the given size ("20m"); skips where that is not allowed."""
    folders: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        how = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(how, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs root")
        folders.append(folder)
        return folder

    try:
        yield mount
    finally:
        for folder in folders:
            subprocess.run(["umount", str(folder)], check=True)
