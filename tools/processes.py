"""Runs of several processes on this machine, for the tools and tests that end some of them: what those share.

Every process is the real command, `jaxchat train`, with CPU devices of its own and gloo between them; each may stand in
a network namespace of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEVICES = 4  # of a job, over all its processes

COMPILED_ONCE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}

CONFIG = """from dataclasses import replace
from pathlib import Path

from jaxchat.data.config import DataConfig, Folder
from jaxchat.mesh import MeshConfig
from jaxchat.models.presets import tiny
from jaxchat.run import NewTokenizer, Train
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut


def config() -> Train:
    here = Path(__file__).parent
    return Train(
        model=replace(tiny(), vocab_size=320),
        data=DataConfig((Folder(here / "data"),), batch=8, seq_len=64, heldout=0.1, cache=here / "cache"),
        tokenizer=NewTokenizer(),
        optim=OptimConfig(peak_lr=1e-2),
        mesh=MeshConfig(data=2, fsdp=-1),
        checkpoint=CheckpointConfig(every=5),
        held_out=HeldOut(every=25),
        steps=100,
    )
"""


def options(doc: str | None, **numbers: int) -> argparse.Namespace:
    """The command line of a tool that kills at random: --out, --seed, and `numbers` with what they are otherwise."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    for name, number in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    return parser.parse_args()


def small_run(folder: Path) -> Path:
    """A config file of a sharded run of seconds in `folder`, with conversations of its own."""
    from jaxchat.testing import small_conversations

    (folder / "data").mkdir(parents=True)
    with open(folder / "data" / "conversations.jsonl", "w", encoding="utf-8") as file:
        for conversation in small_conversations(300):
            file.write(json.dumps(conversation.to_json()) + "\n")
    (folder / "small.py").write_text(CONFIG)
    return folder / "small.py"


@dataclass
class Job:
    """The processes of one run. prefix: a command in front of each, such as one that enters a namespace. more: flags of
    each. shared_cache: jobs of one folder keep what they compile together, and not each run by itself."""

    command: Sequence[str]
    count: int
    logs: Path
    host: str = "127.0.0.1"
    prefix: Callable[[int], list[str]] = lambda process: []
    more: Callable[[int], list[str]] = lambda process: []
    shared_cache: bool = True
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Job:
        self.logs.mkdir(parents=True, exist_ok=True)
        port = free_port() if self.host == "127.0.0.1" else 8476
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.logs.parent / f"compiled-{self.count}"), **COMPILED_ONCE}
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            **(cache if self.shared_cache else {}),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES // self.count}",
        }
        for process in range(self.count):
            place = {"coordinator": f"{self.host}:{port}", "processes": self.count, "process": process}
            flags = [f"--distributed.{name}={value}" for name, value in place.items()] if self.count > 1 else []
            with open(self.logs / f"{process}.log", "wb") as log:
                self.processes.append(
                    subprocess.Popen(
                        [*self.prefix(process), *self.command, *flags, *self.more(process)],
                        env=environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                for each in (worker(process.pid), process.pid):
                    if each:
                        os.kill(each, signal.SIGKILL)
                process.wait()

    def wait(self, seconds: float, among: Sequence[int] | None = None) -> list[int | None]:
        """The exit statuses of processes `among` (all); None for one that has not ended in time."""
        deadline = time.monotonic() + seconds
        chosen = [self.processes[i] for i in (range(self.count) if among is None else among)]
        while time.monotonic() < deadline and any(process.poll() is None for process in chosen):
            time.sleep(0.05)
        return [process.poll() for process in chosen]

    def said(self, process: int) -> str:
        return (self.logs / f"{process}.log").read_text(errors="replace")

    def causes(self, process: int) -> list[str]:
        return [line for line in self.said(process).splitlines() if line.startswith("jaxchat: ")]


def train(config: Path, run: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "jaxchat", "train", str(config), "--run", str(run), *flags]


def worker(guard: int) -> int | None:
    """The process that trains, below its guard; None where there is none."""
    try:
        children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def steps(run: Path) -> list[dict]:
    """The whole lines of a run's metrics.jsonl."""
    lines = []
    file = run / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            pass  # torn by a kill
    return lines


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in steps(run) if "loss" in line}


def wait_for_step(run: Path, step: int, job: Job, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while max(losses(run), default=0) < step:
        if time.monotonic() > deadline or any(process.poll() is not None for process in job.processes):
            raise SystemExit(f"step {step} was not reached:\n" + "\n".join(map(job.said, range(job.count))))
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def copy(run: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to)
    return to
