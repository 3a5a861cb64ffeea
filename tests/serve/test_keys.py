"""Keys are kept as hashes alone, and only their owner reads the file."""

from __future__ import annotations

import pytest

from jaxchat.errors import InputError
from jaxchat.serve.errors import ApiError
from jaxchat.serve.keys import Keys, add_key, remove_key
from jaxchat.serve.rate_limit import CLIENTS, RateLimit


def test_a_key_is_known_and_nowhere_written(tmp_path):
    file = tmp_path / "keys.json"
    first, second = add_key(file, "a"), add_key(file, "b", 5)
    keys = Keys(file)
    assert keys.find(first).name == "a" and keys.find(second).requests_per_minute == 5
    assert keys.find(first + " ") is None and keys.find("") is None and keys.find("\ud800") is None
    assert first not in file.read_text() and file.stat().st_mode & 0o077 == 0


def test_names_are_unique_and_files_are_of_keys(tmp_path):
    file = tmp_path / "keys.json"
    add_key(file, "a")
    for mistake, why in (
        (lambda: add_key(file, "a"), "already"),
        (lambda: remove_key(file, "b"), "no key named 'b'"),
        (lambda: add_key(file, " "), "blank"),
    ):
        with pytest.raises(InputError, match=why):
            mistake()
    remove_key(file, "a")
    with pytest.raises(InputError, match="holds no key"):
        Keys(file)
    file.write_text("[{}]")
    with pytest.raises(InputError):
        Keys(file)


def test_a_bucket_fills_with_time():
    now = [0.0]
    rate = RateLimit(lambda: now[0])
    for _ in range(6):
        rate.take("a", 6)
    with pytest.raises(ApiError) as refused:
        rate.take("a", 6)
    assert refused.value.headers == {"Retry-After": "10"}
    rate.take("b", 6)
    now[0] = 10.5
    rate.take("a", 6)
    with pytest.raises(ApiError):
        rate.take("a", 6)


def test_clients_are_not_remembered_without_end():
    rate = RateLimit()
    for i in range(CLIENTS + 50):
        rate.take(str(i), 10)
    assert len(rate._buckets) == CLIENTS
