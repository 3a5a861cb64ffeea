"""Decoding speed: greedy tokens a second of SmolLM2-135M beside transformers on torch, for 1 and for 8 prompts at once.

    python tools/bench_decode.py [--repeats 7] [--tokens 64] [--json FILE]

Every contestant is a process of its own; they take turns, so that all see the same machine. A turn is what a user
calls: one `generate` of `--tokens` tokens for each prompt of 16, reading the prompts and choosing tokens included, with
random weights in float32. Medians are reported. jaxchat runs as its command line does with --fast, in large pages where
the kernel has them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from contest import FLAG, Contestants, engine_of_smollm2, enter, measure, result, transformers_llama, write

PROMPT = 16
BATCHES = (1, 8)
OURS, PEER = "jaxchat", "transformers f32"


def jaxchat_generate(rows: int, tokens: int) -> Callable[[], None]:
    engine = engine_of_smollm2(rows, context=PROMPT + tokens, invariant=False)
    from jaxchat.sample.generate import generate
    from jaxchat.sample.methods import Sampling

    greedy = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)

    def run() -> None:
        done = generate(engine, _prompts(rows), greedy)
        assert all(len(completion.token_ids) == tokens for completion in done)

    return run


def transformers_generate(rows: int, tokens: int) -> Callable[[], None]:
    import torch

    model = transformers_llama().eval()
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


def contestants(tokens: int) -> Contestants:
    made: dict[str, Callable[[], Callable[[], None]]] = {}
    for rows in BATCHES:
        made[_name(OURS, rows)] = partial(jaxchat_generate, rows, tokens)
        made[_name(PEER, rows)] = partial(transformers_generate, rows, tokens)
    return made


def _name(who: str, rows: int) -> str:
    return f"{who}, batch {rows}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64, help="that each prompt is answered with")
    parser.add_argument("--json", type=Path)
    parser.add_argument(FLAG, help=argparse.SUPPRESS)
    args = parser.parse_args()
    enter(contestants(args.tokens))
    seconds = measure(contestants(args.tokens), args.repeats, f"{args.tokens} tokens each")
    results = []
    for rows in BATCHES:
        ours, peer = (rows * args.tokens / seconds[_name(who, rows)] for who in (OURS, PEER))
        print(f"batch {rows}: {OURS} {ours:.1f} tokens/s, {PEER} {peer:.1f}: {ours / peer:.2f} times")
        results.append(result(f"greedy decoding, SmolLM2-135M, batch {rows}", ours, peer, PEER, "tokens/s"))
    write(results, args.json)


if __name__ == "__main__":
    main()
