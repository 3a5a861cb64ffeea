"""Rows of the cache, in equal parts on several devices."""

from __future__ import annotations

from collections import Counter

from jaxchat.sample.rows import Rows


def test_no_step_has_more_rows_of_a_device_than_it_is_compiled_for():
    rows = Rows(12, shards=3)
    some = [rows.all[number] for number in (2, 0, 9, 1, 3, 8)]
    for size in (1, 2, 4):
        found = rows.first(some, size)
        assert rows.size(found, (1, 2, 4)) <= size
        shards = Counter(row.number // rows.each for row in some)
        assert len(found) == sum(min(size, count) for count in shards.values())
        assert found[0] is some[0]
