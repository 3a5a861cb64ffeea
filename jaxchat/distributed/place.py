"""Which of several processes this one is: from flags, or from what Slurm, Open MPI, Kubernetes or a TPU pod tell it.

Knows no JAX, so that the guard of a process, which asks too, stays small.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jaxchat.errors import InputError

Value = TypeVar("Value")
PORT = 8476  # of the coordinator where only its host is known: the one that JAX takes on TPU pods


@dataclass(frozen=True)
class Distributed:
    """Where this process stands among those that train together; what is left out is read from the environment."""

    coordinator: str | None = None
    """HOST:PORT of the first process, which all others can reach."""
    processes: int | None = None
    """How many there are."""
    process: int | None = None
    """This one's number, from 0."""
    join_timeout: float = 300.0
    """Seconds in which all of them have to come."""
    heartbeat_timeout: float = 30.0
    """Seconds of silence after which a process counts as lost: all others then stop, with exit status 75."""
    step_timeout: float = 1800.0
    """Seconds that a step, its data or its save may take; a run that takes longer hangs, and all processes stop."""

    def __post_init__(self) -> None:
        for name in ("join_timeout", "heartbeat_timeout", "step_timeout"):
            if getattr(self, name) < 3:
                flag = name.replace("_", "-")
                raise InputError(
                    f"distributed.{name} is {getattr(self, name):g} s; set --distributed.{flag} to 3 or more"
                )


@dataclass(frozen=True)
class Place:
    """Process `process` of `processes`, that meet at `coordinator`; None is what JAX finds out for itself. devices:
    numbers of this host's devices that are this process's, None for all. source: what started it, as far as known."""

    source: str
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    devices: tuple[int, ...] | None = None


def find(given: Distributed, env: Mapping[str, str]) -> Place | None:
    """This process's place; None where it is the only one.

    Raises InputError when what is said is not enough, or contradicts itself.
    """
    found = _slurm(env) or _open_mpi(env) or _kubernetes(env) or Place("")
    place = Place(
        found.source,
        _first(given.coordinator, _address(env), found.coordinator),
        _first(given.processes, _number(env, "JAX_NUM_PROCESSES"), found.processes),
        _first(given.process, _number(env, "JAX_PROCESS_ID"), found.process),
        found.devices,
    )
    if place.processes == 1 and not place.process:
        return None
    by_flags = (given.coordinator, given.processes, given.process) != (None, None, None)
    if not by_flags and None in (place.coordinator, place.processes, place.process):
        known = _by_jax(found, env)
        if known or place.coordinator is None:
            return known
    return _checked(place)


def _checked(place: Place) -> Place:
    needed = {
        "--distributed.coordinator HOST:PORT": place.coordinator,
        "--distributed.processes": place.processes,
        "--distributed.process": place.process,
    }
    missing = [flag for flag, value in needed.items() if value is None]
    if missing:
        raise InputError(f"several processes need {' and '.join(missing)} as well, and the environment does not say")
    assert place.coordinator is not None and place.processes is not None and place.process is not None
    if not re.fullmatch(r".+:\d+", place.coordinator):
        raise InputError(f"the coordinator is {place.coordinator}; give it a port: {place.coordinator}:{PORT}")
    if not 0 <= place.process < place.processes:
        raise InputError(
            f"there is no process {place.process} of {place.processes}; count --distributed.process from 0 "
            f"to {place.processes - 1}"
        )
    return place


def _slurm(env: Mapping[str, str]) -> Place | None:
    """A step of srun. (A batch script is no step: it runs once, on the first host.)"""
    nodes, job = env.get("SLURM_STEP_NODELIST"), _number(env, "SLURM_JOB_ID")
    count, process = _number(env, "SLURM_STEP_NUM_TASKS"), _number(env, "SLURM_PROCID")
    if not nodes or job is None or count is None or process is None or count < 2:
        return None
    # Of node[001-004,7],other or rack[1-2]n[3-4], the first host; and a port that another job does not have.
    host = re.sub(r"\[(\w+)[^]]*\]", r"\1", re.split(r",(?![^[]*\])", nodes)[0])
    port = 61440 + job % 4096
    tasks = [int(n) for n in re.findall(r"(\d+)(?:\(x\d+\))?(?:,|$)", env.get("SLURM_STEP_TASKS_PER_NODE", "1"))]
    return Place("Slurm", f"{host}:{port}", count, process, _devices(env, "SLURM_LOCALID", max(tasks, default=1)))


def _open_mpi(env: Mapping[str, str]) -> Place | None:
    count, process = _number(env, "OMPI_COMM_WORLD_SIZE"), _number(env, "OMPI_COMM_WORLD_RANK")
    if count is None or process is None or count < 2:
        return None
    local = _number(env, "OMPI_COMM_WORLD_LOCAL_SIZE") or 1
    devices = _devices(env, "OMPI_COMM_WORLD_LOCAL_RANK", local)
    # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911, which Open MPI 5 says no more.
    uri = re.match(r"(\d+)\..*?tcp6?://\[?([^],]+?)(?:[],]|:\d+$)", env.get("OMPI_MCA_orte_hnp_uri", ""))
    if uri is None and "JAX_COORDINATOR_ADDRESS" not in env:
        raise InputError(
            "Open MPI does not say where its first process runs; add -x JAX_COORDINATOR_ADDRESS=HOST:PORT to mpirun"
        )
    address = f"{uri[2]}:{61440 + int(uri[1]) // 4096 % 4096}" if uri else None
    return Place("Open MPI", address, count, process, devices)


def _kubernetes(env: Mapping[str, str]) -> Place | None:
    """An indexed Job or a JobSet of one pod a host; its manifest names the coordinator and the count (JAX_*)."""
    index = _number(env, "JOB_COMPLETION_INDEX")
    return None if index is None else Place("Kubernetes", process=index)


def _by_jax(found: Place, env: Mapping[str, str]) -> Place | None:
    """Where JAX asks for more than the environment says: the metadata of TPU hosts, the Kubernetes API."""
    several_hosts = "," in env.get("TPU_WORKER_HOSTNAMES", "") or int(env.get("MEGASCALE_NUM_SLICES", "1")) > 1
    chips = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    if several_hosts or (chips and importlib.util.find_spec("libtpu") and "TPU_SKIP_MDS_QUERY" not in env):
        return Place("TPU pod")
    if found.source == "Kubernetes" and "KUBERNETES_SERVICE_HOST" in env and importlib.util.find_spec("kubernetes"):
        return Place("Kubernetes")
    return None


def _devices(env: Mapping[str, str], local_rank: str, tasks: int) -> tuple[int, ...] | None:
    """One device each where a host has several processes, unless the scheduler shows each its own alone."""
    rank, visible = _number(env, local_rank), env.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    return (rank,) if tasks > 1 and rank is not None and len(visible) > 1 else None


def _address(env: Mapping[str, str]) -> str | None:
    address = env.get("JAX_COORDINATOR_ADDRESS")
    if not address or re.search(r":\d+$", address):
        return address or None
    return f"{address}:{env.get('JAX_COORDINATOR_PORT', PORT)}"


def _number(env: Mapping[str, str], name: str) -> int | None:
    try:
        return int(env[name]) if name in env else None
    except ValueError:
        raise InputError(f"the environment's {name} is {env[name]!r}; it has to be a number") from None


def _first(*values: Value | None) -> Value | None:
    return next((value for value in values if value is not None), None)


def flags(argv: Sequence[str]) -> Distributed:
    """The `--distributed.*` flags among `argv`. What is wrong with them is left for the command line to say."""
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--distributed.") else [word])]
    given = {a.removeprefix("--distributed.").replace("-", "_"): b for a, b in itertools.pairwise(words)}
    kinds: dict[str, type] = {"coordinator": str, "processes": int, "process": int}
    kinds |= dict.fromkeys(("join_timeout", "heartbeat_timeout", "step_timeout"), float)
    try:
        return Distributed(**{name: kind(given[name]) for name, kind in kinds.items() if name in given})
    except ValueError:
        return Distributed()
