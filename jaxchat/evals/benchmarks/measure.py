"""Several models on several tasks, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks.core import Core
from jaxchat.evals.benchmarks.harness import Asking, Tasks
from jaxchat.evals.benchmarks.sandbox import Sandbox
from jaxchat.evals.benchmarks.scores import TaskScores, differences
from jaxchat.evals.benchmarks.suite import SMALL
from jaxchat.hub.open import locate, open_model, open_tokenizer


@dataclass(frozen=True)
class Benchmarks:
    """What is measured. names: tasks of the harness. suite: one that is built in, beside them. folder: tasks and data
    of one's own. fewshot: examples before a question, in place of the suite's or the task's own number."""

    names: tuple[str, ...] = ()
    suite: Literal["small", "core"] | None = None
    folder: Path | None = None
    fewshot: int | None = None

    def __bool__(self) -> bool:
        return bool(self.names or self.suite)

    @property
    def asked(self) -> dict[str, int | None]:
        """The harness's tasks, and the number of examples before a question (None: the task's own)."""
        found: dict[str, int | None] = {one.task: one.fewshot for one in SMALL} if self.suite == "small" else {}
        found |= dict.fromkeys(name for name in self.names if name not in found)
        return found if self.fewshot is None else dict.fromkeys(found, self.fewshot)


def measure(models: Sequence[str], benchmarks: Benchmarks, asking: Asking) -> tuple[dict[str, Any], list[Any]]:
    """`{"tasks": {MODEL: {TASK: figures}}, "task_differences": [...]}`, the differences between each model and the
    first; and a row for every question with what each model said.

    What can be wrong with models, tasks and their data is found before anything is computed. Raises InputError for it.
    """
    models = list(dict.fromkeys(models))
    for model in models:
        template = open_tokenizer(locate(model)).chat_template or asking.template
        if asking.as_chat and template is None:
            raise InputError(f"{model} has no chat template to ask by; give one with --template chatml")
    core = None
    if benchmarks.suite == "core":
        if benchmarks.folder is None:
            raise InputError("CORE reads its questions from a folder; name it with --task-path")
        core = Core.read(benchmarks.folder)
    sandbox = Sandbox(contained=not asking.unsafe)
    tasks = Tasks.load(benchmarks.asked, benchmarks.folder, sandbox, asking.unsafe) if benchmarks.asked else None
    scored: dict[str, dict[str, TaskScores]] = {}
    for model in models:
        opened = open_model(model)
        scored[model] = {}
        if tasks:
            scored[model] |= tasks.score(opened, asking)
        if core:
            scored[model] |= core.score(opened, asking.limit)
    result = {
        "tasks": {model: {task: one.to_json() for task, one in each.items()} for model, each in scored.items()},
        "task_differences": [
            {"model": model, "against": models[0], **one}
            for model in models[1:]
            for one in differences(scored[models[0]], scored[model])
        ],
    }
    rows = [
        {"model": model, "task": task, **row}
        for model, each in scored.items()
        for task, one in each.items()
        for row in one.rows
    ]
    return result, rows
