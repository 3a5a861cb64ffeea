"""A run's resolved config as JSON: what is saved beside its checkpoints, and what a resume is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


def to_json(config: object) -> Json:
    """Any nest of dataclasses, mappings and sequences. A dataclass also says its `type`, since fields may be unions."""
    if is_dataclass(config):
        return {"type": type(config).__name__} | {f.name: to_json(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, dict):
        return {str(key): to_json(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_json(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    if config is None or isinstance(config, str | int | float | bool):
        return config
    raise TypeError(f"a config holds {config!r}, which JSON cannot")


@dataclass(frozen=True)
class Difference:
    """One field, named as on the command line (`optim.peak_lr`), and its values before and now."""

    field: str
    before: Json
    now: Json


def differences(before: Json, now: Json, ignore: tuple[str, ...] = ()) -> list[Difference]:
    """Where two saved configs differ, in field order; `ignore` are shell patterns of field names."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    named = [name for name in old | new if not any(fnmatchcase(name, pattern) for pattern in ignore)]
    return [Difference(name, old.get(name), new.get(name)) for name in named if old.get(name) != new.get(name)]


def _leaves(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    """Every scalar with its dotted path; an empty list or mapping is one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{index}")
    else:
        yield name, value
