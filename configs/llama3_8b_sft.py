"""Llama 3 8B, supervised fine-tuning on a TPU pod slice, on conversations of your own.

    jaxchat train configs/llama3_8b_sft.py --sources DATA --model.source FOLDER
    jaxchat plan configs/llama3_8b_sft.py --on v5p:4x4x4

Each chip holds a part of the parameters and of the optimizer's state, and one row of 4,096 tokens at a time.
"""

from __future__ import annotations

from pathlib import Path

from jaxchat.data.config import DataConfig, Folder
from jaxchat.mesh import SHARDED
from jaxchat.models.presets import llama3_8b
from jaxchat.run import Pretrained, Train
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut


def config() -> Train:
    return Train(
        model=Pretrained("meta-llama/Meta-Llama-3-8B-Instruct", config=llama3_8b()),
        data=DataConfig(sources=(Folder(Path("data/conversations")),), batch=64, seq_len=4096, heldout=0.01),
        optim=OptimConfig(peak_lr=1e-5, warmup=0.03, weight_decay=0.0),
        mesh=SHARDED,
        compute="bfloat16",
        remat="full",
        epochs=2,
        checkpoint=CheckpointConfig(every=200, keep=3),
        held_out=HeldOut(every=200),
    )
