"""One command's worth of a run: from a state to the last one, writing down, scoring, sampling and saving on the way."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import jax
import numpy as np

from jaxchat.data.batch import Batch, place
from jaxchat.data.pipeline import Pipeline
from jaxchat.distributed.agreement import meet, on_first
from jaxchat.files import replacing
from jaxchat.host_memory import fetched
from jaxchat.hub.checkpoints import Checkpoints
from jaxchat.models.decoder import Params
from jaxchat.peak import peak_flops
from jaxchat.progress import Bar
from jaxchat.train.clock import EVERY_STEP, Clock
from jaxchat.train.curve import draw_losses
from jaxchat.train.divergence import Detour, Detours, Policy, Rewind, Skip
from jaxchat.train.folder import RunFolder
from jaxchat.train.goodput import TimeLog, sentence
from jaxchat.train.heldout import make_evaluator
from jaxchat.train.loop import Loop, Occasion
from jaxchat.train.metrics import MetricsLog, Record, read_metrics
from jaxchat.train.profile import Profile, Profiler
from jaxchat.train.program import Program
from jaxchat.train.state import TrainState
from jaxchat.train.stop import StopRequest
from jaxchat.train.watch import DivergedError, Watch


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state is saved: every `every` steps and at the end. The newest `keep` stay, and the best held-out."""

    every: int = 100
    keep: int = 2


@dataclass(frozen=True)
class HeldOut:
    """When held-out rows are scored: every `every` steps (None: never) and at the end, and `before` the first step."""

    every: int | None = 100
    before: bool = True


@dataclass(frozen=True)
class Samples:
    """When the model answers `prompts`: every `every` steps (None: never) and at the end; greedily, up to `tokens`."""

    prompts: tuple[str, ...] = ()
    every: int | None = 100
    tokens: int = 48


@dataclass(frozen=True)
class Ended:
    """step: updates made in all. held_out: the last scores. exit_code: 0, or that of the signal that it stopped for."""

    step: int
    held_out: dict[str, float] | None
    exit_code: int


class _Rewound(Exception):  # noqa: N818  # a way on
    """The run goes on from the checkpoint of step `to`, which is behind it."""

    def __init__(self, to: int) -> None:
        self.to = to


@dataclass
class Session:
    """Everything a run needs but its state. frozen: the weights below an adapter. answer: the model's replies to
    `samples.prompts`, in order. clock: books where the time goes, since `began` (Unix time)."""

    folder: RunFolder
    program: Program
    pipeline: Pipeline
    checkpoints: Checkpoints
    mesh: jax.sharding.Mesh
    frozen: Params | None
    steps: int
    checkpoint: CheckpointConfig
    held_out: HeldOut
    samples: Samples
    spike: float | None
    on_divergence: Policy
    answer: Callable[[Params], list[str]] | None
    clock: Clock
    began: float
    profile: Profile
    _compiled: Any = field(default=None, init=False)

    def run(self, state: TrainState, restored: int | None) -> Ended:
        """Trains `state`, which `restored` updates have made (None: a run that begins), to the end or a stop.

        Raises DivergedError at a step whose loss is not a number or jumps, unless `on_divergence` knows a way on, and
        InputError when the disk is full.
        """
        self._detours = Detours(self.folder.path, writes=jax.process_index() == 0)
        self._profiler = Profiler(self.profile, self.folder.path, lambda text: self._bar.write(text))
        with StopRequest(jax.process_count()) as stop, self._profiler.listening():
            while True:
                try:
                    return self._run(state, restored, stop)
                except _Rewound as rewound:
                    restored, self.began = rewound.to, time.time()
                    with self.clock.on("restore"):
                        state = self.checkpoints.restore(restored, self.program.state)

    def _run(self, state: TrainState, restored: int | None, stop: StopRequest) -> Ended:
        first = jax.process_index() == 0
        start = restored or 0
        self._times = TimeLog(self.folder.path, began=self.began, restored=restored, writes=first)
        with MetricsLog(self.folder.path, restored=restored, writes=first) as log:
            self._log = log
            self._bar = Bar(
                "training", self.steps, "steps", done=start, stream=None if first else open(os.devnull, "w")
            )
            good = (record for record in log.kept if "loss" in record and "skipped" not in record)
            self._watch = Watch(self.spike, ((record["step"], record["loss"]) for record in good))
            self._rates = np.asarray(self.program.learning_rate(np.arange(self.steps)))
            self._evaluate = make_evaluator(self.program.model, self._held_out_batches)
            self._scores = last_scores(log.kept)
            self._keep_samples(restored)
            if restored is None and self._scoring and self.held_out.before:
                with self.clock.on("eval"):
                    self._score(0, state)
            loop = self._loop(state, start, stop)
            with self._bar:
                state, step = loop.run(state, start, self.steps)
                with self.clock.on("checkpoint"):
                    self.checkpoints.wait()
            if stop.signal is not None:
                self._bar.write(f"{stop.signal.name}: saved at step {step}")
        report = self._times.close(self.clock.take())
        if report is not None:
            self._bar.write(sentence(report))
        if first:
            draw_losses(read_metrics(self.folder.metrics), self.folder.curve, title=str(self.folder.path))
        return Ended(step, self._scores[1] if self._scores else None, stop.exit_code if step < self.steps else 0)

    @property
    def _scoring(self) -> bool:
        return self.held_out.every is not None and self.pipeline.heldout_rows > 0

    def _loop(self, state: TrainState, start: int, stop: StopRequest) -> Loop[TrainState]:
        occasions = []
        if self._scoring:
            occasions.append(Occasion("eval", self._score, self.held_out.every, last=True))
        if self.answer is not None and self.samples.every is not None:
            occasions.append(Occasion("samples", self._sample, self.samples.every, last=True))
        began = time.perf_counter()
        with (
            self.clock.on("compile"),
            ThreadPoolExecutor(1) as reader,
        ):  # the first batch waits for TensorFlow to load, most of a compilation
            batches = self._batches(start)
            first = reader.submit(next, batches)
            step = self._compiled
            if step is None:
                lowered = self.program.step.lower(state, self.program.batch, self.frozen, *self._limit(0))
                step = self._compiled = lowered.compile(compiler_options=self.program.flags)
            batches = chain([first.result()], batches)
        meet("compiled")
        self._bar.write(f"compiled the step and read the first batch in {time.perf_counter() - began:.1f} s")
        numbers = count(start + 1)

        def dispatch(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
            number = next(numbers)
            with self._profiler.step(number):
                return step(state, batch, self.frozen, *self._limit(number))

        return Loop(
            train_step=dispatch,
            batches=batches,
            observe=self._observe,
            save=self._save,
            save_every=self.checkpoint.every,
            occasions=tuple(occasions),
            stop_requested=stop.reached,
            # Collectives of two steps at once can lock several devices that are really one CPU.
            lookahead=self.mesh.size == 1 or self.mesh.devices.flat[0].platform != "cpu",
            clock=self.clock,
        )

    def _batches(self, start: int) -> Iterator[Batch]:
        for batch in self._detours.batches(start, self.pipeline.stream):
            yield place(batch, self.program.rows, self.pipeline.batch_size)

    def _held_out_batches(self) -> Iterator[Batch]:
        for batch in self.pipeline.heldout_batches():
            yield place(batch, self.program.rows, self.pipeline.batch_size)

    def _observe(self, step: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        self._times.step(step, spent)
        problem = self._watch.check(step, metrics["loss"], metrics["grad_norm"])
        if problem is None and step in self._detours.skipped:  # by rounding; what was done once is done again
            problem = "its update was left out before"
        if problem is not None:
            self._diverged(step, problem)
        tokens = int(metrics["tokens"])
        seconds = spent.get("input", 0.0) + spent["compute"]
        speed = tokens / seconds
        record: Record = {
            "step": step,
            "loss": metrics["loss"],
            "tokens": tokens,
            "trained_tokens": metrics["weight"],
            "tokens_per_second": speed,
            "seconds": seconds,
            "time": dict.fromkeys(EVERY_STEP, 0.0) | spent,
            "learning_rate": float(self._rates[step - 1]),
            "grad_norm": metrics["grad_norm"],
            **{name: metrics[name] for name in ("balance_loss", "router_z_loss") if name in metrics},
        }
        if problem is not None:
            record |= {name: None for name in ("loss", "grad_norm") if not math.isfinite(metrics[name])}
            record["skipped"] = problem
        shown: Record = {"loss": metrics["loss"], "tokens/s": speed}
        utilisation = self._utilisation(speed)
        if utilisation is not None:
            record["mfu"] = utilisation
            shown["MFU"] = f"{utilisation:.1%}"
        self._log.write(record)
        self._bar.advance(1, **shown)
        self._profiler.done(step)

    def _limit(self, step: int) -> tuple[np.float32, ...]:
        """What a step that may skip itself is told: the loss above which it does."""
        if not isinstance(self.on_divergence, Skip):
            return ()
        return (np.float32(-np.inf if step in self._detours.skipped else self._watch.limit(step)),)

    def _diverged(self, step: int, problem: str) -> None:
        """Returns where the step has skipped itself; raises _Rewound for another way on, and DivergedError for none."""
        what = f"step {step}: {problem}, on {self._rows(step)}"
        policy, detours = self.on_divergence, self._detours
        if isinstance(policy, Skip) and (step in detours.skipped or len(detours.skipped) < policy.at_most):
            detours.add(Detour(step, problem))
            self._bar.write(f"{what}; its update is left out")
            return
        if isinstance(policy, Rewind) and detours.rewinds < policy.at_most:
            self.checkpoints.wait()
            back = on_first(lambda: max((other for other in self.checkpoints.steps() if other < step), default=None))
            if back is not None:
                at = detours.batch(step)
                first, last = max(at - policy.before, detours.batch(back + 1)), at + policy.after
                detours.add(Detour(step, problem, (first, last)))
                self._bar.write(f"{what}; back to step {back}, and on without batches {first} to {last}")
                raise _Rewound(back)
        raise DivergedError(f"{what}; {self._way_back()}")

    def _utilisation(self, tokens_per_second: float) -> float | None:
        """Model FLOP utilisation: a causal row's mean context is half the row. None where the peak is not known."""
        peak = peak_flops(self.mesh.devices.flat[0].device_kind)
        if peak is None:
            return None
        flops = self.program.model.config.flops_per_token((self.pipeline.seq_len + 1) / 2, self.frozen is not None)
        return flops * tokens_per_second / (peak * self.mesh.size)

    def _score(self, step: int, state: TrainState) -> None:
        scores = self._evaluate(self._model(state))
        self._scores = step, scores
        self._log.write({"step": step, "eval": scores})
        self._bar.write(f"step {step}: held-out loss {scores['loss']:.4f}, perplexity {scores['perplexity']:.2f}")

    def _model(self, state: TrainState) -> Params:
        """What the model computes with."""
        return self.program.attach(self.frozen, fetched(state.params))

    def _sample(self, step: int, state: TrainState) -> None:
        assert self.answer is not None
        replies = self.answer(self._model(state))
        if jax.process_index() != 0:
            return
        with self.folder.samples.open("a", encoding="utf-8") as file:
            for prompt, text in zip(self.samples.prompts, replies, strict=True):
                file.write(json.dumps({"step": step, "prompt": prompt, "text": text}, ensure_ascii=False) + "\n")
                self._bar.write(f"step {step}: {prompt!r} -> {text!r}")

    def _keep_samples(self, restored: int | None) -> None:
        """Drops the samples beyond the restored step: they will be drawn again."""
        if jax.process_index() == 0 and self.folder.samples.exists():
            kept = [] if restored is None else read_metrics(self.folder.samples, through=restored)
            with replacing(self.folder.samples) as file:
                file.writelines(json.dumps(sample, ensure_ascii=False) + "\n" for sample in kept)

    def _save(self, step: int, state: TrainState) -> None:
        self._log.sync()
        scores = self._scores[1] if self._scores and self._scores[0] == step else None
        self.checkpoints.save(step, state, scores)

    def _rows(self, step: int) -> str:
        """`rows 12, 40 of chitchat-256-9f...`: what the batch of this step held."""
        rows = self.pipeline.rows(self._detours.batch(step))
        named = []
        for dataset in np.unique(rows[:, 0]):
            of = rows[rows[:, 0] == dataset, 1]
            shown = ", ".join(map(str, of[:16])) + (", ..." if len(of) > 16 else "")
            named.append(f"rows {shown} of {self.pipeline.packed[dataset].folder}")
        return " and ".join(named)

    def _way_back(self) -> str:
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        if not steps:
            return "nothing was saved yet; lower --optim.peak-lr or look at these rows"
        place = f"{self.folder.path}@{steps[-1]}"
        return f"the checkpoint {place} is intact; begin another run from it with a lower --optim.peak-lr"


def last_scores(records: list[Record]) -> tuple[int, dict[str, float]] | None:
    """The step and the scores of the last held-out line."""
    return next(((record["step"], record["eval"]) for record in reversed(records) if "eval" in record), None)
