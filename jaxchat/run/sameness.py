"""When two runs are the same run: what may change while one goes on, and what may differ between its processes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast

import jax

import jaxchat
from jaxchat.run.config import Train
from jaxchat.train.record import Json, differences, to_json

# Fields that may change while a run goes on. They change what a step computes to rounding at most; but `steps` and
# `epochs`: a run may be made longer, and its learning rate follows the longer schedule from there on. Of the data and
# the tokenizer, what was read is compared, not where it lies.
MAY_CHANGE = (
    *("steps", "epochs", "accumulate", "attention.*", "remat", "offload*", "mesh.*", "checkpoint.*", "held_out.*"),
    *("samples.*", "spike", "on_divergence.*", "xla*", "accept_changes", "model.source", "tokenizer", "data.cache"),
    *("data.sources.*.path", "data.sources.*.paths*"),
)

# Fields that processes which train as one may have different: where each finds what all must find the same.
MAY_DIFFER = ("config.model.source", "config.tokenizer", "config.data.cache", "config.data.sources.*.path*")


def command(config: Train, run: Path) -> dict[str, Json]:
    """What every process of a run is to have the same, lest they compile different programs and wait for ever."""
    flags = {name: os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    versions = {"jax": jax.__version__, "jaxchat": jaxchat.__version__}
    return {"config": as_json(config), "run": str(run.absolute()), **flags, **versions}


def unlike(first: Json, other: Json, ignore: tuple[str, ...] = ()) -> str | None:
    changed = differences(first, other, ignore)
    if not changed:
        return None
    name = changed[0].field.removeprefix("config.")
    more = f" (and {len(changed) - 1} more differ)" if changed[1:] else ""
    values = f"{json.dumps(changed[0].now)} and process 0 has {json.dumps(changed[0].before)}"
    return f"has {name} {values}{more}; start all processes with the same command, on the same data"


def as_json(config: Train) -> dict[str, Json]:
    return cast(dict[str, Json], to_json(config))


def digest(packed: dict[str, Any]) -> str:
    """A hash of what packed rows hold, wherever they lie."""
    content = {name: packed[name] for name in ("key", "splits", "seq_len", "tokenizer")}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
