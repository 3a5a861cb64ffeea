"""CORE's three kinds of question and its mean, against answers found by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks import core
from jaxchat.evals.benchmarks.core import Core, is_right, prompts
from jaxchat.evals.benchmarks.scores import differences
from jaxchat.evals.benchmarks.suite import CORE, CoreTask
from jaxchat.evals.likelihood import Likelihood, likelihoods
from jaxchat.hub.open import Opened

CHOICE = CoreTask("which", "world/which", 1, "choice", 0.5, "\nAnswer: ")
SCHEMA = CoreTask("who", "world/who", 1, "schema", 0.5)
COMPLETION = CoreTask("what", "world/what", 2, "completion", by_category=True)
ROWS: dict[CoreTask, list[dict[str, Any]]] = {
    CHOICE: [
        {"query": "Which is cold? ", "choices": ["ice", "the summer sun"], "gold": 0},
        {"query": "Which is wet?", "choices": ["sand in the desert", "rain"], "gold": 1},
        {"query": "Which is old?", "choices": ["a ruin", "a child"], "gold": 0},
    ],
    SCHEMA: [
        {"context_options": ["The cup fell since the cup", "The cup fell since the cat"], "continuation": "was pushed.",
         "gold": 0},
        {"context_options": ["Ann thanked Bea as Ann", "Ann thanked Bea as Bea"], "continuation": "had helped.",
         "gold": 1},
    ],
    COMPLETION: [
        {"context": "One and one are", "continuation": "two", "category": "sums"},
        {"context": "Two and two are", "continuation": "four", "category": "sums"},
        {"context": "Two and one are", "continuation": "three", "category": "sums"},
        {"context": "The capital of France is", "continuation": "Paris", "category": "towns"},
        {"context": "The capital of Italy is", "continuation": "Rome", "category": "towns"},
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for task, rows in ROWS.items():
        path = tmp_path / "eval_data" / f"{task.file}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_texts_of_a_choice():
    first = prompts(replace(CHOICE, fewshot=0), ROWS[CHOICE], 0, range(3))
    assert first == [("Which is cold?\nAnswer: ", "ice"), ("Which is cold?\nAnswer: ", "the summer sun")]
    shots = {prompts(CHOICE, ROWS[CHOICE], 0, [0, j])[1] for j in (1, 2)}
    assert shots == {
        ("Which is wet?\nAnswer: rain\nWhich is cold?\nAnswer: ", "the summer sun"),
        ("Which is old?\nAnswer: a ruin\nWhich is cold?\nAnswer: ", "the summer sun"),
    }


def test_the_texts_of_a_schema():
    assert prompts(SCHEMA, ROWS[SCHEMA], 1, range(2)) == [
        ("The cup fell since the cup was pushed.\nAnn thanked Bea as Ann ", "had helped."),
        ("The cup fell since the cup was pushed.\nAnn thanked Bea as Bea ", "had helped."),
    ]


def test_the_texts_of_a_completion():
    ((context, ending),) = prompts(COMPLETION, ROWS[COMPLETION], 3, [3, 4])
    assert (context, ending) == ("The capital of Italy is Rome\nThe capital of France is ", "Paris")


def test_examples_are_never_the_question_and_always_the_same():
    rows = [{"context": f"c{i}", "continuation": f"e{i}"} for i in range(30)]
    task = replace(COMPLETION, fewshot=29)
    for i in (0, 17, 29):
        ((context, _),) = prompts(task, rows, i, range(30))
        lines = context.splitlines()
        assert sorted(lines[:-1]) == sorted(f"c{j} e{j}" for j in range(30) if j != i) and lines[-1] == f"c{i} "
        assert prompts(task, rows, i, range(30)) == [(context, f"e{i}")]
    assert len({prompts(replace(task, fewshot=3), rows, i, range(30))[0][0].split()[0] for i in range(30)}) > 5


def test_answers_are_compared_by_the_mean_over_their_tokens():
    told = [Likelihood(-3.0, 1, True), Likelihood(-8.0, 4, False)]
    assert is_right(CHOICE, {"gold": 1}, told) and not is_right(CHOICE, {"gold": 0}, told)
    assert is_right(SCHEMA, {"gold": 1}, told)
    assert is_right(COMPLETION, {}, [Likelihood(-9.0, 2, True)]) and not is_right(COMPLETION, {}, told[1:])


def test_scores_are_those_computed_by_hand(folder: Path, tiny_model: Opened):
    found = Core.read(folder, tuple(ROWS)).score(tiny_model)
    encode = tiny_model.tokenizer.encode
    accuracy = {}
    for task, rows in ROWS.items():
        right: list[float] = []
        for i, row in enumerate(rows):
            group = [j for j, other in enumerate(rows) if other.get("category") == row.get("category")]
            texts = prompts(task, rows, i, group)
            told = likelihoods(tiny_model, [(encode(a[:-1]), encode(" " + b)) for a, b in texts])  # of bytes
            if task.kind == "completion":
                right.append(told[0].greedy)
            else:
                means = [one.logprob / one.tokens for one in told]
                right.append(means[row["gold"]] == max(means))
        if task.by_category:
            accuracy[task] = (sum(right[:3]) / 3 + sum(right[3:]) / 2) / 2
        else:
            accuracy[task] = sum(right) / len(right)
        assert found[f"core/{task.name}"].figures["acc"].value == pytest.approx(accuracy[task])
    centred = [(acc - task.chance) / (1 - task.chance) for task, acc in accuracy.items()]
    assert found["core"].figures["core"].value == pytest.approx(sum(centred) / 3)
    assert found["core"].count == 10 and found["core/who"].part_of == "core"


def test_the_mean_over_tasks_and_its_error(folder: Path, tiny_model: Opened, monkeypatch: pytest.MonkeyPatch):
    """With given answers: choices right, schemas half, completions right for towns alone."""
    answers = {
        CHOICE: [-1, -9, -9, -1, -1, -9], SCHEMA: [-1, -9, -1, -9], COMPLETION: [False, False, False, True, True],
    }  # fmt: skip

    def told(_: Opened, requests: Any, label: str) -> list[Likelihood]:
        said = next(answers[task] for task in ROWS if label == f"core/{task.name}")
        assert len(said) == len(requests)
        return [Likelihood(0.0, 1, one) if isinstance(one, bool) else Likelihood(one, 1, False) for one in said]

    monkeypatch.setattr(core, "likelihoods", told)
    read = Core.read(folder, tuple(ROWS))
    found = read.score(tiny_model)
    centred = {name: found[f"core/{name}"].figures["centered"] for name in ("which", "who", "what")}
    assert {name: figure.value for name, figure in centred.items()} == {"which": 1, "who": 0, "what": 0.5}
    assert centred["who"].stderr == pytest.approx(2 * 0.5)  # two questions, one right: 0.5 of accuracy, centred twice
    whole = found["core"].figures["core"]
    assert whole.value == pytest.approx(0.5) and whole.stderr == pytest.approx(1 / 3)
    items = found["core"].items["core"].values()
    assert sum(items) / len(items) == pytest.approx(0.5)
    answers[SCHEMA] = [-1, -9, -9, -1]
    apart = {(one["task"], one["metric"]): one for one in differences(found, read.score(tiny_model))}
    assert apart["core", "core"]["value"] == pytest.approx(1 / 3)
    assert apart["core/who", "acc"]["value"] == 0.5 and apart["core/which", "acc"]["value"] == 0
    assert not math.isnan(apart["core", "core"]["interval"][0])


def test_fewer_questions_are_the_same_for_every_model(folder: Path, tiny_model: Opened):
    read = Core.read(folder, (COMPLETION,))
    first, second = (read.score(tiny_model, limit=3)["core/what"] for _ in range(2))
    assert first == second and first.count == 3


def test_what_is_missing_or_broken_is_named(folder: Path):
    with pytest.raises(InputError, match=r"lacks \d+ of CORE's files .*--task-path"):
        Core.read(folder)
    (folder / "eval_data/world/who.jsonl").write_text('{"continuation": "a", "gold": 0}\n')
    with pytest.raises(InputError, match=r"who.jsonl:1: a schema has context_options, continuation, gold"):
        Core.read(folder, (SCHEMA,))


def test_core_is_of_22_tasks():
    assert len({task.name for task in CORE}) == 22
    kinds = [task.kind for task in CORE]
    assert (kinds.count("choice"), kinds.count("schema"), kinds.count("completion")) == (11, 2, 9)
