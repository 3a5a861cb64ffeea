"""Rows are read one at a time, equal to what the whole file holds, and what cannot be read is rejected by itself."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.corpora import rows as rows_module
from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, first_byte, json_elements, json_lines, lines
from jaxchat.errors import InputError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def source(tmp_path: Path, content: bytes | str, name: str = "rows.json") -> Source:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Source(file, name)


def split(items: Any) -> tuple[list[Any], list[Rejected]]:
    items = list(items)
    good = [(item.position, item.key, item.value) for item in items if isinstance(item, Row)]
    return good, [item for item in items if isinstance(item, Rejected)]


@settings(max_examples=60, deadline=None)
@given(elements=st.lists(values, max_size=6), chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_elements_of_an_array_equal_the_whole_whatever_the_chunk(elements: list, chunk: int, indent: int | None):
    text = json.dumps(elements, indent=indent, ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "CHUNK", chunk)
        good, bad = split(json_elements(source(Path(folder), text), Ledger()))
    assert not bad
    assert good == [(i, None, value) for i, value in enumerate(elements, 1)]


@settings(max_examples=60, deadline=None)
@given(elements=st.dictionaries(st.text(), values, max_size=6), chunk=st.integers(1, 40))
def test_values_of_an_object_come_with_their_keys(elements: dict, chunk: int):
    text = json.dumps(elements, ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "CHUNK", chunk)
        good, bad = split(json_elements(source(Path(folder), text), Ledger()))
    assert not bad
    assert good == [(i, key, value) for i, (key, value) in enumerate(elements.items(), 1)]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "malformed",
    [
        '{"a": 1 "b": 2}',
        "{'a': 1}",
        "nul",
        '{"a": [1, 2,, 3]}',
        "{1: 2}",
        '{"a": NaN}',
        "12 13",
        "+1",
        '["\\x"]',
        '{"a": 1, "b": 2, "a": 3}',
    ],
)
def test_a_malformed_element_is_rejected_alone(tmp_path: Path, malformed: str, chunk: int, monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK", chunk)
    good, bad = split(json_elements(source(tmp_path, f'[{{"n": 1}}, {malformed}, {{"n": 3}}]'), Ledger()))
    assert good == [(1, None, {"n": 1}), (3, None, {"n": 3})]
    assert [(item.position, item.row) for item in bad] == [(2, malformed)]
    assert bad[0].reason.startswith("not JSON: ")


def test_bytes_that_are_not_utf8_reject_their_element_alone(tmp_path: Path):
    good, bad = split(json_elements(source(tmp_path, b'["caf\xc3\xa9", "caf\xe9", "tea"]'), Ledger()))
    assert good == [(1, None, "café"), (3, None, "tea")]
    assert [item.position for item in bad] == [2] and "not UTF-8, after '\"caf'" in bad[0].reason


@pytest.mark.parametrize("text", ['[{"n": 1}, {"n": 2', '[{"n": 1}, {"n": "two', '[{"n": 1},', '[{"n": 1}'])
def test_a_file_cut_short_keeps_what_was_whole(tmp_path: Path, text: str):
    good, bad = split(json_elements(source(tmp_path, text), Ledger()))
    assert good == [(1, None, {"n": 1})]
    assert len(bad) == 1 and "the file ends" in bad[0].reason


@pytest.mark.parametrize("text", ['["a"}, "b"]', '["a"] and more', '["a", }{]'])
def test_stray_brackets_and_text_end_in_rejected_rows(tmp_path: Path, text: str):
    _, bad = split(json_elements(source(tmp_path, text), Ledger()))
    assert bad


def test_an_element_that_never_ends_is_refused_not_swallowed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK", 64)
    monkeypatch.setattr(rows_module, "LONGEST", 1000)
    with pytest.raises(InputError, match="brackets do not close"):
        list(json_elements(source(tmp_path, "[[" + "1," * 5000), Ledger()))


@pytest.mark.parametrize("text", ["", "hello", "<xml/>", "12"])
def test_elements_of_something_else_are_refused(tmp_path: Path, text: str):
    with pytest.raises(InputError, match="neither a JSON array nor an object"):
        list(json_elements(source(tmp_path, text), Ledger()))


def test_json_lines_reject_line_by_line(tmp_path: Path):
    content = (
        b'\xef\xbb\xbf{"n": 1}\n\n{"n": 2\r\n"\xff"\n{"n": "\\ud800"}\n' + b"[" * 100_000 + b'\n{"n": "\\ud83d\\ude00"}'
    )
    good, bad = split(json_lines(source(tmp_path, content), Ledger()))
    assert good == [(1, None, {"n": 1}), (7, None, {"n": "😀"})]
    reasons = {item.position: item.reason for item in bad}
    assert list(reasons) == [3, 4, 5, 6]
    assert reasons[3].startswith("not JSON: ") and reasons[4] == "not UTF-8 at byte 1"
    assert reasons[5].startswith("half of a surrogate pair") and reasons[6] == "not JSON: nested too deeply"


@pytest.mark.parametrize("read", [json_lines, json_elements])
@pytest.mark.parametrize("depth", [199, 201, 900, 985, 5000])
def test_what_is_nested_too_deeply_to_be_written_is_rejected(tmp_path: Path, depth: int, read):
    row = "[" * depth + "]" * depth
    good, bad = split(read(source(tmp_path, row if read is json_lines else f"[{row}]"), Ledger()))
    assert len(good) == (depth < 200) and [item.reason for item in bad] == ["not JSON: nested too deeply"] * len(bad)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(rows_module, "LONGEST", 100)
    with pytest.raises(InputError, match="line 2: longer than"):
        list(lines(source(tmp_path, "short\n" + "x" * 200), Ledger()))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_files_read_alike_and_damaged_ones_are_refused(tmp_path: Path, suffix: str):
    text = "".join(json.dumps({"n": i, "noise": os.urandom(20).hex()}) + "\n" for i in range(2000)).encode()
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[suffix]
    whole = source(tmp_path, pack(text), "rows.jsonl" + suffix)
    read: list[int] = []
    good, bad = split(json_lines(whole, Ledger(on_bytes=read.append)))
    assert len(good) == 2000 and not bad and first_byte(whole) == b"{"
    assert sum(read) == whole.path.stat().st_size
    with pytest.raises(InputError, match="is the file whole"):
        list(json_lines(source(tmp_path, b"\0" * 100, "noise.jsonl" + suffix), Ledger()))
    with pytest.raises(InputError, match="is the file whole"):
        list(json_lines(source(tmp_path, pack(text)[:-500], "cut.jsonl" + suffix), Ledger()))
    twice = source(tmp_path, pack(text) + pack(text), "twice.jsonl" + suffix)
    assert len(split(json_lines(twice, Ledger()))[0]) == 4000


def test_utf16_and_missing_files_are_refused_in_words(tmp_path: Path):
    with pytest.raises(InputError, match="is UTF-16"):
        list(json_lines(source(tmp_path, '{"n": 1}\n'.encode("utf-16")), Ledger()))
    with pytest.raises(InputError, match="No such file"):
        list(json_lines(Source(tmp_path / "none.jsonl", "none"), Ledger()))
