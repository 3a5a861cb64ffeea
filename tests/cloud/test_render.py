"""What is handed to Kubernetes, Slurm and SkyPilot, held against their own schemas where packages have them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

CONFIG = "configs/smoke_cpu.py"
UGLY = "a \"b\" \\ c\td 'e' $HOME `f` & @name@"  # what a flag's value may hold


def rendered(cloud, *words, kind="apiVersion"):
    """What a dry run prints of the file that it would hand over."""
    ended = cloud.launch("--dry-run", "--name", "demo", *words)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith((kind, "#!")))
    end = next(i for i, line in enumerate(lines) if re.match(r"(kubectl|sbatch|sky) ", line))
    return "\n".join(lines[begin:end]) + "\n"


GKE = ("--on", "gke", "--image", "eu.pkg.dev/p/jaxchat:1", "--bucket", "gs://b/runs")


@pytest.mark.parametrize(
    "words, hosts, slices, resources",
    [
        (("--type", "v5litepod-16"), 4, 1, {"google.com/tpu": 4}),
        (("--type", "v5litepod-8", "--spot"), 2, 1, {"google.com/tpu": 4}),
        (("--type", "v5p-128", "--slices", "2", "--data", "gs://b/rows"), 16, 2, {"google.com/tpu": 4}),
        (("--type", "v6e-1"), 1, 1, {"google.com/tpu": 1}),
        (("--type", "H100:8", "--nodes", "2"), 2, 1, {"nvidia.com/gpu": 8}),
    ],
)
def test_the_jobset_is_one_by_the_schemas_of_jobset_and_of_kubernetes(cloud, words, hosts, slices, resources):
    import kubernetes_validate
    from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

    map, jobset = yaml.safe_load_all(rendered(cloud, *GKE, *words, CONFIG, "--steps", "5", "--note", UGLY))
    kubernetes_validate.validate(map, "1.32", strict=True)
    assert map["data"]["smoke_cpu.py"] == open(CONFIG).read()

    # The model drops what it does not know: nothing may be lost on the way through it.
    assert JobsetV1alpha2JobSet.from_dict(jobset).to_dict() == jobset
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "demo"},
        "spec": replicated["template"]["spec"],
    }
    kubernetes_validate.validate(job, "1.32", strict=True)

    assert (job["spec"]["parallelism"], job["spec"]["completions"], replicated["replicas"]) == (hosts, hosts, slices)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == resources
    assert container["command"][-4:] == ["--steps", "5", "--note", UGLY]
    assert container["command"][:5] == ["jaxchat", "train", "/config/smoke_cpu.py", "--run", "/bucket/runs/demo"]
    assert len(pod["initContainers"]) == ("--data" in words)
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    if "H100:8" in words:  # GKE tells the hosts of TPU slices of each other
        assert env["JAX_COORDINATOR_ADDRESS"] == "demo-train-0-0.demo:8476" and env["JAX_NUM_PROCESSES"] == "2"
    else:
        assert "JAX_NUM_PROCESSES" not in env


def test_a_jobset_ends_at_once_for_what_is_not_to_be_repeated(cloud):
    *_, jobset = yaml.safe_load_all(rendered(cloud, *GKE, "--type", "v5litepod-16", CONFIG))
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    (pods,) = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert pods["action"] == "FailJob" and pods["onExitCodes"]["values"] == [2, 130]


def test_the_slurm_script_is_bash_that_shellcheck_passes(cloud, tmp_path):
    words = ("--on", "slurm", "--nodes", "4", "--gpus", "8", "--time", "24:00:00", "--partition", "gpu", "--tasks", "2")
    script = tmp_path / "train.sbatch"
    script.write_text(rendered(cloud, *words, CONFIG, "--steps", "5", "--note", UGLY))
    subprocess.run(["shellcheck", "--shell", "bash", script], check=True)
    directives = re.findall(r"^#SBATCH --([^=\n]+)(?:=(.*))?$", script.read_text(), re.MULTILINE)
    assert {
        ("nodes", "4"),
        ("ntasks-per-node", "2"),
        ("gres", "gpu:8"),
        ("time", "24:00:00"),
        ("partition", "gpu"),
        ("requeue", ""),
        ("signal", "TERM@120"),
    } <= set(directives)

    # Run without a cluster: srun gives the words of the run as they were meant.
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "srun").write_text('#!/bin/bash\nSLURM_PROCID=0 "${@:3}"\n')
    (bin / "jaxchat").write_text('#!/bin/bash\nprintf "%s\\0" "$@" >"$FAKE_CLOUD/words"\n')
    for program in bin.iterdir():
        program.chmod(0o755)
    state = re.search(r"codes=\"(.*)/codes", script.read_text())[1]
    text = re.sub(r'PATH="[^":]*:', f'PATH="{bin}:', script.read_text()).replace(state, str(tmp_path))
    ended = subprocess.run(["bash", "-c", text], env=cloud.env | {"SLURM_JOB_ID": "7"}, timeout=30)
    assert ended.returncode == 0 and (tmp_path / "result").read_text() == "0\n"
    assert (cloud.folder / "words").read_text().split("\0")[-5:-1] == ["--steps", "5", "--note", UGLY]


def test_the_skypilot_task_has_what_a_managed_job_needs(cloud):
    words = ("--on", "sky", "--gpus", "H100:8", "--nodes", "2", "--spot", "--bucket", "s3://b", "--data", "s3://b/rows")
    task = yaml.safe_load(rendered(cloud, *words, CONFIG, "--steps", "5", kind="name"))
    assert set(task) == {"name", "num_nodes", "resources", "workdir", "file_mounts", "setup", "run"}
    assert task["num_nodes"] == 2 and task["resources"]["use_spot"] is True
    assert task["resources"]["accelerators"] == "H100:8" and task["resources"]["infra"] == "aws"
    recovery = task["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [75, 143] and recovery["max_restarts_on_errors"] == 5
    assert task["file_mounts"] == {"/bucket": {"source": "s3://b", "mode": "MOUNT"}, "/data/rows": "s3://b/rows"}
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n", "-c", script], check=True)
    assert "--run /bucket/demo --sources /data/rows --steps 5" in task["run"]


@pytest.mark.skipif(
    not shutil.which("gcloud"), reason="the Google Cloud CLI is not here, whose own list of flags is asked"
)
def test_every_flag_is_one_that_gcloud_has(cloud, tmp_path):
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    home = Path(shutil.which("gcloud")).resolve().parents[1]
    spec = spec_from_file_location("completions", home / "data/cli/gcloud_completions.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    tree = module.STATIC_COMPLETION_CLI_TREE
    every = (
        "--slices",
        "2",
        "--disk",
        "d",
        "--network",
        "n",
        "--subnetwork",
        "s",
        "--service-account",
        "a",
        "--internal-ips",
    )
    tpu = (
        "--name",
        "demo",
        "--zone",
        "z",
        "--project",
        "p",
        "--type",
        "v5p-16",
        "--bucket",
        "gs://b",
        "--data",
        "gs://b/rows",
    )
    seen = set()
    for words in ((), every, ("--spot",), ("--reserved", "--queue")):
        for line in cloud.launch("--dry-run", *tpu, *words, CONFIG).stdout.splitlines():
            path, flags = (
                re.match(r"gcloud((?: [a-z-]+)+)", line)[1].split(),
                re.findall(r" (--[a-z-]+)", line.split("worker.sh")[0]),
            )
            node, known = tree, set(tree["flags"])
            for word in path:
                if word in node.get("commands", {}):
                    node = node["commands"][word]
                    known |= set(node.get("flags", {}))
            assert set(flags) <= known | {"--version"}, line  # tpu-vm create's own --version is hidden by gcloud's
            seen.add(json.dumps(path[:4]))
    assert len(seen) >= 7
