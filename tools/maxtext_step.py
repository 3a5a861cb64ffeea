"""What MaxText's own compilation of a training step says, for tools/compare_maxtext.py, which runs this in the Python
that MaxText is installed in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from jaxchat.plan.topology import ENVIRONMENT, Topology, topology

CORES = {"v4": 2, "v5p": 2, "tpu7x": 2}  # those whose slices MaxText names by their cores


def named(on: Topology) -> str:
    """A slice as MaxText names it."""
    return f"{on.kind}-{on.chips * CORES.get(on.kind, 1)}"


def main(name: str, file: str, *settings: str) -> None:
    """Compiles for a slice, with MaxText's `key=value` settings; writes peak and collectives as a plan's JSON does."""
    os.environ.update(ENVIRONMENT | {"DECOUPLE_GCLOUD": "TRUE"})
    import maxtext
    from maxtext.trainers.pre_train import train_compile
    from maxtext.utils import accelerator_to_spec_map

    from jaxchat.mesh import MeshConfig, make_mesh
    from jaxchat.plan.collectives import by_kind, by_role, collectives
    from jaxchat.plan.hlo import parse

    on = topology(name)
    theirs = accelerator_to_spec_map.get_system_characteristics(named(on)).topology_name
    if theirs.partition(":")[2] != name.partition(":")[2]:
        raise SystemExit(f"MaxText's {named(on)} is {theirs} and not {name}")
    compiling = train_compile.jit_and_compile

    def recorded(*args: Any, **options: Any) -> Any:
        compiled = compiling(*args, **options)
        found = collectives(parse(compiled.as_text()), make_mesh(MeshConfig(fsdp=-1), on.devices))
        peak = compiled.memory_analysis().peak_memory_in_bytes
        figures = {"peak_bytes": peak, "collectives": by_kind(found), "sent_bytes": by_role(found)}
        Path(file).write_text(json.dumps(figures))
        return compiled

    train_compile.jit_and_compile = recorded
    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    train_compile.main(["train_compile", str(base), f"compile_topology={named(on)}", *settings])


if __name__ == "__main__":
    main(*sys.argv[1:])
