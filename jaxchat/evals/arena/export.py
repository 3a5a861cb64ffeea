"""What raters said, for other programs: a row a rating, or conversations with a better and a worse ending."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.evals.arena.items import Item
from jaxchat.evals.arena.judged import Judged, counting
from jaxchat.evals.arena.rater_quality import side_of
from jaxchat.evals.arena.study import Study


def rows(study: Study, judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Every rating, those that were changed later and those of trials among them: `counts` is of neither. Models and
    answers stand as the rater saw them."""
    for one in judged:
        item, flip = one.item, one.flipped and len(one.item.answers) == 2
        models, answers = [item.models or ("",) * len(item.answers), item.answers]
        models, answers = (models[::-1], answers[::-1]) if flip else (models, answers)
        row: dict[str, Any] = {
            "rater": one.rater,
            "item": item.id,
            "kind": "practice" if item.practice else "item" if item.trial is None else "check",
            "prompt": [dict(message) for message in item.messages],
        }
        if study.kind == "pairs":
            row |= {"response_a": answers[0], "response_b": answers[1], "model_a": models[0], "model_b": models[1]}
            row["winner"] = side_of(one) or one.rating.verdict
        else:
            row |= {"response": answers[0], "model": models[0], **one.rating.scores}
        yield row | {
            "comment": one.rating.comment,
            "seconds": round(one.rating.seconds, 2),
            "revision": one.revision,
            "counts": one.last and item.trial is None,
            "at": datetime.fromtimestamp(one.at, UTC).isoformat(timespec="milliseconds"),
        }


def as_jsonl(found: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def as_csv(found: Iterator[dict[str, Any]]) -> str:
    """A prompt of several messages is JSON in its column. Raters' comments that a spreadsheet would take for a formula
    begin with an apostrophe."""
    out, writer = io.StringIO(), None
    for row in found:
        row["prompt"] = json.dumps(row["prompt"], ensure_ascii=False)
        row = {name: _harmless(value) for name, value in row.items()}
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return out.getvalue()


def preferences(study: Study, judged: Sequence[Judged]) -> list[Conversation]:
    """What raters prefer, a conversation each, as `jaxchat data import preference` reads them: of every pair the answer
    that more raters chose; on scales of every prompt the answers with the highest and the lowest mean. Where neither
    is, there is none."""
    said = counting(judged)
    return list(_of_pairs(said) if study.kind == "pairs" else _of_scales(said))


def _of_pairs(said: Sequence[Judged]) -> Iterator[Conversation]:
    votes, items = defaultdict[str, Counter[str]](Counter), dict[str, Item]()
    for one in said:
        items[one.item.id] = one.item
        votes[one.item.id][one.rating.verdict or ""] += 1
    for id, item in items.items():
        first, second = votes[id]["first"], votes[id]["second"]
        if first == second:
            continue
        better = 0 if first > second else 1
        about = {"votes": dict(votes[id]), "agreement": max(first, second) / votes[id].total()}
        yield from _preferred(id, item, item, better, 1 - better, about)


def _of_scales(said: Sequence[Judged]) -> Iterator[Conversation]:
    marks, items = defaultdict[str, list[float]](list), dict[str, dict[str, Item]]()
    for one in said:
        items.setdefault(one.item.prompt, {})[one.item.id] = one.item
        marks[one.item.id].append(sum(one.rating.scores.values()) / len(one.rating.scores))
    for prompt, some in items.items():
        means = {id: sum(marks[id]) / len(marks[id]) for id in some}
        best, worst = max(means, key=lambda id: means[id]), min(means, key=lambda id: means[id])
        if means[best] > means[worst]:
            about = {"score_chosen": means[best], "score_rejected": means[worst]}
            yield from _preferred(prompt, some[best], some[worst], 0, 0, about)


def _preferred(
    id: str, good: Item, bad: Item, better: int, worse: int, about: Mapping[str, Any]
) -> Iterator[Conversation]:
    chosen, rejected = good.answers[better], bad.answers[worse]
    if chosen == rejected or not chosen.strip() or not rejected.strip():
        return  # nothing that a model could learn to prefer
    prompt = tuple(Message(one["role"], one["content"]) for one in good.messages)  # type: ignore[arg-type]
    meta = {**about, "chosen_model": good.models[better], "rejected_model": bad.models[worse]}
    yield Conversation(
        id,
        (*prompt, Message("assistant", chosen)),
        meta=meta,
        rejected=(*prompt, Message("assistant", rejected)),
    )


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
