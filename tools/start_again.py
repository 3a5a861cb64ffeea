"""Stops a run of several processes, gives the same command again, and counts what each process compiles.

    python tools/start_again.py --out DIR [--processes 4]

A first start compiles, and its first process keeps what it compiled in the run's folder; a second start finds it there,
in every process. Exit status 1 where one compiles anything.

On TPUs and GPUs JAX knows a program by what it is and by the kind of the devices, the same in every process, but on
CPUs by the process too, so that there only the first finds anything. What is counted here is the way of the former: the
processes of this tool know their programs as those do. The mesh is one of parts (fsdp): of copies (data) each process
saves slices, and Orbax cuts them by small programs of that process's own devices, which JAX keeps for the first alone.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from processes import Job, small_run, train, wait_for_step

from jaxchat.distributed.guard import VARIABLE

WATCH = "--watch="
Programs = list[dict[str, Any]]


def watch(file: Path) -> None:
    """Writes down, when this process ends, each program that it compiled or found, its seconds, and which of both."""
    import jax
    from jax._src import cache_key

    cache_key._hash_accelerator_config = cache_key._hash_devices  # type: ignore[assignment]
    programs: Programs = []
    hits: list[str] = []

    def count(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    def finished(event: str, duration_secs: float, **of: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":  # of one that was found as well
            programs.append({"name": of.get("fun_name"), "seconds": duration_secs, "found": bool(hits)})
            hits.clear()

    jax.monitoring.register_event_listener(count)
    jax.monitoring.register_event_duration_secs_listener(finished)
    atexit.register(lambda: file.write_text(json.dumps(programs)))


def start(command: list[str], count: int, logs: Path, run: Path, until: int | None) -> list[Programs]:
    """One start, stopped after step `until`; the programs of each process."""
    watched = [command[0], __file__, *command[3:]]  # instead of -m jaxchat
    files = [logs / f"{process}.json" for process in range(count)]
    with Job(watched, count, logs, more=lambda i: [f"{WATCH}{files[i]}"], shared_cache=False) as job:
        if until is not None:
            wait_for_step(run, until, job)
            os.kill(job.processes[-1].pid, signal.SIGTERM)
        if set(job.wait(900)) != {0 if until is None else 143}:
            sys.exit("\n".join(map(job.said, range(count))))
    return [json.loads(file.read_text()) for file in files]


def said(turn: str, process: int, programs: Programs) -> str:
    new = [one["name"] for one in programs if not one["found"]]
    seconds = sum(one["seconds"] for one in programs)
    names = f" ({', '.join(sorted(new))})" if new else ""
    return f"{turn}, process {process}: {len(programs)} programs in {seconds:.1f} s, {len(new)} compiled{names}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    run = out / "run"
    command = train(small_run(out), run, "--steps", "20", "--mesh.data", "1")
    compiled = 0
    for turn, until in (("first start", 6), ("second start", None)):
        made = start(command, arguments.processes, out / turn.replace(" ", "-"), run, until)
        for process, programs in enumerate(made):
            print(said(turn, process, programs), flush=True)
        compiled = sum(not one["found"] for programs in made for one in programs)
    return 1 if compiled else 0


if __name__ == "__main__":
    if sys.argv[-1].startswith(WATCH):
        from jaxchat.__main__ import main as jaxchat

        file = Path(sys.argv.pop().removeprefix(WATCH))
        if VARIABLE in os.environ:  # not the guard, which compiles nothing
            watch(file)
        sys.exit(jaxchat())
    sys.exit(main())
