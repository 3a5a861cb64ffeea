"""A function passes when its tests run to their end."""

from __future__ import annotations

from typing import Any

import pytest

from jaxchat.evals.benchmarks import humaneval
from jaxchat.evals.benchmarks.sandbox import Sandbox

BOX = Sandbox(seconds=60)  # on a busy machine, too

pytestmark = pytest.mark.usefixtures("contained")
ROW = {
    "task_id": "ours/0",
    "prompt": 'def twice(x: int) -> int:\n    """Twice x."""\n',
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
}


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("    return 2 * x", True),
        ("    print('hello', end='')\n    return x + x", True),
        ("    return x ** 2", False),
        ("    return 2 * ", False),
        ("    import sys; sys.exit(0)", False),
        ("    import os; os._exit(0)", False),
        ("    while True: pass", False),
        ("", False),
    ],
)
def test_a_function_passes_by_its_tests(said: str, right: bool):
    box = Sandbox(seconds=3) if "while" in said else BOX
    assert humaneval.passes(ROW, said, box) == right


def test_the_harness_asks_and_counts(monkeypatch: pytest.MonkeyPatch, tiny_model: Any, tmp_path: Any):
    import json

    from jaxchat.evals.benchmarks.harness import Asking, Tasks
    from jaxchat.evals.benchmarks.harness_model import JaxchatLM

    (tmp_path / "humaneval").mkdir()
    rows = [{**ROW, "task_id": f"ours/{i}"} for i in range(3)]
    (tmp_path / "humaneval/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = []

    def answer(self: JaxchatLM, requests: Any) -> list[str]:
        asked.extend(request.args for request in requests)
        return ["    return 2 * x", "    return x", "    return x + x"]

    monkeypatch.setattr(JaxchatLM, "generate_until", answer)
    found = Tasks.load({"humaneval": None}, tmp_path, BOX).score(tiny_model, Asking())["humaneval"]
    assert found.items == {"pass@1": {"humaneval/0": 1, "humaneval/1": 0, "humaneval/2": 1}}
    assert found.figures["pass@1"].value == pytest.approx(2 / 3)
    context, options = asked[0]
    assert context == ROW["prompt"] and "\ndef" in options["until"] and options["do_sample"] is False
