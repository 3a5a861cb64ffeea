"""Kills a run at random moments, again and again, and compares it with a run that was never killed.

    python tools/kill_runs.py --out DIR [--kills 20] [--steps 100] [--seed N]

SIGKILL comes at a random step, and up to half a second later: in a step, a save, an evaluation, a start. The run goes
on each time as the same command would; at the end every line of metrics.jsonl has to be that of the run never killed,
but for its seconds, and the goodput of the run is printed. Exit status 1 where a line differs.

Each start is a process of its own, forked from this one, which has TensorFlow and JAX loaded: 20 starts are 20 times
half a minute otherwise.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

from processes import COMPILED_ONCE, options, small_run, steps

SECONDS = ("seconds", "time", "tokens_per_second")


def start(config: Path, run: Path, length: int) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_train, args=(config, run, length))
    process.start()
    return process


def _train(config: Path, run: Path, length: int) -> None:
    from dataclasses import replace

    from jaxchat.config_file import load_config
    from jaxchat.mesh import MeshConfig
    from jaxchat.run import Train
    from jaxchat.run.training import train

    with open(run.with_suffix(".log"), "a") as log:
        os.dup2(log.fileno(), 2)
        sys.exit(train(replace(load_config(config, Train), steps=length, mesh=MeshConfig()), run).exit_code)


def kill_once(config: Path, run: Path, length: int, at: int, delay: float) -> int | None:
    """Starts, kills after step `at`; returns the last step written down, None where the run ended before."""
    process = start(config, run, length)
    while process.is_alive() and max((line["step"] for line in steps(run)), default=0) < at:
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.join()
    return None if process.exitcode == 0 else max((line["step"] for line in steps(run)), default=0)


def without_seconds(run: Path) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in SECONDS} for line in steps(run)]


def main() -> int:
    arguments = options(__doc__, kills=20, steps=100)
    out, length, rng = arguments.out.absolute(), arguments.steps, random.Random(arguments.seed)
    config = small_run(out)
    os.environ |= COMPILED_ONCE | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}
    import orbax.checkpoint  # noqa: F401
    import tensorboardX  # noqa: F401

    import jaxchat.run.training  # noqa: F401
    from jaxchat.data.tensorflow import load
    from jaxchat.train.goodput import REPORT, sentence

    load()
    whole, run = out / "whole", out / "run"
    process = start(config, whole, length)
    process.join()
    if process.exitcode != 0:
        sys.exit(whole.with_suffix(".log").read_text())
    came = []
    for at in sorted(rng.randrange(length) for _ in range(arguments.kills)):
        last = kill_once(config, run, length, at, rng.uniform(0, 0.5))
        came.append(last is not None)
        print(f"killed at step {last}" if came[-1] else "ended before it could be killed", flush=True)
    process = start(config, run, length)
    process.join()
    found, expected = without_seconds(run), without_seconds(whole)
    differ = [b["step"] for a, b in zip(found, expected, strict=False) if a != b]
    same = found == expected and process.exitcode == 0
    print(
        f"seed {arguments.seed}: {sum(came)} kills in {length} steps; {len(found)} of {len(expected)} lines, ", end=""
    )
    print("all those of the run never killed" if same else f"others than those of the run never killed ({differ[:5]})")
    print(sentence(json.loads((run / REPORT).read_text())))
    return 0 if same and sum(came) else 1


if __name__ == "__main__":
    sys.exit(main())
