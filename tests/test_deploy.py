"""The container, the Compose file and the systemd unit, held against what reads them, as far as that works here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def test_hadolint_passes_the_dockerfile():
    subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, check=True)


def test_the_context_of_the_image_is_what_is_copied_into_it():
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sent = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(sent)
    assert all((ROOT / name).exists() for name in sent)


def test_a_device_that_is_none_ends_the_build_and_each_other_is_an_extra():
    text = (ROOT / "Dockerfile").read_text()
    check = re.search(r"^RUN (case \$DEVICE in cpu \|.*)$", text, re.MULTILINE)[1]
    extras = re.search(r"^RUN (case \$DEVICE in cpu\) .* esac)", text, re.MULTILINE)[1]
    known = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    for device in ("cpu", "cuda", "tpu", "abacus"):
        ended = subprocess.run(
            ["sh", "-c", f"{check}\n{extras}; echo $extras"], env={"DEVICE": device}, stdout=-1, text=True
        )
        assert (ended.returncode == 0) == (device != "abacus")
        assert device == "abacus" or set(ended.stdout.strip().split(",")) <= known


def test_the_compose_file_is_one_and_serves_by_options_that_exist():
    words = [
        Path(sys.executable).parent / "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "compose.yaml",
    ]
    subprocess.run(words, cwd=ROOT, check=True)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {service["build"]["args"]["DEVICE"] for service in services.values()} == {"cpu", "cuda"}
    for service in services.values():
        assert service["ports"] == ["127.0.0.1:${PORT:-8000}:8000"] and "--keys" in service["command"]
        served_by(service["command"])


def test_systemd_takes_the_unit(tmp_path):
    text = (ROOT / "deploy/jaxchat.service").read_text()
    served_by(re.search(r"^ExecStart=\S+/jaxchat (.*)$", text, re.MULTILINE)[1].split())
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not here, which checks its units")
    unit = tmp_path / "jaxchat.service"
    unit.write_text(text.replace("/opt/jaxchat/bin/jaxchat", "/bin/true"))  # the program has to be there
    ended = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert ended.returncode == 0 and "jaxchat.service" not in ended.stderr, ended.stderr


def served_by(command):
    """Each option of `jaxchat serve` in a command line is one that it has."""
    from jaxchat.verbs.serve import Serve

    assert command[0] == "serve"
    options = {word[2:].replace("-", "_") for word in command if word.startswith("--")}
    assert options <= set(Serve.__dataclass_fields__)
