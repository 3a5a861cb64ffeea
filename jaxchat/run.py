"""A run: what a config file builds, and training from it to a folder that chats, evaluates and exports.

A run's folder holds `config.json` (the resolved config and, under `resolved`, what it came to: steps, data,
tokenizer), `model.json`, `tokenizer/`, `checkpoints/`, `metrics.jsonl`, `samples.jsonl`, `tensorboard/`,
`goodput.jsonl` and, at the end, `goodput.json` and `loss.png`. The same command goes on where the newest checkpoint
stands.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

import jaxchat
from jaxchat.data.batch import Batch
from jaxchat.data.config import Corpus, DataConfig, Folder
from jaxchat.distributed.agreement import agree, on_first
from jaxchat.distributed.connect import connect
from jaxchat.distributed.member import moved
from jaxchat.errors import InputError
from jaxchat.files import resolve
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import lora
from jaxchat.models.attention import Auto, Backend
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model, Params, Remat
from jaxchat.models.lora import DoRA, LoRA
from jaxchat.models.quantised import is_quantised
from jaxchat.objectives.language_model import losses
from jaxchat.objectives.routing import Routing
from jaxchat.plan.memory import kept
from jaxchat.plan.work import Phase, Setting, Work
from jaxchat.sharding import Rules
from jaxchat.train.checks import check_batch, check_length, check_model, check_seq_len, check_vocabulary
from jaxchat.train.clock import Clock
from jaxchat.train.curve import draw_losses
from jaxchat.train.divergence import Policy, Skip, Stop, skipping
from jaxchat.train.folder import RunFolder
from jaxchat.train.goodput import REPORT, write_report
from jaxchat.train.metrics import read_metrics
from jaxchat.train.optim import OptimConfig
from jaxchat.train.profile import Profile
from jaxchat.train.program import Program, build
from jaxchat.train.record import Json, differences, to_json
from jaxchat.train.session import CheckpointConfig, HeldOut, Samples, Session, last_scores
from jaxchat.train.state import TrainState

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat
    from jaxchat.chat.tokenizer import Tokenizer
    from jaxchat.data.pipeline import Pipeline
    from jaxchat.hub.checkpoints import Checkpoints


@dataclass(frozen=True)
class Pretrained:
    """Weights to go on from, or to train an adapter over."""

    source: str
    """A run's folder, a Hugging Face folder or hub name, a .gguf file, or package:NAME/FILE."""
    config: DecoderConfig | None = None
    """Their shape, for planning a run without them; the weights themselves have the last word."""


@dataclass(frozen=True)
class NewTokenizer:
    """A tokenizer of the model's vocabulary size, trained on the run's own conversations, the held-out ones left
    out."""

    model: Literal["unigram", "bpe"] = "unigram"
    """How SentencePiece cuts text: by likelihood, or by merging the commonest pairs."""
    kind: Literal["sentencepiece", "bpe"] = "sentencepiece"
    """The library that trains it: SentencePiece, or Hugging Face's byte-level BPE."""


@dataclass(frozen=True)
class Train:
    """A training run. A config file defines `config() -> Train`; every field is a flag (`--optim.peak-lr 1e-4`)."""

    model: DecoderConfig | Pretrained
    """A shape to train from scratch, or weights to go on from."""
    adapter: LoRA | DoRA | None = None
    """What is trained beside pretrained weights that stay as they are; None: the weights themselves."""
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: NewTokenizer | Path | None = None
    """Files to load it from (or package:NAME/FILE), or one to train; None: the pretrained model's own."""
    template: str | None = None
    """A chat template that ships with jaxchat, by name, or a Jinja file; None: the tokenizer's own."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    routing: Routing = field(default_factory=Routing)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    held_out: HeldOut = field(default_factory=HeldOut)
    samples: Samples = field(default_factory=Samples)
    steps: int | None = None
    """Updates to make; or give epochs."""
    epochs: float | None = None
    """Times to see every row; or give steps."""
    accumulate: int = 1
    """Micro-batches that a batch is cut into: memory falls, the update stays the same."""
    seed: int = 0
    """Of the order of the data and of fresh parameters."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Of activations, and of weights as they are used; parameters, gradients and optimizer state are float32."""
    attention: Backend = field(default_factory=Auto)
    """What computes it: matrix products (dot), TPU kernels (splash), GPU kernels (cudnn), or the fastest that can."""
    remat: Remat = "none"
    """What the backward pass computes again instead of keeping: nothing, all but matrix products, everything."""
    xla: tuple[str, ...] = ()
    """Flags of XLA for the training step (xla_NAME=VALUE), beside those of jaxchat/xla_flags.py or instead of them."""
    spike: float | None = 2.0
    """A loss this much above the median of the steps before it is a spike; None: only one that is not a number is."""
    on_divergence: Policy = field(default_factory=Stop)
    """At such a step: stop the run, skip its update, or rewind to the checkpoint before it and leave its batch out."""
    accept_changes: bool = False
    """Go on with a run though the config has changed since it began."""


# Fields that may change while a run goes on. They change what a step computes to rounding at most; but `steps` and
# `epochs`: a run may be made longer, and its learning rate follows the longer schedule from there on. Of the data and
# the tokenizer, what was read is compared, not where it lies.
MAY_CHANGE = (
    *("steps", "epochs", "accumulate", "attention.*", "remat", "mesh.*", "checkpoint.*", "held_out.*", "samples.*"),
    *("spike", "on_divergence.*", "xla", "accept_changes", "model.source", "tokenizer", "data.cache"),
    *("data.sources.*.path", "data.sources.*.paths*"),
)


# Fields that processes which train as one may have different: where each finds what all must find the same.
MAY_DIFFER = ("config.model.source", "config.tokenizer", "config.data.cache", "config.data.sources.*.path*")


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


def length_by_flag(config: Train, flagged: Train) -> Train:
    """`flagged`, which is `config` with flags; a length they give in one unit replaces `config`'s in the other."""
    if flagged.steps is not None and flagged.epochs is not None:
        if flagged.steps == config.steps:
            return replace(flagged, steps=None)
        if flagged.epochs == config.epochs:
            return replace(flagged, epochs=None)
    return flagged


def program(config: Train, model: DecoderConfig, mesh: Mesh, steps: int) -> Program:
    """The computation of a run of `steps`, of `model` on `mesh`, which is set (`jax.set_mesh`): what a plan compiles.

    Raises InputError when model, batch and mesh do not go together. Allocates nothing.
    """
    handle = _check_shape(config, model, mesh)
    shape = config.data.batch, config.data.seq_len
    made = build(
        handle, config.optim, mesh, shape, steps, config.accumulate, config.routing, config.adapter, config.xla
    )
    return replace(made, step=skipping(made.step)) if isinstance(config.on_divergence, Skip) else made


def planned(config: Train, *, serve: bool = False) -> Work:
    """The run as a plan sees it: its programs on any mesh, in any setting. serve: prefill and decode as well.

    Needs no data and, where the config says the model's shape, no weights.
    """
    model = config.model
    if isinstance(model, Pretrained):
        from jaxchat.hub.open import open_config

        model = model.config or open_config(model.source)
    shape: DecoderConfig = model

    def build(setting: Setting, mesh: Mesh) -> list[Phase]:
        data = replace(config.data, batch=setting.batch)
        run = replace(config, data=data, mesh=setting.mesh, accumulate=setting.accumulate, remat=setting.remat)
        made = program(run, shape, mesh, config.steps or 1000)
        phases = [_training(run, made)]
        return [*phases, *_serving(made.model, mesh, run.data.seq_len)] if serve else phases

    setting = Setting(config.mesh, config.data.batch, config.accumulate, config.remat)
    return Work(setting, shape, config.data.seq_len, config.steps, build)


def _training(config: Train, made: Program) -> Phase:
    model, rows = made.model, (config.data.batch, config.data.seq_len)
    flops = model.config.flops_per_token((rows[1] + 1) / 2) * math.prod(rows)
    unembedding = 6 * model.config.vocab_size * model.config.width * math.prod(rows)
    micro = jax.tree.map(lambda x: x.update(shape=(rows[0] // config.accumulate, rows[1])), made.batch)

    def loss(params: Params, batch: Batch, frozen: Params | None) -> jax.Array:
        return losses(model, made.attach(frozen, params), batch).total

    return Phase(
        "train",
        lambda: made.step.lower(made.state, made.batch, made.frozen),
        {
            "parameters": made.state.params,
            "frozen": made.frozen,
            "optimizer": made.state.opt_state,
            "batch": made.batch,
        },
        lambda: kept(loss, made.state.params, micro, made.frozen),
        flops,
        flops + (flops - unembedding) / 3 if config.remat == "full" else flops,
        math.prod(rows),
        made.flags,
    )


def _serving(model: Model, mesh: Mesh, slots: int) -> list[Phase]:
    """Prefill and decode of as many conversations as are generated at once, each of up to `slots` tokens."""
    from jaxchat.sample.abstract import programs

    phases = []
    for name, one in programs(model, mesh, slots).items():
        tokens = one.rows * one.tokens
        flops = model.config.flops_per_token(slots / 2) / 3 * tokens
        phases.append(Phase(name, one.lower, one.takes, tuple, flops, flops, tokens))
    return phases


def _check_shape(config: Train, model: DecoderConfig, mesh: Mesh) -> Model:
    """The model as the run computes it, which its batches were traced through: attention refuses while it is traced."""
    check_model(model, dict(mesh.shape), Rules())
    check_batch(config.data.batch, config.data.seq_len, config.accumulate, dict(mesh.shape), Rules())
    check_seq_len(config.data.seq_len, model)
    handle = Model(model, dtype=config.compute, remat=config.remat, attention=config.attention)
    spec = handle.rules.activation("batch", "sequence")
    rows = jax.ShapeDtypeStruct((config.data.batch, config.data.seq_len), np.int32, sharding=NamedSharding(mesh, spec))
    jax.eval_shape(handle.hidden, handle.abstract(), rows, rows, rows)
    if config.adapter is not None:
        lora.targets(handle, config.adapter)
    return handle


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
    agree(_command(config, run), partial(_unlike, ignore=MAY_DIFFER))
    folder = RunFolder(run)
    connect(mesh)
    on_first(lambda: folder.check(_json(config), MAY_CHANGE, accept=config.accept_changes))
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep)
    with jax.set_mesh(mesh), closing(checkpoints):
        if isinstance(config.model, DecoderConfig):  # then what is wrong with it is said before the data are packed
            _check_shape(config, config.model, mesh)
        with clock.on("restore"):
            restored = checkpoints.latest()
            parts = _begin(config, mesh) if restored is None else _go_on(folder)
        scratch = isinstance(config.model, DecoderConfig)
        check_vocabulary(parts.tokenizer.vocab_size, parts.config, from_scratch=scratch)
        pipeline = _pipeline(config, parts, mesh)
        steps = config.steps or math.ceil((config.epochs or 0) * pipeline.steps_per_epoch)
        made = program(config, parts.config, mesh, steps)
        resolved: dict[str, Json] = {
            "steps": steps,
            "parameters": parts.config.parameters,
            "trainable_parameters": _count(made.state.params),
            "data": [_digest(one.stats) for one in pipeline.packed],
            "packed": [one.stats["splits"] for one in pipeline.packed],
            "tokenizer": parts.tokenizer.fingerprint,
            "jaxchat": jaxchat.__version__,
            "jax": jax.__version__,
        }
        agree(resolved, _unlike)
        folder.begin(
            _json(config),
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
                    write_report(run)
            scores = last_scores(records)
            return Trained(run, restored, steps, scores[1] if scores else None)
        with clock.on("restore"):
            state, frozen = _state(config, made, parts, folder, mesh, checkpoints, restored)
        if jax.process_index() == 0:
            print(_sizes(state, frozen))
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
            answer=_answerer(config.samples, made.model, parts, mesh) if config.samples.prompts else None,
            clock=clock,
            began=began,
            profile=profile or Profile(),
        )
        ended = session.run(state, restored)
        return Trained(run, ended.step, steps, ended.held_out, ended.exit_code)


def _command(config: Train, run: Path) -> dict[str, Json]:
    """What every process of a run is to have the same, lest they compile different programs and wait for ever."""
    flags = {name: os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    versions = {"jax": jax.__version__, "jaxchat": jaxchat.__version__}
    return {"config": _json(config), "run": str(run.absolute()), **flags, **versions}


def _unlike(first: Json, other: Json, ignore: tuple[str, ...] = ()) -> str | None:
    changed = differences(first, other, ignore)
    if not changed:
        return None
    name = changed[0].field.removeprefix("config.")
    more = f" (and {len(changed) - 1} more differ)" if changed[1:] else ""
    values = f"{json.dumps(changed[0].now)} and process 0 has {json.dumps(changed[0].before)}"
    return f"has {name} {values}{more}; start all processes with the same command, on the same data"


@dataclass(frozen=True)
class _Parts:
    """What a run trains. params: of a pretrained model, on the mesh, when the run begins with them."""

    config: DecoderConfig
    tokenizer: Tokenizer
    format: ChatFormat
    params: Params | None = None


def _begin(config: Train, mesh: Mesh) -> _Parts:
    """The parts of a run that has no checkpoint yet, from its config."""
    from jaxchat.chat.template import ChatFormat, load_template
    from jaxchat.chat.tokenizer import load_tokenizer
    from jaxchat.hub.open import open_config, open_model

    pretrained = config.model if isinstance(config.model, Pretrained) else None
    model = open_config(pretrained.source) if pretrained else cast(DecoderConfig, config.model)
    _check_shape(config, model, mesh)  # before anything is read for minutes
    params, tokenizer = None, None
    if pretrained:
        opened = open_model(pretrained.source, mesh)
        params, tokenizer = opened.params, opened.tokenizer
    if isinstance(config.tokenizer, NewTokenizer):
        if pretrained:
            raise InputError("a pretrained model needs its own tokenizer; set --tokenizer None")
        tokenizer = _train_tokenizer(config.tokenizer, model, config.data)
    elif config.tokenizer is not None:
        tokenizer = load_tokenizer(config.tokenizer)
    elif tokenizer is None:
        raise InputError("a model trained from scratch has no tokenizer of its own; set --tokenizer")
    if config.template is not None:
        tokenizer.chat_templates = {"default": load_template(config.template)}  # type: ignore[misc]  # and saved with it
    return _Parts(model, tokenizer, ChatFormat(tokenizer), params)


def _state(
    config: Train,
    made: Program,
    parts: _Parts,
    folder: RunFolder,
    mesh: Mesh,
    checkpoints: Checkpoints,
    restored: int | None,
) -> tuple[TrainState, Params | None]:
    """The state to go on from, and the weights below an adapter."""
    adapter = config.adapter
    if adapter is None:
        if restored is not None:
            return checkpoints.restore(restored, made.state), None
        return made.start(parts.params if parts.params is not None else _fresh(made.model, config.seed)), None
    from jaxchat.hub.adapter import AdapterRecord, Base, fingerprint, read_record
    from jaxchat.hub.open import open_base

    assert isinstance(config.model, Pretrained)
    record, source = read_record(folder.path), config.model.source
    if parts.params is not None:
        base = parts.params
        record = AdapterRecord(Base(source, fingerprint(base)), adapter)
    elif record is None:
        raise InputError(f"{folder.path} has lost its adapter.json; restore it from a copy")
    else:
        base = open_base(record, folder.path, mesh, source)
    if jax.process_index() == 0:
        AdapterRecord(Base(source, record.base.fingerprint), adapter).write(folder.path)
    frozen = lora.held(base, made.model, adapter.base)
    if restored is not None:
        return checkpoints.restore(restored, made.state), frozen
    return made.start(lora.init(made.model, adapter, frozen, jax.random.key(config.seed))), frozen


def _sizes(state: TrainState, frozen: Params | None) -> str:
    """What a run trains and what it takes, over all devices, beside activations and gradients."""
    trained, kept = _count(state.params), 0 if frozen is None else _count(frozen)
    bytes_of = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for name, tree in _held(state, frozen)}
    sizes = ", ".join(f"{name} {count / 1e6:,.1f} MB" for name, count in bytes_of.items())
    return f"training {trained:,} of {trained + kept:,} parameters ({trained / (trained + kept):.2%}): {sizes}"


def _held(state: TrainState, frozen: Params | None) -> list[tuple[str, Any]]:
    frozen_weights = [] if frozen is None else [("frozen weights", frozen)]
    return [("trained weights", state.params), ("optimizer state", state.opt_state), *frozen_weights]


def _count(params: Params) -> int:
    """Parameters; the scales of weights in few bits are none."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params, is_leaf=is_quantised))


def _go_on(folder: RunFolder) -> _Parts:
    """The same parts as the run began with, the weights excepted: those are in its checkpoint."""
    from jaxchat.chat.template import ChatFormat
    from jaxchat.chat.tokenizer import load_tokenizer
    from jaxchat.hub.open import open_config

    tokenizer = load_tokenizer(folder.tokenizer)
    return _Parts(open_config(str(folder.path)), tokenizer, ChatFormat(tokenizer))


def _train_tokenizer(kind: NewTokenizer, model: DecoderConfig, data: DataConfig) -> Tokenizer:
    """Trained on what the packed rows are made from. The same data give the same tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "new"
        if kind.kind == "bpe":
            from jaxchat.chat.train_bpe import train_bpe

            return train_bpe(_texts(data), out, vocab_size=model.vocab_size)
        from jaxchat.chat.train_sentencepiece import train_sentencepiece

        return train_sentencepiece(_texts(data), out, vocab_size=model.vocab_size, model=kind.model)


def _texts(data: DataConfig) -> Iterator[str]:
    """What is said in the conversations that are not held out."""
    from jaxchat.chat.conversation import read_conversations, split_hash
    from jaxchat.data.prepare import conversations, default_cache

    for source in data.sources:
        if isinstance(source, Corpus):
            folder = conversations(source, data.cache or default_cache())
        elif isinstance(source, Folder):
            folder = resolve(source.path)
        else:
            raise InputError(f"{source.path} is packed, for a tokenizer of its own; set --tokenizer to that one")
        for conversation in read_conversations(folder):
            if split_hash(conversation) >= data.heldout:
                yield from (message.content for message in conversation.messages if message.content)


def _pipeline(config: Train, parts: _Parts, mesh: Mesh) -> Pipeline:
    from jaxchat.data.pipeline import Pipeline, prepare, process_slice

    packed = prepare(config.data, parts.format)
    rows = NamedSharding(mesh, Rules().activation("batch", "sequence"))
    index, count = process_slice(rows, config.data.batch, config.data.seq_len)
    return Pipeline(
        packed,
        config.data.weights,
        seed=config.seed,
        batch=config.data.batch,
        process_index=index,
        process_count=count,
    )


def _answerer(samples: Samples, model: Model, parts: _Parts, mesh: Mesh) -> Callable[[Params], list[str]]:
    """A function of the parameters that answers the prompts, greedily. It compiles once and keeps no weights."""
    from jaxchat.chat.conversation import Message
    from jaxchat.sample.engine import Engine
    from jaxchat.sample.generate import generate
    from jaxchat.sample.methods import Sampling

    prompts = [parts.format.prompt([Message("user", prompt)]) for prompt in samples.prompts]
    sampling = Sampling(temperature=0.0, max_tokens=samples.tokens)
    context = max(map(len, prompts)) + samples.tokens

    def answer(params: Params) -> list[str]:
        stops = sorted(parts.format.stop_ids)
        with Engine(
            model, lora.merged(params), parts.tokenizer, mesh, stops, slots=len(prompts), context=context
        ) as engine:
            return [completion.text for completion in generate(engine, prompts, sampling)]

    return answer


def _fresh(model: Model, seed: int) -> Params:
    return jax.jit(model.init)(jax.random.key(seed))


def _json(config: Train) -> dict[str, Json]:
    return cast(dict[str, Json], to_json(config))


def _digest(packed: dict[str, Any]) -> str:
    """A hash of what packed rows hold, wherever they lie."""
    content = {name: packed[name] for name in ("key", "splits", "seq_len", "tokenizer")}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
