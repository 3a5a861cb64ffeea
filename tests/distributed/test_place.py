"""Where a process stands, as every scheduler says it."""

from __future__ import annotations

import pytest

from jaxchat.distributed.place import Distributed, Place, find, flags
from jaxchat.errors import InputError

SLURM = {
    "SLURM_JOB_ID": "4100",
    "SLURM_STEP_NODELIST": "node[003-004,9],other",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
FOUR_A_HOST = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_LOCALID": "2"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
JOBSET = {"JAX_COORDINATOR_ADDRESS": "train-0-0.train", "JAX_NUM_PROCESSES": "16", "JOB_COMPLETION_INDEX": "3"}


@pytest.mark.parametrize(
    ("env", "place"),
    [
        (SLURM, Place("Slurm", "node003:61444", 4, 2)),
        (SLURM | {"SLURM_STEP_NODELIST": "rack[1-2]n[3-4],x"}, Place("Slurm", "rack1n3:61444", 4, 2)),
        (SLURM | {"SLURM_STEP_NODELIST": "a,b"}, Place("Slurm", "a:61444", 4, 2)),
        # Four tasks on a host share its GPUs out, unless Slurm shows each its own.
        (FOUR_A_HOST, Place("Slurm", "node003:61444", 4, 2, (2,))),
        (FOUR_A_HOST | {"CUDA_VISIBLE_DEVICES": "2"}, Place("Slurm", "node003:61444", 4, 2)),
        (OPEN_MPI, Place("Open MPI", "10.96.0.1:62624", 8, 5, (1,))),
        (OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "head:99"}, Place("Open MPI", "head:99", 8, 5, (1,))),
        (JOBSET, Place("Kubernetes", "train-0-0.train:8476", 16, 3)),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, Place("TPU pod")),
        ({"MEGASCALE_NUM_SLICES": "2"}, Place("TPU pod")),
    ],
)
def test_the_environment_says_it(env: dict[str, str], place: Place):
    assert find(Distributed(), env) == place


@pytest.mark.parametrize(
    "env",
    [
        {},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {name: value for name, value in SLURM.items() if not name.startswith("SLURM_STEP")},  # a batch script
        {"JOB_COMPLETION_INDEX": "0"},  # an indexed Job of pods that know nothing of each other
        {"TPU_WORKER_HOSTNAMES": "localhost"},
    ],
)
def test_one_process_alone_has_none(env: dict[str, str]):
    assert find(Distributed(), env | {"TPU_SKIP_MDS_QUERY": "1"}) is None


def test_flags_have_the_last_word():
    given = flags(["small.py", "--distributed.coordinator=h:1", "--distributed.processes", "2", "--steps", "3"])
    assert given == Distributed("h:1", 2)
    assert find(given, SLURM | {"SLURM_PROCID": "1"}) == Place("Slurm", "h:1", 2, 1)
    assert flags(["--distributed.step-timeout", "60"]).step_timeout == 60


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Distributed(coordinator="h:1"), "need --distributed.processes and --distributed.process as well"),
        (Distributed("h", 2, 0), "the coordinator is h; give it a port: h:8476"),
        (Distributed("h:1", 2, 2), "there is no process 2 of 2; count --distributed.process from 0 to 1"),
    ],
)
def test_what_is_not_enough_is_refused(given: Distributed, sentence: str):
    with pytest.raises(InputError, match=sentence):
        find(given, {})


def test_a_number_that_is_none_and_an_mpi_that_says_too_little_are_refused():
    with pytest.raises(InputError, match="SLURM_PROCID is 'x'"):
        find(Distributed(), SLURM | {"SLURM_PROCID": "x"})
    uri_less = {name: value for name, value in OPEN_MPI.items() if "uri" not in name}
    with pytest.raises(InputError, match="add -x JAX_COORDINATOR_ADDRESS"):
        find(Distributed(), uri_less)
    with pytest.raises(InputError, match=r"set --distributed\.heartbeat-timeout to 3 or more"):
        Distributed(heartbeat_timeout=1)
