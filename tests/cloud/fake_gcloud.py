"""A Google Cloud in a folder: what `gcloud` answers when launch.sh calls it, and what it was asked.

$FAKE_CLOUD/calls       the calls, a line each, without what all of them carry
            slice.json  the slice there is, if any: its state, its label and its number of hosts
            faults.json what goes wrong: {"match": a part of a call, "after": calls that go well first, "times": how
                        often, "code", "stderr", "seconds": what it does, "state": what becomes of the slice, "effect":
                        though it fails, it is carried out}
            hostN/      the home of host N; `ssh --command` runs there, with $FAKE_CLOUD/bin first on PATH
            bucket/     all of Cloud Storage
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["FAKE_CLOUD"])
SLICE = FOLDER / "slice.json"
TYPES = {"v5litepod-8": 1, "v5p-16": 2}  # and their hosts


def main(argv: list[str]) -> int:
    words = [word for word in argv if word != "--quiet"]
    flags = {}
    for name in ("--zone", "--project"):
        if name in words:
            at = words.index(name)
            flags[name] = words[at + 1]
            del words[at : at + 2]
    if words[0] == "compute" and flags != {"--zone": "z", "--project": "p"}:
        raise SystemExit(f"not where it was asked for: {argv}")
    call = " ".join(words)
    with (FOLDER / "calls").open("a") as file:
        file.write(_short(call) + "\n")
    fault = _fault(call)
    if fault:
        if "state" in fault:
            _become(fault["state"])
        time.sleep(fault.get("seconds", 0))
        if fault.get("effect"):
            _carry_out(words)
        if "stderr" in fault:
            print(fault["stderr"], file=sys.stderr)
        if "code" in fault:
            return fault["code"]
    return _carry_out(words)


def _carry_out(words: list[str]) -> int:
    match words:
        case ["compute", "tpus", ("tpu-vm" | "queued-resources") as kind, verb, *rest]:
            return _tpus(kind, verb, rest)
        case ["storage", "buckets", "describe", *_]:
            print("True")
            return 0
        case ["storage", "du", *_]:
            print(1000, words[-1])
            return 0
        case ["storage", "rsync", *rest]:
            source, target = (_place(word) for word in rest[-2:])
            shutil.copytree(source, target, dirs_exist_ok=True)
            return 0
    raise SystemExit(f"the fake gcloud has no {words}")


def _tpus(kind: str, verb: str, rest: list[str]) -> int:
    there = json.loads(SLICE.read_text()) if SLICE.exists() else None
    if verb == "create":
        if there:
            print("ERROR: (gcloud) ALREADY_EXISTS", file=sys.stderr)
            return 1
        state = "ACTIVE" if kind == "queued-resources" else "READY"
        label = rest[rest.index("--labels") + 1].split("=")[1]
        hosts = TYPES[rest[rest.index("--accelerator-type") + 1]]
        SLICE.write_text(json.dumps({"state": state, "label": label, "hosts": hosts}))
        for host in range(hosts):
            (FOLDER / f"host{host}").mkdir()
        return 0
    if there is None:
        print(f"ERROR: (gcloud.compute.tpus.{kind}.{verb}) NOT_FOUND: {rest[0]}", file=sys.stderr)
        return 1
    if verb == "describe":
        state = "READY" if kind == "tpu-vm" and there["state"] == "ACTIVE" else there["state"]
        print(f"{state}\t{there['label']}" if "labels" in rest[-1] else state)
        return 0
    if verb == "delete":
        _become(None)
        return 0
    which = rest[rest.index("--worker") + 1]
    hosts = range(there["hosts"]) if which == "all" else [int(which)]
    if verb == "ssh":
        return max(_run_on(host, rest[rest.index("--command") + 1]) for host in hosts)
    source, target = rest[:2]
    for host in hosts:
        if ":" in source:
            place = FOLDER / f"host{host}" / source.split(":")[1]
            _copy(place, Path(target))
        else:
            place = FOLDER / f"host{host}" / target.split(":")[1]
            _copy(Path(source), place / Path(source).name if place.is_dir() else place)
    return 0


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def _run_on(host: int, command: str) -> int:
    home = FOLDER / f"host{host}"
    env = os.environ | {"HOME": str(home), "FAKE_HOST": f"w-{host}", "PATH": f"{FOLDER}/bin:/usr/bin:/bin"}
    env.pop("PYTHONPATH", None)
    return subprocess.run(["bash", "-c", command], cwd=home, env=env, stdin=subprocess.DEVNULL).returncode


def _become(state: str | None) -> None:
    """What happens to the slice; its hosts are no more unless it goes on."""
    if state not in ("READY", "ACTIVE", "CREATING"):
        for host in FOLDER.glob("host*"):
            for pid in host.glob("jaxchat/*/pid"):
                subprocess.run(["kill", "-KILL", "--", f"-{pid.read_text().strip()}"], stderr=subprocess.DEVNULL)
            shutil.rmtree(host)
    if state is None:
        SLICE.unlink(missing_ok=True)
    elif SLICE.exists():
        SLICE.write_text(json.dumps(json.loads(SLICE.read_text()) | {"state": state}))


def _fault(call: str) -> dict | None:
    path = FOLDER / "faults.json"
    faults = json.loads(path.read_text()) if path.exists() else []
    for fault in faults:
        if fault["match"] in call:
            fault["seen"] = fault.get("seen", 0) + 1
            path.write_text(json.dumps(faults))
            if fault.get("after", 0) < fault["seen"] <= fault.get("after", 0) + fault.get("times", 1):
                return fault
    return None


def _place(word: str) -> Path:
    return FOLDER / "bucket" / word.removeprefix("gs://") if word.startswith("gs://") else Path(word)


def _short(call: str) -> str:
    """A call as a person would note it down."""
    call = call.removeprefix("compute tpus ").replace(" --recurse", "")
    call = re.sub(r" --format \S+", "", call)
    call = re.sub(r" --(worker) (\w+)", r" @\2", call)
    call = re.sub(r"--command if \[ -d .*", "status", call)
    call = re.sub(r"--command set -e; echo .*", "unpack", call)
    call = re.sub(r"--command bash \S+worker.sh \S+ ", "", call)
    call = call.replace("--command ", "")
    call = re.sub(r"(@\d+ log) \d+", r"\1", call)
    return re.sub(r"/\S*/(code.tar.gz|out\S*)", r"\1", call)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
