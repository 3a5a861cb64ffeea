"""From a file of conversations to an exported model that chats, by the command line alone, with a tiny model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from jaxchat.__main__ import main

CONFIG = """
from dataclasses import replace
from pathlib import Path
from jaxchat.data.config import DataConfig, Folder
from jaxchat.models.presets import tiny
from jaxchat.run import Train

def config():
    return Train(
        model=replace(tiny(), vocab_size=320),
        tokenizer=Path("tokenizer"),
        data=DataConfig((Folder(Path("talk")),), batch=4, seq_len=64, heldout=0.2),
        steps=3,
    )
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a verb and returns what it says: its last line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXCHAT_CACHE", str(tmp_path / "cache"))

    def run(line: str, *more: str, status: int = 0) -> str:
        capsys.readouterr()
        assert main([*line.split(), *more]) == status, capsys.readouterr().err
        shown = capsys.readouterr()
        return (shown.err if status else shown.out).splitlines()[-1]

    return run


def write_corpus(path: Path) -> None:
    with path.open("w") as file:
        for i in range(60):
            user, assistant = (
                f"What is {i} and {i + 1}?",
                f"That makes {2 * i + 1}, {'as always' if i % 2 else 'my dear'}.",
            )
            messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
            file.write(json.dumps({"messages": messages}) + "\n")
        file.write("not JSON\n")


@pytest.mark.slow
def test_the_whole_way(run, monkeypatch: pytest.MonkeyPatch):
    write_corpus(Path("corpus.jsonl"))
    Path("mine.py").write_text(CONFIG)

    assert run("data import messages corpus.jsonl --out talk").startswith("60 conversations in talk (1 rows rejected")
    assert (
        run("tokenizer train talk --vocab-size 320 --out tokenizer") == "a unigram tokenizer of 320 tokens in tokenizer"
    )
    said = run("data pack talk --tokenizer tokenizer --seq-len 64 --heldout 0.2 --out packed")
    assert said.endswith("rows of 64 tokens in packed")

    assert run("train mine.py --run run --sources packed").startswith("trained 3 steps in run, held-out perplexity")
    steps = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2, 3]
    assert "began with seed 0 and now it is 1" in run("train mine.py --run run --sources packed --seed 1", status=2)
    assert run("train mine.py --run run --sources packed").startswith("trained 3 steps")

    assert run("eval run run@3 --data packed/heldout talk --out scores.json") == (
        "2 x 2 scores in scores.json, to look at in scores.html"
    )
    scores = json.loads(Path("scores.json").read_text())["models"]
    assert list(scores) == ["run", "run@3"] and scores["run"] == scores["run@3"]
    assert scores["run"]["packed/heldout"]["assistant"]["tokens"] < scores["run"]["talk"]["assistant"]["tokens"]

    prompts = ["--prompt", "What is 2 and 3?", "--prompt", "What"]
    run("generate run --chat --temperature 0 --max-tokens 8 --ignore-eos --json answers.jsonl", *prompts)
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [answer["prompt"] for answer in answers] == ["What is 2 and 3?", "What"]
    for answer in answers:
        assert len(answer["token_ids"]) == len(answer["logprobs"]) == 8 and answer["finish_reason"] == "length"

    assert "largest logit difference" in run("hf export run --out export")
    assert json.loads(Path("export/verification.json").read_text())["max_logit_difference"] < 1e-4
    assert "exists and is not empty" in run("hf export run --out export", status=2)
    run("generate export --chat --temperature 0 --max-tokens 8 --ignore-eos --json again.jsonl", *prompts)
    again = [json.loads(line) for line in Path("again.jsonl").read_text().splitlines()]
    assert [answer["token_ids"] for answer in again] == [answer["token_ids"] for answer in answers]

    monkeypatch.setattr(sys, "stdin", io.StringIO("What is 4 and 5?\n/reset\nWhat?\n/save talk/more.jsonl\n"))
    assert run("chat export --max-tokens 8").startswith("2 answers by")
    (saved,) = [json.loads(line) for line in Path("talk/more.jsonl").read_text().splitlines()]
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant"]
