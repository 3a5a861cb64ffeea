"""An import is whole or absent, accounts for every row, and refuses in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.__main__ import main
from jaxchat.chat.conversation import read_conversations
from jaxchat.corpora import Reader, named
from jaxchat.corpora.importing import import_corpus
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.messages import Messages
from jaxchat.corpora.rows import Row, Source, json_lines
from jaxchat.errors import InputError

GOOD = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]})


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.sampled_from([GOOD, "{", '{"messages": 3}', "", "  ", '"\\udc00"', "null"]), max_size=30))
def test_every_row_is_used_rejected_or_dropped(rows: list[str], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("import")
    (folder / "in.jsonl").write_text("\n".join([GOOD, *rows]))
    stats = import_corpus("messages", [folder / "in.jsonl"], folder / "out")
    written = {
        name: len((folder / "out" / f"{name}.jsonl").read_text().splitlines()) for name in ("conversations", "rejected")
    }
    assert stats["rows_in"] == 1 + sum(bool(row.strip()) for row in rows)
    assert stats["rows_used"] == stats["conversations"] == written["conversations"] == 1 + rows.count(GOOD)
    assert stats["rows_rejected"] == written["rejected"] == stats["rows_in"] - stats["rows_used"]
    assert json.loads((folder / "out" / "stats.json").read_text()) == stats


def test_the_command_says_what_became_of_the_rows_and_notes_the_licence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = json.dumps({**json.loads(GOOD), "license": "MIT"})
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{own}\n{{\n")
    arguments = ["data", "import", "messages", str(tmp_path / "in.jsonl"), "--licence", "CC0", "--out"]
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert "3 rows in = 2 used + 1 rejected + 0 dropped\n2 conversations in" in capsys.readouterr().out
    licences = [conversation.meta["license"] for conversation in read_conversations(tmp_path / "out")]
    assert licences == ["CC0", "MIT"]


def test_a_taken_folder_is_left_as_it_was(tmp_path: Path):
    (tmp_path / "in.jsonl").write_text(GOOD)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        import_corpus("messages", [tmp_path / "in.jsonl"], tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "no rows at all"),
        (b"\x89PNG\r\n\x1a\n\0\xff", "no conversation"),
        (b"[1, 2]", "2 rows"),
    ],
)
def test_nothing_to_be_had_is_said_and_leaves_nothing(tmp_path: Path, content: bytes | None, message: str):
    if content is not None:
        (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_corpus("messages", [tmp_path / "in.jsonl"], tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == (["in.jsonl"] if content is not None else [])


@dataclass(frozen=True)
class Forgetful(Reader):
    """Loses the second row without a word."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for item in Messages().read(files, ledger):
            if not (isinstance(item, Found) and item.rows["in.jsonl"] == (2,)):
                yield item


def test_a_reader_that_loses_a_row_is_found_out(tmp_path: Path):
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{GOOD}\n{GOOD}\n")
    with pytest.raises(AssertionError, match="row 2 was read and neither"):
        import_corpus("messages", [tmp_path / "in.jsonl"], tmp_path / "out", Forgetful())
    assert not (tmp_path / "out").exists()


def test_files_in_folders_are_found_and_told_apart(tmp_path: Path):
    for name in ("a/x.jsonl", "b/x.jsonl.gz", "b/deep/y.json", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in Messages().files([tmp_path])] == ["a/x.jsonl", "b/deep/y.json", "b/x.jsonl.gz"]
    assert [file.name for file in named([tmp_path / "a/x.jsonl", tmp_path / "a/x.jsonl"])] == ["x.jsonl"]
    with pytest.raises(InputError, match=r"no \.jsonl or \.json or \.ndjson file"):
        (tmp_path / "empty").mkdir()
        Messages().files([tmp_path / "empty"])


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    import tracemalloc

    peaks = []
    for rows in (2_000, 40_000):
        file = tmp_path / f"{rows}.jsonl"
        file.write_text((GOOD + "\n") * rows)
        tracemalloc.start()
        count = sum(isinstance(row, Row) for row in json_lines(Source(file, file.name), Ledger()))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == rows
    assert peaks[1] < peaks[0] + 200_000
