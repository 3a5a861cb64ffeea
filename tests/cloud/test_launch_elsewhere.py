"""launch.sh on Kubernetes, a machine with GPUs and SkyPilot: what it does as they answer, what it leaves behind."""

from __future__ import annotations

import os
import signal
import time

import pytest

CONFIG = "configs/smoke_cpu.py"

# A cluster in a folder: the JobSet goes on until $FAKE_CLOUD/end says how it ended; "exit" are its pods' exit codes.
KUBECTL = """
shift 2 # --namespace default
echo "$*" >>"$FAKE_CLOUD/calls"
there=$FAKE_CLOUD/jobset
case "$*" in
    apply*) cp "$3" "$there" ;;
    "get jobset"*)
        [[ ! -e $FAKE_CLOUD/down ]] || { echo "Unable to connect to the server" >&2; exit 1; }
        [[ -e $there ]] || { echo 'Error from server (NotFound): jobsets "demo" not found' >&2; exit 1; }
        [[ $* != *terminalState* ]] || cat "$FAKE_CLOUD/end" 2>/dev/null || true ;;
    *exitCode*) cat "$FAKE_CLOUD/exit" ;;
    *sort-by*) echo demo-train-0-0-abcde ;;
    "get pods"*name) echo pod/demo-train-0-0-abcde ;;
    logs*) echo "step 1" ;;
    delete*) [[ ! -e $FAKE_CLOUD/stuck ]] || { echo "Error: timed out" >&2; exit 1; }; rm -f "$there" ;;
esac"""

SKY = """
echo "$*" >>"$FAKE_CLOUD/calls"
case "$*" in
    "jobs queue"*) [[ ! -e $FAKE_CLOUD/job ]] || echo "1  demo  1x[H100:8]  $(<"$FAKE_CLOUD/job")" ;;
    "jobs launch"*) echo RUNNING >"$FAKE_CLOUD/job"; cp "${@: -1}" "$FAKE_CLOUD/task" ;;
    "jobs logs"*) echo "step 1"; rm "$FAKE_CLOUD/job"; exit "$(cat "$FAKE_CLOUD/exit" 2>/dev/null || echo 0)" ;;
    "jobs cancel"*) rm -f "$FAKE_CLOUD/job" ;;
esac"""


def stub(cloud, name, body):
    path = cloud.folder / "bin" / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def says(cloud, **files):
    for name, text in files.items():
        (cloud.folder / name).write_text(text)


@pytest.fixture
def gke(cloud, tmp_path):
    stub(cloud, "kubectl", KUBECTL)
    (cloud.folder / "bucket/b/demo").mkdir(parents=True)
    (cloud.folder / "bucket/b/demo/metrics.jsonl").write_text("{}")
    words = ("--on", "gke", "--type", "v5litepod-16", "--image", "i", "--bucket", "gs://b", "--yes", "--out")
    return lambda *more: cloud.launch("--name", "demo", *words, str(tmp_path / "out"), *more, CONFIG)


def test_a_jobset_that_completes_is_followed_fetched_and_deleted(cloud, gke, tmp_path):
    says(cloud, end="Completed")
    ended = gke()
    assert ended.returncode == 0, ended.stderr
    assert "$19.20 an hour" in ended.stderr and "JobSet demo is deleted" in ended.stderr
    assert "STILL RUNNING" not in ended.stderr and not (cloud.folder / "jobset").exists()
    assert ended.stdout == "step 1\n"
    assert (tmp_path / "out/logs/demo-train-0-0-abcde.log").read_text() == "step 1\n"
    assert (tmp_path / "out/metrics.jsonl").exists()


@pytest.mark.parametrize(
    "codes, status, sentence",
    [("75 2 75 75", 2, "the run refused its input"), ("130", 130, "interrupted"), ("1 75", 1, "the JobSet failed")],
)
def test_how_a_jobset_failed_is_one_sentence(cloud, gke, codes, status, sentence):
    says(cloud, end="Failed", exit=codes)
    ended = gke()
    assert ended.returncode == status and sentence in ended.stderr
    assert not (cloud.folder / "jobset").exists()


def test_a_jobset_that_cannot_be_deleted_is_said(cloud, gke):
    says(cloud, end="Completed", stuck="")
    ended = gke()
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1 and "could not be deleted: Error: timed out" in ended.stderr
    assert "STILL RUNNING: JobSet demo" in last and "bash cloud/launch.sh delete --on gke --name demo" in last


def test_a_cluster_that_does_not_answer_is_given_nothing(cloud, gke):
    says(cloud, down="")
    ended = gke()
    assert ended.returncode == 1 and "the cluster does not answer: Unable to connect" in ended.stderr
    assert not (cloud.folder / "jobset").exists()


def test_a_machine_with_gpus_runs_and_keeps_its_folder(cloud, tmp_path):
    cloud.env["FAKE_HOST"] = "w-0"
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/0").write_text("rows")
    cloud.behaves('((attempt > 1)) || exit 75; cp ../data/rows/0 "$run/seen"')
    words = ("--on", "gpu", "--host", "localhost", "--name", "demo", "--out", str(tmp_path / "out"))
    ended = cloud.launch(*words, "--data", str(tmp_path / "rows"), CONFIG, "--steps", "5")
    assert ended.returncode == 0, ended.stderr
    assert cloud.trained() == ["w-0: train launched/smoke_cpu.py --run ../run --sources ../data/rows --steps 5"] * 2
    assert (tmp_path / "out/seen").read_text() == "rows"
    assert "attempt 2 on w-0" in (tmp_path / "out/logs/localhost.log").read_text()
    assert "STILL RUNNING" not in ended.stderr and (tmp_path / "jaxchat/demo/run/metrics.jsonl").exists()


def test_a_run_on_this_machine_outlives_its_launcher_which_can_follow_it_again(cloud, tmp_path):
    cloud.env["FAKE_HOST"] = "w-0"
    cloud.behaves("until [[ -f $FAKE_CLOUD/go ]]; do sleep 0.1; done")
    words = ("--on", "gpu", "--host", "localhost", "--name", "demo", "--out", str(tmp_path / "out"), CONFIG)
    first = cloud.begin(*words)
    log = tmp_path / "jaxchat/demo/log"
    while not (log.exists() and "attempt 1" in log.read_text()):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=20)  # the run holds neither its pipes
    assert first.returncode == 130 and "STILL RUNNING: the run on localhost" in errors
    again = cloud.begin(*words)  # nor its lock
    assert "demo runs already: following it" in again.stderr.readline()
    (cloud.folder / "go").touch()
    _, errors = again.communicate(timeout=20)
    assert again.returncode == 0 and len(cloud.trained()) == 1, errors


@pytest.mark.parametrize("code, sentence", [("0", "the run is done"), ("100", "the job failed")])
def test_a_managed_job_is_launched_followed_and_its_end_told(cloud, code, sentence):
    stub(cloud, "sky", SKY)
    says(cloud, exit=code)
    words = ("--on", "sky", "--gpus", "H100:8", "--bucket", "s3://b", "--name", "demo", "--yes")
    ended = cloud.launch(*words, CONFIG)
    assert ended.returncode == (0 if code == "0" else 1) and sentence in ended.stderr, ended.stderr
    assert "$88.48 an hour" in ended.stderr and "step 1" in ended.stdout and "STILL RUNNING" not in ended.stderr
    launched = next(call for call in (cloud.folder / "calls").read_text().splitlines() if "launch" in call)
    assert launched.startswith("jobs launch --yes --detach-run --name demo")
