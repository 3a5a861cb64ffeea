"""A small model and an engine that answers with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import pytest

from jaxchat.mesh import make_mesh
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny
from jaxchat.sample.engine import Engine
from jaxchat.testing import ByteTokenizer

MODEL = Model(replace(tiny(), vocab_size=ByteTokenizer.vocab_size, context_length=512))
ONE = make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="session")
def params() -> Any:
    with jax.set_mesh(ONE):
        return jax.tree.map(lambda x: 2 * x, jax.jit(MODEL.init)(jax.random.key(3)))  # far from uniform


@pytest.fixture(scope="module")
def engine(params: Any) -> Iterator[Engine]:
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=5) as engine:
        yield engine
