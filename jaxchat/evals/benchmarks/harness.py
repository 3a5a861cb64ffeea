"""lm-evaluation-harness's tasks by name, on its data or on local files, with any model.

A folder of tasks may hold the harness's YAML files, and data: where FOLDER/TASK/SPLIT.jsonl exist, a task reads its
splits there and asks no hub.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks import humaneval
from jaxchat.evals.benchmarks.sandbox import Sandbox
from jaxchat.evals.benchmarks.scores import Figure, TaskScores
from jaxchat.hub.adapter import fingerprint
from jaxchat.hub.open import Opened

FEWSHOT_SEED = 1234  # the harness's own
DRAWS = 1000  # of the bootstrap, for figures that are no means


@dataclass(frozen=True)
class Asking:
    """How tasks are put. as_chat: as conversations by the model's chat template; template: another's source. turns:
    examples are turns of it, otherwise all stand in one message. limit: questions of each task. cache: a folder that
    keeps answers, so that none is computed twice. unsafe: tasks that the harness runs unguarded are run."""

    as_chat: bool = False
    template: str | None = None
    turns: bool = True
    limit: int | None = None
    cache: Path | None = None
    unsafe: bool = False


@dataclass(frozen=True)
class Tasks:
    """Loaded once, for several models. loaded: as the harness's `evaluate` takes them."""

    loaded: dict[str, Any]
    asked: tuple[str, ...]

    @staticmethod
    def load(asked: Mapping[str, int | None], folder: Path | None, sandbox: Sandbox, unsafe: bool = False) -> Tasks:
        """Tasks, groups and tags by name, each with so many examples before a question (None: the task's own number).

        Raises InputError for names that do not exist, data that is not here and cannot be fetched, and tasks that run
        programs unguarded.
        """
        if find_spec("lm_eval") is None:
            raise InputError("benchmarks need lm-evaluation-harness; install it with pip install 'jaxchat[bench]'")
        if folder is not None and not folder.is_dir():
            raise InputError(f"there is no folder {folder}; --task-path names one with tasks or their data")
        from datasets import disable_progress_bars
        from lm_eval.tasks import TaskManager
        from lm_eval.tasks._index import Entry, Kind

        logging.getLogger("lm_eval").setLevel(logging.ERROR)  # what it warns of is decided here
        disable_progress_bars()
        manager = TaskManager(include_path=None if folder is None else str(folder))
        index = manager.task_index
        if humaneval.NAME in asked:
            index[humaneval.NAME] = Entry(humaneval.NAME, Kind.TASK, None, humaneval.config(sandbox))
        for name in asked:
            if name not in index:
                near = difflib.get_close_matches(name, manager.all_tasks, 3)
                hint = f"; did you mean {', '.join(near)}?" if near else "; lm_eval ls tasks lists them"
                raise InputError(f"there is no task {name}{hint}")
        if folder is not None:
            _read_locally(index, folder)
        built: list[Any] = []
        for name, fewshot in asked.items():
            one = _load(manager, name)
            for task in one["tasks"].values():
                own = task.get_config("num_fewshot")
                if fewshot is not None and own != 0:  # a task that says 0 means it
                    task.set_config(key="num_fewshot", value=fewshot)
                elif own is None:
                    task.set_config(key="num_fewshot", value=0)
                if getattr(task, "UNSAFE_CODE", False) and not unsafe:
                    raise InputError(
                        f"{task.config.task} runs programs of the model's unguarded; give --unsafe where nothing "
                        "can be lost by it"
                    )
            inside = {inner for group in one["groups"] for inner in one["group_map"][group]}
            built += [item for called, item in {**one["tasks"], **one["groups"]}.items() if called not in inside]
        loaded = manager.load(built)
        return Tasks(dict(loaded), tuple(asked))

    def score(self, opened: Opened, asking: Asking) -> dict[str, TaskScores]:
        """A model's scores by task; those of which a group consists say so."""
        from lm_eval.api.model import CachingLM
        from lm_eval.evaluator import evaluate

        from jaxchat.evals.benchmarks.harness_model import JaxchatLM

        for task in self.loaded["tasks"].values():
            task.set_fewshot_seed(seed=FEWSHOT_SEED)  # the same examples for every model
        lm: Any = JaxchatLM(opened, asking.template)
        if asking.cache is not None:
            asking.cache.mkdir(parents=True, exist_ok=True)
            lm = CachingLM(lm, str(asking.cache / f"{fingerprint(opened.params)}-{opened.tokenizer.fingerprint}.db"))
        told = evaluate(
            lm,
            self.loaded,
            limit=asking.limit,
            bootstrap_iters=DRAWS,
            apply_chat_template=asking.as_chat,
            fewshot_as_multiturn=asking.as_chat and asking.turns,
            confirm_run_unsafe_code=asking.unsafe,
        )
        assert told is not None
        return _scores(told, self.loaded.get("group_map") or {})


def _load(manager: Any, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = manager.load([name])
    except InputError:
        raise
    except Exception as error:  # whatever a task's own code and the hub's client raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"the task {name} cannot be loaded ({reason}); without a network put its data into "
            "FOLDER/TASK/SPLIT.jsonl and give --task-path FOLDER"
        ) from error
    return {"groups": {}, "group_map": {}, **found}


def _read_locally(index: dict[str, Any], folder: Path) -> None:
    """Has the tasks of which `folder` holds data read that."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for place in sorted(folder.iterdir()):
        splits = {file.stem: file for file in sorted(place.glob("*.jsonl"))} if place.is_dir() else {}
        entry = index.get(place.name)
        if entry is None or not splits:
            continue
        whole = load_yaml(entry.yaml_path, resolve_func=True) if entry.yaml_path else entry.cfg
        local = {"custom_dataset": partial(_dataset, splits), "dataset_kwargs": None}
        index[place.name] = replace(entry, yaml_path=None, cfg={**whole, **local})


def _dataset(splits: Mapping[str, Path], **_: Any) -> Any:
    from datasets import Dataset, DatasetDict

    found = {}
    for split, file in splits.items():
        try:
            rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
        except ValueError as error:
            raise InputError(f"{file} is not lines of JSON ({error})") from None
        if not rows:
            raise InputError(f"{file} holds no questions")
        found[split] = Dataset.from_list(rows)
    return DatasetDict(found)


def _scores(told: Any, members: Mapping[str, list[str]]) -> dict[str, TaskScores]:
    part_of = {inner: group for group, names in members.items() for inner in names}
    items: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task, samples in (told.get("samples") or {}).items():
        for sample in samples:
            values = {metric: sample[metric] for metric in sample["metrics"]}
            for metric, value in values.items():
                if isinstance(value, bool | int | float):
                    items[task][_name(metric, sample["filter"])][str(sample["doc_id"])] = float(value)
            rows[task].append(
                {
                    "item": str(sample["doc_id"]),
                    "filter": sample["filter"],
                    "target": str(sample["target"]),
                    "said": [said[0] if len(said) == 1 else said for said in sample["resps"]],
                    **{
                        metric: value for metric, value in values.items() if isinstance(value, bool | int | float | str)
                    },
                }
            )

    def leaves(name: str) -> list[str]:
        return [leaf for inner in members.get(name, ()) for leaf in leaves(inner)] or [name]

    found = {}
    for task, measured in told["results"].items():
        figures = {}
        for key, value in measured.items():
            metric, _, filter = key.partition(",")
            if not filter or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = measured.get(f"{metric}_stderr,{filter}")
            figures[_name(metric, filter)] = Figure(float(value), error if isinstance(error, float) else None)
        if not figures:
            continue
        means = {
            metric: {f"{leaf}/{i}": value for leaf in leaves(task) for i, value in items[leaf][metric].items()}
            for metric in figures
        }
        # A figure that is no mean of its questions (an F1 over all, a perplexity) is not compared question by question.
        means = {
            metric: each
            for metric, each in means.items()
            if each and abs(sum(each.values()) / len(each) - figures[metric].value) < 1e-6
        }
        count = sum(len({row["item"] for row in rows[leaf]}) for leaf in leaves(task))
        shots = told["n-shot"].get(task)
        found[task] = TaskScores(figures, means, count, shots, part_of.get(task), rows.get(task, []))
    return found


def _name(metric: str, filter: str) -> str:
    return metric if filter == "none" else f"{metric} ({filter})"
