"""Serving speed: tokens a second and the wait for the first one, for 1, 4, 16 and 64 requests at once, of SmolLM2-135M.

    python tools/bench_serve.py [--at-once 1,4,16] [--repeats 3] [--server "llama.cpp Q8_0=http://127.0.0.1:8080"] ...
        [--only "f32,llama.cpp"]

jaxchat's engine (in float32, the same with --fast, and with weights in eight bits) and transformers' `generate`
(float32, all prompts as one batch: its best case, which streams nothing) take turns, each a process of its own that
answers every number of requests, as a server would. Any server that speaks OpenAI's completions joins them with
--server NAME=URL (`python -m llama_cpp.server --interrupt_requests false`, `jaxchat serve`, repeats): start it before.
URL#MODEL asks for a model that the server does not name (`transformers serve FOLDER --continuous-batching
--cb-block-size 32 --cb-num-blocks 256 --attn-implementation sdpa`: with its own defaults it ended here at the first
request).
Every request has a prompt of 50 tokens, another one each time, and an answer of --tokens. Medians are reported, and the
share of what reading all weights for each token would allow at the speed that this machine's memory is read with.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from contest import FLAG, Contestants, engine_of_smollm2, enter, figures, result, transformers_llama, write

if TYPE_CHECKING:
    from jaxchat.models.decoding import Weights

PROMPT = 50
PARAMETERS = 134_515_008
Figures = dict[str, float]
Run = Callable[[int], Figures]  # for so many requests at once


@dataclass(eq=False)
class Answer:
    """first: its first token came. tokens: that it had when it ended."""

    first: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    tokens: int = 0


def engine(weights: Weights, invariant: bool, most: int, tokens: int) -> Run:
    made = engine_of_smollm2(min(most, 64), context=512, weights=weights, invariant=invariant)
    from jaxchat.sample.methods import Sampling
    from jaxchat.sample.request import Delta, Request

    made.compile()
    greedy = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)

    def ask(answer: Answer) -> None:
        def hear(delta: Delta) -> None:
            answer.first.set()
            answer.tokens += len(delta.token_ids)
            if delta.finish_reason:
                answer.ended.set()

        made.submit(Request(tuple(random.randrange(40_000) for _ in range(PROMPT)), greedy), hear)

    return partial(together, ask, tokens)


def server(url: str, most: int, tokens: int) -> Run:
    def ask(answer: Answer) -> None:
        words = " ".join(random.choice(("sun", "rain", "cat", "house", "tree", "boat")) for _ in range(PROMPT))
        body = {"model": model, "prompt": words, "max_tokens": tokens, "temperature": 0, "stream": True}
        body["stream_options"] = {"include_usage": True}
        # No end of text, so that all answers are equally long.
        body["logit_bias"] = {"0": -100, "2": -100}
        asked = urllib.request.Request(
            f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )

        def read() -> None:
            with urllib.request.urlopen(asked) as lines:
                for line in lines:
                    if line.startswith(b"data: {"):
                        told = json.loads(line[6:])
                        answer.first.set()
                        answer.tokens += any(choice["text"] for choice in told["choices"])
                        answer.tokens = (told.get("usage") or {}).get("completion_tokens", answer.tokens)
            answer.ended.set()

        threading.Thread(target=read).start()

    url, _, model = url.partition("#")
    if not model:
        with urllib.request.urlopen(f"{url}/v1/models") as answer:
            model = json.load(answer)["data"][0]["id"]
    return partial(together, ask, tokens)


def together(ask: Callable[[Answer], None], tokens: int, at_once: int) -> Figures:
    """Asks for so many answers at once, and waits for all of them. Ends the contestant where they are cut short."""
    waits: list[float] = []
    begun = time.perf_counter()
    answers = [Answer() for _ in range(at_once)]

    def watch(answer: Answer) -> None:
        answer.first.wait()
        waits.append(time.perf_counter() - begun)

    watchers = [threading.Thread(target=watch, args=(answer,)) for answer in answers]
    for watcher in watchers:
        watcher.start()
    for answer in answers:
        ask(answer)
    for answer in answers:
        answer.ended.wait()
    said = sum(answer.tokens for answer in answers)
    if said < 0.9 * at_once * tokens:  # a piece of text may be two tokens
        sys.exit(f"{at_once} answers of {tokens} tokens were asked for, and {said} tokens came")
    rate = said / (time.perf_counter() - begun)
    for watcher in watchers:
        watcher.join()
    return {"rate": rate, "first": statistics.median(waits), "last_first": max(waits)}


def transformers_generate(most: int, tokens: int) -> Run:
    import torch

    model = transformers_llama().eval()

    def run(at_once: int) -> Figures:
        prompts = torch.randint(40_000, (at_once, PROMPT))
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                pad_token_id=0,
            )
        return {"rate": at_once * tokens / (time.perf_counter() - begun)}

    return run


def memory() -> Callable[[], Figures]:
    """How fast memory is read, in bytes a second."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((2, 64 * 1024 * 1024), jnp.float32)
    read = jax.jit(lambda x: jnp.sum(x, axis=1))

    def run() -> Figures:
        begun = time.perf_counter()
        read(x).block_until_ready()
        return {"rate": x.nbytes / (time.perf_counter() - begun)}

    return run


def makers(servers: dict[str, str], only: list[str]) -> dict[str, Callable[[int, int], Run]]:
    """Who takes part: what makes each, for at most so many requests at once of so many tokens."""
    all_: dict[str, Callable[[int, int], Run]] = {
        "jaxchat f32": partial(engine, "whole", True),
        "jaxchat f32 --fast": partial(engine, "whole", False),
        "jaxchat int8": partial(engine, "int8", True),
        "jaxchat int8 --fast": partial(engine, "int8", False),
        "transformers f32": transformers_generate,
        **{name: partial(server, url) for name, url in servers.items()},
    }
    return {name: make for name, make in all_.items() if name == "jaxchat f32" or any(part in name for part in only)}


def one_turn(make: Callable[[int, int], Run], counts: list[int], tokens: int) -> Callable[[], Figures]:
    """Every number of requests once; figures are named "16 rate"."""
    run = make(max(counts), tokens)
    return lambda: {f"{count} {name}": value for count in counts for name, value in run(count).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", default="1,4,16,64", help="how many requests")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--only", default="", help="who takes part, by parts of names, beside jaxchat f32")
    parser.add_argument("--json", type=Path)
    parser.add_argument(FLAG, help=argparse.SUPPRESS)
    args = parser.parse_args()
    counts = [int(count) for count in args.at_once.split(",")]
    servers = dict(one.split("=", 1) for one in args.server)
    taking_part = makers(servers, args.only.split(","))
    contestants: Contestants = {
        "memory": memory,
        **{name: partial(one_turn, make, counts, args.tokens) for name, make in taking_part.items()},
    }
    enter(contestants, warm_up=1)
    found = figures(contestants, args.repeats, f"{args.tokens} tokens each")
    speed = found["memory"]["rate"]
    print(f"memory is read at {speed / 1e9:.0f} GB/s: {speed / 4 / PARAMETERS:.0f} tokens/s in f32 for one request")
    results = []
    for count in counts:
        for name in taking_part:
            rate = found[name][f"{count} rate"]
            line = f"{count:3} at once, {name}: {rate:.1f} tokens/s"
            if name.startswith("jaxchat "):
                bytes_read = PARAMETERS * (1 if "int8" in name else 4)
                line += f", {100 * rate / count * bytes_read / speed:.0f} % of the memory's limit"
            if (first := found[name].get(f"{count} first")) is not None:
                last = found[name][f"{count} last_first"]
                line += f"; first token after {first:.2f} s, the last one's after {last:.2f} s"
            print(line)
        for peer in (name for name in taking_part if not name.startswith("jaxchat f32")):
            ours, theirs = (found[name][f"{count} rate"] for name in ("jaxchat f32", peer))
            results.append(result(f"serving SmolLM2-135M, {count} at once", ours, theirs, peer, "tokens/s"))
    if {1, 16} <= set(counts):
        times = found["jaxchat f32"]["16 rate"] / found["jaxchat f32"]["1 rate"]
        print(f"16 requests at once: {times:.2f} times the tokens/s of one")
    write(results, args.json)


if __name__ == "__main__":
    main()
