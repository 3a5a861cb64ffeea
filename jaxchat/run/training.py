"""Training from a config to a run's folder, or on from where its newest checkpoint stands.

A run's folder holds `config.json` (the resolved config and, under `resolved`, what it came to: steps, data,
tokenizer), `model.json`, `tokenizer/`, `checkpoints/`, `metrics.jsonl`, `samples.jsonl`, `tensorboard/`,
`goodput.jsonl`, `compiled/` (what a restart need not compile) and, at the end, `goodput.json`, `loss.png` and
`report.html`. The same command goes on where the newest checkpoint stands.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax

import jaxchat
from jaxchat.distributed.agreement import agree, on_first
from jaxchat.distributed.connect import connect
from jaxchat.distributed.member import moved
from jaxchat.errors import InputError
from jaxchat.mesh import make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.run.answers import answerer
from jaxchat.run.config import Pretrained, Train
from jaxchat.run.parts import begin, go_on, open_pipeline
from jaxchat.run.program import check_shape, program
from jaxchat.run.report import PAGE, write_report
from jaxchat.run.sameness import MAY_CHANGE, MAY_DIFFER, as_json, command, digest, unlike
from jaxchat.run.state import count, first_state, sizes
from jaxchat.sharding import Rules
from jaxchat.train import goodput
from jaxchat.train.checks import check_batch, check_length, check_vocabulary
from jaxchat.train.clock import Clock
from jaxchat.train.curve import draw_losses
from jaxchat.train.folder import RunFolder
from jaxchat.train.goodput import REPORT
from jaxchat.train.metrics import read_metrics
from jaxchat.train.profile import Profile
from jaxchat.train.record import Json
from jaxchat.train.session import Session, last_scores


@dataclass(frozen=True)
class Trained:
    """How a training run ended. exit_code: 0 when it is finished, 143 or 130 when SIGTERM or Ctrl-C had it stop."""

    run: Path
    step: int
    steps: int
    held_out: dict[str, float] | None
    exit_code: int = 0

    @property
    def line(self) -> str:
        score = f", held-out perplexity {self.held_out['perplexity']:.2f}" if self.held_out else ""
        if self.step < self.steps:
            return f"stopped and saved at step {self.step} of {self.steps} in {self.run}; the same command goes on"
        return f"trained {self.step} steps in {self.run}{score}"


def train(config: Train, run: Path, profile: Profile | None = None) -> Trained:
    """Trains from `config` into the folder `run`, or goes on where its newest checkpoint stands; `profile` says what to
    trace of it.

    SIGTERM or Ctrl-C saves and ends it early; see Trained. Raises InputError for input it cannot use, for a config that
    differs from the one the run began with in a field that changes its result, and (DivergedError) for a loss that is
    not a number or jumps; what is in the folder stays as it was then, the last good checkpoint included.
    """
    from jaxchat.hub.checkpoints import Checkpoints

    began, clock = time.time(), Clock("start", moved)
    check_length(config.steps, config.epochs)
    if config.adapter is not None and not isinstance(config.model, Pretrained):
        raise InputError("an adapter is trained over weights that are there; set model to a Pretrained one")
    mesh = make_mesh(config.mesh)
    check_batch(config.data.batch, config.data.seq_len, config.accumulate, dict(mesh.shape), Rules())
    agree(command(config, run), partial(unlike, ignore=MAY_DIFFER))
    folder = RunFolder(run)
    connect(mesh)
    on_first(lambda: folder.check(as_json(config), MAY_CHANGE, accept=config.accept_changes))
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep)
    with jax.set_mesh(mesh), closing(checkpoints):
        if isinstance(config.model, DecoderConfig):  # then what is wrong with it is said before the data are packed
            check_shape(config, config.model, mesh)
        with clock.on("restore"):
            restored = checkpoints.latest()
            parts = begin(config, mesh) if restored is None else go_on(folder)
        scratch = isinstance(config.model, DecoderConfig)
        check_vocabulary(parts.tokenizer.vocab_size, parts.config, from_scratch=scratch)
        pipeline = open_pipeline(config, parts, mesh)
        steps = config.steps or math.ceil((config.epochs or 0) * pipeline.steps_per_epoch)
        made = program(config, parts.config, mesh, steps)
        resolved: dict[str, Json] = {
            "steps": steps,
            "parameters": parts.config.parameters,
            "trainable_parameters": count(made.state.params),
            "data": [digest(one.stats) for one in pipeline.packed],
            "packed": [one.stats["splits"] for one in pipeline.packed],
            "tokenizer": parts.tokenizer.fingerprint,
            "jaxchat": jaxchat.__version__,
            "jax": jax.__version__,
        }
        agree(resolved, unlike)
        folder.begin(
            as_json(config),
            resolved,
            parts.config,
            parts.tokenizer,
            must_agree=("data", "tokenizer"),
            accept=config.accept_changes,
        )
        if restored is not None and restored >= steps:
            records = read_metrics(folder.metrics)
            if jax.process_index() == 0:  # killed between its last checkpoint and its end
                if not folder.curve.exists():
                    draw_losses(records, folder.curve, title=str(run))
                if not (run / REPORT).exists():
                    goodput.write_report(run)
                if not (run / PAGE).exists():
                    write_report(run)
            scores = last_scores(records)
            return Trained(run, restored, steps, scores[1] if scores else None)
        with clock.on("restore"):
            state, frozen = first_state(config, made, parts, folder, mesh, checkpoints, restored)
        if jax.process_index() == 0:
            print(sizes(state, frozen))
        session = Session(
            folder=folder,
            program=made,
            pipeline=pipeline,
            checkpoints=checkpoints,
            mesh=mesh,
            frozen=frozen,
            steps=steps,
            checkpoint=config.checkpoint,
            held_out=config.held_out,
            samples=config.samples,
            spike=config.spike,
            on_divergence=config.on_divergence,
            answer=answerer(config.samples, made.model, parts, mesh) if config.samples.prompts else None,
            clock=clock,
            began=began,
            profile=profile or Profile(),
        )
        ended = session.run(state, restored)
        if jax.process_index() == 0:
            write_report(run)
        return Trained(run, ended.step, steps, ended.held_out, ended.exit_code)
