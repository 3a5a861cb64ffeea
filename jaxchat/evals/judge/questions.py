"""Questions in MT-bench's form: a line of JSON each, with `question_id`, `category`, `turns` and, for some, a right
answer to each turn (`reference`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError

# How freely each of MT-bench's categories is answered; others at OTHERWISE.
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1, "extraction": 0.0, "math": 0.0, "coding": 0.0,
    "reasoning": 0.0,
}  # fmt: skip
OTHERWISE = 0.7


@dataclass(frozen=True)
class Question:
    """turns: what the user says, one after the other. references: an answer to each, or none."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        return TEMPERATURES.get(self.category, OTHERWISE)


def read_questions(path: Path) -> list[Question]:
    """Raises InputError for a file that is not there, holds none, or a line that is no question."""
    try:
        lines = path.read_text("utf-8").split("\n")  # a text may hold other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the questions in {path} ({error})") from None
    found: dict[str, Question] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question = _question(json.loads(line))
        except ValueError as error:
            raise InputError(
                f"{path}:{number}: {error}; a question is an object with question_id and turns, a list of texts"
            ) from None
        if question.id in found:
            raise InputError(f"{path}:{number}: the question {question.id} stands there twice")
        found[question.id] = question
    if not found:
        raise InputError(f"{path} holds no questions")
    return list(found.values())


def _question(row: Any) -> Question:
    if not isinstance(row, dict) or "question_id" not in row:
        raise ValueError("no question_id")
    turns, references = row.get("turns"), row.get("reference") or ()
    for name, texts in (("turns", turns), ("reference", references)):
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{name} is no list of texts")
    if not turns:
        raise ValueError("no turns")
    return Question(str(row["question_id"]), str(row.get("category") or "other"), tuple(turns), tuple(references))
