"""Every config that ships builds, fits its devices and answers to the flags that people rely on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from jaxchat.__main__ import main
from jaxchat.config_file import load_config
from jaxchat.data.config import Corpus
from jaxchat.mesh import make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.models.presets import smollm2_135m
from jaxchat.run import Train
from jaxchat.run.config import length_by_flag
from jaxchat.run.program import program
from jaxchat.train.record import to_json

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
SMOKE = next(path for path in CONFIGS if path.stem == "smoke_cpu")


def _shape(config: Train) -> DecoderConfig:
    if isinstance(config.model, DecoderConfig):
        return config.model
    return config.model.config or smollm2_135m()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_a_step_on_its_mesh_without_allocating(path: Path):
    config = load_config(path, Train)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        made = program(config, _shape(config), mesh, steps=100)
        after, metrics = jax.eval_shape(made.step, made.state, made.batch, made.frozen)
    assert jax.tree.structure(after) == jax.tree.structure(made.state)
    assert metrics.loss.shape == ()
    whole = made.state.params if made.frozen is None else made.frozen
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(whole))
    assert parameters == _shape(config).parameters


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_saved_as_json(path: Path):
    saved = to_json(load_config(path, Train))
    assert json.loads(json.dumps(saved)) == saved


def test_the_nano_config_is_a_model_of_ten_million_parameters():
    config = load_config(SMOKE.with_name("nano_chitchat.py"), Train)
    assert isinstance(config.model, DecoderConfig)
    assert 9e6 < config.model.parameters < 12e6


def test_a_length_by_flag_replaces_one_in_the_other_unit():
    config = load_config(SMOKE, Train)
    assert config.steps is not None
    assert length_by_flag(config, replace(config, epochs=2.0)) == replace(config, steps=None, epochs=2.0)
    assert length_by_flag(config, replace(config, steps=7)) == replace(config, steps=7)
    both = replace(config, steps=7, epochs=2.0)
    assert length_by_flag(config, both) == both


FLAGS = {
    "--steps": "3",
    "--seed": "5",
    "--data.batch": "8",
    "--data.seq-len": "64",
    "--optim.peak-lr": "0.002",
    "--mesh.data": "2",
    "--mesh.fsdp": "2",
    "--mesh.tensor": "2",
    "--checkpoint.every": "2",
    "--accumulate": "2",
    "--model.layers": "1",
    "--model.width": "64",
    "--model.vocab-size": "600",
}


def test_the_smoke_config_trains_as_its_flags_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("chatterbot_corpus")
    monkeypatch.setenv("JAXCHAT_CACHE", str(tmp_path / "cache"))
    assert load_config(SMOKE, Train).data.sources == (Corpus("chatterbot"),)
    flags = [word for pair in FLAGS.items() for word in pair]
    assert main(["train", str(SMOKE), "--run", str(tmp_path / "run"), *flags]) == 0
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    for flag, value in FLAGS.items():
        found = saved
        for name in flag.removeprefix("--").replace("-", "_").split("."):
            found = found[name]
        assert found == type(found)(value)
    assert json.loads((tmp_path / "run" / "model.json").read_text())["width"] == 64
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--data.batch", "63", "--mesh.data", "8"], "batch 63 does not divide over data=8; set --data.batch 64"),
        (["--optim.peek-lr", "1"], "there is no --optim.peek-lr; did you mean --optim.peak-lr?"),
        (["--steps", "3", "--epochs", "1"], "the length is given twice, as 3 steps and as 1 epochs; set one to None"),
    ],
)
def test_a_mistake_in_a_flag_is_one_sentence(
    flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", str(SMOKE), "--run", str(tmp_path / "run"), *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said
    assert not (tmp_path / "run").exists()


def test_a_misspelt_field_in_a_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "mine.py"
    file.write_text(SMOKE.read_text().replace("steps=20", "stepz=20"))
    assert main(["train", str(file), "--run", str(tmp_path / "run")]) == 2
    assert "Train has no field stepz; did you mean steps?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
