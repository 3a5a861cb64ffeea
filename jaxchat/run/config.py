"""What a config file builds: a training run, composed of the dataclasses that live beside what they configure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jaxchat.data.config import DataConfig
from jaxchat.mesh import MeshConfig
from jaxchat.models.attention import Auto, Backend
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Remat
from jaxchat.models.lora import DoRA, LoRA
from jaxchat.objectives.routing import Routing
from jaxchat.train.divergence import Policy, Stop
from jaxchat.train.offload import Part
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut, Samples


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
    offload: tuple[Part, ...] = ()
    """What waits in the host's memory between its uses, so that a larger model fits: the optimizer's state, the blocks'
    parameters. A CPU has one memory, and gains nothing by it."""
    xla: tuple[str, ...] = ()
    """Flags of XLA for the training step (xla_NAME=VALUE), beside those of jaxchat/xla_flags.py or instead of them."""
    spike: float | None = 2.0
    """A loss this much above the median of the steps before it is a spike; None: only one that is not a number is."""
    on_divergence: Policy = field(default_factory=Stop)
    """At such a step: stop the run, skip its update, or rewind to the checkpoint before it and leave its batch out."""
    accept_changes: bool = False
    """Go on with a run though the config has changed since it began."""


def length_by_flag(config: Train, flagged: Train) -> Train:
    """`flagged`, which is `config` with flags; a length they give in one unit replaces `config`'s in the other."""
    if flagged.steps is not None and flagged.epochs is not None:
        if flagged.steps == config.steps:
            return replace(flagged, steps=None)
        if flagged.epochs == config.epochs:
            return replace(flagged, epochs=None)
    return flagged
