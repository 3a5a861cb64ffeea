"""HumanEval (Chen et al. 2021): functions that are finished by the model and judged by running their tests, each in a
sandbox. In place of the harness's own task of that name, which runs them unguarded."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from jaxchat.evals.benchmarks.sandbox import Sandbox

NAME, METRIC = "humaneval", "pass@1"


def config(sandbox: Sandbox) -> dict[str, Any]:
    """The task, in the harness's words. Raises InputError where programs cannot be contained."""
    sandbox.check()

    def judge(row: dict[str, Any], said: Sequence[str]) -> dict[str, float]:
        return {METRIC: float(passes(row, said[0], sandbox))}

    return {
        "task": NAME,
        "dataset_path": "openai/openai_humaneval",
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{canonical_solution}}",
        "num_fewshot": 0,
        "generation_kwargs": {
            "until": ["\nclass", "\ndef", "\n#", "\nif", "\nprint"],  # what stands at the margin ends the function
            "max_gen_toks": 512,
            "do_sample": False,
        },
        "process_results": judge,
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def passes(row: dict[str, Any], said: str, sandbox: Sandbox) -> bool:
    """Whether a function (`prompt` and what was said) passes its `test`: the program runs to its very end."""
    end = secrets.token_hex()  # so that a function that ends the program early has not passed
    program = f"{row['prompt']}{said}\n\n{row['test']}\n\ncheck({row['entry_point']})\nprint()\nprint({end!r})\n"
    ran = sandbox.run(program)
    return ran.outcome == "ended" and ran.output.rstrip().endswith(end)
