"""Groups equal those made in memory, however small the runs, and leave nothing on the disk."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.corpora import grouping

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=2), st.lists(values) | st.dictionaries(st.text(), values))), st.integers(2, 4)
)
def test_groups_are_those_of_a_dictionary(items, fan_in):
    expected = defaultdict(list)
    for key, value in items:
        expected[key].append(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "RUN", 300)
        patch.setattr(grouping, "FAN_IN", fan_in)
        assert [(key, list(group)) for key, group in grouping.grouped(items)] == sorted(expected.items())


def test_groups_left_unread_are_passed_over_and_the_disk_is_left_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(grouping.tempfile, "tempdir", None)
    monkeypatch.setattr(grouping, "RUN", 1000)
    items = [(i % 7, (i, "text" * 5)) for i in range(500)]
    seen = [key for key, _ in grouping.grouped(items)]
    assert seen == list(range(7)) and not os.listdir(tmp_path)
    groups = grouping.grouped(items)
    next(groups)
    assert os.listdir(tmp_path)
    groups.close()
    assert not os.listdir(tmp_path)
