"""launch.sh beside a Google Cloud in a folder; hosts run the real worker.sh with stand-ins for Python and jaxchat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

STUBS = {
    "gcloud": f'exec {sys.executable} {HERE}/fake_gcloud.py "$@"',
    "hostname": 'echo "$FAKE_HOST"',
    "sudo": 'shift; "$@"',
    "lsof": 'cat "$FAKE_CLOUD/holders" 2>/dev/null',
    "mountpoint": "[[ -L $2 ]]",
    "gcsfuse": 'mkdir -p "$FAKE_CLOUD/bucket/$1"; rmdir "$2"; ln -s "$FAKE_CLOUD/bucket/$1" "$2"',
    "jaxchat": """
run=$(sed 's/.*--run \\([^ ]*\\).*/\\1/' <<<"$*")
mkdir -p "$run"
echo "$FAKE_HOST: $*" >>"$FAKE_CLOUD/trained"
attempt=$(grep -c "^$FAKE_HOST:" "$FAKE_CLOUD/trained")
echo "attempt $attempt on $FAKE_HOST"
[[ ! -f $FAKE_CLOUD/behaviour ]] || source "$FAKE_CLOUD/behaviour"
[[ $FAKE_HOST != w-0 ]] || echo '{"step": 1}' >"$run/metrics.jsonl"
""",
    "python3.12": """
case "$*" in
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$FAKE_CLOUD/bin/jaxchat" "$3/bin/" ;;
    "-m pip "*) [[ $3 == --version ]] || echo "$*" >>"$HOME/pip" ;;
    --version) echo Python 3.12 ;;
esac""",
}


@dataclass
class Cloud:
    """folder: see fake_gcloud.py. env: what launch.sh runs in."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    begun: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        return ["bash", str(ROOT / "cloud/launch.sh"), *words]

    def launch(self, *words: str) -> subprocess.CompletedProcess[str]:
        """launch.sh to its end, with nobody at the keyboard."""
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=self.env,
            timeout=60,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """launch.sh in the background, in a session of its own, so that Ctrl-C can be sent to it."""
        process = subprocess.Popen(
            self.command(*words),
            cwd=ROOT,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.begun.append(process)
        return process

    def fails(self, *faults: dict) -> None:
        (self.folder / "faults.json").write_text(json.dumps(faults))

    def behaves(self, script: str) -> None:
        """What `jaxchat train` does on a host, in bash."""
        (self.folder / "behaviour").write_text(script)

    def calls(self) -> list[str]:
        """What gcloud was asked; of the looks at a run that is under way, each once."""
        path = self.folder / "calls"
        calls: list[str] = []
        looks: set[str] | None = None
        for line in path.read_text().splitlines() if path.exists() else []:
            if looks is not None and line.split("@")[-1].split()[-1] in ("demo", "log", "status"):
                if line in looks:
                    continue
                looks.add(line)
            if "delete" in line:
                looks = None
            elif " start " in line:
                looks = set()
            calls.append(line)
        return calls

    def trained(self) -> list[str]:
        path = self.folder / "trained"
        return sorted(path.read_text().splitlines()) if path.exists() else []

    @property
    def slice_is_there(self) -> bool:
        return (self.folder / "slice.json").exists()

    def end(self) -> None:
        for process in self.begun:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for pid in self.folder.glob("host*/jaxchat/*/pid"):
            try:
                os.killpg(int(pid.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def cloud(tmp_path):
    made = Cloud(tmp_path / "cloud")
    bin = made.folder / "bin"
    bin.mkdir(parents=True)
    for name, body in STUBS.items():
        (bin / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (bin / name).chmod(0o755)
    made.env = {
        "PATH": f"{bin}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "FAKE_CLOUD": str(made.folder),
        "JAXCHAT_CLOUD_STATE": str(tmp_path / "state"),
        "JAXCHAT_CLOUD_PAUSE": "0.05",
        "JAXCHAT_RESTART_PAUSE": "0",
    }
    yield made
    made.end()
