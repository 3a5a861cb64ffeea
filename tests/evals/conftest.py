"""A small model as a Hugging Face folder, and folders of conversations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxchat.chat.conversation import Conversation
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.hub import safetensors, weights
from jaxchat.hub.families import by_config
from jaxchat.hub.open import Opened, open_model
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import presets
from jaxchat.models.decoder import Model
from jaxchat.testing import CHATML


@pytest.fixture
def conversations(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of conversations."""

    def write(found: Sequence[Conversation], name: str = "data") -> Path:
        (tmp_path / name).mkdir()
        lines = [json.dumps(conversation.to_json()) + "\n" for conversation in found]
        (tmp_path / name / "conversations.jsonl").write_text("".join(lines))
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer of bytes and ChatML's markers, and no chat template."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    markers = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in markers])
    config = replace(presets.tiny(), vocab_size=260)
    with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        params = jax.device_get(jax.jit(Model(config).init)(jax.random.key(0)))
    folder, family, dtype = tmp_path_factory.mktemp("tiny"), by_config(config), np.dtype(np.float32)
    HuggingFaceTokenizer(backend, {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}).save(folder)
    (folder / "config.json").write_text(json.dumps(family.write_config(config)))
    safetensors.write(folder, weights.tensors(params, family, config, dtype), dtype)
    return folder


@pytest.fixture
def model_folder(tmp_path: Path, tiny_folder: Path) -> Callable[..., Path]:
    """Makes a copy of the tiny model, with ChatML's template or without one."""

    def copy(name: str = "model", template: bool = True) -> Path:
        folder = shutil.copytree(tiny_folder, tmp_path / name)
        if template:
            (folder / "chat_template.jinja").write_text(CHATML)
        return folder

    return copy


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The tiny model with ChatML's template, opened."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("opened") / "tiny")
    (folder / "chat_template.jinja").write_text(CHATML)
    return open_model(str(folder), make_mesh(MeshConfig(), jax.devices()[:1]))
