"""A run from its config to its folder: what it leaves, when it goes on, what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaxchat.data.config import Folder
from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig
from jaxchat.models.presets import tiny
from jaxchat.run import NewTokenizer, Pretrained, Train
from jaxchat.run.training import train
from jaxchat.train.metrics import read_metrics
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import Samples
from tests.run.runs import files, lines, samples


@pytest.mark.parametrize(("kind", "file"), [("sentencepiece", "tokenizer.model"), ("bpe", "tokenizer.json")])
def test_a_run_trains_its_tokenizer_of_either_kind(config: Train, kind: Any, file: str, tmp_path: Path):
    model = replace(tiny(), vocab_size=312)
    short = replace(config, model=model, tokenizer=NewTokenizer(kind=kind), steps=1, samples=Samples())
    assert train(short, tmp_path / "run").step == 1
    assert (tmp_path / "run" / "tokenizer" / file).is_file()
    assert (tmp_path / "run" / "tokenizer" / "tokenizer.model").is_file() == (kind == "sentencepiece")


def test_a_run_writes_what_programs_read(whole: Path):
    steps = [line for line in lines(whole) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 17))
    assert steps[-1]["loss"] < steps[0]["loss"] - 1
    for line in read_metrics(whole / "metrics.jsonl"):
        wanted = {"eval"} if "eval" in line else {"loss", "tokens", "tokens_per_second", "learning_rate", "grad_norm"}
        assert wanted <= line.keys()
    assert [line["step"] for line in lines(whole) if "eval" in line] == [0, 8, 16]
    resolved = json.loads((whole / "config.json").read_text())["resolved"]
    assert resolved["steps"] == 16
    assert resolved["packed"][0]["heldout"]["rows"] > 0
    assert [(sample["step"], sample["prompt"]) for sample in samples(whole)] == [
        (8, "the cat sees"),
        (16, "the cat sees"),
    ]
    assert (whole / "loss.png").stat().st_size > 1000
    assert {path.name for path in (whole / "checkpoints").iterdir()} >= {"12", "16"}


def test_a_run_opens_as_a_model(whole: Path, config: Train):
    from jaxchat.hub.open import open_model

    opened = open_model(str(whole))
    assert opened.config == config.model
    assert opened.step == 16
    assert opened.format is not None


def test_a_finished_run_is_left_as_it_is(whole: Path, config: Train):
    before = files(whole)
    again = train(config, whole)
    assert (again.step, again.exit_code) == (16, 0)
    assert again.held_out == lines(whole)[-1]["eval"]
    assert files(whole) == before
    for name in ("loss.png", "goodput.json", "report.html"):
        (whole / name).unlink()  # as a kill just before it was made would have it
    train(config, whole)
    assert files(whole).keys() == before.keys()


def test_a_longer_run_on_another_mesh_goes_on(whole: Path, config: Train, tmp_path: Path):

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    longer = replace(config, steps=20, mesh=MeshConfig(fsdp=2, context=2), accumulate=2)
    assert train(longer, run).step == 20
    assert lines(run)[: len(lines(whole))] == lines(whole)
    assert [line["step"] for line in lines(run) if "loss" in line] == list(range(1, 21))


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"optim": OptimConfig(peak_lr=1e-3)}, r"began with optim.peak_lr 0.01 and now it is 0.001; set it back"),
        ({"seed": 1}, "began with seed 0 and now it is 1"),
        ({"model": replace(tiny(), vocab_size=320, layers=3)}, "began with model.layers 2 and now it is 3"),
    ],
)
def test_a_changed_config_is_refused(change: dict, sentence: str, whole: Path, config: Train):
    before = files(whole)
    with pytest.raises(InputError, match=sentence):
        train(replace(config, **change), whole)
    assert files(whole) == before


def test_changed_data_are_refused(whole: Path, config: Train, tmp_path: Path):
    source = config.data.sources[0]
    assert isinstance(source, Folder)
    lines = (source.path / "conversations.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "conversations.jsonl").write_text("".join(lines[:-10]))
    fewer = replace(config, data=replace(config.data, sources=(Folder(tmp_path),)))
    with pytest.raises(InputError, match=r"began with data.0 "):
        train(fewer, whole)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"steps": None}, "the run has no length"),
        (
            {"data": {"batch": 63}, "mesh": MeshConfig(data=8)},
            "batch 63 does not divide over data=8; set --data.batch 64",
        ),
        ({"mesh": MeshConfig(data=16)}, r"needs 16 devices and 8 are here"),
        ({"mesh": MeshConfig(tensor=4)}, "kv_heads 2 does not divide over tensor=4; set --mesh.tensor to 2"),
        ({"data": {"seq_len": 512}}, r"rows of 512 tokens are longer than the model's context of 256"),
        ({"tokenizer": None}, "set --tokenizer"),
        ({"tokenizer": Path("nowhere")}, "nowhere: no such tokenizer"),
        ({"tokenizer": None, "model": Pretrained("nowhere.gguf")}, "there is no nowhere.gguf"),
        ({"template": "chatmk"}, "no chat template 'chatmk'"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(
    change: dict, sentence: str, config: Train, tmp_path: Path
):
    changed = dict(change)
    if "data" in changed:
        changed["data"] = replace(config.data, **changed["data"])
    with pytest.raises(InputError, match=sentence):
        train(replace(config, **changed), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_tokenizer_larger_than_the_model_is_refused(whole: Path, config: Train, tmp_path: Path):
    small = replace(config, model=replace(tiny(), vocab_size=256), tokenizer=whole / "tokenizer")
    with pytest.raises(InputError, match=r"vocabulary of 320 exceeds the model's of 256; set --model.vocab-size 320"):
        train(small, tmp_path / "run")


def test_a_folder_with_other_things_is_not_touched(config: Train, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        train(config, tmp_path)
    assert files(tmp_path) == {"thesis.txt": b"important"}
