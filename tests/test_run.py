"""Runs from config to folder: started, killed, gone on with, refused."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxchat.data.config import DataConfig, Folder
from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig
from jaxchat.models.lora import DoRA, LoRA
from jaxchat.models.presets import tiny
from jaxchat.models.quantised import Int8
from jaxchat.run import NewTokenizer, Pretrained, Train, train
from jaxchat.testing import small_conversations
from jaxchat.train.divergence import Rewind, Skip
from jaxchat.train.metrics import read_metrics
from jaxchat.train.optim import Muon, OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut, Samples
from jaxchat.train.watch import DivergedError

CACHING = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
SECONDS = ("seconds", "time", "tokens_per_second")  # what may differ between two runs of the same command


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every run here compiles the same few programs; those in processes of their own compile them anew."""
    before = {name: getattr(jax.config, name) for name in CACHING}
    for name, value in zip(CACHING, (str(tmp_path_factory.mktemp("compiled")), 0.0, 0)):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def whole(config: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(config, run).exit_code == 0
    return run


@pytest.mark.parametrize(("kind", "file"), [("sentencepiece", "tokenizer.model"), ("bpe", "tokenizer.json")])
def test_a_run_trains_its_tokenizer_of_either_kind(config: Train, kind: Any, file: str, tmp_path: Path):
    model = replace(tiny(), vocab_size=312)
    short = replace(config, model=model, tokenizer=NewTokenizer(kind=kind), steps=1, samples=Samples())
    assert train(short, tmp_path / "run").step == 1
    assert (tmp_path / "run" / "tokenizer" / file).is_file()
    assert (tmp_path / "run" / "tokenizer" / "tokenizer.model").is_file() == (kind == "sentencepiece")


def _lines(run: Path) -> list[dict]:
    """metrics.jsonl without what is measured in seconds."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in SECONDS} for line in lines]


def _samples(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def _files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_a_run_writes_what_programs_read(whole: Path):
    steps = [line for line in _lines(whole) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 17))
    assert steps[-1]["loss"] < steps[0]["loss"] - 1
    for line in read_metrics(whole / "metrics.jsonl"):
        wanted = {"eval"} if "eval" in line else {"loss", "tokens", "tokens_per_second", "learning_rate", "grad_norm"}
        assert wanted <= line.keys()
    assert [line["step"] for line in _lines(whole) if "eval" in line] == [0, 8, 16]
    resolved = json.loads((whole / "config.json").read_text())["resolved"]
    assert resolved["steps"] == 16
    assert resolved["packed"][0]["heldout"]["rows"] > 0
    assert [(sample["step"], sample["prompt"]) for sample in _samples(whole)] == [
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
    before = _files(whole)
    again = train(config, whole)
    assert (again.step, again.exit_code) == (16, 0)
    assert again.held_out == _lines(whole)[-1]["eval"]
    assert _files(whole) == before
    for name in ("loss.png", "goodput.json"):
        (whole / name).unlink()  # as a kill just before it was made would have it
    train(config, whole)
    assert _files(whole).keys() == before.keys()


def _stop_at(monkeypatch: pytest.MonkeyPatch, step: int, how: Callable[[], None]) -> None:
    from jaxchat.train.session import Session

    observe = Session._observe

    def then_stop(self: Session, number: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        if number == step:
            how()
        observe(self, number, metrics, spent)

    monkeypatch.setattr(Session, "_observe", then_stop)


def _fall_over() -> None:
    raise RuntimeError("the power is gone")


@pytest.mark.parametrize("step", [2, 11])
def test_an_interrupted_run_ends_as_one_never_stopped(
    step: int, config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        _stop_at(patch, step, _fall_over)
        train(config, run)
    assert len(_lines(run)) < len(_lines(whole))
    assert train(config, run).step == 16
    assert _lines(run) == _lines(whole)
    assert _samples(run) == _samples(whole)


def test_sigterm_saves_and_the_same_command_goes_on(
    config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        _stop_at(patch, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        stopped = train(config, run)
    assert stopped.exit_code == 143
    assert 6 <= stopped.step < 16
    assert (run / "checkpoints" / str(stopped.step)).is_dir()
    assert train(config, run).exit_code == 0
    assert _lines(run) == _lines(whole)


def test_a_spoilt_loss_stops_the_run_and_keeps_the_checkpoint_before_it(
    config: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jaxchat.train.session import Session

    observe = Session._observe

    def spoil(self: Session, number: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        observe(self, number, {**metrics, "loss": float("nan")} if number == 7 else metrics, spent)

    monkeypatch.setattr(Session, "_observe", spoil)
    with pytest.raises(DivergedError, match=r"step 7: the loss is nan, on rows \d+, .* checkpoint .*@4 is intact"):
        train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["4"]
    assert max(line["step"] for line in _lines(tmp_path / "run")) == 6


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"optim": OptimConfig(peak_lr=1e-3)}, r"began with optim.peak_lr 0.01 and now it is 0.001; set it back"),
        ({"seed": 1}, "began with seed 0 and now it is 1"),
        ({"model": replace(tiny(), vocab_size=320, layers=3)}, "began with model.layers 2 and now it is 3"),
    ],
)
def test_a_changed_config_is_refused(change: dict, sentence: str, whole: Path, config: Train):
    before = _files(whole)
    with pytest.raises(InputError, match=sentence):
        train(replace(config, **change), whole)
    assert _files(whole) == before


def test_changed_data_are_refused(whole: Path, config: Train, tmp_path: Path):
    source = config.data.sources[0]
    assert isinstance(source, Folder)
    lines = (source.path / "conversations.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "conversations.jsonl").write_text("".join(lines[:-10]))
    fewer = replace(config, data=replace(config.data, sources=(Folder(tmp_path),)))
    with pytest.raises(InputError, match=r"began with data.0 "):
        train(fewer, whole)


def test_a_longer_run_on_another_mesh_goes_on(whole: Path, config: Train, tmp_path: Path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    longer = replace(config, steps=20, mesh=MeshConfig(fsdp=2, context=2), accumulate=2)
    assert train(longer, run).step == 20
    assert _lines(run)[: len(_lines(whole))] == _lines(whole)
    assert [line["step"] for line in _lines(run) if "loss" in line] == list(range(1, 21))


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
    assert _files(tmp_path) == {"thesis.txt": b"important"}


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before_it(
    config: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import shutil

    run, usage = tmp_path / "run", shutil.disk_usage

    def full_after_one_checkpoint(path: Path):
        return usage(path)._replace(free=1000 if (run / "checkpoints" / "4").exists() else 1 << 40)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", full_after_one_checkpoint)
        with pytest.raises(InputError, match=r"no space left to save the checkpoint of step 8 .* step 4 is intact"):
            train(config, run)
    assert train(config, run).step == 16
    assert _lines(run) == _lines(whole)


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(
    config: Train, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    largest = max((run / "checkpoints" / "16").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])
    assert train(config, run).step == 16
    assert "going back to step 12" in capsys.readouterr().err
    assert _lines(run) == _lines(whole)


COMMAND = """
import sys
from pathlib import Path
from jaxchat.config_file import load_config
from jaxchat.run import Train, train
sys.exit(train(load_config(sys.argv[1], Train), Path(sys.argv[2])).exit_code)
"""


def _command(config: Train, place: Path, run: Path) -> list[str]:
    """The command of a run of `config`, which is written to a config file in `place`."""
    file = place / "config.py"
    source, cache = config.data.sources[0], config.data.cache
    assert isinstance(source, Folder)
    file.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\n"
        "from jaxchat.data.config import DataConfig, Folder\nfrom jaxchat.models.presets import tiny\n"
        "from jaxchat.run import NewTokenizer, Train\n"
        "from jaxchat.train.optim import OptimConfig\nfrom jaxchat.train.session import CheckpointConfig, HeldOut\n\n"
        "def config():\n"
        f"    data = DataConfig((Folder(Path({str(source.path)!r})),), 8, 64, 0.1, cache=Path({str(cache)!r}))\n"
        "    return Train(replace(tiny(), vocab_size=320), data=data, tokenizer=NewTokenizer(),\n"
        "        optim=OptimConfig(peak_lr=1e-2),\n"
        f"        checkpoint=CheckpointConfig({config.checkpoint.every}), held_out=HeldOut({config.held_out.every}),\n"
        f"        steps={config.steps})\n"
    )
    return [sys.executable, "-c", COMMAND, str(file), str(run)]


def _kill_at_random_moments(command: list[str], run: Path, moments: list[float], steps: int) -> int:
    """Runs `command` once for each moment (a share of the whole run) and kills it there; then lets it end."""
    kills = 0
    for moment in moments:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            done = [line["step"] for line in read_metrics(run / "metrics.jsonl")]
            if done and done[-1] >= moment * steps:
                time.sleep(random.Random(moment).uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        kills += process.wait() == -signal.SIGKILL
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    return kills


def test_a_killed_process_goes_on_to_the_same_losses(config: Train, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert _kill_at_random_moments(_command(config, tmp_path, run), run, [0.6], steps=16) == 1
    assert _lines(run) == _lines(whole)


@pytest.mark.slow
def test_forty_steps_killed_again_and_again_have_the_losses_of_forty_never_killed(config: Train, tmp_path: Path):
    forty = replace(config, steps=40, checkpoint=CheckpointConfig(every=3), held_out=HeldOut(every=7))
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(forty, whole).exit_code == 0
    moments = sorted(random.Random(time.time_ns()).uniform(0.05, 0.9) for _ in range(7))
    kills = _kill_at_random_moments(_command(forty, tmp_path, run), run, moments, steps=40)
    assert kills >= 5, f"only {kills} of {moments} came in time"
    assert _lines(run) == _lines(whole)


TWO_PROCESSES = """
import sys
from dataclasses import replace
from pathlib import Path
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[3]}", 2, int(sys.argv[4]))
from jaxchat.config_file import load_config
from jaxchat.mesh import MeshConfig
from jaxchat.run import Train, train
train(replace(load_config(sys.argv[1], Train), mesh=MeshConfig(data=2, fsdp=2)), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_train_as_one(config: Train, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    file = _command(config, tmp_path, run)[3]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, file, str(run), port, str(i)], env=environment)
        for i in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    for found, wanted in zip(_lines(run), _lines(whole), strict=True):
        assert found["step"] == wanted["step"]
        if "loss" in wanted:
            assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
            assert found["tokens"] == wanted["tokens"]


@pytest.mark.parametrize("policy", [Skip(at_most=50), Rewind(at_most=50)])
def test_a_run_with_detours_takes_the_same_ones_however_often_it_is_stopped(
    policy: Skip | Rewind, config: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jaxchat.train import watch

    for name in ("WINDOW", "ENOUGH"):
        monkeypatch.setattr(watch, name, 2)  # so that the noise of small batches is a spike now and then
    touchy = replace(
        config, steps=24, spike=0.02, on_divergence=policy, samples=Samples(), held_out=HeldOut(every=None)
    )
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(touchy, whole).step == 24
    detours = (whole / "detours.jsonl").read_text().splitlines()
    assert detours
    assert [line["step"] for line in _lines(whole)] == list(range(1, 25))
    skipped = [line["step"] for line in _lines(whole) if "skipped" in line]
    assert bool(skipped) == isinstance(policy, Skip)
    for step in (7, 14, 22):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError):
            _stop_at(patch, step, _fall_over)
            train(touchy, run)
    assert train(touchy, run).step == 24
    assert _lines(run) == _lines(whole)
    assert (run / "detours.jsonl").read_text().splitlines() == detours


# Adapters


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
    first, *_, last = [line["eval"]["loss"] for line in _lines(adapted_run) if "eval" in line]
    assert last < first


def test_an_interrupted_run_of_an_adapter_ends_as_one_never_stopped(
    adapted: Train, adapted_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        _stop_at(patch, 6, _fall_over)
        train(adapted, run)
    assert train(adapted, run).step == 8
    assert _lines(run) == _lines(adapted_run)


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
