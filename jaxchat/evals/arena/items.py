"""What raters judge: two models' answers to one prompt, or one model's; and a study's folder, which holds them.

STUDY/study.json      the study
STUDY/prompts.jsonl   {"id", "messages", "answers": {MODEL: text}} a prompt
STUDY/left_out.jsonl  prompts that a model could not answer, and why
STUDY/ratings.db      who was invited, what was shown, every rating (store.py)
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError
from jaxchat.evals.arena.study import Kind, Scale, Study, Trial, study_of

STUDY, PROMPTS, LEFT_OUT, RATINGS = "study.json", "prompts.jsonl", "left_out.jsonl", "ratings.db"


@dataclass(frozen=True)
class Prompt:
    """What was said, as role and content, and what each model answered."""

    id: str
    messages: tuple[Mapping[str, str], ...]
    answers: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "messages": list(self.messages), "answers": dict(self.answers)}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Prompt:
        return Prompt(row["id"], tuple(row["messages"]), row["answers"])


@dataclass(frozen=True)
class Item:
    """What is rated at once. models: whose `answers` they are, in the order that `first` and `second` speak of; of a
    trial, which is no model's, none."""

    id: str
    prompt: str
    messages: tuple[Mapping[str, str], ...]
    models: tuple[str, ...]
    answers: tuple[str, ...]
    trial: Trial | None = None
    practice: bool = False


def items_of(study: Study, prompt: Prompt) -> list[Item]:
    """Every pair of models, or every model, on one prompt."""
    size = 2 if study.kind == "pairs" else 1
    return [
        Item(
            f"{prompt.id}/{'+'.join(models)}",
            prompt.id,
            prompt.messages,
            models,
            tuple(prompt.answers[model] for model in models),
        )
        for models in itertools.combinations([model for model in study.models if model in prompt.answers], size)
    ]


def trials_of(study: Study) -> tuple[list[Item], list[Item]]:
    """The practice items and the attention checks."""

    def made(name: str, trials: Sequence[Trial]) -> list[Item]:
        return [
            Item(f"{name} {i}", f"{name} {i}", trial.messages, (), trial.answers, trial, name == "practice")
            for i, trial in enumerate(trials, 1)
        ]

    return made("practice", study.practice), made("check", study.checks)


@dataclass(frozen=True)
class Folder:
    """A study where it lies."""

    path: Path
    study: Study
    prompts: tuple[Prompt, ...]

    @functools.cached_property
    def items(self) -> dict[str, Item]:
        """Those that were made ahead, by their id, in the order of the prompts."""
        return {item.id: item for prompt in self.prompts for item in items_of(self.study, prompt)}

    @property
    def ratings(self) -> Path:
        return self.path / RATINGS


def open_folder(path: Path) -> Folder:
    """InputError for a folder that is no study."""
    try:
        row = json.loads((path / STUDY).read_text(encoding="utf-8"))
        lines = (path / PROMPTS).read_text(encoding="utf-8").split("\n")
        prompts = tuple(Prompt.from_json(json.loads(line)) for line in lines if line)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error}"
        raise InputError(f"{path} is no study ({reason}); make one with `jaxchat arena make`") from None
    return Folder(path, study_of(row, str(path / STUDY)), prompts)


def instructed_checks(kind: Kind, number: int, scales: Sequence[Scale]) -> list[dict[str, Any]]:
    """Attention checks that say themselves how they are to be rated, so that they need no knowledge and no luck."""
    made: list[dict[str, Any]] = []
    for i in range(number):
        answers = ["I am glad to help with that.", "That is a good question, and here is what I think."]
        expected: Any
        if kind == "pairs":
            expected, english, chinese = (("tie", "Tie", "平手"), ("both bad", "Both bad", "都不好"))[i % 2]
            ask, ask_zh = f"please choose “{english}”, whatever the answers say", f"无论回答如何，请选择“{chinese}”"
        else:
            answers = answers[:1]
            expected = {scale.name: [1, 1] if i % 2 == 0 else [scale.points, scale.points] for scale in scales}
            mark, mark_zh = (("lowest", "最低分"), ("highest", "最高分"))[i % 2]
            ask, ask_zh = f"please give the {mark} mark on every scale", f"请在每一项上都打{mark_zh}"
        text = f"This item, the {i + 1}. of its kind, checks that items are read to the end: {ask}.\n\n"
        text += f"此题用来确认您读完了题目（第 {i + 1} 次）：{ask_zh}。"
        made.append({"prompt": text, "answers": answers, "expected": expected})
    return made
