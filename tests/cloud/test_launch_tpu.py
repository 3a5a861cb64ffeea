"""launch.sh on Cloud TPU: what it asks of gcloud, what it leaves behind, and what it says, whatever goes wrong."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "configs/smoke_cpu.py"
PLACE = ("--zone", "z", "--project", "p", "--yes")


def small(tmp_path, *words):
    """A slice of one host, on demand, its results on its own disk."""
    return ("--name", "demo", "--type", "v5litepod-8", *PLACE, "--out", str(tmp_path / "out"), *words, CONFIG)


def large(tmp_path, *words):
    """A spot slice of two hosts, its results in a bucket."""
    bucket = ("--spot", "--bucket", "gs://b", "--out", str(tmp_path / "out"))
    return ("--name", "demo", "--type", "v5p-16", *PLACE, *bucket, *words, CONFIG)


def said(ended, *parts):
    for part in parts:
        assert part in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr and "line " not in ended.stderr, ended.stderr
    return ended


ONE_HOST = """\
tpu-vm describe demo
tpu-vm create demo --version v2-alpha-tpuv5-lite --accelerator-type v5litepod-8 --labels jaxchat=demo --scopes https://www.googleapis.com/auth/cloud-platform
tpu-vm describe demo
tpu-vm ssh demo @all true
tpu-vm ssh demo @all status
tpu-vm scp code.tar.gz demo:jaxchat-demo.tar.gz @all
tpu-vm ssh demo @all unpack
tpu-vm ssh demo @all install tpu,corpora
tpu-vm ssh demo @all start 5 leave launched/smoke_cpu.py --run ../run --steps 5
tpu-vm describe demo
tpu-vm ssh demo @0 log
tpu-vm ssh demo @all status
"""
END = """\
tpu-vm scp demo:jaxchat/demo/log out/logs/demo-0.log @0
tpu-vm scp demo:jaxchat/demo/run/. out @0
tpu-vm delete demo
tpu-vm describe demo
"""


def test_a_run_from_nothing_to_its_results_and_nothing_left(cloud, tmp_path):
    ended = said(cloud.launch(*small(tmp_path), "--steps", "5"), "$9.60 an hour", "the run is done", "demo is deleted")
    assert ended.returncode == 0
    assert "attempt 1 on w-0" in ended.stdout
    assert "\n".join(cloud.calls()) + "\n" == ONE_HOST + END
    assert cloud.trained() == ["w-0: train launched/smoke_cpu.py --run ../run --steps 5"]
    assert (tmp_path / "out/metrics.jsonl").exists()
    assert "attempt 1" in (tmp_path / "out/logs/demo-0.log").read_text()
    assert not cloud.slice_is_there and "STILL RUNNING" not in ended.stderr


PREPARED = """\
tpu-vm ssh demo @all true
tpu-vm ssh demo @all status
tpu-vm scp code.tar.gz demo:jaxchat-demo.tar.gz @all
tpu-vm ssh demo @all unpack
tpu-vm ssh demo @all install tpu,corpora
tpu-vm ssh demo @all mount b
tpu-vm ssh demo @all stage gs://b/rows rows
storage du --summarize gs://b/rows
storage rsync --recursive gs://b/rows rows
storage du --summarize gs://b/rows
storage rsync --recursive gs://b/rows rows
tpu-vm ssh demo @all start 5 leave launched/smoke_cpu.py --run ../bucket/demo --sources ../data/rows
"""


def test_a_preempted_run_goes_on_on_a_new_slice(cloud, tmp_path):
    (cloud.folder / "bucket/b/rows").mkdir(parents=True)
    (cloud.folder / "bucket/b/rows/0.array_record").write_text("rows")
    cloud.behaves('[[ $attempt != 1 ]] || sleep 60; cp -r ../data/rows "$run/seen"')
    cloud.fails({"match": "tpu-vm describe", "after": 4, "state": "PREEMPTED"})
    ended = said(
        cloud.launch(*large(tmp_path, "--data", "gs://b/rows")), "was taken away (PREEMPTED)", "the run is done"
    )
    assert ended.returncode == 0, ended.stderr
    calls = "\n".join(re.sub(r"(gs://b/rows) /\S*/rows$", r"\1 rows", call) for call in cloud.calls())
    assert calls.count("tpu-vm create demo") == 2 and "--spot" in calls
    assert calls.count(PREPARED.splitlines()[-1]) == 2
    taken, after = calls.split("tpu-vm delete demo", 1)
    assert "start 5" in taken and after.index("tpu-vm create demo") < after.index("start 5")
    assert "\n".join(taken.splitlines()[taken.splitlines().index("tpu-vm ssh demo @all true") :]).startswith(PREPARED)
    assert len(cloud.trained()) == 4  # two hosts, twice
    assert (tmp_path / "out/seen/0.array_record").read_text() == "rows"
    assert (cloud.folder / "bucket/b/demo/metrics.jsonl").exists()
    assert not cloud.slice_is_there


@pytest.mark.parametrize(
    "stderr, sentence",
    [
        ("ERROR: Quota limit 'TPUV5sLitepodPerProject' has been exceeded. Limit: 0", "project p has no quota left"),
        ("ERROR: There is no more capacity in the zone", "z has no v5litepod-8 left at the moment"),
        ("ERROR: code: 7 PERMISSION_DENIED: tpu.nodes.create", "needs the role roles/tpu.admin"),
        ("ERROR: Please run: $ gcloud auth login", "gcloud is not logged in"),
        ("ERROR: Cloud TPU API has not been used in project p before", "the Cloud TPU API is off in p"),
        ("ERROR: something quite new", "gcloud said: ERROR: something quite new"),
    ],
)
def test_what_cannot_be_created_is_one_sentence_and_nothing_is_left(cloud, tmp_path, stderr, sentence):
    cloud.fails({"match": "create", "times": 9, "code": 1, "stderr": stderr})
    ended = said(cloud.launch(*small(tmp_path)), sentence, "nothing was created")
    assert ended.returncode == 1
    assert ended.stderr.strip().count("\n") == 2  # the cost, what is asked for, what is wrong
    assert [call.split(" --")[0] for call in cloud.calls()] == [
        "tpu-vm describe demo",
        "tpu-vm create demo",
        "tpu-vm describe demo",
    ]


def test_a_create_that_takes_too_long_is_given_back(cloud, tmp_path):
    cloud.env["JAXCHAT_CREATE_SECONDS"] = "1"
    cloud.fails({"match": "create", "effect": True, "seconds": 0, "code": 124, "stderr": ""})
    ended = said(cloud.launch(*small(tmp_path)), "demo is deleted", "was not there after 0 minutes")
    assert ended.returncode == 1 and not cloud.slice_is_there
    assert "STILL RUNNING" not in ended.stderr


def test_a_create_that_hangs_before_it_did_anything(cloud, tmp_path):
    cloud.env["JAXCHAT_CREATE_SECONDS"] = "1"
    cloud.fails({"match": "create", "seconds": 30})
    ended = said(cloud.launch(*small(tmp_path)), "gcloud did not answer in 0 minutes; nothing was created")
    assert ended.returncode == 1 and not cloud.slice_is_there


def test_ssh_that_comes_up_late_is_waited_for(cloud, tmp_path):
    cloud.fails({"match": "--command true", "times": 4, "code": 255, "stderr": "Connection refused"})
    ended = said(cloud.launch(*small(tmp_path)), "does not answer over ssh yet", "the run is done")
    assert ended.returncode == 0 and not cloud.slice_is_there


def test_ssh_that_never_comes_up_leaves_no_slice(cloud, tmp_path):
    cloud.env["JAXCHAT_SSH_TRIES"] = "3"
    cloud.fails({"match": "--command true", "times": 99, "code": 255, "stderr": "Connection timed out"})
    ended = said(cloud.launch(*small(tmp_path)), "does not answer over ssh: Connection timed out", "demo is deleted")
    assert ended.returncode == 1 and not cloud.slice_is_there


def test_a_slice_that_cannot_be_deleted_is_said_with_its_price_and_the_way_to_stop_it(cloud, tmp_path):
    cloud.fails({"match": "tpu-vm delete", "times": 99, "code": 1, "stderr": "ERROR: UNAVAILABLE: try later"})
    ended = said(
        cloud.launch(*small(tmp_path)), "demo could not be deleted: gcloud said: ERROR: UNAVAILABLE: try later"
    )
    last = ended.stderr.strip().splitlines()[-1]
    assert "STILL RUNNING: v5litepod-8 (on-demand, z), $9.60 an hour" in last
    stop = last.split("Stop it: bash cloud/launch.sh ")[1].split()
    assert ended.returncode == 1 and cloud.slice_is_there
    (cloud.folder / "faults.json").unlink()
    assert cloud.launch(*stop).returncode == 0  # the command it names does it
    assert not cloud.slice_is_there


def test_input_that_the_run_refuses_is_not_tried_again(cloud, tmp_path):
    cloud.behaves('echo "batch 63 does not divide over data=8"; exit 2')
    ended = said(cloud.launch(*large(tmp_path)), "the run refused its input on w-0 (exit code 2)", "demo is deleted")
    assert ended.returncode == 2 and not cloud.slice_is_there
    assert "batch 63 does not divide" in ended.stdout
    assert len(cloud.trained()) == 2


def test_a_lost_peer_starts_the_run_again_and_a_failing_host_ends_it_for_all(cloud, tmp_path):
    cloud.behaves("((attempt > 2)) || exit 75")
    assert cloud.launch(*large(tmp_path)).returncode == 0
    assert len(cloud.trained()) == 6
    (cloud.folder / "trained").unlink()
    cloud.behaves("[[ $FAKE_HOST == w-1 ]] && exit 1; sleep 60")
    ended = said(
        cloud.launch(*large(tmp_path, "--restarts", "2")),
        "the run on w-1 ended with exit code 1 after all its restarts",
    )
    assert ended.returncode == 1 and not cloud.slice_is_there
    assert [line.split(":")[0] for line in cloud.trained()] == ["w-0", "w-1", "w-1", "w-1"]


def test_ctrl_c_leaves_the_run_and_says_so_and_the_same_command_follows_it(cloud, tmp_path):
    cloud.behaves("until [[ -f $FAKE_CLOUD/go ]]; do sleep 0.1; done")
    first = cloud.begin(*small(tmp_path))
    until(lambda: cloud.trained())
    second = said(cloud.launch(*small(tmp_path)), "another launch.sh (process", "looks after demo")
    assert second.returncode == 2
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "STILL RUNNING: v5litepod-8 (on-demand, z), $9.60 an hour" in errors.splitlines()[-1]
    assert cloud.slice_is_there

    other = said(cloud.launch(*small(tmp_path), "--steps", "9"), "demo runs another command")
    assert other.returncode == 2 and cloud.slice_is_there and "STILL RUNNING" in other.stderr
    (cloud.folder / "calls").unlink()
    again = cloud.begin(*small(tmp_path))
    until(lambda: any(call.endswith("log") for call in cloud.calls()))
    (cloud.folder / "go").touch()
    out, errors = again.communicate(timeout=30)
    assert again.returncode == 0, errors
    assert "demo runs already: following it" in errors and "attempt 1 on w-0" in out
    assert not any(re.search("create|install|start|scp code", call) for call in cloud.calls())
    assert len(cloud.trained()) == 1 and not cloud.slice_is_there


@pytest.mark.parametrize("effect", [False, True])
def test_ctrl_c_at_a_terminal_ends_a_creation_and_says_what_came_of_it(cloud, tmp_path, effect):
    cloud.fails({"match": "create", "effect": effect, "seconds": 0 if effect else 60})
    if effect:
        cloud.fails({"match": "--command true", "seconds": 60})
    words = cloud.command(*small(tmp_path))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(words[0], words, cloud.env)
    shown = b""
    until(lambda: any(call.endswith("true") if effect else "create" in call for call in cloud.calls()))
    os.write(terminal, b"\x03")
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # how a terminal ends whose last program has gone
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    last = shown.decode().strip().splitlines()[-1]
    assert ("STILL RUNNING" in last) == effect == cloud.slice_is_there
    assert effect or "nothing named demo is there" in last


def test_a_slice_of_someone_else_is_left_alone(cloud, tmp_path):
    (cloud.folder / "slice.json").write_text('{"state": "READY", "label": "", "hosts": 1}')
    ended = said(cloud.launch(*small(tmp_path)), "a TPU named demo exists that launch.sh did not make")
    assert ended.returncode == 2 and cloud.slice_is_there
    assert cloud.calls() == ["tpu-vm describe demo"]


def test_not_hearing_from_gcloud_is_not_taken_for_absence(cloud, tmp_path):
    cloud.fails({"match": "describe", "times": 99, "code": 1, "stderr": "ERROR: Connection timed out"})
    ended = said(cloud.launch(*small(tmp_path)), "whether demo exists could not be found out")
    assert ended.returncode == 1 and not any("create" in call for call in cloud.calls())


def test_the_queue_is_waited_in_and_what_it_cannot_give_is_deleted(cloud, tmp_path):
    cloud.fails(
        {"match": "queued-resources describe", "after": 1, "state": "WAITING_FOR_RESOURCES"},
        {"match": "queued-resources create", "after": 1},
    )
    waiting = cloud.begin(*large(tmp_path, "--queue"))
    until(lambda: "WAITING" in (cloud.folder / "slice.json").read_text() if cloud.slice_is_there else False)
    for host in range(2):
        (cloud.folder / f"host{host}").mkdir()
    (cloud.folder / "slice.json").write_text('{"state": "ACTIVE", "label": "demo", "hosts": 2}')
    _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 0 and "demo is WAITING_FOR_RESOURCES" in errors, errors
    assert "queued-resources delete demo --force" in cloud.calls() and not cloud.slice_is_there

    cloud.fails({"match": "queued-resources describe", "after": 1, "state": "FAILED"})
    ended = said(cloud.launch(*large(tmp_path, "--queue")), "could not be made (FAILED)", "demo is deleted")
    assert ended.returncode == 1 and not cloud.slice_is_there


def test_what_holds_the_chips_is_named_and_ended_only_when_asked(cloud, tmp_path):
    (cloud.folder / "holders").write_text("1\n")
    ended = said(
        cloud.launch(*small(tmp_path)), "w-0: process 1 (", "holds the accelerators; end it, or pass --take-over"
    )
    assert ended.returncode == 1 and not cloud.slice_is_there and not cloud.trained()
    with subprocess.Popen(["sleep", "60"]) as holder:
        (cloud.folder / "holders").write_text(f"{holder.pid}\n")
        assert cloud.launch(*small(tmp_path, "--take-over")).returncode == 0
        assert holder.wait(5) == -signal.SIGKILL


def test_an_environment_torn_while_it_was_made_is_made_anew(cloud, tmp_path):
    stub = cloud.folder / "bin/python3.12"
    whole = stub.read_text()
    stub.write_text(
        whole.replace('"-m venv "*)', '"-m venv "*) mkdir -p "$3/bin"; ln -s /bin/false "$3/bin/python"; exit 1;;\nx)')
    )
    ended = said(cloud.launch(*small(tmp_path, "--keep")), "could not be installed on every host", "STILL RUNNING")
    assert ended.returncode == 1 and cloud.slice_is_there
    stub.write_text(whole)
    assert cloud.launch(*small(tmp_path)).returncode == 0


def test_an_image_with_an_old_python_gets_a_newer_one(cloud, tmp_path):
    for version in ("python3.11", "python3.13", "python3"):
        (cloud.folder / "bin" / version).write_text("#!/bin/sh\nexit 1\n")
        (cloud.folder / "bin" / version).chmod(0o755)
    newer = cloud.folder / "bin/python3.12"
    newer.rename(cloud.folder / "newer")
    uv = cloud.folder / "bin/uv"
    uv.write_text('#!/bin/sh\n[ "$2" = find ] && echo "$FAKE_CLOUD/newer"; exit 0\n')
    uv.chmod(0o755)
    assert cloud.launch(*small(tmp_path)).returncode == 0
    assert cloud.trained()


def test_a_dry_run_calls_nothing_and_prints_what_the_run_then_calls(cloud, tmp_path):
    dry = cloud.launch("--dry-run", *small(tmp_path), "--steps", "5")
    assert dry.returncode == 0 and not (cloud.folder / "calls").exists()
    assert "will cost $9.60 an hour" in dry.stderr and "STILL RUNNING" not in dry.stderr
    cloud.fails({"match": "", "times": 99, "code": 0})  # notes down, does nothing
    for line in dry.stdout.splitlines():
        subprocess.run(line, shell=True, env=cloud.env, check=True)
    printed = [call for call in cloud.calls() if "describe" not in call]
    for file in ("faults.json", "calls"):
        (cloud.folder / file).unlink()
    assert cloud.launch(*small(tmp_path), "--steps", "5").returncode == 0
    assert printed == [call for call in cloud.calls() if "describe" not in call]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--name", "Demo"), "must be lower-case letters"),
        (("--type", "v5litepod"), "is no type of slice"),
        (("--type", "tpu7x-8"), "use --on gke"),
        (("--type", "v5litepod-16"), "has 4 hosts, which must write one checkpoint together; give --bucket"),
        (("--spot",), "a spot slice is taken away with its disk; give --bucket"),
        (("--bucket", "s3://b"), "is not a Cloud Storage address"),
        (("--restarts", "some"), "--restarts some is no whole number"),
        (("--on", "mars"), "--on mars is no target"),
        (("--colour", "red"), "launch.sh has no option --colour"),
        (("--data", "/nowhere"), "--data /nowhere does not exist"),
        (("--zone",), "--zone needs a value"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_costs_nothing(cloud, tmp_path, words, sentence):
    command = ("--name", "demo", "--type", "v5litepod-8", *PLACE, *words)
    ended = said(cloud.launch(*command, *(() if words == ("--zone",) else (CONFIG,))), sentence)
    assert ended.returncode == 2 and ended.stderr.strip().count("\n") == 0
    assert not cloud.calls()


def test_nothing_is_created_before_someone_agrees(cloud, tmp_path):
    command = [word for word in small(tmp_path) if word != "--yes"]
    ended = said(cloud.launch(*command), "will cost $9.60 an hour", "pass --yes")
    assert ended.returncode == 2 and cloud.calls() == ["tpu-vm describe demo"]


def test_the_runs_folder_is_the_launchers(cloud, tmp_path):
    ended = said(cloud.launch(*small(tmp_path), "--run", "elsewhere"), "leave out --run")
    assert ended.returncode == 2 and not cloud.calls()


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
