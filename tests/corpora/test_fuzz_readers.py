"""A sample of what tools/fuzz_readers.py does: broken files of every format are read or refused, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxchat.corpora import READERS
from jaxchat.corpora.importing import import_corpus
from tests.tool import tool

SEEDS = tool("fuzz_seeds")


def test_every_format_has_seeds():
    assert {SEEDS.format_of(name) for name in SEEDS.CORPORA} == set(READERS)


@pytest.mark.parametrize("corpus", sorted(SEEDS.CORPORA))
def test_whole_corpora_are_read_without_a_loss(corpus: str, tmp_path: Path):
    fuzz = tool("fuzz_readers")
    SEEDS.write(SEEDS.corpus(corpus), tmp_path / "in")
    stats = import_corpus(SEEDS.format_of(corpus), [tmp_path / "in"], tmp_path / "out")
    assert stats["rows_used"] > stats["rows_rejected"] and stats["conversations"]
    files = [path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()]
    marks = {mark for content in files for mark in fuzz.MARK.findall(content)}
    assert len(marks) > 8 and not fuzz.lost_marks(tmp_path / "in", tmp_path / "out", marks)


@pytest.mark.parametrize("corpus", sorted(SEEDS.CORPORA))
def test_broken_files_are_read_or_refused(corpus: str):
    outcomes, failed = tool("fuzz_readers").fuzz(corpus, 12)
    assert not failed
    assert outcomes["read"]


@pytest.mark.slow
@pytest.mark.parametrize("corpus", sorted(SEEDS.CORPORA))
def test_more_broken_files(corpus: str):
    _, failed = tool("fuzz_readers").fuzz(corpus, 300)
    assert not failed


def test_a_reader_that_loses_a_text_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tool itself can fail: here one text in the corpus does not reach the output."""
    fuzz = tool("fuzz_readers")
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("zq0001q\nzq0002q\nzq0003q\nzq0004q\nzq0005q")
    for name in fuzz.FILES:
        (tmp_path / "out" / name).write_text("")
    (tmp_path / "out" / "conversations.jsonl").write_text('{"meta": {"rows": {"a.jsonl": [1]}}, "t": "zq0004q"}\n')
    marks = {f"zq000{i}q".encode() for i in range(1, 6)}
    assert fuzz.lost_marks(tmp_path / "in", tmp_path / "out", marks) == {b"zq0005q"}
