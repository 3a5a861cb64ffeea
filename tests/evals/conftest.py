"""A small model as a Hugging Face folder, and folders of conversations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import pytest

from jaxchat.chat.conversation import Conversation
from jaxchat.hub.open import Opened, open_model
from jaxchat.mesh import MeshConfig, make_mesh
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
def tiny_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The tiny model with ChatML's template, opened."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("opened") / "tiny")
    (folder / "chat_template.jinja").write_text(CHATML)
    return open_model(str(folder), make_mesh(MeshConfig(), jax.devices()[:1]))
