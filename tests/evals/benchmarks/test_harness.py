"""Tasks by name, on data that lies in a folder: the figures are the harness's own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks.harness import FEWSHOT_SEED, Asking, Tasks
from jaxchat.evals.benchmarks.sandbox import Sandbox
from jaxchat.evals.benchmarks.scores import differences
from jaxchat.evals.likelihood import likelihoods
from jaxchat.hub.open import Opened

ASKED = {"arc_easy": 2, "hellaswag": 1, "gsm8k": 1, "likeness": None}


@pytest.fixture(scope="module")
def tasks(task_folder: Path) -> Tasks:
    loaded = Tasks.load(ASKED, task_folder, Sandbox())
    loaded.loaded["tasks"]["gsm8k"].config.generation_kwargs["max_gen_toks"] = 8
    return loaded


@pytest.fixture(scope="module")
def scores(tasks: Tasks, tiny_model: Opened) -> Any:
    return tasks.score(tiny_model, Asking())


def test_every_item_is_scored_as_through_transformers(tasks: Tasks, scores: Any, tiny_model: Opened):
    torch = pytest.importorskip("torch")
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(tiny_model.place.path), device="cpu", dtype=torch.float32, batch_size=4)
    for task in tasks.loaded["tasks"].values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    told = evaluate(theirs, tasks.loaded, bootstrap_iters=0)
    assert set(told["samples"]) == set(ASKED) == set(scores)
    agreed: Counter[bool] = Counter()
    for task, samples in told["samples"].items():
        assert len(samples) == len(scores[task].rows)
        for sample, row in zip(samples, scores[task].rows, strict=True):
            assert (str(sample["doc_id"]), sample["filter"]) == (row["item"], row["filter"])
            for metric in set(sample["metrics"]) & set(row):
                agreed[sample[metric] == row[metric]] += 1
    assert agreed[True] >= 0.99 * agreed.total() and agreed.total() > 40
    for task in ("arc_easy", "hellaswag"):
        for metric in ("acc", "acc_norm"):
            assert scores[task].figures[metric].value == told["results"][task][f"{metric},none"]
    theirs_bpb = told["results"]["likeness"]["bits_per_byte,none"]
    assert scores["likeness"].figures["bits_per_byte"].value == pytest.approx(theirs_bpb, rel=1e-4)


def test_choices_are_scored_by_hand_alike(scores: Any, tiny_model: Opened, task_folder: Path):
    """ARC and HellaSwag: the likeliest answer, as it is (acc) and per character (acc_norm)."""
    encode = tiny_model.tokenizer.encode

    def by_hand(contexts: list[str], choices: list[list[str]], gold: list[int]) -> tuple[float, float]:
        pairs = [
            (encode(context), encode(" " + choice))
            for context, each in zip(contexts, choices, strict=True)
            for choice in each
        ]
        told = iter(likelihoods(tiny_model, pairs))
        acc = norm = 0
        for each, right in zip(choices, gold, strict=True):
            logprobs = [next(told).logprob for _ in each]
            acc += max(range(4), key=lambda i: logprobs[i]) == right
            norm += max(range(4), key=lambda i: logprobs[i] / len(each[i])) == right
        return acc / len(gold), norm / len(gold)

    fresh = Tasks.load({"arc_easy": 0, "hellaswag": 0}, task_folder, Sandbox()).score(tiny_model, Asking())
    rows = [json.loads(line) for line in (task_folder / "arc_easy/test.jsonl").read_text().splitlines()]
    found = by_hand(
        [f"Question: {row['question']}\nAnswer:" for row in rows],
        [row["choices"]["text"] for row in rows],
        ["ABCD".index(row["answerKey"]) for row in rows],
    )
    figures = fresh["arc_easy"].figures
    assert (figures["acc"].value, figures["acc_norm"].value) == found
    rows = [json.loads(line) for line in (task_folder / "hellaswag/validation.jsonl").read_text().splitlines()]
    found = by_hand(
        [f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}" for row in rows],
        [row["endings"] for row in rows],
        [int(row["label"]) for row in rows],
    )
    figures = fresh["hellaswag"].figures
    assert (figures["acc"].value, figures["acc_norm"].value) == found


def test_figures_and_items(scores: Any):
    arc = scores["arc_easy"]
    assert arc.count == 10 and arc.fewshot == 2 and arc.part_of is None
    acc, items = arc.figures["acc"], arc.items["acc"]
    assert acc.value == pytest.approx(sum(items.values()) / 10) and len(items) == 10
    assert acc.stderr == pytest.approx((acc.value * (1 - acc.value) / 9) ** 0.5)
    low, high = acc.interval
    assert low < acc.value < high
    assert set(scores["gsm8k"].figures) == {"exact_match (strict-match)", "exact_match (flexible-extract)"}
    assert scores["likeness"].items == {}  # bits a byte are no mean of the texts'


def test_a_group_is_the_mean_of_its_tasks(tiny_model: Opened, task_folder: Path):
    found = Tasks.load({"both": 0}, task_folder, Sandbox()).score(tiny_model, Asking())
    both, arc, swag = (found[name] for name in ("both", "arc_easy", "hellaswag"))
    assert (both.part_of, arc.part_of, swag.part_of) == (None, "both", "both") and both.count == 18
    acc = (10 * arc.figures["acc"].value + 8 * swag.figures["acc"].value) / 18
    assert both.figures["acc"].value == pytest.approx(acc)
    assert both.items["acc"] == {**arc.items["acc"], **swag.items["acc"]} and len(both.items["acc"]) == 18


def test_a_model_does_not_differ_from_itself(scores: Any):
    found = differences(scores, scores)
    assert {(one["task"], one["metric"]) for one in found} >= {("arc_easy", "acc"), ("hellaswag", "acc_norm")}
    assert all(one["value"] == 0 and one["interval"] == [0, 0] for one in found)


def test_what_was_answered_is_not_computed_again(
    tasks: Tasks, scores: Any, tiny_model: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asking = Asking(cache=tmp_path / "cache")
    assert tasks.score(tiny_model, asking) == scores

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    from jaxchat.evals.benchmarks import harness_model

    for name in ("likelihoods", "generate"):
        monkeypatch.setattr(harness_model, name, never)
    assert tasks.score(tiny_model, asking) == scores


def test_questions_as_conversations(tasks: Tasks, tiny_model: Opened, monkeypatch: pytest.MonkeyPatch):
    from jaxchat.evals.benchmarks.harness_model import JaxchatLM

    asked: list[str] = []

    def notes(self: JaxchatLM, requests: Any) -> list[tuple[float, bool]]:
        asked.extend(request.args[0] for request in requests)
        return [(-1.0, False)] * len(requests)

    monkeypatch.setattr(JaxchatLM, "loglikelihood", notes)
    arc = Tasks({"tasks": {"arc_easy": tasks.loaded["tasks"]["arc_easy"]}}, ("arc_easy",))
    arc.score(tiny_model, Asking(as_chat=True, limit=1))
    assert asked[0].count("<|im_start|>user\nQuestion:") == 3 and asked[0].endswith("<|im_start|>assistant\n")
    asked.clear()
    arc.score(tiny_model, Asking(as_chat=True, turns=False, limit=1))
    assert asked[0].count("<|im_start|>user\n") == 1 and asked[0].count("Question:") == 3


@pytest.mark.parametrize(
    ("asked", "folder", "says"),
    [
        ("arc_esy", None, r"no task arc_esy; did you mean .*arc_easy"),
        ("arc_challenge", None, r"arc_challenge cannot be loaded .*FOLDER/TASK/SPLIT.jsonl and give --task-path"),
        ("arc_easy", "nowhere", "there is no folder"),
        ("broken", "broken", r"test.jsonl is not lines of JSON"),
        ("unguarded", "broken", r"unguarded runs programs of the model's unguarded; give --unsafe"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(asked: str, folder: str | None, says: str, tmp_path: Path):
    (tmp_path / "broken/broken").mkdir(parents=True)
    (tmp_path / "broken/broken/test.jsonl").write_text("{")
    for name, more in (("broken", ""), ("unguarded", "unsafe_code: true\n")):
        text = f"task: {name}\ndataset_path: json\ntest_split: test\ndoc_to_text: a\ndoc_to_target: b\n{more}"
        (tmp_path / f"broken/{name}.yaml").write_text(text)
    (tmp_path / "broken/unguarded").mkdir()
    (tmp_path / "broken/unguarded/test.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match=says) as error:
        Tasks.load({asked: None}, folder and tmp_path / folder, Sandbox())
    assert "\n" not in str(error.value)
