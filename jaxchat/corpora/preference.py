"""Preferences: a prompt, the answer that was preferred to it and the one that was not.

`messages` is the prompt and the better ending, `rejected` the same prompt and the worse one. JSON lines or arrays, a
row is a pair, in the forms in which such sets are published: HH-RLHF's two texts marked `Human:` and `Assistant:`;
lists of messages (UltraFeedback binarized, and chat `messages` with one message as each ending); a `prompt` (or
`question`, `instruction`) and two texts; OpenAI's `preferred_output` and `non_preferred_output`; UltraFeedback's
`completions` with scores, where best and worst make the pair; two responses and the number of the better one; an
arena's two answers and who won (comparisons.py); answers with a thumb up or down, of which those to the same prompt
make pairs (votes.py); and conversations of our own form that have a `rejected` ending. Also CSV, by its column names.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.comparisons import comparison, turn_by_turn
from jaxchat.corpora.csv_rows import csv_records
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.instructions import given_input, id_of
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.messages import Messages
from jaxchat.corpora.records import JsonReader, LeftOut, found, json_records, rest_of
from jaxchat.corpora.rows import Row, Source
from jaxchat.corpora.turn_list import tools_of, turn_messages
from jaxchat.corpora.votes import is_vote, pairs, vote_of

_MARKED = re.compile(r"(?:^\s*|\n\n)(Human|Assistant):[ ]?")
_BEGINS_MARKED = re.compile(r"\s*(Human|Assistant):")


class _Pair(NamedTuple):
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    scores: tuple[Any, Any] = (None, None)
    used: tuple[str, ...] = ()
    tie: str = ""
    models: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Preference(JsonReader):
    """Pairs of a better and a worse ending of one conversation. Pairs that are the same twice are dropped."""

    ties: Literal["drop", "keep"] = "drop"
    """Pairs whose scores are equal, or of which neither was preferred: dropped, or kept, the first as the better."""
    diverging: Literal["keep", "drop"] = "keep"
    """Pairs that differ before the last message; kept, all from there on is the ending."""
    min_margin: float = 0.0
    """Pairs whose scores lie closer together are dropped; pairs without scores are not."""

    GIVEN: ClassVar[tuple[str, ...]] = ("prompt", "question", "instruction", "input", "query")

    suffixes: ClassVar[tuple[str, ...]] = (*JsonReader.suffixes, ".csv")

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        judged: list[Source] = []
        for source in files:
            for row in _rows(source, ledger):
                if isinstance(row, Rejected):
                    yield row
                elif not is_vote(row.value):
                    yield from found(row, self.conversations, "preference")
                else:
                    try:
                        vote_of(row.value)
                    except ValueError as reason:
                        yield row.reject(str(reason))
                    else:
                        judged += [source] if source not in judged else []
        # Answers judged by themselves are read a second time, and brought together on the disk.
        for _, rows in grouped(_votes(judged)):
            yield from pairs((row, vote_of(row.value)) for row in (Row(*values) for values in rows))

    def conversations(self, record: Any) -> Sequence[Conversation]:
        if not isinstance(record, dict):
            raise ValueError("not an object")
        if "chosen" not in record and all(isinstance(record.get(key), list) for key in ("messages", "rejected")):
            (own,) = Messages().conversations(record)
            own = dataclasses.replace(own, rejected=_whole(own))
            self._check(_Pair(own.messages, own.rejected))
            return [own]
        pair = _pair_of(record)
        self._check(pair)
        # The scores stay in `meta`, beside what else is known.
        meta = {**rest_of(record, *pair.used, "id", "prompt_id", "messages", "tools"), **pair.models}
        name = id_of(record, "id", "prompt_id", "comparison_id", "question_id")
        return [Conversation(name, pair.chosen, tools_of(record), meta=meta, rejected=pair.rejected)]

    def _check(self, pair: _Pair) -> None:
        """ValueError where the pair is none, LeftOut where an option leaves it out."""
        for what, messages in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            if not messages or messages[-1].role != "assistant":
                raise ValueError(f"the {what} conversation does not end with the assistant's turn")
            if not (messages[-1].tool_calls or (messages[-1].content or "").strip()):
                raise ValueError(f"the {what} answer is empty")
        if pair.chosen == pair.rejected:
            raise LeftOut("chosen and rejected are the same")
        same = next(
            (i for i, (a, b) in enumerate(zip(pair.chosen, pair.rejected)) if a != b),
            min(len(pair.chosen), len(pair.rejected)),
        )
        if same == 0:
            raise ValueError("chosen and rejected have no prompt in common")
        if self.diverging == "drop" and not same == len(pair.chosen) - 1 == len(pair.rejected) - 1:
            raise LeftOut("they differ before the last message")
        if pair.tie and self.ties == "drop":
            raise LeftOut(f"a tie: neither was preferred ({pair.tie})")
        better, worse = pair.scores
        if isinstance(better, int | float) and isinstance(worse, int | float):
            if better == worse and self.ties == "drop":
                raise LeftOut("a tie: both have one score")
            if better < worse:
                raise ValueError("the chosen has the lower score")
            if better - worse < self.min_margin:
                raise LeftOut(f"scores closer together than {self.min_margin:g}")


def _pair_of(record: dict[str, Any]) -> _Pair:
    if isinstance(record.get("input"), dict) and "preferred_output" in record:
        (made,) = Messages().conversations(record)
        return _Pair(made.messages, made.rejected, used=("input", "preferred_output", "non_preferred_output"))
    if isinstance(record.get("completions"), list):
        return _completions(record)
    if "response_0" in record and "response_1" in record:
        number = record.get("better_response_id")
        if number not in (0, 1) or isinstance(number, bool):
            raise ValueError("`better_response_id` is neither 0 nor 1")
        endings = record["response_0"], record["response_1"]
        used = ("response_0", "response_1", "better_response_id")
        return _with_prompt(record, endings[number], endings[1 - number], used)
    for good, bad in (("chosen", "rejected"), ("response_j", "response_k"), ("answer_chosen", "answer_rejected")):
        if good in record and bad in record:
            return _with_prompt(record, record[good], record[bad], (good, bad))
    if (made := comparison(record)) is not None:
        better, worse = (_of_turns(record, made.better, made.worse)) or (made.better, made.worse)
        pair = _with_prompt(record, better, worse, made.used)
        return pair._replace(tie=made.tie, models=made.models)
    if isinstance(record.get("output"), list) and len(record["output"]) == 2:
        better, worse = record["output"]
        return _with_prompt(record, better, worse, ("output",))
    raise ValueError(f"no pair of a better and a worse ending; its keys are {', '.join(record)}")


def _whole(own: Conversation) -> tuple[Message, ...]:
    """The worse conversation whole, where only its ending stands in the row."""
    if any(message.role == "user" for message in own.rejected):
        return own.rejected
    end = max((i for i, message in enumerate(own.messages, 1) if message.role == "user"), default=0)
    return (*own.messages[:end], *own.rejected)


def _of_turns(record: dict[str, Any], better: Any, worse: Any) -> tuple[Any, Any] | None:
    """Both conversations whole, where `prompt` is a list of questions and an ending the list of the answers to them."""
    whole = turn_by_turn(record.get("prompt"), better), turn_by_turn(record.get("prompt"), worse)
    return None if None in whole else whole


def _completions(record: dict[str, Any]) -> _Pair:
    """UltraFeedback as it was collected: several answers, each with a score."""
    rated = [
        (completion.get("overall_score", completion.get("fine-grained_score")), completion.get("response"))
        for completion in record["completions"]
        if isinstance(completion, dict)
    ]
    rated = [(score, text) for score, text in rated if isinstance(score, int | float) and isinstance(text, str)]
    if len(rated) < 2:
        raise ValueError("fewer than two `completions` with a score and a response")
    best, worst = max(rated, key=lambda one: one[0]), min(rated, key=lambda one: one[0])
    pair = _with_prompt(record, best[1], worst[1], ("completions", "models", "correct_answers", "incorrect_answers"))
    return pair._replace(scores=(best[0], worst[0]))


def _with_prompt(record: dict[str, Any], good: Any, bad: Any, used: tuple[str, ...]) -> _Pair:
    scores = (
        record.get("score_chosen", record.get("chosen_score")),
        record.get("score_rejected", record.get("rejected_score")),
    )
    key = next((key for key in Preference.GIVEN if record.get(key)), None)
    # Whole conversations need no prompt; texts that are marked, and lists of more than the ending, are whole.
    if isinstance(good, str) and isinstance(bad, str) and _BEGINS_MARKED.match(good):
        return _Pair(_marked(good), _marked(bad), scores, used)
    endings = _ending(good), _ending(bad)
    prompt: tuple[Message, ...] = ()
    asks = any(message.role == "user" for message in endings[0])
    if not asks and any(isinstance(record.get(name), list) for name in ("conversations", "messages")):
        name = "conversations" if isinstance(record.get("conversations"), list) else "messages"
        prompt, used = tuple(turn_messages(record[name])), (*used, name)
        if prompt[-len(endings[0]) :] == endings[0]:  # the binarized sets repeat the chosen there
            prompt = prompt[: -len(endings[0])]
    elif key is not None and not asks:
        given = record[key]
        used = (*used, key)
        if isinstance(given, list):
            prompt = tuple(turn_messages(given))
        elif isinstance(given, str):
            about = ""
            if key == "instruction":
                about, used = given_input(record), (*used, "input")
            whole = f"{given}\n\n{about}" if about else given
            prompt = _marked(given) if _BEGINS_MARKED.match(given) else (Message("user", whole),)
            if prompt[-1].role == "assistant" and not (prompt[-1].content or "").strip():
                prompt = prompt[:-1]
        else:
            raise ValueError(f"`{key}` is neither text nor a list of messages")
    elif key == "prompt":
        used = (*used, key)
    if isinstance(record.get("history"), list):
        prompt, used = (*_history(record["history"]), *prompt), (*used, "history")
    system = record.get("system")
    if isinstance(system, str) and system.strip() and not any(m.role == "system" for m in (*prompt, *endings[0])):
        prompt, used = (Message("system", system), *prompt), (*used, "system")
    return _Pair((*prompt, *endings[0]), (*prompt, *endings[1]), scores, used)


def _history(history: list[Any]) -> list[Message]:
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in history):
        raise ValueError("`history` is not pairs of a question and an answer")
    return [message for q, a in history for message in (Message("user", q), Message("assistant", a))]


def _rows(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    if source.file_name.endswith(".csv"):
        yield from csv_records(source, ledger, ())
    else:
        yield from json_records(source, ledger)


def _votes(files: Sequence[Source]) -> Iterator[tuple[str, Any]]:
    for source in files:
        for row in _rows(source, Ledger()):
            if isinstance(row, Row) and is_vote(row.value):
                try:
                    yield vote_of(row.value).prompt, (row.file, row.position, row.value)
                except ValueError:
                    pass  # rejected when it was read first


def _ending(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message("assistant", value),)
    if isinstance(value, dict):
        return tuple(turn_messages([value]))
    if isinstance(value, list):
        return tuple(turn_messages(value))
    raise ValueError("an ending is neither text nor messages")


def _marked(text: str) -> tuple[Message, ...]:
    """HH-RLHF's text. Two turns of one side in a row stay two messages."""
    before, *parts = _MARKED.split(text)
    if before.strip():
        raise ValueError("it does not begin with Human: or Assistant:")
    messages = [
        Message("assistant" if side == "Assistant" else "user", said) for side, said in zip(parts[::2], parts[1::2])
    ]
    return tuple(m for i, m in enumerate(messages) if (m.content or "").strip() or i == len(messages) - 1)
