"""Puts answers before a judge: each alone, and every two models' side by side in both orders."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Literal

from jaxchat.errors import InputError
from jaxchat.evals.judge.answering import Answers
from jaxchat.evals.judge.kept import Kept, Row, key
from jaxchat.evals.judge.questions import Question
from jaxchat.evals.judge.verdicts import Ask, ask_choice, ask_rating, read_choice, read_rating
from jaxchat.progress import Bar

Kind = Literal["single", "pair"]


def to_ask(
    questions: Sequence[Question], answers: Mapping[str, Answers], kinds: Sequence[Kind]
) -> Iterator[tuple[Row, Ask]]:
    """Everything that is to be judged: what it is about, and what the judge is asked."""
    for question in questions:
        for turn in range(1, len(question.turns) + 1):
            about = {"question": question.id, "category": question.category, "turn": turn}
            said = {model: each[question.id][:turn] for model, each in answers.items()}
            if "single" in kinds:
                for model, texts in said.items():
                    yield {"kind": "single", "model": model, **about}, ask_rating(question, texts)
            if "pair" in kinds:
                for one, other in itertools.permutations(said, 2):
                    row = {"kind": "pair", "first": one, "second": other, **about}
                    yield row, ask_choice(question, said[one], said[other])


def judge(
    asked: Sequence[tuple[Row, Ask]], name: str, ask: Callable[[Ask], str], kept: Kept, parallel: int = 8
) -> list[Row]:
    """The verdicts on all that is `asked`: rows with the judge's `reply` and its `verdict`, a rating or a choice, None
    where the reply has none. So many are asked at once. What is kept is not asked again.

    Raises InputError where the judge does not reply; what it has said by then is kept.
    """
    keys = [key(name, messages) for _, messages in asked]
    # The same words may be asked about twice (two models that say the same): they are judged once.
    new = {unique: one for unique, one in zip(keys, asked, strict=True) if unique not in kept}
    with (
        ThreadPoolExecutor(parallel) as pool,
        Bar(f"{name}: judging", len(set(keys)), "verdicts", done=len(set(keys)) - len(new)) as bar,
    ):
        waiting = iter(new.items())
        open_: dict[Future[str], tuple[str, Row]] = {}
        failed: InputError | None = None
        while True:
            while failed is None and len(open_) < parallel and (one := next(waiting, None)):
                unique, (about, messages) = one
                open_[pool.submit(ask, messages)] = unique, about
            if not open_:
                break
            for future in wait(open_, return_when=FIRST_COMPLETED).done:
                unique, about = open_.pop(future)
                try:
                    reply = future.result()
                except InputError as error:
                    failed = failed or error
                    continue
                verdict: Any = read_rating(reply) if about["kind"] == "single" else read_choice(reply)
                kept.add(unique, {"judge": name, **about, "verdict": verdict, "reply": reply})
                bar.advance()
    if failed:
        raise InputError(f"{failed}; its verdicts so far are kept, run this again to go on") from failed
    return [{**kept[unique], **about} for unique, (about, _) in zip(keys, asked, strict=True)]
