"""Files in archives are read as the same files beside each other in a folder."""

from __future__ import annotations

import gzip
import json
import os
import threading
import zipfile
from pathlib import Path

import py7zr
import pytest

from jaxchat.chat.conversation import read_conversations
from jaxchat.corpora import make_reader
from jaxchat.corpora import rows as rows_module
from jaxchat.corpora.importing import import_corpus
from jaxchat.corpora.ledger import Ledger
from jaxchat.corpora.rows import Row, first_byte, json_lines
from jaxchat.errors import InputError


def content(name: str, n: int) -> bytes:
    return "".join(
        json.dumps({"messages": [{"role": "user", "content": f"{name} {i} {os.urandom(30).hex()}"}]}) + "\n"
        for i in range(n)
    ).encode()


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with py7zr.SevenZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(data, name)
    return path


@pytest.mark.parametrize("suffix", [".zip", ".7z"])
def test_an_archive_reads_as_the_folder_it_is(tmp_path: Path, suffix: str):
    one, two = content("one", 3000), content("two", 5)
    files = {"data/b.jsonl": one, "data/a.jsonl.gz": gzip.compress(two), "README.md": b"no", "__MACOSX/._b.jsonl": b"x"}
    archive = pack(tmp_path / f"corpus{suffix}", files)
    stats = import_corpus("messages", [archive], tmp_path / "from_archive")
    assert stats["files"] == ["a.jsonl.gz", "b.jsonl"] and stats["rows_in"] == 3005

    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    for name in ("data/b.jsonl", "data/a.jsonl.gz"):
        (folder / name).write_bytes(files[name])
    import_corpus("messages", [folder], tmp_path / "from_folder")
    assert list(read_conversations(tmp_path / "from_archive")) == list(read_conversations(tmp_path / "from_folder"))


@pytest.mark.parametrize("suffix", [".zip", ".7z"])
def test_an_archive_is_read_as_a_stream_that_may_be_left(tmp_path: Path, suffix: str, monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK", 1 << 12)
    archive = pack(tmp_path / f"corpus{suffix}", {"a.jsonl": content("a", 20_000)})
    (source,) = make_reader("messages").files([archive])
    assert first_byte(source) == b"{"
    read = iter(json_lines(source, Ledger()))
    assert isinstance(next(read), Row)
    read.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("unpack")]


@pytest.mark.parametrize("suffix", [".zip", ".7z"])
def test_damaged_archives_and_those_without_a_fitting_file_are_refused(tmp_path: Path, suffix: str):
    archive = pack(tmp_path / f"corpus{suffix}", {"a.jsonl": content("a", 2000)})
    data = archive.read_bytes()
    cut, noise = tmp_path / f"cut{suffix}", tmp_path / f"noise{suffix}"
    cut.write_bytes(data[: len(data) // 2])
    noise.write_bytes(os.urandom(500))
    flipped = tmp_path / f"flipped{suffix}"
    flipped.write_bytes(data[:1000] + bytes(b ^ 0x55 for b in data[1000:1100]) + data[1100:])
    for path in (cut, noise, flipped):
        with pytest.raises(InputError, match="is the file whole"):
            import_corpus("messages", [path], tmp_path / "out")
    other = pack(tmp_path / f"other{suffix}", {"a.txt": b"hello"})
    with pytest.raises(InputError, match=r"no \.jsonl or \.json or \.ndjson file in this archive"):
        import_corpus("messages", [other], tmp_path / "out")


def test_a_password_is_asked_for_in_words(tmp_path: Path):
    path = tmp_path / "locked.7z"
    with py7zr.SevenZipFile(path, "w", password="secret", header_encryption=True) as archive:
        archive.writestr(b"{}", "a.jsonl")
    with pytest.raises(InputError, match="wants a password"):
        import_corpus("messages", [path], tmp_path / "out")
