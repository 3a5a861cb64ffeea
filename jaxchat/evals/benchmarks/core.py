"""CORE of DataComp-LM (Li et al. 2024, arXiv:2406.11794): one figure from the tasks of suite.CORE, each as LLM Foundry
defines it.

A question stands behind `fewshot` others with their answers, drawn for it from the same file, a line between two.

- choice: of several answers the model takes the one whose tokens are likeliest on average.
- schema: of several contexts, the one after which the same ending's tokens are likeliest on average.
- completion: right if greedy decoding says the answer, token by token.

Accuracy is centred, (accuracy - chance) / (1 - chance), so that guessing scores 0, and CORE is the mean over the tasks.
"""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.evals.benchmarks.scores import Figure, TaskScores
from jaxchat.evals.benchmarks.suite import CORE, CoreTask
from jaxchat.evals.likelihood import Likelihood, likelihoods
from jaxchat.hub.open import Opened

SEED = 1234
_WITHIN = ("", "eval_data", "local_data")  # where the two publishers' copies have the files
_NEEDS = {
    "choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
    "completion": ("context", "continuation"),
}

Row = dict[str, Any]
Pair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Core:
    """The tasks with their rows."""

    tasks: dict[CoreTask, list[Row]]

    @staticmethod
    def read(folder: Path, tasks: Sequence[CoreTask] = CORE) -> Core:
        """Raises InputError for files that are missing or hold something else."""
        root = next((folder / name for name in _WITHIN if (folder / name / tasks[0].file).parent.is_dir()), folder)
        missing = [task.file for task in tasks if not (root / f"{task.file}.jsonl").is_file()]
        if missing:
            raise InputError(
                f"{root} lacks {len(set(missing))} of CORE's files ({missing[0]}.jsonl ...); give --task-path the "
                "folder of LLM Foundry's evaluation data (scripts/eval/local_data), or of a copy of it"
            )
        return Core({task: _rows(root / f"{task.file}.jsonl", task) for task in tasks})

    def score(self, opened: Opened, limit: int | None = None) -> dict[str, TaskScores]:
        """Of every task, and `core`, the mean. limit: questions of each task, the same for every model."""
        found = {}
        for task, rows in self.tasks.items():
            found[task] = _score(opened, task, rows, limit)
        centred = [scores.figures["centered"] for scores in found.values()]
        known = [figure.stderr for figure in centred if figure.stderr is not None]
        error = sum(one**2 for one in known) ** 0.5 / len(centred) if len(known) == len(centred) else None
        whole = Figure(statistics.fmean(figure.value for figure in centred), error)
        # Every question's share, so that their mean is CORE: tasks count alike, however many questions they have.
        total = sum(scores.count for scores in found.values())
        shares = {
            f"{task.name}/{item}": value * total / scores.count / len(found)
            for task, scores in found.items()
            for item, value in scores.items["centered"].items()
        }
        together = TaskScores({"core": whole}, {"core": shares}, total)
        return {"core": together, **{f"core/{task.name}": scores for task, scores in found.items()}}


def _rows(path: Path, task: CoreTask) -> list[Row]:
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                whole = all(key in row for key in _NEEDS[task.kind])
            except (ValueError, TypeError):
                whole = False
            if not whole:
                raise InputError(f"{path}:{number}: a {task.kind} has {', '.join(_NEEDS[task.kind])}")
            rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no questions")
    return rows


def _score(opened: Opened, task: CoreTask, rows: list[Row], limit: int | None) -> TaskScores:
    asked = list(range(len(rows)))
    if limit is not None and limit < len(rows):
        asked = sorted(random.Random(SEED).sample(asked, limit))
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.get("category") if task.by_category else None].append(i)
    requests: list[Pair] = []
    spans = []
    for i in asked:
        group = groups[rows[i].get("category") if task.by_category else None]
        pairs = [pair(opened.tokenizer, *text) for text in prompts(task, rows, i, group)]
        spans.append(slice(len(requests), len(requests) + len(pairs)))
        requests += pairs
    told = likelihoods(opened, requests, label=f"core/{task.name}")
    right = {i: float(is_right(task, rows[i], told[span])) for i, span in zip(asked, spans, strict=True)}

    # Each question's share in the mean: the same for all, or the same for all categories.
    counted = [[i for i in group if i in right] for group in groups.values()]
    counted = [group for group in counted if group]
    weights = {i: len(right) / len(counted) / len(group) for group in counted for i in group}
    acc = statistics.fmean(statistics.fmean(right[i] for i in group) for group in counted)
    errors = [Figure.mean([right[i] for i in group]).stderr for group in counted]
    known = [one for one in errors if one is not None]
    error = sum(one**2 for one in known) ** 0.5 / len(counted) if len(known) == len(counted) else None
    scale = 1 - task.chance
    figures = {
        "acc": Figure(acc, error),
        "centered": Figure((acc - task.chance) / scale, None if error is None else error / scale),
    }
    items = {
        "acc": {str(i): weights[i] * one for i, one in right.items()},
        "centered": {str(i): (weights[i] * one - task.chance) / scale for i, one in right.items()},
    }
    shown: list[Row] = [{"item": str(i), "acc": right[i]} for i in asked]
    return TaskScores(figures, items, len(asked), task.fewshot, "core", shown)


def prompts(task: CoreTask, rows: Sequence[Row], i: int, group: Sequence[int]) -> list[tuple[str, str]]:
    """The (context, continuation) texts that question `i` asks the model about; examples are drawn from `group`."""
    others = [j for j in group if j != i]
    drawn = random.Random(SEED + i).sample(others, min(task.fewshot, len(others)))
    before = "".join(f"{_question(task, rows[j])}{task.delimiter}{_answer(task, rows[j])}\n" for j in drawn)
    row = rows[i]
    if task.kind == "choice":
        context = f"{before}{row['query'].strip()}{task.delimiter}"
        return [(context, choice.strip()) for choice in row["choices"]]
    if task.kind == "schema":
        ending = row["continuation"].strip()
        return [(f"{before}{option.strip()}{task.delimiter}", ending) for option in row["context_options"]]
    return [(f"{before}{row['context'].strip()}{task.delimiter}", row["continuation"].strip())]


def _question(task: CoreTask, row: Row) -> str:
    asked: str = {
        "choice": lambda: row["query"],
        "schema": lambda: row["context_options"][row["gold"]],
        "completion": lambda: row["context"],
    }[task.kind]()
    return asked.strip()


def _answer(task: CoreTask, row: Row) -> str:
    said: str = row["choices"][row["gold"]] if task.kind == "choice" else row["continuation"]
    return said.strip()


def pair(tokenizer: Tokenizer, context: str, continuation: str) -> Pair:
    """Tokens of a context and of what follows it, the white space between them read with what follows."""
    bare = context.rstrip()
    before = tokenizer.encode(bare, add_special_tokens=True)
    whole = tokenizer.encode(bare + context[len(bare) :] + continuation, add_special_tokens=True)
    return before, whole[len(before) :]


def is_right(task: CoreTask, row: Row, told: Sequence[Likelihood]) -> bool:
    """Whether the model answers a question rightly, by what it makes of `prompts`."""
    if task.kind == "completion":
        return told[0].greedy
    means = [one.logprob / one.tokens for one in told]
    return means.index(max(means)) == row["gold"]
