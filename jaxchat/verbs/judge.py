"""Models' answers before a judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from jaxchat.errors import InputError
from jaxchat.files import replacing, resolve
from jaxchat.verbs.verb import Made, NewFolder, Verb, some


@dataclass(frozen=True, kw_only=True)
class Judge(Verb):
    """Have models answer questions of several turns, and a judge rate and compare the answers.

    The judge is a model behind an endpoint that speaks OpenAI's API, with the key in $OPENAI_API_KEY. Every answer is
    rated by itself, and every two models' are compared in both orders. What was answered and judged is kept in DIR as
    rows: the same command goes on where it was stopped. DIR/judge.json has the figures, DIR/judge.html shows them.
    """

    usage = "MODEL ... --questions FILE --judge-url URL --judge-model NAME --out DIR"
    computes = True

    models: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL ...")]]
    """Runs (RUN@STEP for one checkpoint), Hugging Face folders or hub names, .gguf files, package:NAME/FILE."""
    questions: Annotated[Path, arg(metavar="FILE")]
    """In MT-bench's form: lines of JSON with question_id, category, turns and, where there is one, reference."""
    judge_url: Annotated[str, arg(metavar="URL")]
    """Such as https://api.openai.com/v1, or http://127.0.0.1:8000/v1 of `jaxchat serve`."""
    judge_model: Annotated[str, arg(metavar="NAME")]
    """Who judges there."""
    out: NewFolder
    """The folder of answers, verdicts and results; one that was begun is gone on with."""
    mode: Literal["single", "pairwise", "both"] = "both"
    """single rates every answer from 1 to 10; pairwise says which of two models' is better."""
    limit: Annotated[int | None, arg(metavar="N")] = None
    """Questions at most."""
    tokens: Annotated[int, arg(metavar="N")] = 1024
    """Of an answer at most."""
    judge_tokens: Annotated[int, arg(metavar="N")] = 1024
    """Of a judge's reply at most."""
    parallel: Annotated[int, arg(metavar="N")] = 8
    """Verdicts that are asked for at once."""
    retries: Annotated[int, arg(metavar="N")] = 8
    """With growing pauses, where the judge is busy or away."""
    template: str | None = None
    """A chat template that ships with jaxchat, by name, or a Jinja file; otherwise each model's own."""

    def run(self) -> Made:
        import json

        from jaxchat.chat.template import load_template
        from jaxchat.evals.judge.client import Endpoint
        from jaxchat.evals.judge.judging import Kind
        from jaxchat.evals.judge.page import page
        from jaxchat.evals.judge.questions import read_questions
        from jaxchat.evals.judge.report import judged, show

        models = list(dict.fromkeys(some(self.models, "MODEL")))
        if self.mode == "pairwise" and len(models) < 2:
            raise InputError("--mode pairwise compares models; name two or more")
        for name in ("limit", "tokens", "judge_tokens", "parallel"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more")
        questions = read_questions(resolve(self.questions))[: self.limit]
        template = load_template(self.template) if self.template else None
        endpoint = Endpoint(self.judge_url, self.judge_model, self.judge_tokens, self.retries)
        kinds: list[Kind] = []
        if self.mode != "pairwise":
            kinds.append("single")
        if self.mode != "single" and len(models) > 1:
            kinds.append("pair")
        result, answers, verdicts = judged(
            models,
            questions,
            endpoint,
            kinds,
            self.out,
            tokens=self.tokens,
            template=template,
            parallel=self.parallel,
        )
        figures, looked_at = self.out / "judge.json", self.out / "judge.html"
        with replacing(figures) as file:
            json.dump(result, file, ensure_ascii=False, indent=2)
        with replacing(looked_at) as file:
            file.write(page(result, questions, answers, verdicts))
        show(result)
        return Made(f"{len(verdicts):,} verdicts in {self.out}, to look at in {looked_at}", result)
