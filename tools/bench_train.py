"""Training speed: one SmolLM2-135M step (4 rows of 256 tokens, AdamW) beside transformers on torch, on this CPU.

    python tools/bench_train.py [--repeats 7] [--json FILE]

Every contestant is a process of its own; they take turns, so that all see the same machine. A step is
forward, backward and update, with random weights and tokens: none of them knows what they are. Medians are reported.
jaxchat runs as its command line does, in large pages where the kernel has them. Also printed: our share of the
machine's float32 matrix-product peak, which takes its turn like the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from contest import Contestants, enter, measure, result, transformers_llama, write

from jaxchat.large_pages import begin_again_with_large_pages

ROWS, TOKENS = 4, 256
OURS, UNTOLD, PEAK = "jaxchat f32", "jaxchat f32 without flags for XLA", "matrix product"


def jaxchat_step(told: bool = True) -> Callable[[], None]:
    """The step that a run takes. told: XLA what jaxchat/xla_flags.py says."""
    begin_again_with_large_pages()
    import jax
    import numpy as np
    from jax.sharding import NamedSharding

    from jaxchat.data.batch import Batch
    from jaxchat.mesh import make_mesh
    from jaxchat.models.decoder import Model
    from jaxchat.models.presets import smollm2_135m
    from jaxchat.train.optim import OptimConfig
    from jaxchat.train.program import build

    model, mesh = Model(smollm2_135m()), make_mesh()
    jax.set_mesh(mesh)
    made = build(model, OptimConfig(), mesh, (ROWS, TOKENS), steps=1000)
    state = made.start(jax.jit(model.init)(jax.random.key(0)))
    step = made.step.lower(made.state, made.batch).compile(made.flags if told else {})
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

    model = transformers_llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1)
    tokens = torch.randint(0, model.config.vocab_size, (ROWS, TOKENS))

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

    def run() -> None:
        multiply(a, a).block_until_ready()

    return run


SIDE = 2048
CONTESTANTS: Contestants = {
    OURS: jaxchat_step,
    UNTOLD: lambda: jaxchat_step(told=False),
    "transformers f32": lambda: torch_step(bf16=False),
    "transformers bf16 autocast": lambda: torch_step(bf16=True),
    PEAK: matrix_product,
}


def main() -> None:
    enter(CONTESTANTS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    seconds = measure(CONTESTANTS, args.repeats, "training steps")
    speed = {name: ROWS * TOKENS / s for name, s in seconds.items()}
    results = []
    for peer in CONTESTANTS:
        if peer not in (OURS, PEAK):
            ratio = speed[OURS] / speed[peer]
            print(f"{OURS} {speed[OURS]:.0f} tokens/s, {peer} {speed[peer]:.0f}: {ratio:.2f} times")
            results.append(result("training step, SmolLM2-135M, 4 x 256", speed[OURS], speed[peer], peer, "tokens/s"))
    from jaxchat.models.presets import smollm2_135m

    reached = ROWS * TOKENS * smollm2_135m().flops_per_token(TOKENS / 2) / seconds[OURS] / 1e9
    peak = 2 * SIDE**3 / seconds[PEAK] / 1e9
    print(f"{reached:.0f} of {peak:.0f} GFLOP/s, the machine's own matrix product: {reached / peak:.0%}")
    results.append(result("share of the f32 matrix-product peak", reached, peak, "one 2048^3 product f32", "GFLOP/s"))
    write(results, args.json)


if __name__ == "__main__":
    main()
