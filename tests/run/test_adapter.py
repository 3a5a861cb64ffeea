"""A run that trains an adapter: what it saves, how it opens, what becomes of its base."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import jax
import pytest

from jaxchat.errors import InputError
from jaxchat.models.lora import DoRA, LoRA
from jaxchat.models.quantised import Int8
from jaxchat.run import Pretrained, Train
from jaxchat.run.training import train
from jaxchat.testing import small_conversations
from jaxchat.train.optim import Muon, OptimConfig
from jaxchat.train.session import HeldOut, Samples
from tests.run.runs import fall_over, lines, stop_at


@pytest.fixture(scope="module")
def adapted(config: Train, whole: Path) -> Train:
    return replace(
        config,
        model=Pretrained(str(whole)),
        tokenizer=None,
        adapter=DoRA(rank=2, alpha=4, base=Int8()),
        held_out=HeldOut(every=4),
        steps=8,
    )


@pytest.fixture(scope="module")
def adapted_run(adapted: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("adapted") / "run"
    assert train(adapted, run).exit_code == 0
    return run


def test_a_run_of_an_adapter_says_what_it_trains_and_saves_that_alone(
    adapted: Train, adapted_run: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train(replace(adapted, steps=1, samples=Samples()), tmp_path / "run")
    printed = capsys.readouterr().out
    said = re.search(r"training ([\d,]+) of ([\d,]+) parameters \(.*optimizer state ([\d.]+) MB", printed)
    assert said is not None
    resolved = json.loads((adapted_run / "config.json").read_text())["resolved"]
    trained = int(said[1].replace(",", ""))
    assert trained == resolved["trainable_parameters"]
    assert int(said[2].replace(",", "")) == trained + resolved["parameters"]
    assert float(said[3]) == pytest.approx(8 * trained / 1e6, abs=0.1)  # two moments
    saved, of_whole = (
        sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in (adapted_run / "checkpoints" / "8", whole / "checkpoints" / "16")
    )
    assert saved < of_whole / 2
    first, *_, last = [line["eval"]["loss"] for line in lines(adapted_run) if "eval" in line]
    assert last < first


def test_an_interrupted_run_of_an_adapter_ends_as_one_never_stopped(
    adapted: Train, adapted_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        stop_at(patch, 6, fall_over)
        train(adapted, run)
    assert train(adapted, run).step == 8
    assert lines(run) == lines(adapted_run)


def test_a_run_of_an_adapter_opens_merged_and_measures_as_it_did(adapted_run: Path, adapted: Train):
    """Over the weights as it was trained over them: in few bits."""
    from jaxchat.evals.perplexity import score
    from jaxchat.hub.open import open_model

    opened = open_model(str(adapted_run))
    base = open_model(cast(Pretrained, adapted.model).source)
    assert jax.tree.structure(opened.params) == jax.tree.structure(base.params)
    assert opened.step == 8
    assert opened.format is not None
    conversations = list(small_conversations(20))
    ours, theirs = (score(one, opened.format, conversations).figures()["assistant"] for one in (opened, base))
    assert ours["perplexity"] < theirs["perplexity"]


def test_a_base_that_moved_or_changed_is_refused_until_it_is_named(
    adapted: Train, adapted_run: Path, whole: Path, tmp_path: Path
):
    from jaxchat.hub.open import open_model

    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(adapted_run, run)
    shutil.copytree(whole, moved)
    record = json.loads((run / "adapter.json").read_text())

    def name(source: Path | str) -> None:
        (run / "adapter.json").write_text(json.dumps({**record, "base": {**record["base"], "source": str(source)}}))

    name(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere below the adapter of .* cannot be opened .*/adapter\.json$"):
        open_model(str(run))
    name(moved)
    assert open_model(str(run)).step == 8
    name(f"{whole}@12")
    with pytest.raises(InputError, match="are not those that the adapter of"):
        open_model(str(run))
    longer = replace(adapted, steps=9, model=Pretrained(f"{moved}@12"), samples=Samples())
    with pytest.raises(InputError, match="are not those that the adapter of"):
        train(longer, run)
    assert train(replace(longer, model=Pretrained(str(moved))), run).step == 9
    assert json.loads((run / "adapter.json").read_text())["base"]["source"] == str(moved)


def test_an_adapter_is_refused_where_there_is_nothing_below_it(config: Train, adapted: Train, tmp_path: Path):
    with pytest.raises(InputError, match="an adapter is trained over weights that are there"):
        train(replace(config, adapter=LoRA()), tmp_path / "run")
    with pytest.raises(InputError, match="names 'w1'"):
        train(replace(adapted, adapter=LoRA(targets=("w1",))), tmp_path / "run")
    with pytest.raises(InputError, match=r"with an adapter set it to None"):
        train(replace(adapted, optim=OptimConfig(matrices=Muon())), tmp_path / "run")


def test_an_adapter_leaves_the_house_merged_or_alone(adapted_run: Path, whole: Path, tmp_path: Path):
    from jaxchat.__main__ import main
    from jaxchat.hub.export_adapter import export_adapter
    from jaxchat.hub.open import open_config, open_model
    from jaxchat.hub.verify import verify

    alone, merged = tmp_path / "alone", tmp_path / "merged"
    assert main(["hf", "export", str(adapted_run), "--out", str(alone), "--adapter-only"]) == 0
    assert main(["hf", "export", str(adapted_run), "--out", str(merged)]) == 0
    for folder in (alone, merged):
        assert json.loads((folder / "verification.json").read_text())["max_logit_difference"] < 1e-4
    assert verify(str(adapted_run), str(merged)).same
    # The run held its base in 8 bits; peft's users hold it whole.
    apart = json.loads((alone / "verification.json").read_text())["max_logit_difference_from_run"]
    assert 1e-4 < apart < 1
    opened = open_model(str(alone))
    assert opened.config == open_config(str(alone)) == open_config(str(whole))
    assert opened.format is not None and opened.description == "alone over run"

    with pytest.raises(InputError, match="is no run of an adapter"):
        export_adapter(str(whole), tmp_path / "none")
    said = json.loads((alone / "adapter_config.json").read_text())
    for changes, message in (
        ({"base_model_name_or_path": str(tmp_path / "gone")}, "the model below the adapter .* cannot be opened"),
        ({"bias": "all"}, "bias is 'all', which jaxchat does not compute"),
        ({"r": None}, "is not a whole adapter's config"),
    ):
        (alone / "adapter_config.json").write_text(json.dumps({**said, **changes}))
        with pytest.raises(InputError, match=message):
            open_model(str(alone))
    assert not (tmp_path / "none").exists()
