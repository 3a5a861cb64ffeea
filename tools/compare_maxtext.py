"""MaxText's compiled training step beside ours: the memory of a chip at its peak, and the bytes of every collective.

    python3.12 -m venv VENV
    VENV/bin/pip install 'jax[tpu]==0.11.1' flax==0.12.12 -e .
    VENV/bin/pip install --no-deps maxtext==0.2.5 aqtp drjax einshape grain jaxtyping tokamax wadler_lindig xprof
    VENV/bin/pip install cloudpickle fire immutabledict omegaconf pathwaysutils pillow portpicker pydantic sympy
    VENV/bin/pip install tiktoken transformers
    python tools/compare_maxtext.py --python VENV/bin/python --on v5p:4x4x4,v5e:4x4

Llama 3 8B, one row of 4,096 tokens a chip, everything recomputed, parameters and AdamW's state in float32 and split
over all chips, compiled by the same JAX and the same libtpu, with none of the machines here. MaxText 0.2.5 is set as
configs/llama3_8b_sft.py is, and else left as it comes; it needs a newer JAX than 0.10.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETTINGS = (
    *("compile_topology_num_slices=1", "model_name=llama3-8b", "per_device_batch_size=1", "max_target_length=4096"),
    *("remat_policy=full", "attention=flash", "dtype=bfloat16", "weight_dtype=float32", "enable_checkpointing=false"),
    *("dataset_type=synthetic", "run_name=compared", "steps=1000"),
)


def compiled(python: str, on: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our plan and MaxText's figures for one topology, both by `python`."""
    ours, theirs = folder / "ours.json", folder / "theirs.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    plan = ("-m", "jaxchat", "plan", str(ROOT / "configs/llama3_8b_sft.py"), "--on", on, "--rows-per-chip", "1")
    step = (str(ROOT / "tools/maxtext_step.py"), on, str(theirs), *SETTINGS, f"base_output_directory={folder}")
    for command in (step, (*plan, "--json", str(ours))):
        print(f"compiling {'MaxText' if command is step else 'ours'} for {on}", file=sys.stderr, flush=True)
        done = subprocess.run([python, *command], env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stderr[-3000:]}")
    return json.loads(ours.read_text())[0], json.loads(theirs.read_text())


def rows(on: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours and MaxText's, figure by figure; ratio above 1 when ours is better, None where MaxText sends nothing so."""
    figures = [("peak", ours["peak_bytes"], theirs["peak_bytes"])]
    for kind in sorted(ours["collectives"] | theirs["collectives"]):
        figures.append((kind, *(each["collectives"].get(kind, {"bytes": 0})["bytes"] for each in (ours, theirs))))
    for role in ours["sent_bytes"]:  # whatever the kind: products may sum around rings (collective-permute)
        figures.append((f"sent, {role}", ours["sent_bytes"][role], theirs["sent_bytes"][role]))
    figures.append(("sent in all", *(sum(each["sent_bytes"].values()) for each in (ours, theirs))))
    return [
        {
            "name": f"{on} {what}",
            "ours": mine,
            "peer": peer,
            "peer_name": "MaxText 0.2.5",
            "unit": "bytes",
            "ratio": peer / mine if mine and peer else None,
        }
        for what, mine, peer in figures
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="the Python that has MaxText and what jaxchat needs")
    parser.add_argument("--on", default="v5p:4x4x4,v5e:4x4", help="TPU slices, apart by commas")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    python = str(Path(options.python).absolute())
    found: list[dict[str, Any]] = []
    for on in options.on.split(","):
        with tempfile.TemporaryDirectory() as folder:
            made = rows(on, *compiled(python, on, Path(folder)))
        for row in made:
            print(f"{row['name']:32} {row['ours'] / 1e9:9.3f} GB  MaxText {row['peer'] / 1e9:9.3f} GB", flush=True)
        found += made
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
