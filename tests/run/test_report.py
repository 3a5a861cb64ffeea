"""The page of a run: it says what the run's files say, as far as they go."""

from __future__ import annotations

import json
import re
import shutil
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.run import Train
from jaxchat.train.folder import RESOLVED
from jaxchat.train.metrics import read_metrics
from tests.looked_at import WIDTHS, measured
from tests.run.runs import samples


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def tables(page: str) -> list[list[list[str]]]:
    """The cells of every table, its head first."""
    found = []
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        found.append([[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows])
    return found


def table(page: str, *head: str) -> list[dict[str, str]]:
    """The rows of the first table whose head begins so."""
    rows = next(rows for rows in tables(page) if tuple(rows[0][: len(head)]) == head)
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_a_run_that_ends_leaves_a_page_that_says_what_its_files_say(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    records = read_metrics(whole / "metrics.jsonl")
    steps, held_out = [line for line in records if "loss" in line], [line for line in records if "eval" in line]
    shown = table(page, "step", "loss", "tokens")
    assert [row["step"] for row in shown] == [str(line["step"]) for line in steps]
    for row, line in zip(shown, steps, strict=True):
        assert float(row["loss"]) == pytest.approx(line["loss"], rel=1e-3)
        assert float(row["learning rate"]) == pytest.approx(line["learning_rate"], rel=0.05)
        assert float(row["gradient norm"]) == pytest.approx(line["grad_norm"], rel=1e-2)
        assert int(row["tokens a second"].replace(",", "")) == round(line["tokens_per_second"])
    scored = table(page, "step", "loss", "perplexity")
    assert [(row["step"], row["loss"]) for row in scored] == [
        (str(line["step"]), f"{line['eval']['loss']:.4f}") for line in held_out
    ]
    spent = json.loads((whole / "goodput.json").read_text())
    tiles = dict(re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span>', page))
    assert tiles["16 of 16"] == "steps"
    assert tiles[f"{sum(line['tokens'] for line in steps):,}"] == "tokens read"
    assert f"{spent['goodput']:.1%}" in tiles
    assert all(f"{seconds:,.1f} s, " in page for seconds in spent["by_cause"].values())
    for sample in samples(whole):
        assert f'step {sample["step"]}</div><pre dir="auto">{escape(sample["text"])}</pre>' in page
    saved = json.loads((whole / "config.json").read_text())
    packed = saved["resolved"]["packed"][0]
    counts = [(row["split"], row["conversations"], row["rows"]) for row in table(page, "source", "split")]
    assert counts == [
        (name, str(packed[split]["conversations"]), str(packed[split]["rows"]))
        for split, name in (("train", "trained on"), ("heldout", "held out"))
    ]
    fields = {row["field"]: row["value"] for rows in tables(page) if rows[0] == ["field", "value"]
              for row in [dict(zip(rows[0], cells)) for cells in rows[1:]]}  # fmt: skip
    assert fields["optim.peak_lr"] == "0.01" and fields["data.batch"] == "8" and fields["adapter"] == "none"
    assert fields["rows a step"] == "8"


def test_it_can_be_sent_away(whole: Path, config: Train) -> None:
    page = (whole / "report.html").read_text()
    assert not re.search(r"<script|<link|<img|\bsrc=|https?://|@import|url\(", page)
    assert str(config.data.cache) not in page and str(whole.parent) not in page


def test_a_run_that_goes_on_is_shown_as_far_as_it_came(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:6]) + lines[6][:20])  # as a kill would leave it
    for name in ("goodput.json", "loss.png", "report.html"):
        (run / name).unlink()
    assert main(["report", str(run), "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["step"], said["steps"], said["finished"]) == (5, 16, False)
    page = (run / "report.html").read_text()
    assert "Not finished" in page and "5 of 16" in page and "last sign of it" in page
    assert len(table(page, "step", "loss", "tokens")) == 5


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    for path in run.iterdir():
        if path.is_file() and path.name != "config.json":
            path.unlink()
    out = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    page = out.read_text()
    for sentence in (
        "No step was made yet",
        "No held-out row was scored yet",
        "names no --samples.prompts",
        "None yet",
    ):
        assert sentence in page
    assert "0 of 16" in page and not (run / "report.html").exists()


def test_steps_that_went_wrong_are_named(run: Path) -> None:
    detour = {"step": 3, "why": "the loss is not a number", "batches": None}
    (run / "detours.jsonl").write_text(json.dumps(detour))
    records = read_metrics(run / "metrics.jsonl")
    bad = next(record for record in records if record["step"] == 3)
    bad |= {"loss": None, "grad_norm": None, "skipped": "the loss is not a number"}
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert table(page, "step", "what")[0]["what"] == "the loss is not a number"
    assert table(page, "step", "loss", "tokens")[2]["loss"] == "-"


def test_evaluations_in_its_folder_are_shown(run: Path, config: Train, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(config.data.sources[0].path)  # type: ignore[union-attr]
    out = run / "evals" / "talk.json"
    assert main(["eval", f"{run}@12", f"{run}@16", "--data", source, "--out", str(out)]) == 0
    scores = json.loads(out.read_text())
    for step, share in (("12", 0.25), ("16", 0.5)):
        accuracy = {"value": share, "stderr": 0.1, "interval": [share - 0.2, share + 0.2]}
        scores["tasks"][f"{run}@{step}"] = {"arc": {"acc": accuracy, "questions": 9, "fewshot": 0, "part_of": None}}
    out.write_text(json.dumps(scores))
    rating = {"mean": 7.25, "interval": None, "by": {"turn": {}, "category": {}}, "count": 3, "unread": 0}
    said = {"answers": {str(run): {"empty": 0}, "base": {"empty": 0}}, "ratings": {str(run): rating}}
    judged = {"judge": "gpt", "position": None, "verdicts": 3, "unread": 0, **said}
    one = {"model": str(run), "against": "base", "win_rate": 0.625, "interval": [0.5, 0.75]}
    counts = dict.fromkeys(("questions", "wins", "losses", "ties", "inconsistent", "unread"), 1)
    (run / "evals" / "judge.json").write_text(json.dumps(judged | {"pairs": [one | counts]}))
    (run / "evals" / "broken.json").write_text('{"models": ')
    (run / "evals" / "other.json").write_text('{"accuracy": {"arc": 0.25}}')
    capsys.readouterr()
    assert main(["report", str(run), "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["evaluations"] == ["judge", "other", "talk"] and list(said["unread"]) == ["broken.json"]
    page = (run / "report.html").read_text()
    rows = table(page, "model", "tokens", "perplexity")
    for row, scored in zip(rows, json.loads(out.read_text())["models"].values(), strict=True):
        ((figures),) = scored.values()
        assert float(row["a word"].split()[0].replace(",", "")) == pytest.approx(figures["word_perplexity"], rel=1e-3)
    assert "Bits a byte, all tokens, by step" in page and "arc: acc, by step" in page
    assert [row["run@16"] for row in table(page, "task", "examples")] == ["0.500 ±0.200"]
    assert "Judged by gpt" in page and "run against base" in page and "0.625" in page and "7.25" in page
    assert ["accuracy.arc", "0.25"] in [cells for rows in tables(page) for cells in rows]
    assert "broken.json: it cannot be read" in page
    assert str(run) not in page and source not in page


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "there is no folder"),
        (lambda folder: folder.mkdir(), "holds no run"),
        (lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{")), "cannot be read"),
        (
            lambda folder: (folder.mkdir(), (folder / "config.json").write_text(json.dumps({RESOLVED: {}}))),
            "does not say how many steps",
        ),
        (lambda folder: folder.write_text("x"), "there is no folder"),
    ],
)
def test_what_is_no_run_is_refused(
    make: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path / "run")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and sentence in shown.err and len(shown.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_all_of_it_can_be_seen(whole: Path, browser: Any) -> None:
    for width in WIDTHS:
        found = measured(browser, whole / "report.html", width)
        assert found["headings"] == [
            *("Loss", "Held out", "Evaluations", "Answers while it trained", "Steps", "Time", "Data", "Config")
        ]
        assert not found["unseen"] and not found["outside"]
        assert found["scrolled"] <= found["width"] <= width
        assert found["charts"] == 4 and found["font"] >= 14
