"""A run of seconds that the tests here begin, stop and go on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxchat.data.config import DataConfig, Folder
from jaxchat.models.presets import tiny
from jaxchat.run import NewTokenizer, Train
from jaxchat.run.training import train
from jaxchat.testing import small_conversations
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut, Samples

CACHING = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(compiled: Path) -> Iterator[None]:
    """Every run here compiles the same few programs; those in processes of their own compile them anew."""
    before = {name: getattr(jax.config, name) for name in CACHING}
    for name, value in zip(CACHING, (str(compiled), 0.0, 0)):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """A run of seconds, on conversations of its own."""
    folder = tmp_path_factory.mktemp("data")
    with open(folder / "conversations.jsonl", "w", encoding="utf-8") as file:
        for conversation in small_conversations(300):
            file.write(json.dumps(conversation.to_json()) + "\n")
    return Train(
        model=replace(tiny(), vocab_size=320),
        data=DataConfig(sources=(Folder(folder),), batch=8, seq_len=64, heldout=0.1, cache=folder / "cache"),
        tokenizer=NewTokenizer(),
        optim=OptimConfig(peak_lr=1e-2),
        checkpoint=CheckpointConfig(every=4),
        held_out=HeldOut(every=8),
        samples=Samples(("the cat sees",), every=8, tokens=8),
        steps=16,
    )


@pytest.fixture(scope="session")
def whole(config: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(config, run).exit_code == 0
    return run
