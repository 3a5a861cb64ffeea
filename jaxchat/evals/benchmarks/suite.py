"""What the built-in suites measure: the one place that names their tasks, examples and levels of chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Benchmark:
    """A task of lm-evaluation-harness's as people usually report it. fewshot: examples before each question. metric:
    the figure that is meant. chance: what guessing gets."""

    task: str
    fewshot: int
    metric: str
    chance: float = 0.0


SMALL = (
    Benchmark("arc_easy", 0, "acc_norm", 0.25),
    Benchmark("arc_challenge", 25, "acc_norm", 0.25),
    Benchmark("hellaswag", 10, "acc_norm", 0.25),
    Benchmark("mmlu", 5, "acc", 0.25),
    Benchmark("gsm8k", 5, "exact_match (strict-match)"),
    Benchmark("humaneval", 0, "pass@1"),
)

Kind = Literal["choice", "schema", "completion"]


@dataclass(frozen=True)
class CoreTask:
    """A task of CORE. file: its rows, below the folder that DCLM and LLM Foundry keep them in. delimiter: between a
    question and its answer. by_category: accuracy is averaged over the rows' categories, from which examples come too.
    """

    name: str
    file: str
    fewshot: int
    kind: Kind
    chance: float = 0.0
    delimiter: str = " "
    by_category: bool = False


_ANSWER = "\nAnswer: "
_WORLD, _SENSE, _LANGUAGE, _SYMBOLS, _READING = (
    "world_knowledge",
    "commonsense_reasoning",
    "language_understanding",
    "symbolic_problem_solving",
    "reading_comprehension",
)

# CORE of DataComp-LM (Li et al. 2024, arXiv:2406.11794): 22 tasks that tell small models apart with little variance.
# Levels of chance as corrected by its authors in September 2025 (`Core_v2`).
CORE = (
    CoreTask("hellaswag_zeroshot", f"{_LANGUAGE}/hellaswag", 0, "choice", 0.25),
    CoreTask("jeopardy", f"{_WORLD}/jeopardy_all", 10, "completion", delimiter=_ANSWER, by_category=True),
    CoreTask("bigbench_qa_wikidata", f"{_WORLD}/bigbench_qa_wikidata", 10, "completion"),
    CoreTask("arc_easy", f"{_WORLD}/arc_easy", 10, "choice", 0.25, _ANSWER),
    CoreTask("arc_challenge", f"{_WORLD}/arc_challenge", 10, "choice", 0.25, _ANSWER),
    CoreTask("copa", f"{_SENSE}/copa", 0, "choice", 0.5),
    CoreTask("commonsense_qa", f"{_SENSE}/commonsense_qa", 10, "choice", 0.403),
    CoreTask("piqa", f"{_SENSE}/piqa", 10, "choice", 0.5, _ANSWER),
    CoreTask("openbook_qa", f"{_SENSE}/openbook_qa", 0, "choice", 0.25),
    CoreTask("lambada_openai", f"{_LANGUAGE}/lambada_openai", 0, "completion"),
    CoreTask("hellaswag", f"{_LANGUAGE}/hellaswag", 10, "choice", 0.25),
    CoreTask("winograd", f"{_LANGUAGE}/winograd_wsc", 0, "schema", 0.5),
    CoreTask("winogrande", f"{_LANGUAGE}/winogrande", 0, "schema", 0.5),
    CoreTask("bigbench_dyck_languages", f"{_SYMBOLS}/bigbench_dyck_languages", 10, "completion"),
    CoreTask("agi_eval_lsat_ar", f"{_SYMBOLS}/agi_eval_lsat_ar", 3, "choice", 0.25),
    CoreTask("bigbench_cs_algorithms", f"{_SYMBOLS}/bigbench_cs_algorithms", 10, "completion"),
    CoreTask("bigbench_operators", f"{_SYMBOLS}/bigbench_operators", 10, "completion"),
    CoreTask("bigbench_repeat_copy_logic", f"{_SYMBOLS}/bigbench_repeat_copy_logic", 10, "completion"),
    CoreTask("squad", f"{_READING}/squad", 10, "completion"),
    CoreTask("coqa", f"{_READING}/coqa", 0, "completion"),
    CoreTask("boolq", f"{_READING}/boolq", 10, "choice", 0.62, _ANSWER),
    CoreTask("bigbench_language_identification", f"{_LANGUAGE}/bigbench_language_identification", 10, "choice", 0.25),
)

# The figure that is meant where a task has several, and what guessing gets of it.
MEANT = {one.task: one.metric for one in SMALL} | {f"core/{one.name}": "acc" for one in CORE}
CHANCE = {one.task: one.chance for one in SMALL} | {f"core/{one.name}": one.chance for one in CORE} | {"core": 0.0}
