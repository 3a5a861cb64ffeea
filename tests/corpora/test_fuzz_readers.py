"""A sample of what tools/fuzz_readers.py does: broken files of every format are read or refused, nothing is lost."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from jaxchat.corpora import READERS
from jaxchat.corpora.importing import import_corpus

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


SEEDS = tool("fuzz_seeds").seeds()


def test_every_format_has_seeds():
    other_libraries_files = {"hf", "tfds"}
    assert set(SEEDS) == set(READERS) - other_libraries_files


@pytest.mark.parametrize("format", sorted(SEEDS))
def test_whole_corpora_are_read_without_a_loss(format: str, tmp_path: Path):
    fuzz = tool("fuzz_readers")
    for name, text in SEEDS[format].items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    stats = import_corpus(format, [tmp_path / "in"], tmp_path / "out")
    assert stats["rows_used"] > stats["rows_rejected"] and stats["conversations"]
    marks = {mark for text in SEEDS[format].values() for mark in fuzz.MARK.findall(text.encode())}
    assert len(marks) > 8 and not fuzz.lost_marks(tmp_path / "in", tmp_path / "out", marks)


@pytest.mark.parametrize("format", sorted(SEEDS))
def test_broken_files_are_read_or_refused(format: str):
    outcomes, failed = tool("fuzz_readers").fuzz(format, 12)
    assert not failed
    assert outcomes["read"]


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(SEEDS))
def test_more_broken_files(format: str):
    _, failed = tool("fuzz_readers").fuzz(format, 300)
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
