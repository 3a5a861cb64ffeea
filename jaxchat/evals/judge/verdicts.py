"""What a judge is asked, and how its reply is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from jaxchat.evals.judge.questions import Question

Choice = Literal["first", "second", "tie"]
Ask = list[dict[str, str]]

_WEIGH = (
    "Weigh whether it is correct, helpful, to the point, deep enough and does what was asked; length is no merit. "
    "Explain your judgement in a few sentences. "
)
_SINGLE = (
    f"You judge how well an AI assistant answers a user. {_WEIGH}Then give a whole number from 1 (useless) to 10 "
    "(could not be better), in this very form: [[7]]"
)
_PAIR = (
    f"You judge which of two AI assistants' answers to a user is better. Of each: {_WEIGH}The order in which they are "
    "shown and what the assistants are called count for nothing. Then give your verdict in this very form: [[A]] if "
    "assistant A is better, [[B]] if assistant B is, [[C]] if they are equally good."
)
_LAST = " The conversation has several turns: judge the answer to the user's last one, in view of those before."
_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*(?:/\s*10)?\s*\]\]")
_CHOICE = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)


def ask_rating(question: Question, answers: Sequence[str]) -> Ask:
    """Messages that ask for a rating of the last of `answers`, one to each turn so far."""
    return [
        {"role": "system", "content": _SINGLE + (_LAST if len(answers) > 1 else "")},
        {"role": "user", "content": _references(question, len(answers)) + _talk("Conversation", question, answers)},
    ]


def ask_choice(question: Question, first: Sequence[str], second: Sequence[str]) -> Ask:
    """Messages that ask which of two is better, by the last of their answers."""
    shown = "\n\n".join(
        _talk(f"Conversation with assistant {name}", question, answers)
        for name, answers in (("A", first), ("B", second))
    )
    return [
        {"role": "system", "content": _PAIR + (_LAST if len(first) > 1 else "")},
        {"role": "user", "content": _references(question, len(first)) + shown},
    ]


def read_rating(reply: str) -> float | None:
    """The last rating that a reply gives; None where there is none from 1 to 10."""
    found = _RATING.findall(reply)
    rating = float(found[-1]) if found else None
    return rating if rating is not None and 1 <= rating <= 10 else None


def read_choice(reply: str) -> Choice | None:
    """The last verdict that a reply gives, by the places in which the answers were shown; None where there is none."""
    found = _CHOICE.findall(reply)
    return {"A": "first", "B": "second", "C": "tie", "TIE": "tie"}[found[-1].upper()] if found else None  # type: ignore[return-value]


def _talk(title: str, question: Question, answers: Sequence[str]) -> str:
    turns = "\n\n".join(
        f"### User\n{asked}\n\n### Assistant\n{said or '(no answer)'}" for asked, said in zip(question.turns, answers)
    )
    return f"<|{title}|>\n{turns}\n<|End of the conversation|>".replace("<|", "=== ").replace("|>", " ===")


def _references(question: Question, turns: int) -> str:
    some = question.references[:turns]
    if not some:
        return ""
    told = "\n\n".join(f"To turn {i}:\n{text}" for i, text in enumerate(some, 1))
    return f"=== Answers that are right, to compare with ===\n{told}\n=== End of those ===\n\n"
