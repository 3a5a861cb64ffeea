"""CSV records one at a time: a broken one costs itself alone."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.corpora import csv_rows
from jaxchat.corpora.csv_rows import csv_records
from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.corpora.rows import Row, Source
from jaxchat.errors import InputError


def records(folder: Path, content: bytes | str) -> tuple[list[tuple[int, dict[str, str]]], list[Rejected]]:
    file = folder / "a.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    items = list(csv_records(Source(file, "a.csv"), Ledger(), ["a"]))
    good = [(item.position, item.value) for item in items if isinstance(item, Row)]
    return good, [item for item in items if isinstance(item, Rejected)]


fields = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(fields, fields), max_size=6))
def test_what_csv_writes_is_read(rows: list[tuple[str, str]]):
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        good, bad = records(Path(folder), file.getvalue())
    assert not bad and [tuple(value.values()) for _, value in good] == rows


def test_broken_records_are_rejected_by_the_line_they_begin_on(tmp_path: Path):
    content = b'\xef\xbb\xbfa,b\r\n1,"two\r\nlines"\r\n2,never "closed\r\n3,"open\r\n4,x\r\n\r\n'
    content += b"5\r\n6,caf\xe9\r\n7,y,z\r\n8,w"
    good, bad = records(tmp_path, content)
    assert good == [(2, {"a": "1", "b": "two\r\nlines"}), (4, {"a": "2", "b": 'never "closed'}),
                    (6, {"a": "4", "b": "x"}), (11, {"a": "8", "b": "w"})]  # fmt: skip
    assert [(item.position, item.row) for item in bad] == [(5, '3,"open'), (8, "5"), (9, "6,caf\udce9"), (10, "7,y,z")]
    assert bad[0].reason.startswith("not CSV: ") and bad[1].reason == "1 fields where the header has 2"
    assert bad[2].reason == "not UTF-8, after '6,caf'"


def test_an_open_quote_gives_up_after_so_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_rows, "MOST_LINES", 5)
    good, bad = records(tmp_path, 'a,b\n"x,1\n' + "".join(f"{i},ok\n" for i in range(20)))
    assert len(good) == 20 and [item.position for item in bad] == [2]


def test_a_header_that_lacks_a_column_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"no column a in its first line, which has x, y"):
        records(tmp_path, "x,y\n1,2\n")
    with pytest.raises(InputError, match=r"its first line is no row of column names"):
        records(tmp_path, "a,b\rc,d\n1,2\n")


def test_a_column_whose_name_is_no_utf_8_can_be_written_again(tmp_path: Path) -> None:
    good, _ = records(tmp_path, b"a,n\xe4me\n1,2\n")
    assert good == [(2, {"a": "1", "n\ufffdme": "2"})]
