"""Models measured."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.verbs.verb import Made, Verb, some


@dataclass(frozen=True, kw_only=True)
class Eval(Verb):
    """Measure models: perplexity on conversations, and benchmarks.

    A folder of conversations is scored whole, each conversation alone, rendered by the model's template, every token
    but the first; the assistant's tokens are measured apart as well. Tasks are lm-evaluation-harness's, by name, and
    what --suite names. Figures have 95 % intervals, and every other model is compared with the first on the
    conversations and questions that both had. FILE.json receives all of it, FILE.html is a page to look at, and
    FILE.items.jsonl has every question with what the models said.
    """

    usage = "MODEL ... [--data DIR ...] [--tasks A,B] [--suite small|core] [--out FILE.json]"
    computes = True

    models: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL ...")]]
    """Runs (RUN@STEP for one checkpoint), Hugging Face folders or hub names, .gguf files, package:NAME/FILE."""
    data: UseAppendAction[Annotated[tuple[tuple[str, ...], ...], arg(metavar="DIR ...")]] = ()
    """Folders of conversations, or .jsonl files of them; repeats."""
    template: str | None = None
    """A chat template that ships with jaxchat, by name, or a Jinja file; otherwise each model's own."""
    stride: int | None = None
    """Tokens that the window moves on over a conversation longer than the context; half the context otherwise."""
    answers: Annotated[int, arg(metavar="N")] = 0
    """Conversations of each folder that every model answers, greedily: their length, variety, repetition, language,
    refusals and nearness to the answers there are measured. Needs jaxchat[evals]."""
    answer_tokens: Annotated[int, arg(metavar="N")] = 128
    """Tokens of such an answer at most."""
    tasks: Annotated[str, arg(metavar="A,B")] = ""
    """Tasks, groups and tags of lm-evaluation-harness, as `lm_eval ls tasks` lists them. Needs jaxchat[bench]."""
    suite: Literal["small", "core"] | None = None
    """small: ARC, HellaSwag, MMLU, GSM8K and HumanEval. core: DCLM's CORE, one figure of 22 tasks, on --task-path."""
    task_path: Annotated[Path | None, arg(metavar="DIR")] = None
    """A folder of tasks and data: YAML files of the harness's; DIR/TASK/SPLIT.jsonl, which a task then reads in place
    of the hub; CORE's files, as LLM Foundry has them under scripts/eval/local_data."""
    limit: Annotated[int | None, arg(metavar="N")] = None
    """Questions of each task at most."""
    fewshot: Annotated[int | None, arg(metavar="N")] = None
    """Examples before each question, in place of what the suite or the task says."""
    as_chat: bool = False
    """Put questions as a conversation by the model's chat template, each example a turn of it."""
    one_message: bool = False
    """With --as-chat: examples and question stand in one message."""
    cache: Annotated[Path | None, arg(metavar="DIR")] = None
    """Keep what models said of tasks there, so that none is computed twice."""
    unsafe: bool = False
    """Run programs that models write where this machine cannot contain them, and tasks that run such unguarded."""
    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """The file to write the scores to."""

    def run(self) -> Made:
        import json

        from jaxchat.chat.template import load_template
        from jaxchat.evals.benchmarks.harness import Asking
        from jaxchat.evals.benchmarks.measure import Benchmarks, measure
        from jaxchat.evals.page import page
        from jaxchat.evals.report import evaluate, show

        models = some(self.models, "MODEL")
        data = tuple(itertools.chain.from_iterable(self.data))
        template = load_template(self.template) if self.template else None
        named = tuple(name.strip() for name in self.tasks.split(",") if name.strip())
        benchmarks = Benchmarks(named, self.suite, self.task_path, self.fewshot)
        if not benchmarks:
            some(data, "--data, --tasks or --suite")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is {self.limit}; it must be 1 or more")
        if self.fewshot is not None and self.fewshot < 0:
            raise InputError(f"--fewshot is {self.fewshot}; it must be 0 or more")
        asking = Asking(self.as_chat, template, not self.one_message, self.limit, self.cache, self.unsafe)
        scores: dict[str, Any] = {"models": {}, "differences": [], "tasks": {}, "task_differences": []}
        rows: list[Any] = []
        # A place that cannot be written is found before the work, not after it.
        with replacing(self.out) if self.out else contextlib.nullcontext() as file:
            if benchmarks:
                found, rows = measure(models, benchmarks, asking)
                scores |= found
            if data:
                scores |= evaluate(
                    models,
                    data,
                    template=template,
                    stride=self.stride,
                    most_answers=self.answers,
                    answer_tokens=self.answer_tokens,
                )
            if file:
                json.dump(scores, file, ensure_ascii=False, indent=2)
        show(scores)
        where = ""
        if self.out:
            looked_at = self.out.with_suffix(".html")
            with replacing(looked_at) as file:
                file.write(page(scores))
            where = f" in {self.out}, to look at in {looked_at}"
            if rows:
                with replacing(self.out.with_suffix(".items.jsonl")) as file:
                    file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        tasks = {task for each in scores["tasks"].values() for task in each}
        each = len(data) + len(tasks)
        return Made(f"{len(models)} x {each} scores{where}", scores)
