"""Reads a synthetic Hugging Face folder of any size onto several devices and says what memory it took.

    python tools/load_memory.py --gigabytes 2 --shards 5
    python tools/load_memory.py --gigabytes 2 --shards 5 --import     # all that `jaxchat hf import` does, on one device

Exits 1 where the peak lies further above the idle process than the arrays themselves and 1.3 times the largest file.
Linux alone says a process's peak (/proc/self/status).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from random_model import write_random_model

ALLOWED = 1.3


def shape(size: int, dtype_name: str) -> Any:
    """A decoder whose weights take about `size` bytes."""
    from jaxchat.hub.export import DTYPES
    from jaxchat.models.config import DecoderConfig

    width = 1024 if size > 10**9 else 512
    one, two = (
        DecoderConfig(
            vocab_size=256 * 32,
            layers=layers,
            width=width,
            heads=width // 64,
            kv_heads=width // 128,
            head_size=64,
            hidden=3 * width,
        )
        for layers in (1, 2)
    )
    itemsize = DTYPES[dtype_name].itemsize
    layer = (two.parameters - one.parameters) * itemsize
    layers = max(1, round((size - one.parameters * itemsize) / layer) + 1)
    return DecoderConfig(**{**vars(one), "layers": layers})


def measure(folder: Path, fsdp: int, tensor: int, imports: bool) -> None:
    """In a process of its own: prints the bytes of the idle process, of its peak while reading, and of the arrays."""
    import jax

    from jaxchat.hub.export import export
    from jaxchat.hub.open import open_config, open_model
    from jaxchat.mesh import MeshConfig, make_mesh

    mesh = make_mesh(MeshConfig(fsdp=fsdp, tensor=tensor))
    jax.device_put(0.0).block_until_ready()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    idle = status("VmRSS")
    start = time.monotonic()
    if imports:
        export(str(folder), folder / "imported")
    else:
        jax.block_until_ready(open_model(str(folder), mesh).params)
    seconds = time.monotonic() - start
    arrays = 4 * open_config(str(folder)).parameters
    devices = 1 if imports else mesh.size
    found = {"idle": idle, "peak": status("VmHWM"), "arrays": arrays, "seconds": seconds, "devices": devices}
    print(json.dumps(found))


def status(key: str) -> int:
    """Bytes that the kernel counts for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the folder")
    parser.add_argument("--shards", type=int, default=5, help="files, about")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--fsdp", type=int, default=4)
    parser.add_argument("--tensor", type=int, default=2)
    parser.add_argument("--import", dest="imports", action="store_true", help="measure the whole of hf import")
    parser.add_argument("--json", metavar="FILE|-", help="also write the figures as JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.fsdp, args.tensor, args.imports)
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = shape(int(args.gigabytes * 10**9), args.dtype)
        write_random_model(folder, config, args.dtype, args.shards)
        largest = max(file.stat().st_size for file in folder.glob("*.safetensors"))
        devices = args.fsdp * args.tensor
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [
                *(sys.executable, __file__, "--measure", place, "--fsdp", str(args.fsdp), "--tensor", str(args.tensor)),
                *(["--import"] if args.imports else []),
            ],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout)
    found |= {"largest_file": largest, "above": found["peak"] - found["idle"]}
    found["allowed"] = found["arrays"] + int(ALLOWED * largest)
    gb = {key: f"{found[key] / 1e9:.3f} GB" for key in ("idle", "above", "arrays", "largest_file", "allowed")}
    print(
        f"{args.dtype}, read onto {found['devices']} devices in {found['seconds']:.1f} s: peak {gb['above']} above the "
        f"idle process's {gb['idle']}; allowed {gb['allowed']} (arrays {gb['arrays']}, largest file "
        f"{gb['largest_file']})",
        file=sys.stderr if args.json == "-" else sys.stdout,
    )
    if args.json:
        text = json.dumps(found, indent=2) + "\n"
        print(text, end="") if args.json == "-" else Path(args.json).write_text(text)
    return 0 if found["above"] <= found["allowed"] else 1


if __name__ == "__main__":
    sys.exit(main())
