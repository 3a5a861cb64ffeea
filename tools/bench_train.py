"""Training speed: one SmolLM2-135M step (4 rows of 256 tokens, AdamW) beside transformers on torch, on this CPU.

    python tools/bench_train.py [--repeats 7] [--json FILE]

Every contestant is a process of its own; they take turns, one step each, so that all see the same machine. A step is
forward, backward and update, with random weights and tokens: none of them knows what they are. Medians are reported.
Also printed: our share of the machine's float32 matrix-product peak, which takes its turn like the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROWS, TOKENS = 4, 256
OURS, PEAK = "jaxchat f32", "matrix product"


def jaxchat_step() -> Callable[[], None]:
    import jax
    import numpy as np
    from jax.sharding import NamedSharding

    from jaxchat.data.batch import Batch
    from jaxchat.mesh import make_mesh
    from jaxchat.models.decoder import Model
    from jaxchat.models.presets import smollm2_135m
    from jaxchat.train.optim import OptimConfig, make_optimizer
    from jaxchat.train.state import start
    from jaxchat.train.step import make_step

    model, optimizer = Model(smollm2_135m()), make_optimizer(OptimConfig(), 1000)
    mesh = make_mesh()
    jax.set_mesh(mesh)
    state = jax.jit(lambda key: start(model.init(key), optimizer))(jax.random.key(0))
    step = make_step(model, optimizer)
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (ROWS, TOKENS + 1)).astype(np.int32)
    ones = np.ones((ROWS, TOKENS), np.int32)
    host = Batch(tokens[:, :-1], tokens[:, 1:], ones.astype(np.float32), ones, np.arange(TOKENS, dtype=np.int32) * ones)
    sharding = NamedSharding(mesh, model.rules.activation("batch", "sequence"))
    batch = jax.tree.map(lambda x: jax.device_put(np.ascontiguousarray(x), sharding), host)

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def torch_step(bf16: bool) -> Callable[[], None]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from jaxchat.models.presets import smollm2_135m

    ours = smollm2_135m()
    config = LlamaConfig(
        vocab_size=ours.vocab_size,
        hidden_size=ours.width,
        intermediate_size=ours.hidden,
        num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads,
        num_key_value_heads=ours.kv_heads,
        tie_word_embeddings=True,
        rms_norm_eps=ours.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": ours.rope_theta},
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1)
    tokens = torch.randint(0, ours.vocab_size, (ROWS, TOKENS))

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def matrix_product() -> Callable[[], None]:
    import jax
    import jax.numpy as jnp

    multiply = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (SIDE, SIDE), jnp.float32)
    return lambda: multiply(a, a).block_until_ready()


SIDE = 2048
CONTESTANTS: dict[str, Callable[[], Callable[[], None]]] = {
    OURS: jaxchat_step,
    "transformers f32": lambda: torch_step(bf16=False),
    "transformers bf16 autocast": lambda: torch_step(bf16=True),
    PEAK: matrix_product,
}


def work(name: str) -> None:
    """One contestant: warms up, then runs once for every line on standard input and answers with the seconds."""
    run = CONTESTANTS[name]()
    for _ in range(2):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        run()
        print(time.perf_counter() - begun, flush=True)


def measure(repeats: int) -> dict[str, float]:
    """Median seconds of each contestant, one run each in turn."""
    from jaxchat.progress import track

    workers = {}
    for name in CONTESTANTS:
        command = [sys.executable, __file__, "--work", name]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers[name] = worker
        if _answer(worker, name) != "ready":
            sys.exit(f"{name} did not come up")
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in track(range(repeats), label="one step each", unit="turns"):
        for name, worker in workers.items():
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
            seconds[name].append(float(_answer(worker, name)))
    for worker in workers.values():
        worker.communicate()
    return {name: statistics.median(times) for name, times in seconds.items()}


def _answer(worker: subprocess.Popen[str], name: str) -> str:
    assert worker.stdout
    line = worker.stdout.readline().strip()
    if not line:
        sys.exit(f"{name} ended with exit code {worker.wait()}")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    seconds = measure(args.repeats)
    speed = {name: ROWS * TOKENS / s for name, s in seconds.items()}
    results = []
    for peer in CONTESTANTS:
        if peer.startswith("transformers"):
            ratio = speed[OURS] / speed[peer]
            print(f"{OURS} {speed[OURS]:.0f} tokens/s, {peer} {speed[peer]:.0f}: {ratio:.2f} times")
            results.append(_result("training step, SmolLM2-135M, 4 x 256", speed[OURS], speed[peer], peer, "tokens/s"))
    from jaxchat.models.presets import smollm2_135m

    reached = ROWS * TOKENS * smollm2_135m().flops_per_token(TOKENS / 2) / seconds[OURS] / 1e9
    peak = 2 * SIDE**3 / seconds[PEAK] / 1e9
    print(f"{reached:.0f} of {peak:.0f} GFLOP/s, the machine's own matrix product: {reached / peak:.0%}")
    results.append(_result("share of the f32 matrix-product peak", reached, peak, "one 2048^3 product f32", "GFLOP/s"))
    if args.json:
        from jaxchat.files import replacing

        with replacing(args.json) as file:
            json.dump(results, file, indent=1)


def _result(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, str | float]:
    return {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ours / peer}


if __name__ == "__main__":
    main()
