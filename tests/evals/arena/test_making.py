"""Studies from prompts and models, from files of answers, and by the verbs; what cannot be used is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxchat.__main__ import main
from jaxchat.errors import InputError
from jaxchat.evals.arena.items import open_folder
from jaxchat.evals.arena.making import Asked, Reply, make, read_answers, read_prompts
from jaxchat.evals.arena.study import study_of
from jaxchat.testing import small_conversations
from tests.evals.arena.conftest import Open, simulate, study

Write = Callable[..., Path]


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    """Writes JSON lines."""

    def write(name: str, *rows: object) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(one) for one in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.startswith("jaxchat"), shown.err
    return shown.err


def test_two_models_answer_the_prompts_of_a_folder_with_the_engine(model_folder: Write, conversations: Write, tmp_path):
    models = [str(model_folder("one")), str(model_folder("two"))]
    data, out = conversations(small_conversations(3)), tmp_path / "study"
    assert main(["arena", "make", *models, "--prompts", str(data), "--out", str(out), "--max-tokens", "8"]) == 0
    folder = open_folder(out)
    assert folder.study.models == ("one", "two") and len(folder.prompts) == 3
    for prompt in folder.prompts:
        assert prompt.messages[-1]["role"] == "user"
        assert prompt.answers["one"] == prompt.answers["two"]  # the same weights and seed say the same
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".study")] == []


def test_answers_go_on_where_they_were_stopped_and_what_cannot_be_answered_is_left_out(tmp_path):
    asked = [Asked(f"{i}", ({"role": "user", "content": f"{i}?"},)) for i in range(70)]
    seen: list[str] = []

    class StoppedError(Exception):
        pass

    def answerers(most: int):
        @contextmanager
        def opening():
            def answer(prompts):
                if len(seen) >= most:
                    raise StoppedError
                seen.extend(one.id for one in prompts)
                return [Reply(f"to {one.id}") if one.id != "5" else Reply(left_out="too long") for one in prompts]

            yield answer

        return {"m1": opening, "m2": opening}

    out, made = tmp_path / "study", study()
    with pytest.raises(StoppedError):
        make(made, asked, answerers(64), out, "recipe")
    assert not out.exists() and len(seen) == 64
    with pytest.raises(InputError, match="another command began"):
        make(made, asked, answerers(1000), out, "another recipe")
    (begun,) = tmp_path.glob(".study.answers/*.jsonl")
    begun.write_bytes(begun.read_bytes()[:-3])  # a kill cut the last line short
    assert make(made, asked, answerers(1000), out, "recipe") == (69, 1)
    assert len(seen) == 64 + 7 + 70 and seen.count("63") == 3
    folder = open_folder(out)
    assert all(prompt.answers == {"m1": f"to {prompt.id}", "m2": f"to {prompt.id}"} for prompt in folder.prompts)
    (row,) = (json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines())
    assert row["id"] == "5" and row["reasons"] == {"m1": "too long", "m2": "too long"}


def test_prompts_and_answers_are_read_in_the_forms_they_come_in(lines, tmp_path):
    turns = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]
    prompts = lines("p.jsonl", {"prompt": "X"}, {"question_id": 81, "turns": ["Y", "Y2"]}, {"messages": turns},
                    {"prompt": "X"}, {"question": "Z"})  # fmt: skip
    found = [tuple(one["content"] for one in asked.messages) for asked in read_prompts(prompts)]
    assert found == [("X",), ("Y",), ("A", "B", "C"), ("Z",)]  # the same twice is one
    text = tmp_path / "p.txt"
    text.write_text("one\n\n two \n")
    assert [asked.messages[0]["content"] for asked in read_prompts(text)] == ["one", "two"]
    some = read_prompts(prompts, most=2, seed=1)
    assert len(some) == 2 and some == read_prompts(prompts, most=2, seed=1)
    whole = [*turns, {"role": "assistant", "content": "d"}]
    answers = lines("a.jsonl", {"prompt": "X", "text": "x", "logprobs": []}, {"messages": turns, "answer": "c"},
                    {"messages": whole}, {"turns": ["Y"], "output": "y"})  # fmt: skip
    assert sorted(read_answers(answers).values()) == ["d", "x", "y"]  # the later answer to the same takes its place


def test_from_files_to_results_by_the_verbs(tmp_path, lines, capsys):
    names = ("ours", "theirs")
    for name in names:
        lines(f"{name}.jsonl", *({"prompt": f"Question {i}?", "text": f"answer {i} by {name}"} for i in range(8)))
    file, out = tmp_path / "study.toml", tmp_path / "study"
    file.write_text('title = "Trial"\nratings = 2\n')
    sources = [f"{tmp_path / name}.jsonl" for name in names]
    assert main(["arena", "make", *sources, "--study", str(file), "--checks", "2", "--out", str(out)]) == 0
    assert main(["arena", "invite", str(out), "--raters", "2", "--name", "ann", "--url", "https://x.example/"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:4]] == ["ann", "rater-1", "rater-2"]
    assert all("  https://x.example/#" in line for line in shown[1:4])
    from jaxchat.evals.arena.assign import Desk
    from jaxchat.evals.arena.store import Store

    folder = open_folder(out)
    assert folder.study.models == names and folder.study.ratings == 2 and len(folder.study.checks) == 2
    store = Store(folder.ratings)
    arena = Open(folder, store, Desk(folder, store), [0.0])
    simulate(arena, {"ours": 0.5, "theirs": -0.5}, 1, set(), seed=0)
    store.close()
    assert main(["arena", "results", str(out), "--difference", "0.1"]) == 0
    made = {path.name for path in (out / "results").iterdir()}
    assert made == {"results.json", "results.html", "elo.png", "win_rates.png", "pairs.png", "raters.png"}
    page = (out / "results" / "results.html").read_text()
    assert "Trial" in page and "ours" in page and "<script" not in page and "http" not in page
    written = json.loads((out / "results" / "results.json").read_text())
    assert written["ratings"]["counting"] == 16 and written["sample_size"]["difference"] == 0.1
    for name in ("csv", "jsonl"):
        place = tmp_path / f"out.{name}"
        assert main(["arena", "export", str(out), f"--{name}", str(place)]) == 0 and place.stat().st_size > 0
    assert main(["arena", "size", "--difference", "0.1", "--ties", "0", "--json", str(tmp_path / "size.json")]) == 0
    assert json.loads((tmp_path / "size.json").read_text())["comparisons"] == 194


def test_a_live_study_keeps_where_its_models_are_opened_from(tmp_path):
    out = tmp_path / "study"
    assert main(["arena", "make", "a=runs/one", "b=runs/two", "--live", "--out", str(out)]) == 0
    folder = open_folder(out)
    assert folder.study.live == {"a": "runs/one", "b": "runs/two"} and folder.prompts == ()


def test_what_cannot_be_made_is_one_sentence(tmp_path, lines, capsys):
    a, b = lines("a.jsonl", {"prompt": "Hi", "text": "Hello"}), lines("b.jsonl", {"prompt": "Hi", "text": "Hey"})
    broken, out = lines("broken.jsonl", {"prompt": "Hi"}), tmp_path / "study"
    file = tmp_path / "study.toml"

    def said(text: str, *more: object) -> str:
        file.write_text(text)
        return refusal(capsys, "arena", "make", a, b, "--study", file, "--out", out, *more)

    assert "two or more" in refusal(capsys, "arena", "make", a, "--out", out)
    assert "broken.jsonl, line 1: no answer" in refusal(capsys, "arena", "make", a, broken, "--out", out)
    other = lines("other.jsonl", {"prompt": "Bye", "text": "Bye"})
    assert "other: its file has no answer to this" in refusal(capsys, "arena", "make", a, other, "--out", out)
    assert "no --prompts" in refusal(capsys, "arena", "make", "runs/x", "runs/y", "--out", out)
    assert "--live has no --prompts" in refusal(capsys, "arena", "make", a, b, "--live", "--out", out)
    assert "did you mean ratings?" in said("rating = 3")
    assert "study.toml is no study file" in said("title = ")
    assert "ratings is 0" in said("", "--ratings", "0")
    assert "`expected` is 'left'" in said('[[checks]]\nprompt = "x"\nanswers = ["a", "b"]\nexpected = "left"')
    assert "a list of 1" in said('kind = "scales"\n[[practice]]\nprompt = "x"\nanswers = ["a", "b"]')
    assert "2 to 9" in said('kind = "scales"\n[[scales]]\nname = "x"\npoints = 10')
    assert not out.exists()
    assert "is no study" in refusal(capsys, "arena", "results", tmp_path)
    assert main(["arena", "make", str(a), str(b), "--out", str(out)]) == 0
    assert "exists and is not empty" in refusal(capsys, "arena", "make", a, b, "--out", out)
    assert "no rating yet" in refusal(capsys, "arena", "results", out)
    assert "nothing is to be written" in refusal(capsys, "arena", "export", out)
    assert "nobody is invited" in refusal(capsys, "arena", "invite", out)
    assert "nobody called eve" in refusal(capsys, "arena", "invite", out, "--renew", "eve")
    assert "between 0 and 0.5" in refusal(capsys, "arena", "size", "--difference", "0.7")
    assert "cannot listen" in refusal(capsys, "arena", "serve", out, "--host", "192.0.2.1")


@pytest.mark.parametrize("kind", ["pairs", "scales"])
def test_a_study_is_read_back_as_it_was_written(kind):
    expected = "tie" if kind == "pairs" else {"fluency": [1, 2]}
    answers = ["x", "y"] if kind == "pairs" else ["x"]
    trial = {"prompt": "P", "answers": answers, "expected": expected, "why": "w"}
    made = study(kind=kind, practice=[trial], checks=[trial], per_rater=3)
    assert study_of(json.loads(json.dumps(made.to_json())), "test") == made
