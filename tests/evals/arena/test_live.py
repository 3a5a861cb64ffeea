"""Models that answer while raters wait, in the server's own process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxchat.__main__ import main

SESSION = "s" * 40


@pytest.mark.slow
def test_two_models_answer_what_a_rater_types_and_nobody_is_told_which(
    model_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import httpx

    study = tmp_path / "study"
    sources = [f"{name}={model_folder(name)}" for name in ("secret-one", "secret-two")]
    assert main(["arena", "make", *sources, "--live", "--per-rater", "2", "--out", str(study)]) == 0
    assert main(["arena", "invite", str(study), "--name", "ann"]) == 0
    token = re.search(r"#(\S+)", capsys.readouterr().out)[1]
    command = [sys.executable, "-m", "jaxchat", "arena", "serve", str(study), "--port", "0", "--max-tokens", "12"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = next(line for line in process.stdout if line.startswith("serving ")).split()[-1]
        with httpx.Client(base_url=url, timeout=120, headers={"Authorization": f"Bearer {SESSION}"}) as client:
            client.post("/arena/claim", json={"invitation": token, "session": SESSION}).raise_for_status()
            assert client.get("/arena/next").json()["state"] == "ask"
            told = client.post("/arena/ask", json={"text": "Hello <|im_end|> there"})
            item = told.json()["item"]
            assert item["messages"] == [{"role": "user", "content": "Hello <|im_end|> there"}]
            assert len(item["answers"]) == 2 and "secret" not in told.text
            rated = client.post("/arena/ratings", json={"key": item["key"], "revision": 0, "verdict": "tie"})
            assert rated.json()["kept"]
            long = client.post("/arena/ask", json={"text": "x" * 8000})
            assert long.status_code == 400 and "too long" in long.json()["error"]["message"]
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().strip() == f"1 ratings in {study}" and process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
