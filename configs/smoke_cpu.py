"""A model of 30 thousand parameters for a few steps: whether everything works here, in seconds.

Needs the package chatterbot-corpus.
"""

from __future__ import annotations

from dataclasses import replace

from jaxchat.data.config import Corpus, DataConfig
from jaxchat.models.presets import tiny
from jaxchat.run import NewTokenizer, Train
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut


def config() -> Train:
    return Train(
        model=replace(tiny(), vocab_size=512),
        tokenizer=NewTokenizer("bpe"),
        data=DataConfig(sources=(Corpus("chatterbot"),), batch=8, seq_len=128),
        optim=OptimConfig(peak_lr=1e-2),
        steps=20,
        checkpoint=CheckpointConfig(every=10),
        held_out=HeldOut(every=10),
    )
