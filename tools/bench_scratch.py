"""Training from scratch against the clock: held-out bits per byte after so many seconds of training on this machine.

    python tools/bench_scratch.py --split DIR [--seconds 750] [--json FILE]

DIR holds train.txt.jsonl and val.txt.jsonl, one object with a `text` a line. A SentencePiece vocabulary of 8,192 is
trained on the first, then a model of 11 to 12 million parameters, in float32 on whatever devices are here. Only steps
count as seconds: not reading, not compiling, not scoring. Every byte of val is scored once, in windows of 256 tokens
that know nothing of each other. Beside it stands nanochat's curve (depth 4, 11.5 million parameters, the same text,
vocabulary and clock on 2 cores), measured once and not run here.

B rows, T tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.chat.train_sentencepiece import train_sentencepiece
from jaxchat.data.batch import Batch
from jaxchat.files import replacing
from jaxchat.large_pages import begin_again_with_large_pages
from jaxchat.mesh import make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import nll
from jaxchat.progress import Bar
from jaxchat.train.optim import Linear, Muon, OptimConfig, make_optimizer
from jaxchat.train.state import TrainState, start
from jaxchat.train.step import Step, make_step

NANOCHAT = ((131, 1.217), (262, 0.937), (389, 0.795), (520, 0.737), (646, 0.697), (746, 0.684))
NANOCHAT_WINDOWS = 0.708  # its last model, every byte scored in windows of 256 tokens: the figure to compare with
CONFIG = DecoderConfig(
    vocab_size=8192, layers=5, width=384, heads=6, kv_heads=6, head_size=64, hidden=960, context_length=256
)
OPTIM = OptimConfig(
    peak_lr=4e-3, schedule=Linear(0.0), warmup=0.03, weight_decay=0.1, clip=1.0, matrices=Muon(peak_lr=0.02)
)
ROWS, WINDOW, CALIBRATION = 16, 256, 12


def main() -> None:
    args = parse()
    train, held_out = (read(args.split / f"{name}.txt.jsonl") for name in ("train", "val"))
    tokenizer = get_tokenizer(args.split / "tokenizer", train)
    rows = pack(tokenizer, train)
    windows, scored_bytes = pack(tokenizer, held_out), sum(len(text.encode()) for text in held_out)
    print(f"{CONFIG.parameters:,} parameters; {sum(map(len, rows)):,} tokens an epoch; {scored_bytes:,} bytes held out")
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        model = Model(CONFIG)
        place = placer(model, mesh)
        steps = args.steps or calibrate(model, rows, place, args.seconds)
        curve = run(model, rows, windows, scored_bytes, place, steps, args.points)
    last = curve[-1]
    print(
        f"held-out bits per byte {last['bits_per_byte']:.4f} after {last['seconds']:.0f} s; nanochat {NANOCHAT_WINDOWS}"
    )
    if args.json:
        result = {
            "name": "from scratch, held-out bits per byte",
            "ours": last["bits_per_byte"],
            "peer": NANOCHAT_WINDOWS,
            "peer_name": "nanochat depth 4 f32, 746 s, measured once",
            "unit": "bits per byte",
            "ratio": NANOCHAT_WINDOWS / last["bits_per_byte"],
            "curve": curve,
            "peer_curve": NANOCHAT,
            "config": asdict(CONFIG),
        }
        with replacing(args.json) as file:
            json.dump([result], file, indent=1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--split", type=Path, required=True, help="folder of train.txt.jsonl and val.txt.jsonl")
    parser.add_argument("--seconds", type=float, default=750, help="of training")
    parser.add_argument("--steps", type=int, help="so many steps instead, whatever they take")
    parser.add_argument("--points", type=int, default=6, help="of the curve")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def read(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def get_tokenizer(folder: Path, texts: list[str]) -> Tokenizer:
    if not folder.exists():
        train_sentencepiece(texts, folder, vocab_size=CONFIG.vocab_size, phrases=True, max_sentences=100_000)
    return load_tokenizer(folder)


def pack(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """All texts, each behind a beginning-of-sequence token, as rows of WINDOW tokens and the one that follows them."""
    assert tokenizer.bos_id is not None
    stream = np.concatenate([[tokenizer.bos_id, *ids] for ids in tokenizer.encode_batch(texts)]).astype(np.int32)
    starts = np.arange(0, len(stream) - 1, WINDOW)
    stream = np.concatenate([stream, np.full(WINDOW, tokenizer.bos_id, np.int32)])
    return np.stack([stream[s : s + WINDOW + 1] for s in starts])


def batch(rows_BT: np.ndarray, bos_id: int) -> Batch:
    """Windows as a batch. A beginning of sequence is nobody's next word, and conversations do not see each other."""
    tokens_BT, targets_BT = rows_BT[:, :-1], rows_BT[:, 1:]
    first_BT = tokens_BT == bos_id
    segments_BT = 1 + np.cumsum(first_BT, axis=1, dtype=np.int32)
    t = np.arange(tokens_BT.shape[1], dtype=np.int32)
    positions_BT = t - np.maximum.accumulate(np.where(first_BT, t, 0), axis=1)
    weights_BT = (targets_BT != bos_id).astype(np.float32)
    return Batch(tokens_BT, targets_BT, weights_BT, segments_BT, positions_BT.astype(np.int32))


def placer(model: Model, mesh: jax.sharding.Mesh) -> Callable[[Batch], Batch]:
    sharding = NamedSharding(mesh, model.rules.activation("batch", "sequence"))
    return lambda host: jax.tree.map(lambda x: jax.device_put(np.ascontiguousarray(x), sharding), host)


def batches(rows: np.ndarray, seed: int = 0) -> Iterator[Batch]:
    rng, bos_id = np.random.default_rng(seed), int(rows[0, 0])
    while True:
        order = rng.permutation(len(rows))
        for first in range(0, len(order) - ROWS + 1, ROWS):
            yield batch(rows[order[first : first + ROWS]], bos_id)


def begin(model: Model, steps: int) -> tuple[TrainState, Step]:
    optimizer = make_optimizer(OPTIM, steps)
    state = jax.jit(lambda key: start(model.init(key), optimizer))(jax.random.key(0))
    return state, make_step(model, optimizer)


def calibrate(model: Model, rows: np.ndarray, place: Callable[[Batch], Batch], seconds: float) -> int:
    """How many steps the seconds are enough for, from a few steps that are thrown away."""
    state, step = begin(model, CALIBRATION)
    times = []
    for _, host in zip(range(CALIBRATION), batches(rows)):
        begun = time.perf_counter()
        state, metrics = step(state, place(host))
        metrics.loss.block_until_ready()
        times.append(time.perf_counter() - begun)
    return max(1, math.floor(seconds / float(np.median(times[2:]))))


def run(
    model: Model,
    rows: np.ndarray,
    windows: np.ndarray,
    scored_bytes: int,
    place: Callable[[Batch], Batch],
    steps: int,
    points: int,
) -> list[dict[str, float]]:
    state, step = begin(model, steps)
    stream = batches(rows)
    step = step.lower(state, place(next(stream))).compile()  # type: ignore[attr-defined]
    score = jax.jit(lambda params, rows: nll(model, params, rows) * rows.weights_BT)
    marks = {round(steps * (i + 1) / points) for i in range(points)}
    seconds, curve = 0.0, []
    with Bar("training", total=steps, unit="steps") as bar:
        for number in range(1, steps + 1):
            begun = time.perf_counter()
            state, metrics = step(state, place(next(stream)))
            loss = float(metrics.loss)
            seconds += time.perf_counter() - begun
            bar.advance(1, loss=f"{loss:.3f}", seconds=f"{seconds:.0f}")
            if number in marks:
                bits = held_out_bits(score, state.params, windows, place) / scored_bytes
                tokens = number * ROWS * WINDOW
                curve.append({"seconds": seconds, "tokens": tokens, "loss": loss, "bits_per_byte": bits})
                bar.write(f"{seconds:5.0f} s  {tokens:10,} tokens  {tokens / seconds:6.0f}/s  bits per byte {bits:.4f}")
    return curve


def held_out_bits(score: Callable, params: Params, windows: np.ndarray, place: Callable[[Batch], Batch]) -> float:
    total, bos_id = 0.0, int(windows[0, 0])
    for first in range(0, len(windows), ROWS):
        some = windows[first : first + ROWS]
        host = batch(np.resize(some, (ROWS, WINDOW + 1)), bos_id)
        counted = (np.arange(ROWS) < len(some)).astype(np.float32)[:, None]
        total += float(np.sum(np.asarray(score(params, place(replace(host, weights_BT=host.weights_BT * counted))))))
    return total / math.log(2)


if __name__ == "__main__":
    begin_again_with_large_pages()
    main()
