"""Decoding speed: greedy tokens a second of SmolLM2-135M beside transformers on torch, for 1 and for 8 prompts at once.

    python tools/bench_decode.py [--repeats 7] [--tokens 64] [--json FILE]

Every contestant is a process of its own; they take turns, so that all see the same machine. A turn is what a user
calls: one `generate` of `--tokens` tokens for each prompt of 16, reading the prompts and choosing tokens included, with
random weights in float32. Medians are reported.
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

PROMPT = 16
BATCHES = (1, 8)
OURS, PEER = "jaxchat", "transformers f32"


def jaxchat_generate(rows: int, tokens: int) -> Callable[[], None]:
    import jax

    from jaxchat.mesh import make_mesh
    from jaxchat.models.decoder import Model
    from jaxchat.models.presets import smollm2_135m
    from jaxchat.sample.generate import Generator
    from jaxchat.sample.methods import Sampling
    from jaxchat.testing import ByteTokenizer

    class Mute(ByteTokenizer):
        def decode(self, ids: object, *, skip_special_tokens: bool = False) -> str:
            return ""  # ids of a vocabulary that has no text

    model, mesh = Model(smollm2_135m()), make_mesh()
    with jax.set_mesh(mesh):
        params = jax.jit(model.init)(jax.random.key(0))
    generator = Generator(model, params, Mute(), mesh)
    greedy = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)

    def run() -> None:
        done = generator.generate(_prompts(rows), greedy)
        assert all(len(completion.token_ids) == tokens for completion in done)

    return run


def transformers_generate(rows: int, tokens: int) -> Callable[[], None]:
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
    model = LlamaForCausalLM(config).eval()
    prompts = torch.tensor(_prompts(rows))

    def run() -> None:
        with torch.inference_mode():
            out = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                pad_token_id=0,
            )
        assert out.shape == (rows, PROMPT + tokens)

    return run


def _prompts(rows: int) -> list[list[int]]:
    """Another prompt every time, so that nothing read before is of use."""
    first = time.perf_counter_ns() % 40_000
    return [[first + 100 * row + t for t in range(PROMPT)] for row in range(rows)]


CONTESTANTS = {OURS: jaxchat_generate, PEER: transformers_generate}


def work(name: str, rows: int, tokens: int) -> None:
    """One contestant: warms up, then runs once for every line on standard input and answers with the seconds."""
    run = CONTESTANTS[name](rows, tokens)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        run()
        print(time.perf_counter() - begun, flush=True)


def measure(repeats: int, tokens: int) -> dict[tuple[str, int], float]:
    """Median tokens a second of each contestant and batch, one run each in turn."""
    from jaxchat.progress import track

    workers = {}
    for key in [(name, rows) for rows in BATCHES for name in CONTESTANTS]:
        command = [sys.executable, __file__, "--tokens", str(tokens), "--work", key[0], "--rows", str(key[1])]
        workers[key] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if _answer(workers[key]) != "ready":
            sys.exit(f"{key[0]} did not come up")
    speeds: dict[tuple[str, int], list[float]] = {key: [] for key in workers}
    for _ in track(range(repeats), label=f"{tokens} tokens each", unit="turns"):
        for key, worker in workers.items():
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
            speeds[key].append(key[1] * tokens / float(_answer(worker)))
    for worker in workers.values():
        worker.communicate()
    return {key: statistics.median(each) for key, each in speeds.items()}


def _answer(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout
    line = worker.stdout.readline().strip()
    if not line:
        sys.exit(f"a contestant ended with exit code {worker.wait()}")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64, help="that each prompt is answered with")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.rows, args.tokens)
        return
    speed = measure(args.repeats, args.tokens)
    results = []
    for rows in BATCHES:
        ours, peer = speed[OURS, rows], speed[PEER, rows]
        print(f"batch {rows}: {OURS} {ours:.1f} tokens/s, {PEER} {peer:.1f}: {ours / peer:.2f} times")
        name = f"greedy decoding, SmolLM2-135M, batch {rows}"
        results.append(
            {"name": name, "ours": ours, "peer": peer, "peer_name": PEER, "unit": "tokens/s", "ratio": ours / peer}
        )
    if args.json:
        from jaxchat.files import replacing

        with replacing(args.json) as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
