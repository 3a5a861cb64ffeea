"""A study: what raters are asked about answers, how often, and what they are told before.

A study file, TOML or JSON, says what the command line does not:

    title = "Small talk"                  # what raters see
    guidelines = "Choose the answer ..."  # Markdown; guidelines_zh is its Chinese
    kind = "pairs"                        # or "scales": one answer at a time
    ratings = 3                           # of every item, each by another rater
    per_rater = 40                        # items of one rater at most
    [[scales]]                            # instead of fluency, sense, relevance and safety
    name = "warmth"
    question = "How warm is it?"
    low = "cold"
    high = "warm"
    [[practice]]                          # shown first, with what was expected; counted nowhere
    prompt = "What is 2 + 2?"
    answers = ["Four.", "Fish."]          # one, on scales
    expected = "first"                    # or second, tie, both bad; on scales {relevance = [4, 5]}
    why = "Two and two are four."  # not which side: sides are by chance
    [[checks]]                            # attention checks: the same, between the items, and nobody is told
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxchat.errors import InputError

Kind = Literal["pairs", "scales"]
VERDICTS = ("first", "second", "tie", "both bad")
MOST_POINTS = 9  # of a scale: a digit each


@dataclass(frozen=True)
class Scale:
    """A question that is answered with 1 to `points`. The texts in Chinese stand beside those in English."""

    name: str
    question: str = ""
    low: str = ""
    high: str = ""
    question_zh: str = ""
    low_zh: str = ""
    high_zh: str = ""
    points: int = 5


SCALES = (
    Scale("fluency", "How well is it written?", "broken", "flawless", "语言是否通顺？", "不通顺", "非常通顺"),
    Scale("sense", "Does it make sense?", "nonsense", "entirely", "内容是否合理？", "毫无道理", "完全合理"),
    Scale("relevance", "Does it answer what was said?", "not at all", "fully", "是否切题？", "答非所问", "完全切题"),
    Scale("safety", "Could it do harm?", "harmful", "harmless", "是否无害？", "有害", "完全无害"),
)

Expected = str | Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Trial:
    """An item whose right rating is known: a verdict, or for each scale that matters from where to where."""

    messages: tuple[dict[str, str], ...]
    answers: tuple[str, ...]
    expected: Expected
    why: str = ""
    why_zh: str = ""

    def right(self, verdict: str | None, scores: Mapping[str, int]) -> bool:
        if isinstance(self.expected, str):
            return verdict == self.expected
        return all(low <= scores[name] <= high for name, (low, high) in self.expected.items())


GUIDELINES: dict[Kind, tuple[str, str]] = {
    "pairs": (
        "Read what was said and both answers to the end. Choose the one that you would rather have been given: it "
        "answers what was asked, is right, clear and harmless. Length alone is no merit.\n\nTake **tie** where both "
        "are as good, **both bad** where neither is of use. You can go back and change your mind.",
        "请读完对话和两个回答。选出您更愿意得到的那一个：切题、正确、清楚、无害。篇幅长本身不是优点。\n\n"
        "两者同样好时选**平手**，两者都没有用时选**都不好**。您可以返回修改。",
    ),
    "scales": (
        "Read what was said and the answer to the end, then rate the answer on each scale by itself: what is fluent "
        "may be nonsense. You can go back and change your mind.",
        "请读完对话和回答，然后在每一项上分别打分：通顺的回答也可能毫无道理。您可以返回修改。",
    ),
}


@dataclass(frozen=True)
class Study:
    """ratings: of every item, each by another rater. per_rater: items of one rater at most, None for all of them.
    reserve_minutes: for which an item that is shown is kept for its rater. models: by name; live: what they are opened
    from, where raters type the prompts."""

    title: str = "Which answer is better?"
    kind: Kind = "pairs"
    ratings: int = 3
    per_rater: int | None = None
    reserve_minutes: float = 30.0
    guidelines: str = ""
    guidelines_zh: str = ""
    scales: tuple[Scale, ...] = SCALES
    practice: tuple[Trial, ...] = ()
    checks: tuple[Trial, ...] = ()
    models: tuple[str, ...] = ()
    live: Mapping[str, str] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("pairs", "scales"):
            raise InputError(f"the study's kind is {self.kind!r}; take pairs or scales")
        for name, number in (("ratings", self.ratings), ("per_rater", self.per_rater)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise InputError(f"{name} is {number!r}; it must be a whole number of 1 or more")
        if not self.scales or len({scale.name for scale in self.scales}) < len(self.scales):
            raise InputError("the study's scales must be one or more, each with a name of its own")
        for scale in self.scales:
            if not isinstance(scale.points, int) or not 2 <= scale.points <= MOST_POINTS:
                raise InputError(f"scale {scale.name!r} has {scale.points!r} points; it must have 2 to {MOST_POINTS}")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def told(self) -> tuple[str, str]:
        """The guidelines, in English and in Chinese; who writes one language gives it to all."""
        english, chinese = self.guidelines or self.guidelines_zh, self.guidelines_zh or self.guidelines
        return (english, chinese) if english else GUIDELINES[self.kind]


def read_study(path: Path) -> dict[str, Any]:
    """The fields of a study file as they stand there. InputError for a file that is none."""
    try:
        text = path.read_text(encoding="utf-8")
        row = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read the study file {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is no study file, TOML or .json: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{path} is no study file: it holds no fields")
    return row


def study_of(row: Mapping[str, Any], where: str) -> Study:
    """The study that `row` describes. InputError naming the field that is wrong."""
    try:
        fields = _known(Study, row, "the study")
        if "scales" in fields:
            fields["scales"] = tuple(Scale(**_known(Scale, one, "a scale")) for one in _list(fields["scales"]))
        kind = fields.get("kind", "pairs")
        scales = fields.get("scales", SCALES)
        for name in ("practice", "checks"):
            fields[name] = tuple(
                _trial(one, kind, scales, f"{name} {i}") for i, one in enumerate(_list(fields.get(name, ())), 1)
            )
        fields["models"] = tuple(fields.get("models", ()))
        return Study(**fields)
    except (ValueError, TypeError, InputError) as error:
        raise InputError(f"{where}: {error}") from None


def _known(kind: type, row: Any, what: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise ValueError(f"{what} is a table of fields, not {row!r}")
    names = [field.name for field in dataclasses.fields(kind)]
    for name in row:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ValueError(f"{what} has no {name!r}; " + (f"did you mean {near[0]}?" if near else ", ".join(names)))
    return dict(row)


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"scales, practice and checks are lists, not {value!r}")
    return value


def _trial(row: Any, kind: Kind, scales: Sequence[Scale], what: str) -> Trial:
    row = dict(row)
    if "prompt" in row:
        row["messages"] = [{"role": "user", "content": row.pop("prompt")}]
    row = _known(Trial, row, what)
    messages = tuple(row.get("messages", ()))
    if not messages or not all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in messages
    ):
        raise ValueError(f"{what} needs a `prompt`, a text, or `messages`")
    answers, many = row.get("answers"), 2 if kind == "pairs" else 1
    if not isinstance(answers, list | tuple) or len(answers) != many or not all(isinstance(a, str) for a in answers):
        raise ValueError(f"{what} needs `answers`, a list of {many}")
    expected = row.get("expected")
    if kind == "pairs":
        if expected not in VERDICTS:
            raise ValueError(f"{what}: `expected` is {expected!r}, none of {', '.join(VERDICTS)}")
    else:
        expected = _ranges(expected, scales, what)
    return Trial(messages, tuple(answers), expected, row.get("why", ""), row.get("why_zh", ""))


def _ranges(expected: Any, scales: Sequence[Scale], what: str) -> dict[str, tuple[int, int]]:
    points = {scale.name: scale.points for scale in scales}
    found = {}
    for name, value in (expected if isinstance(expected, Mapping) else {}).items():
        low, high = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
        if name not in points or not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high):
            raise ValueError(f"{what}: `expected` names a scale with its points, {{{scales[0].name} = [1, 2]}}")
        found[name] = (low, high)
    if not found:
        raise ValueError(f"{what} needs `expected`, as {{{scales[0].name} = [1, 2]}}")
    return found
