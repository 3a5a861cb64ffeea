"""The verb `eval` on tasks: what it writes, what it shows, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxchat.__main__ import main

Write = Callable[..., Path]


@pytest.fixture
def core_folder(tmp_path: Path) -> Path:
    """Every file of CORE, with two questions each."""
    from jaxchat.evals.benchmarks.suite import CORE

    rows = {
        "choice": {"query": "Which is wet?", "choices": ["rain", "sand"], "gold": 0, "category": "c"},
        "schema": {"context_options": ["It is rain", "It is sand"], "continuation": "that is wet", "gold": 0},
        "completion": {"context": "Rain is", "continuation": "wet", "category": "c"},
    }
    for task in CORE:
        path = tmp_path / "core" / f"{task.file}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(2 * (json.dumps(rows[task.kind]) + "\n"))
    return tmp_path / "core"


def test_models_on_tasks_side_by_side(
    model_folder: Write, task_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models, out = [str(model_folder("first")), str(model_folder("second"))], tmp_path / "out.json"
    asked = ["--tasks", "arc_easy,hellaswag", "--task-path", str(task_folder), "--limit", "4", "--out", str(out)]
    capsys.readouterr()
    assert main(["eval", *models, *asked]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == f"2 x 2 scores in {out}, to look at in {out.with_suffix('.html')}"
    result = json.loads(out.read_text())
    first, second = result["tasks"].values()
    assert list(result["tasks"]) == models and first == second and set(first) == {"arc_easy", "hellaswag"}
    figure = first["arc_easy"]["acc_norm"]
    assert first["arc_easy"]["questions"] == 4 and figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    assert f"{figure['value']:.3f} ±" in shown
    assert {one["model"] for one in result["task_differences"]} == {models[1]}
    assert "acc_norm" in shown and "is not surely other than" in shown
    rows = [json.loads(line) for line in out.with_suffix(".items.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 4 and {row["model"] for row in rows} == set(models)
    page = out.with_suffix(".html").read_text()
    assert "arc_easy: acc_norm" in page and page.count("is not surely other than") == 2


def test_core_is_one_figure_and_its_tasks(
    model_folder: Write, core_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, out = str(model_folder()), tmp_path / "out.json"
    assert main(["eval", model, "--suite", "core", "--task-path", str(core_folder), "--out", str(out)]) == 0
    scored = json.loads(out.read_text())["tasks"][model]
    centred = [one["centered"]["value"] for name, one in scored.items() if name != "core"]
    assert len(centred) == 22 and scored["core"]["core"]["value"] == pytest.approx(sum(centred) / 22)
    assert "core/winogrande" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ((), "no --data, --tasks or --suite is given"),
        (("--suite", "core"), "CORE reads its questions from a folder; name it with --task-path"),
        (("--tasks", "arc_esy"), "there is no task arc_esy; did you mean"),
        (("--tasks", "arc_easy", "--limit", "0"), "--limit is 0; it must be 1 or more"),
        (("--tasks", "arc_easy", "--fewshot", "-1"), "--fewshot is -1; it must be 0 or more"),
        (("--tasks", "arc_easy", "--as-chat"), "has no chat template to ask by; give one with --template chatml"),
    ],
)
def test_what_it_cannot_use_is_refused_in_one_sentence(
    asked: tuple[str, ...], sentence: str, model_folder: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, out = str(model_folder("plain", template=False)), tmp_path / "out.json"
    out.write_text("before")
    capsys.readouterr()
    assert main(["eval", model, *asked, "--out", str(out)]) == 2
    shown = capsys.readouterr()
    last = shown.err.splitlines()[-1]
    assert shown.out == "" and last.startswith("jaxchat: ") and sentence in last
    assert out.read_text() == "before" and sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "plain"]
