"""Takes processes away from a run of four, and looks at what the others do and at what the run becomes.

    python tools/lose_processes.py --out DIR [--ways kill,stop,cut] [--steps 40]

Four real processes train a sharded run (gloo, 127.0.0.1; for `cut`, each in a network namespace of its own, which takes
root and iproute2). In turn one is killed (SIGKILL), one stopped (SIGSTOP), and the connection between two cut; each
time all have to end within a minute, naming the cause, and the same command goes on. At the end the run is finished by
4, by 2 and by 1 processes, and each has to have the losses of a run of four that nothing happened to: the same bits on
4, within 1e-5 on the others. Exit status 1 where it is not so.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import Job, copy, losses, small_run, train, wait_for_step, worker

WITHIN = 60.0  # seconds
NAMES = {
    "kill": "SIGKILL of a worker",
    "kill-guard": "SIGKILL of a guard",
    "stop": "SIGSTOP of a worker",
    "stop-guard": "SIGSTOP of a guard",
    "cut": "the connection between two cut",
}
NETWORK = "10.201.77"


def lose(way: str, job: Job, victim: int) -> list[int]:
    """Does it; returns the processes that can still end by themselves."""
    guard = job.processes[victim].pid
    others = [i for i in range(job.count) if i != victim]
    if way in ("kill", "stop"):
        below = worker(guard)
        assert below is not None
        os.kill(below, signal.SIGKILL if way == "kill" else signal.SIGSTOP)
        return [*others, victim]
    if way == "kill-guard":
        os.kill(guard, signal.SIGKILL)
        return [*others, victim]
    if way == "stop-guard":
        os.kill(guard, signal.SIGSTOP)
        return others
    for here, there in ((victim, victim - 1), (victim - 1, victim)):
        subprocess.run([*inside(here), "ip", "route", "add", "blackhole", f"{address(there)}/32"], check=True)
    return [*others, victim]


def inside(process: int) -> list[str]:
    return ["ip", "netns", "exec", f"jaxchat{process}"]


def address(process: int) -> str:
    return f"{NETWORK}.{process + 1}"


@contextmanager
def namespaces(count: int) -> Iterator[None]:
    """A network namespace for each process, all on one bridge."""
    made: list[list[str]] = []

    def run(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        run("link", "add", "jaxchat-br", "type", "bridge")
        made.append(["link", "delete", "jaxchat-br"])
        run("link", "set", "jaxchat-br", "up")
        for i in range(count):
            run("netns", "add", f"jaxchat{i}")
            made.append(["netns", "delete", f"jaxchat{i}"])
            run("link", "add", f"jaxchat-v{i}", "type", "veth", "peer", "name", "eth0", "netns", f"jaxchat{i}")
            run("link", "set", f"jaxchat-v{i}", "master", "jaxchat-br", "up")
            for words in (("addr", "add", f"{address(i)}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
                run("-n", f"jaxchat{i}", *words)
            run("-n", f"jaxchat{i}", "link", "set", "lo", "up")
            hosts = Path(f"/etc/netns/jaxchat{i}/hosts")  # which stands in for /etc/hosts there
            hosts.parent.mkdir(parents=True, exist_ok=True)
            hosts.write_text(f"127.0.0.1 localhost\n{address(i)} {socket.gethostname()}\n")
        yield
    finally:
        for words in reversed(made):
            subprocess.run(["ip", *words], check=False)


def take_one_away(way: str, config: Path, run: Path, out: Path, steps: int, at: int) -> bool:
    victim = random.randrange(1 if way == "cut" else 0, 4)
    job = Job(train(config, run, "--steps", str(steps)), 4, out / f"logs-{way}")
    if way == "cut":
        job.host, job.prefix = address(0), inside
    with job:
        wait_for_step(run, at, job)
        began = time.monotonic()
        waiting = lose(way, job, victim)
        statuses = job.wait(2 * WITHIN, waiting)
        took = time.monotonic() - began
        causes = {i: job.causes(i)[-1:] for i in waiting}
    expected = {-signal.SIGKILL, 75} if way == "kill-guard" else {75}
    named = [i for i in waiting if causes[i]]
    good = took < WITHIN and set(statuses) <= expected and len(named) >= 3
    print(f"{NAMES[way]} (process {victim}, after step {at}): all ended in {took:.1f} s, exit statuses {statuses}")
    for text in sorted({line for lines in causes.values() for line in lines}):
        print(f"    {text}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--ways", default="kill,stop,cut", help=f"of {','.join(NAMES)}")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--finish", default="4,2,1", help="numbers of processes that finish the run")
    arguments = parser.parse_args()
    out, steps, ways = arguments.out.absolute(), arguments.steps, arguments.ways.split(",")
    config = small_run(out)
    whole, run = out / "whole", out / "run"
    with Job(train(config, whole, "--steps", str(steps)), 4, out / "logs-whole") as job:
        if job.wait(900) != [0] * 4:
            sys.exit("\n".join(map(job.said, range(4))))
    good = True
    for turn, way in enumerate(ways, 1):
        at = turn * steps // (len(ways) + 1)
        if way == "cut":
            with namespaces(4):
                good &= take_one_away(way, config, run, out, steps, at)
        else:
            good &= take_one_away(way, config, run, out, steps, at)
    expected = losses(whole)
    for count in map(int, arguments.finish.split(",")):
        end = copy(run, out / f"run-{count}" / "run")
        with Job(train(config, end, "--steps", str(steps)), count, out / f"logs-{count}") as job:
            statuses = job.wait(900)
        found = losses(end)
        worst = max((abs(found.get(k, 1e9) - loss) / loss for k, loss in expected.items()), default=1e9)
        same = found == expected
        good &= statuses == [0] * count and (same if count == 4 else worst < 1e-5)
        verdict = "the same bits" if same else f"within {worst:.1e} (relative)"
        print(f"finished by {count}: exit statuses {statuses}, losses of {len(found)} steps {verdict}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
