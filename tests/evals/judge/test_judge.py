"""A judge's preferences come out as they were planted, its leanings apart from them; nothing it said is lost."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from jaxchat.errors import InputError
from jaxchat.evals.judge.client import Endpoint
from jaxchat.evals.judge.judging import judge, to_ask
from jaxchat.evals.judge.kept import Kept, key
from jaxchat.evals.judge.questions import Question, read_questions
from jaxchat.evals.judge.results import results
from jaxchat.evals.judge.verdicts import ask_choice, ask_rating, read_choice, read_rating

QUESTIONS = [Question(str(i), ("writing", "math")[i % 2], (f"Ask {i}", f"And {i}?")) for i in range(60)]
STRENGTHS = {"weak": 2, "middling": 5, "strong": 8}
ANSWERS = {
    name: {q.id: [f"quality {quality}", f"quality {quality}"] for q in QUESTIONS} for name, quality in STRENGTHS.items()
}


def seen(messages: list[dict[str, str]]) -> list[int]:
    """The qualities of the last answers that a judge is shown."""
    shown = messages[-1]["content"].split("=== Conversation")[1:]
    return [int(re.findall(r"quality (\d+)", talk)[-1]) for talk in shown]


def ours(tmp_path: Path, fake_judge: Any, kinds: tuple[str, ...] = ("single", "pair")) -> dict[str, Any]:
    kept = Kept(tmp_path / "verdicts.jsonl")
    asked = list(to_ask(QUESTIONS, ANSWERS, kinds))
    rows = judge(asked, "fake", Endpoint(fake_judge.url, "fake").ask, kept)
    kept.close()
    return results(list(ANSWERS), rows)


def test_planted_qualities_are_recovered(tmp_path: Path, fake_judge: Any):
    rng = random.Random(0)

    def think(messages: list[dict[str, str]]) -> str:
        qualities = seen(messages)
        if len(qualities) == 1:
            return f"Fine. [[{min(10, max(1, qualities[0] + rng.choice((-1, 0, 1))))}]]"
        noisy = [quality + rng.gauss(0, 3) for quality in qualities]
        return "[[A]]" if noisy[0] > noisy[1] + 1 else "[[B]]" if noisy[1] > noisy[0] + 1 else "[[C]]"

    fake_judge.think = think
    found = ours(tmp_path, fake_judge)
    assert found["unread"] == 0 and found["verdicts"] == 60 * 2 * (3 + 6)
    for name, quality in STRENGTHS.items():
        told = found["ratings"][name]
        low, high = told["interval"]
        assert low < told["mean"] < high and low - 0.2 < quality < high + 0.2 and told["count"] == 120
        assert set(told["by"]["turn"]) == {"1", "2"} and set(told["by"]["category"]) == {"writing", "math"}
    rates = {(one["model"], one["against"]): one for one in found["pairs"]}
    assert set(rates) == {("weak", "middling"), ("weak", "strong"), ("middling", "strong")}
    for one in rates.values():
        assert one["wins"] < one["losses"] and one["interval"][1] < 0.5
        assert one["wins"] + one["losses"] + one["ties"] == one["turns"] == 120
    assert rates["weak", "strong"]["win_rate"] < rates["weak", "middling"]["win_rate"]
    low, high = found["position"]["interval"]
    assert low < 0 < high


@pytest.mark.parametrize(("lean", "place"), [("A", "first"), ("B", "second")])
def test_a_planted_leaning_to_a_place_is_found_and_takes_no_win(tmp_path: Path, fake_judge: Any, lean: str, place: str):
    """In three of ten questions the judge looks at the order alone."""
    blind = (
        {f"Ask {i}" for i in range(0, 60, 10)}
        | {f"Ask {i}" for i in range(1, 60, 10)}
        | {f"Ask {i}" for i in range(2, 60, 10)}
    )

    def think(messages: list[dict[str, str]]) -> str:
        if re.search(r"Ask \d+", messages[-1]["content"])[0] in blind:
            return f"[[{lean}]]"
        first, second = seen(messages)
        return "[[A]]" if first > second else "[[B]]"

    fake_judge.think = think
    found = ours(tmp_path, fake_judge, ("pair",))
    told = found["position"]
    assert told["bias"] == pytest.approx({"first": 0.3, "second": -0.3}[place])
    assert (told["interval"][0] > 0) if place == "first" else (told["interval"][1] < 0)
    assert told["consistent"] == pytest.approx(0.7) and told[f"for_{place}"] == pytest.approx(0.3)
    for one in found["pairs"]:
        assert one["losses"] == 84 and one["ties"] == one["inconsistent"] == 36 and one["wins"] == 0
        assert one["win_rate"] == pytest.approx(0.15)


def test_replies_without_a_verdict_are_counted(tmp_path: Path, fake_judge: Any):
    def think(messages: list[dict[str, str]]) -> str:
        return "I cannot say." if "Ask 7\n" in messages[-1]["content"] else "[[5]] [[C]]"

    fake_judge.think = think
    found = ours(tmp_path, fake_judge)
    assert found["unread"] == 2 * (3 + 6)
    assert all(one["unread"] == 2 and one["mean"] == 5 for one in found["ratings"].values())
    assert all(one["unread"] == 2 and one["ties"] == 118 and one["win_rate"] == 0.5 for one in found["pairs"])
    assert found["position"]["tie"] == 1 and found["position"]["bias"] == 0


def test_a_busy_judge_is_asked_again_and_a_dead_one_loses_nothing(tmp_path: Path, fake_judge: Any):
    count, alive = 0, True

    def think(messages: list[dict[str, str]]) -> str | int:
        nonlocal count
        count += 1
        if not alive or count > 400:
            return 401
        return 429 if count % 3 == 0 else 503 if count % 7 == 0 else "[[5]] [[C]]"

    fake_judge.think = think
    with pytest.raises(InputError, match=r"does not reply .*verdicts so far are kept, run this again"):
        ours(tmp_path, fake_judge)
    kept = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    assert len(kept) == len(fake_judge.asked) > 100
    with (tmp_path / "verdicts.jsonl").open("a") as file:
        file.write('{"key": "half of a ro')  # as a kill leaves it
    fake_judge.think = lambda messages: "[[5]] [[C]]"
    before = len(fake_judge.asked)
    found = ours(tmp_path, fake_judge)
    everything = len({key(messages) for _, messages in to_ask(QUESTIONS, ANSWERS, ("single", "pair"))})
    assert len(fake_judge.asked) - before == everything - len(kept)
    assert found["verdicts"] == 60 * 2 * 9 and found["unread"] == 0
    lines = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    assert lines[: len(kept)] == kept and len(lines) == everything == len({json.loads(line)["key"] for line in lines})


def test_the_key_is_the_environment_s(fake_judge: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    assert Endpoint(fake_judge.url, "fake").ask([{"role": "user", "content": "Hi"}]) == "[[C]]"
    assert fake_judge.keys == {"Bearer of-the-environment"}


def test_what_a_judge_is_asked():
    question = Question("1", "math", ("2 + 2?", "And 1 more?"), ("4", "5"))
    system, user = ask_rating(question, ["4", "6"])
    assert "[[7]]" in system["content"] and "last one" in system["content"]
    assert user["content"].index("To turn 2:\n5") < user["content"].index("2 + 2?") < user["content"].index("\n6\n")
    system, user = ask_choice(question, ["four"], ["five"])
    assert (
        all(verdict in system["content"] for verdict in ("[[A]]", "[[B]]", "[[C]]"))
        and "last one" not in system["content"]
    )
    assert "And 1 more?" not in user["content"] and "To turn 2" not in user["content"]
    assert user["content"].index("assistant A") < user["content"].index("four") < user["content"].index("five")


@pytest.mark.parametrize(
    ("reply", "rating", "choice"),
    [
        ("Good. [[8]]", 8, None),
        ("In the form [[7]], so: Rating: [[ 6.5 ]]", 6.5, None),
        ("[[9/10]]", 9, None),
        ("[[11]] or [[0]]", None, None),
        ("[[A]] at first sight, but [[b]]", None, "second"),
        ("[[C]]", None, "tie"),
        ("[[Tie]]", None, "tie"),
        ("A is better", None, None),
        ("", None, None),
    ],
)
def test_replies_are_read(reply: str, rating: float | None, choice: str | None):
    assert read_rating(reply) == rating and read_choice(reply) == choice


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no questions"),
        ("[1]", "no question_id"),
        ('{"question_id": 1}', "turns is no list of texts"),
        ('{"question_id": 1, "turns": []}', "no turns"),
        ('{"question_id": 1, "turns": ["a"]}\n{"question_id": "1", "turns": ["b"]}', "stands there twice"),
        ("{", "a question is an object with question_id and turns"),
    ],
)
def test_what_is_no_question_is_refused(text: str, says: str, tmp_path: Path):
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(InputError, match=says):
        read_questions(tmp_path / "q.jsonl")


def test_a_question_may_hold_other_ends_of_lines(tmp_path: Path):
    turns = ("a\x85b\u2028c",)
    rows = [json.dumps({"question_id": n, "turns": turns}, ensure_ascii=False) for n in range(2)]
    (tmp_path / "q.jsonl").write_bytes("\r\n".join(rows).encode())
    assert [question.turns for question in read_questions(tmp_path / "q.jsonl")] == [turns, turns]


def test_mt_bench_is_read(real_data: Path):
    found = read_questions(real_data / "formats/mtbench/question.jsonl")
    assert len(found) == 80 and all(len(question.turns) == 2 for question in found)
    assert {question.temperature for question in found} == {0.0, 0.1, 0.7}
    assert sum(bool(question.references) for question in found) == 39


def test_a_file_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("a shopping list\n")
    with pytest.raises(InputError, match="no row of ours"):
        Kept(tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text() == "a shopping list\n"
