"""A model of about 10 million parameters from nothing, tokenizer included, on human conversations.

Needs the package chitchat-dataset and nothing prepared.
"""

from __future__ import annotations

from jaxchat.data.config import Corpus, DataConfig
from jaxchat.models.presets import nano
from jaxchat.run import NewTokenizer, Train
from jaxchat.train.optim import Linear, Muon, OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut, Samples


def config() -> Train:
    return Train(
        model=nano(),
        tokenizer=NewTokenizer("unigram"),
        # Both speakers are worth learning from when there is nothing yet.
        data=DataConfig(sources=(Corpus("chitchat"),), batch=16, seq_len=256, heldout=0.01, train_on="all"),
        optim=OptimConfig(peak_lr=4e-3, schedule=Linear(), warmup=0.03, matrices=Muon(peak_lr=0.02)),
        steps=600,
        checkpoint=CheckpointConfig(every=100),
        held_out=HeldOut(every=100),
        samples=Samples(("Hi! How was your weekend?", "What is your favourite food?"), every=200),
    )
