"""Contestants that take turns, each a process of its own, so that all see the same machine.

A bench names its contestants in a dict `name: prepare`, where `prepare()` returns the function to be timed, calls
`enter(CONTESTANTS)` before anything else, and then `measure`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxchat.absent_tpu import look_for_no_tpu
from jaxchat.large_pages import begin_again_with_large_pages

if TYPE_CHECKING:
    from jaxchat.models.decoding import Weights
    from jaxchat.sample.engine import Engine

Contestants = Mapping[str, Callable[[], Callable[[], Any]]]
FLAG = "--contestant"


def enter(contestants: Contestants, warm_up: int = 2) -> None:
    """Returns at once in the bench itself. In a contestant's process: warms up, then takes a turn for every line on
    standard input, answers each with the seconds that a run took, and exits.

    A turn is one run that is not counted and one that is: while a process waits, a virtual machine may hand the memory
    that it freed back to the host, and the first run after pays for having it again, as no run of long work would.
    """
    if FLAG not in sys.argv:
        return
    look_for_no_tpu()
    run = contestants[sys.argv[sys.argv.index(FLAG) + 1]]()
    for _ in range(warm_up):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        run()
        begun = time.perf_counter()
        found = run() or {}
        print(json.dumps({"seconds": time.perf_counter() - begun, **found}), flush=True)
    sys.exit()


def measure(contestants: Contestants, repeats: int, label: str) -> dict[str, float]:
    """Median seconds of each contestant over `repeats` turns."""
    return {name: found["seconds"] for name, found in figures(contestants, repeats, label).items()}


def figures(contestants: Contestants, repeats: int, label: str) -> dict[str, dict[str, float]]:
    """Medians of each contestant over `repeats` turns: "seconds", and what else its runs return by name."""
    from jaxchat.progress import track

    workers: dict[str, subprocess.Popen[str]] = {}
    for name in contestants:
        command = [sys.executable, *sys.argv, FLAG, name]
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if _answer(workers[name], name) != "ready":
            sys.exit(f"{name} did not come up")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in track(range(repeats), label=label, unit="turns"):
        for name, worker in workers.items():
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
            found[name].append(json.loads(_answer(worker, name)))
    for worker in workers.values():
        worker.communicate()
    return {
        name: {figure: statistics.median(turn[figure] for turn in turns) for figure in turns[0]}
        for name, turns in found.items()
    }


def result(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, Any]:
    """One line of a bench's JSON: more is better."""
    return {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ours / peer}


def write(results: list[dict[str, Any]], file: Path | None) -> None:
    from jaxchat.files import replacing

    if file:
        with replacing(file) as out:
            json.dump(results, out, indent=1)


def _answer(worker: subprocess.Popen[str], name: str) -> str:
    assert worker.stdout
    line = worker.stdout.readline().strip()
    if not line:
        sys.exit(f"{name} ended with exit code {worker.wait()}")
    return line


def engine_of_smollm2(slots: int, context: int, weights: Weights = "whole", *, invariant: bool = True) -> Engine:
    """SmolLM2-135M's shape in jaxchat's engine, with random weights and as the command line runs it: in large pages,
    keeping what is compiled."""
    begin_again_with_large_pages()
    import jax

    from jaxchat.compiled import keep_compiled
    from jaxchat.mesh import make_mesh
    from jaxchat.models.decoder import Model
    from jaxchat.models.presets import smollm2_135m
    from jaxchat.sample.engine import Engine
    from jaxchat.testing import ByteTokenizer

    class Mute(ByteTokenizer):
        def decode(self, ids: object, *, skip_special_tokens: bool = False) -> str:
            return ""  # ids of a vocabulary that has no text

    keep_compiled()
    model, mesh = Model(smollm2_135m()), make_mesh()
    with jax.set_mesh(mesh):
        params = jax.jit(model.init)(jax.random.key(0))
    return Engine(model, params, Mute(), mesh, slots=slots, context=context, weights=weights, invariant=invariant)


def transformers_llama() -> Any:
    """SmolLM2-135M's shape as transformers builds it, in float32 with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from jaxchat.models.presets import smollm2_135m

    ours = smollm2_135m()
    rotary = ours.kinds[0].rotary
    assert rotary
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=ours.vocab_size,
            hidden_size=ours.width,
            intermediate_size=ours.hidden,
            num_hidden_layers=ours.layers,
            num_attention_heads=ours.heads,
            num_key_value_heads=ours.kv_heads,
            tie_word_embeddings=True,
            rms_norm_eps=ours.norm.eps,
            rope_parameters={"rope_type": "default", "rope_theta": rotary.theta},
        )
    )
