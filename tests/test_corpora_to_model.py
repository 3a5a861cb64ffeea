"""Three formats imported, cleaned together, packed and trained on, by the commands that the README has for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from jaxchat.__main__ import main

pytest.importorskip("ftfy")
CONFIG = Path(__file__).parents[1] / "configs" / "smoke_cpu.py"
COMMANDS = """
data import cornell formats/cornell --out data/films
data import stackexchange formats/stackexchange --out data/questions
data import twitter formats/twitter/twcs.csv --out data/support
data clean data/films data/questions data/support --out data/clean --decontaminate formats/mtbench
data report data/clean
tokenizer train data/clean --vocab-size 512 --model bpe --out data/tokenizer
data pack data/clean --tokenizer data/tokenizer --seq-len 128 --out data/packed
train CONFIG --sources data/packed --tokenizer data/tokenizer --steps 20 --run runs/three
eval runs/three --data data/packed/heldout --out scores.json
"""
QUESTION = "Imagine that a lighthouse keeper writes a letter to her brother about the first storm of the year."


def sentence(rng: random.Random) -> str:
    who = rng.choice(["my brother", "the teacher", "an old friend", "our neighbour", "the doctor", "her cousin"])
    what = rng.choice(["went to the market", "found a small dog", "read the whole book", "lost the key", "made a cake"])
    when = rng.choice(["before lunch", "last week", "on a cold morning", "when it rained", "after the long journey"])
    return (
        f"{rng.choice(['I heard that', 'They say', 'Do you know why', 'So'])} {who} {what} {when} {rng.randint(2, 99)}."
    )


def write_corpora(folder: Path) -> None:
    """Forty conversations of each format, and one question of a benchmark in each of two."""
    rng = random.Random(0)
    separator = " +++$+++ "
    for name in ("cornell", "stackexchange", "twitter", "mtbench"):
        (folder / name).mkdir(parents=True)
    texts = [sentence(rng) for _ in range(160)]
    texts[8] = QUESTION
    said = [separator.join((f"L{i}", f"u{i % 2}", "m0", "ANN", text)) for i, text in enumerate(texts)]
    (folder / "cornell/movie_lines.txt").write_text("\n".join(said), encoding="iso-8859-1")
    talks = [str([f"L{i + j}" for j in range(4)]) for i in range(0, 160, 4)]
    (folder / "cornell/movie_conversations.txt").write_text(
        "\n".join(separator.join(("u0", "u1", "m0", talk)) for talk in talks)
    )
    posts = []
    for i in range(40):
        asked, answered = (quoteattr(f"<p>{sentence(rng)} {sentence(rng)}</p>") for _ in range(2))
        posts.append(f'<row Id="{i}" PostTypeId="1" AcceptedAnswerId="{i + 100}" Score="3" Title="Why" Body={asked} />')
        posts.append(f'<row Id="{i + 100}" PostTypeId="2" ParentId="{i}" Score="5" Body={answered} />')
    (folder / "stackexchange/Posts.xml").write_text("<posts>\n" + "\n".join(posts) + "\n</posts>")
    rows = ["tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id"]
    for i in range(0, 80, 2):
        asked = f"{QUESTION} Thanks" if i == 6 else f"{sentence(rng)} Mail me at ann.lee{i}@example.com"
        rows.append(f'{i},7{i},True,Tue Oct 31 22:10:47 +0000 2017,"@Shop {asked}",{i + 1},')
        rows.append(f'{i + 1},Shop,False,Tue Oct 31 22:11:47 +0000 2017,"{sentence(rng)} {sentence(rng)}",,{i}')
    (folder / "twitter/twcs.csv").write_text("\n".join(rows) + "\n")
    (folder / "mtbench/question.jsonl").write_text(json.dumps({"question_id": 1, "turns": [QUESTION]}) + "\n")


@pytest.mark.slow
def test_three_formats_become_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXCHAT_CACHE", str(tmp_path / "cache"))
    write_corpora(Path("formats"))
    for line in COMMANDS.strip().splitlines():
        assert main([str(CONFIG) if word == "CONFIG" else word for word in line.split()]) == 0, line
    stats = json.loads(Path("data/clean/stats.json").read_text())
    assert stats["by_source"]["in"] == {"cornell": 40, "stackexchange": 40, "twitter": 40}
    assert set(stats["by_source"]["out"]) == {"cornell", "stackexchange", "twitter"}
    dropped = {step["name"]: step["dropped"] for step in stats["steps"]}
    assert dropped["contamination"] == 2 and stats["rows_used"] > 100
    assert stats["personal_data"]["email"] >= 38
    steps = [json.loads(line) for line in Path("runs/three/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in steps if "loss" in row]
    assert len(losses) == 20 and sum(losses[-4:]) < sum(losses[:4])
    scores = json.loads(Path("scores.json").read_text())["models"]["runs/three"]["data/packed/heldout"]
    assert scores["assistant"]["tokens"] > 0
    assert Path("data/clean/report.html").stat().st_size > 5000
