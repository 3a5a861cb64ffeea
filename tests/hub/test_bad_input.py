"""Models that cannot be used, at the command line: one sentence that names what is wrong, exit 2, nothing written."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxchat.__main__ import main
from jaxchat.models.config import DecoderConfig

Q = "model.layers.0.self_attn.q_proj.weight"


def config(change: dict[str, Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return edit


def tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = next(file for file in sorted(folder.glob("*.safetensors")) if Q in load_file(file))
        held = load_file(path)
        change(held)
        save_file(held, path)

    return edit


def cut(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-100])


def scrambled(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])


def spoilt(folder: Path) -> None:
    """As a failing disk leaves it: of its whole size, numbers that are none."""
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-400] + b"\xff" * 400)


@pytest.fixture
def folder(tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any) -> Path:
    made = write_huggingface(tmp_path / "model", tiny, params_of(tiny), shard_bytes=20_000)
    assert len(list(made.glob("*.safetensors"))) > 2
    return made


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said last, on the error's own line."""
    capsys.readouterr()
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (sentence,) = [line for line in shown.err.splitlines() if line.startswith("jaxchat: ")]
    assert shown.err.rstrip().endswith(sentence) and "Traceback" not in shown.err
    return sentence


@pytest.mark.parametrize("out", ["out", "out.gguf"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (config({"model_type": "mamba"}), "model_type is 'mamba'; jaxchat reads models of the types gemma2"),
        (config({"num_hidden_layers": 3}), "layers.2"),
        (config({"hidden_size": 48}), "model.embed_tokens.weight"),
        (tensors(lambda held: held.pop(Q)), Q),
        (tensors(lambda held: held.update({"model.more": np.ones(3, np.float32)})), "model.more"),
        (tensors(lambda held: held.update({Q: np.ones((3, 5), np.float32)})), Q),
        (cut, "is not a whole safetensors file"),
        (scrambled, "is not a whole safetensors file"),
        (spoilt, "values that are not finite numbers; the file is damaged"),
        (lambda folder: sorted(folder.glob("*.safetensors"))[1].unlink(), "which is not there; the model is not whole"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_is_not_whole_is_refused(
    spoil: Callable[[Path], Any], said: str, out: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    assert said in refused(["hf", "export", str(folder), "--out", str(tmp_path / out)], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_hub_name_offline_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    sentence = refused(["hf", "import", "some-body/some-model", "--out", str(out)], capsys)
    assert "fetch it on a machine with a network and name its folder" in sentence and not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["out", "out.gguf"])
def test_a_disk_too_small_is_refused_before_the_work(
    out: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "free some or name another place" in refused(
        ["hf", "import", str(folder), "--out", str(tmp_path / out)], capsys
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
