"""Models measured."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from jaxchat.files import replacing
from jaxchat.verbs.verb import Made, Verb, some


@dataclass(frozen=True, kw_only=True)
class Eval(Verb):
    """Measure models on conversations: perplexity, per word and bits per byte.

    A folder is scored whole, each conversation alone, rendered by the model's template, every token but the first; the
    assistant's tokens are measured apart as well. Figures have 95 % intervals, by the bootstrap over conversations,
    and every other model is compared with the first on the conversations that both scored. FILE.json receives all
    of it, by source, language, length and turn too, and FILE.html a page to look at.
    """

    usage = "MODEL ... --data DIR ... [--out FILE.json]"
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
    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """The file to write the scores to."""

    def run(self) -> Made:
        import json

        from jaxchat.chat.template import load_template
        from jaxchat.evals.page import page
        from jaxchat.evals.report import evaluate, show

        models = some(self.models, "MODEL")
        data = some(tuple(itertools.chain.from_iterable(self.data)), "--data")
        template = load_template(self.template) if self.template else None
        # A place that cannot be written is found before the work, not after it.
        with replacing(self.out) if self.out else contextlib.nullcontext() as file:
            scores = evaluate(
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
        return Made(f"{len(models)} x {len(data)} scores{where}", scores)
