"""Two answers side by side and which of them was preferred, as arenas of models and studies with raters export it.

{"prompt", "response_a", "response_b", "winner": "a" | "b" | "tie" | "both bad", "model_a", "model_b"}
{"conversation_a": [{"role", "content"}, ...], "conversation_b": [...], "winner": "model_a"}
id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from jaxchat.corpora.rows import inner_json

_ANSWERS = ("conversation", "response", "answer", "completion", "output")
_WINNER = ("winner", "preference", "preferred", "choice", "verdict", "vote")
_FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
_BEFORE_SIDE = re.compile(r"^(?:model|assistant|conversation|response|answer|completion|output)[ _-]?(?=[ab]$)")
_SIDE = {"a": 0, "left": 0, "b": 1, "right": 1}
_NEITHER = re.compile(r"tie\b|both|neither|equal|draw\b|same\b|none\b")


class Comparison(NamedTuple):
    """`tie`: what was said where neither was preferred; the first then stands for the better. `models`: the better
    one's and the worse one's name, where known. `used`: the keys that are told here."""

    better: Any
    worse: Any
    tie: str
    models: dict[str, Any]
    used: tuple[str, ...]


def comparison(record: dict[str, Any]) -> Comparison | None:
    """What was preferred; None where the record compares nothing. ValueError where it does not say which."""
    name = next((name for name in _ANSWERS if f"{name}_a" in record and f"{name}_b" in record), None)
    if name is None:
        return None
    won, tie, used = _won(record)
    keys = (f"{name}_a", f"{name}_b")
    models = {}
    if all(isinstance(record.get(key), str) for key in ("model_a", "model_b")):
        used += ("model_a", "model_b")
        models = {"chosen_model": record["model_" + "ab"[won]], "rejected_model": record["model_" + "ba"[won]]}
    return Comparison(_read(record[keys[won]]), _read(record[keys[1 - won]]), tie, models, (*keys, *used))


def _won(record: dict[str, Any]) -> tuple[int, str, tuple[str, ...]]:
    """(0 or 1, what was said of a tie, the keys that say no more than that: a winner's tells the side as well)."""
    if flags := tuple(key for key in _FLAGS if key in record):
        on = [key for key in flags if str(record[key]).strip().lower() in ("1", "1.0", "true")]
        if len(on) != 1:
            raise ValueError(f"of {', '.join(flags)} not one is 1")
        return int(on[0] == _FLAGS[1]), "tie" if on[0] == _FLAGS[2] else "", flags
    key = next((key for key in _WINNER if isinstance(record.get(key), str) and record[key].strip()), None)
    if key is None:
        raise ValueError(f"it does not say which was preferred; its keys are {', '.join(record)}")
    said = record[key].strip()
    if said in (record.get("model_a"), record.get("model_b")) and record.get("model_a") != record.get("model_b"):
        return int(said == record.get("model_b")), "", ()
    side = _BEFORE_SIDE.sub("", said.lower())
    if side in _SIDE:
        return _SIDE[side], "", ()
    if _NEITHER.match(side):
        return 0, said, ()
    raise ValueError(f"`{key}` is {said[:40]!r}, neither a nor b nor a tie")


def _read(value: Any) -> Any:
    """Tables keep lists as JSON text in a column."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return inner_json(value)
        except ValueError:
            return value
    return value


def turn_by_turn(asked: Any, answers: Any) -> list[str] | None:
    """Questions and answers of several turns as one list of texts, the user's first; None where they are no such
    lists. `asked` may be JSON text. ValueError where an answer is missing."""
    asked = _read(asked)
    if not isinstance(asked, list) or not isinstance(answers, list) or not all(isinstance(q, str) for q in asked):
        return None
    if len(asked) != len(answers) or not all(isinstance(answer, str) for answer in answers):
        raise ValueError("not an answer to every question")
    return [text for pair in zip(asked, answers) for text in pair]
