"""Small questions of our own, in the forms that published tasks have them."""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"  # what is asked of the hub fails at once

THINGS = ("the moon", "a stone", "warm rain", "old bread", "a red kite", "the north wind", "salt", "a quiet river")


@pytest.fixture(scope="module")
def contained() -> None:
    """Skips where the kernel itself has no Landlock that guards all writing; any other refusal is a failure."""
    ask = ctypes.CDLL(None).syscall
    if sys.platform != "linux" or ask(444, None, ctypes.c_size_t(0), 1) < 3:
        pytest.skip("this kernel has no Landlock that guards all writing, which Linux 6.2 has")


def arc(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        texts = rng.sample(THINGS, 4)
        choices = {"text": texts, "label": list("ABCD")}
        rows.append({"id": str(i), "question": f"Which is like {rng.choice(THINGS)}?", "choices": choices,
                     "answerKey": rng.choice("ABCD")})  # fmt: skip
    return rows


def hellaswag(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {"ind": i, "activity_label": "Walking", "ctx_a": f"Someone sees {rng.choice(THINGS)}.", "ctx_b": "then they",
         "ctx": "", "endings": [f"look at {thing}." for thing in rng.sample(THINGS, 4)], "label": str(rng.randrange(4))}
        for i in range(count)
    ]  # fmt: skip


def gsm8k(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        a, b = rng.randrange(2, 50), rng.randrange(2, 50)
        rows.append({"question": f"I have {a} stones and find {b}. How many?", "answer": f"{a} + {b}.\n#### {a + b}"})
    return rows


def write(folder: Path, splits: dict[str, list[dict[str, Any]]]) -> None:
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data for arc_easy, hellaswag and gsm8k; a task of its own, `likeness`, and a group, `both`."""
    folder = tmp_path_factory.mktemp("tasks")
    write(folder / "arc_easy", {"train": arc(6, 1), "validation": arc(2, 2), "test": arc(10, 3)})
    write(folder / "hellaswag", {"train": hellaswag(6, 4), "validation": hellaswag(8, 5)})
    write(folder / "gsm8k", {"train": gsm8k(8, 6), "test": gsm8k(4, 7)})
    write(folder / "likeness", {"test": [{"text": f"Of {thing} and nothing else."} for thing in THINGS[:3]]})
    (folder / "likeness.yaml").write_text(
        "task: likeness\ndataset_path: json\noutput_type: loglikelihood_rolling\ntest_split: test\ndoc_to_text: ''\n"
        "doc_to_target: '{{text}}'\nmetric_list:\n  - metric: bits_per_byte\n"
    )
    (folder / "both.yaml").write_text(
        "group: both\ntask: [arc_easy, hellaswag]\naggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    )
    return folder
