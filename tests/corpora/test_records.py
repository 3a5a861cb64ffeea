"""JSON records in every shape give the same rows, and what is broken costs itself alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.corpora import rows
from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.corpora.records import json_records, json_tree
from jaxchat.corpora.rows import Row, Source

RECORDS: list[Any] = [{"n": 1, "t": 'a } " ] \n'}, {"n": {"m": [1, {}]}}, {"n": "é😀"}]


def source(tmp_path: Path, content: str | bytes) -> Source:
    file = tmp_path / "rows.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Source(file, "rows.json")


def read(source: Source) -> tuple[list[Any], list[tuple[int, str]]]:
    items = list(json_records(source, Ledger()))
    good = [item.value for item in items if isinstance(item, Row)]
    return good, [(item.position, item.reason) for item in items if isinstance(item, Rejected)]


SHAPES = {
    "lines": "\n".join(map(json.dumps, RECORDS)),
    "an array": json.dumps(RECORDS),
    "an array in lines": json.dumps(RECORDS, indent=2),
    "an array, an element a line": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]",
    "objects over several lines": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "with a byte order mark": "\ufeff" + "\n\n" + "\n".join(map(json.dumps, RECORDS)),
}


@pytest.mark.parametrize("chunk", [1 << 20, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_records_in_every_shape(tmp_path: Path, shape: str, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "CHUNK", chunk)
    assert read(source(tmp_path, SHAPES[shape])) == (RECORDS, [])


@pytest.mark.parametrize("indent", [None, 3])
def test_one_object_alone(tmp_path: Path, indent: int | None):
    assert read(source(tmp_path, json.dumps(RECORDS[0], indent=indent))) == ([RECORDS[0]], [])


def test_lists_line_by_line(tmp_path: Path):
    assert read(source(tmp_path, '["a", "b"]\n["c"]\n'))[0] == [["a", "b"], ["c"]]
    assert read(source(tmp_path, '["a", "b"]'))[0] == ["a", "b"]


def test_a_broken_object_between_whole_ones(tmp_path: Path):
    text = '{\n "a": 1\n}\n{\n "b": x\n}\n{\n "c": 3\n}\n'
    good, bad = read(source(tmp_path, text))
    assert good == [{"a": 1}, {"c": 3}] and [position for position, _ in bad] == [2]
    good, bad = read(source(tmp_path, text + '{\n "d": '))
    assert good == [{"a": 1}, {"c": 3}] and bad[-1][0] == 4 and "the file ends inside it" in bad[-1][1]
    good, bad = read(source(tmp_path, text.encode().replace(b"x", b'"\xff"')))
    assert good == [{"a": 1}, {"c": 3}] and "not UTF-8" in bad[0][1]


TREE = {"name": "N", "list": [{"name": "a", "rows": [1, {"x": 2}]}, {"rows": []}, 7], "rows": "none", "end": [1]}
AT = [("list", "*", "rows"), ("rows",)]


@pytest.mark.parametrize("chunk", [1 << 20, 3])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_tree_gives_rows_and_what_stands_around_them(tmp_path: Path, indent, chunk: int, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", chunk)
    steps = list(json_tree(source(tmp_path, json.dumps(TREE, indent=indent)), Ledger(), AT))
    rows_ = [(path, item.position, item.value) for path, item in steps if isinstance(item, Row) and item.position]
    assert rows_ == [(("list", 0, "rows"), 1, 1), (("list", 0, "rows"), 2, {"x": 2})]
    around = {path: item.value for path, item in steps if isinstance(item, Row) and not item.position}
    assert around == {
        ("name",): "N",
        ("list", 0, "name"): "a",
        ("rows",): "none",
        ("end",): [1],
    }
    assert [path for path, item in steps if item is None] == [(), ("list",), ("list", 0), ("list", 1)]
    assert [(path, item.row) for path, item in steps if isinstance(item, Rejected)] == [(("list", 2), 7)]


def test_an_object_without_the_rows_that_are_due_is_rejected_whole(tmp_path: Path):
    tree = {"list": [{"rows": []}, {"id": 1, "text": "a"}, {}, {"name": "b", "rows": [1]}]}
    steps = list(json_tree(source(tmp_path, json.dumps(tree)), Ledger(), AT))
    rejected = [(path, item.position, item.reason, item.row) for path, item in steps if isinstance(item, Rejected)]
    assert rejected == [(("list", 1), 1, "no array under 'rows' in it", {"id": 1, "text": "a"})]
    assert [item.value for _, item in steps if isinstance(item, Row) and item.position] == [1]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_tree_never_raises_and_counts_all_it_gives(tmp_path_factory, data):
    content = bytearray(json.dumps(TREE, indent=1).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    book = Ledger()
    made = source(tmp_path_factory.mktemp("tree"), b" {" + bytes(content[1:cut]))
    items = [item for _, item in json_tree(made, book, AT) if item is not None and item.position]
    assert [item.position for item in items] == list(range(1, len(items) + 1))
    assert all(book._fates["rows.json"][item.position - 1] for item in items)


def test_memory_does_not_grow_with_a_tree(tmp_path: Path):
    import tracemalloc

    peaks = []
    for count in (20_000, 200_000):
        made = source(tmp_path, '{"name": "x", "messages": [' + ",\n".join(['{"text": "hello"}'] * count) + "]}")
        tracemalloc.start()
        seen = sum(
            1 for _, item in json_tree(made, Ledger(), [("messages",)]) if isinstance(item, Row) and item.position
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == count
    assert peaks[1] < peaks[0] + 5_000_000
