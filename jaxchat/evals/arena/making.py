"""A study's folder: prompts from anywhere, and to each of them every model's answer, made here or read from a file.

Answers that models make are written down as they come, in a folder beside the one that is to be: the same command goes
on from there after whatever stopped it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.chat.conversation import read_conversations
from jaxchat.errors import InputError
from jaxchat.evals.arena.items import LEFT_OUT, PROMPTS, RATINGS, STUDY, Prompt
from jaxchat.evals.arena.store import Store
from jaxchat.evals.arena.study import Study
from jaxchat.files import check_new_folder, new_folder
from jaxchat.progress import Bar

AT_ONCE = 32  # answers between two times that they are written down
_PROMPT_KEYS = ("prompt", "question", "instruction", "text")
_ANSWER_KEYS = ("text", "answer", "response", "completion", "output")

Messages = tuple[dict[str, str], ...]
Key = tuple[tuple[str, str], ...]  # of messages


@dataclass(frozen=True)
class Asked:
    """What models are to answer."""

    id: str
    messages: Messages


@dataclass(frozen=True)
class Reply:
    """A model's answer, or why it has none."""

    text: str = ""
    left_out: str = ""


Answerer = Callable[[Sequence[Asked]], Sequence[Reply]]
Opening = Callable[[], AbstractContextManager[Answerer]]


def read_prompts(path: Path, most: int | None = None, seed: int = 0) -> list[Asked]:
    """The prompts of a folder of conversations (each up to its last answer), of JSON lines (`messages`, `prompt`,
    `question` or MT-bench's `turns`, of which the first) or of a text file, a prompt a line. `most`: so many of them,
    drawn by the seed. The same prompt twice is one. InputError where there are none."""
    if path.is_dir() or path.suffix == ".zst":
        found = [
            Asked(one.id, _up_to_answer([{"role": m.role, "content": m.content or ""} for m in one.messages]))
            for one in read_conversations(path)
        ]
    elif path.suffix == ".jsonl":
        found = [Asked(*_prompt_of(row, where)) for row, where in _rows(path)]
    else:
        found = [
            Asked(f"{i}", ({"role": "user", "content": line.strip()},))
            for i, line in enumerate(_text(path).split("\n"), 1)
            if line.strip()
        ]
    distinct: dict[Key, Asked] = {}
    for asked in found:
        if asked.messages:
            distinct.setdefault(_key(asked.messages), asked)
    if not distinct:
        raise InputError(f"{path} holds no prompt")
    prompts = list(distinct.values())
    if most is not None and most < len(prompts):
        prompts = [prompts[i] for i in sorted(random.Random(seed).sample(range(len(prompts)), most))]
    return [dataclasses.replace(asked, id=f"{i}") for i, asked in enumerate(prompts, 1)]


def read_answers(path: Path) -> dict[Key, str]:
    """Answers by what they answer, of JSON lines: `prompt` or `messages`, and `text` (or answer, response, completion,
    output), as `jaxchat generate --json` writes them; or conversations, whose last answer is taken."""
    found: dict[Key, str] = {}
    messages: Any
    for row, where in _rows(path):
        key = next((key for key in _ANSWER_KEYS if isinstance(row.get(key), str)), None)
        if key == "text" and not ("messages" in row or any(name in row for name in _PROMPT_KEYS if name != "text")):
            key = None
        if key is not None:
            _, messages = _prompt_of({name: value for name, value in row.items() if name != key}, where)
            found[_key(messages)] = row[key]
        elif (
            isinstance(row.get("messages"), list) and row["messages"] and row["messages"][-1].get("role") == "assistant"
        ):
            found[_key(_prompt_of(row, where)[1])] = row["messages"][-1].get("content") or ""
        else:
            raise InputError(f"{where}: no answer; give `prompt` or `messages`, and `text`")
    if not found:
        raise InputError(f"{path} holds no answer")
    return found


def make(
    study: Study, prompts: Sequence[Asked], sources: Mapping[str, Opening | Mapping[Key, str]], out: Path, recipe: Any
) -> tuple[int, int]:
    """Makes the folder; returns how many prompts are in it, and how many a model could not answer. sources: by the
    models' names, answers that are there, or what opens a model when it is its turn. recipe: all that decides what
    models answer, as JSON; what a command of another one has begun is refused."""
    check_new_folder(out)
    begun = out.absolute().parent / f".{out.absolute().name}.answers"
    if any(callable(source) for source in sources.values()):
        _begin(begun, out, {"recipe": recipe, "prompts": [dataclasses.asdict(asked) for asked in prompts]})
    replies = {
        name: _answered(begun / f"{i}.jsonl", name, source, prompts) if callable(source) else _found(source, prompts)
        for i, (name, source) in enumerate(sources.items())
    }
    made, left_out = [], []
    for asked in prompts:
        reasons = {name: each[asked.id].left_out for name, each in replies.items() if each[asked.id].left_out}
        if reasons:
            left_out.append({**dataclasses.asdict(asked), "reasons": reasons})
        else:
            made.append(Prompt(asked.id, asked.messages, {name: each[asked.id].text for name, each in replies.items()}))
    if not made:
        name, reason = next(iter(left_out[0]["reasons"].items()))
        raise InputError(f"no prompt was answered by every model; {name}: {reason}")
    write(study, made, left_out, out)
    shutil.rmtree(begun, ignore_errors=True)
    return len(made), len(left_out)


def write(study: Study, prompts: Sequence[Prompt], left_out: Sequence[Mapping[str, Any]], out: Path) -> None:
    """A study's folder, whole or not at all."""
    with new_folder(out) as folder:
        (folder / STUDY).write_text(json.dumps(study.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        (folder / PROMPTS).write_text("".join(_line(prompt.to_json()) for prompt in prompts), encoding="utf-8")
        if left_out:
            (folder / LEFT_OUT).write_text("".join(_line(row) for row in left_out), encoding="utf-8")
        Store(folder / RATINGS).close()


def _begin(begun: Path, out: Path, plan: dict[str, Any]) -> None:
    text = json.dumps(plan, sort_keys=True)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    place = begun / "recipe"
    if begun.exists():
        if not place.is_file() or place.read_text() != digest:
            raise InputError(f"another command began to make {out}; give that one again, or remove {begun}")
        return
    with new_folder(begun) as folder:
        (folder / "recipe").write_text(digest)


def _found(answers: Mapping[Key, str], prompts: Sequence[Asked]) -> dict[str, Reply]:
    texts = {asked.id: answers.get(_key(asked.messages)) for asked in prompts}
    missing = Reply(left_out="its file has no answer to this")
    return {id: missing if text is None else Reply(text) for id, text in texts.items()}


def _answered(file: Path, name: str, open_: Opening, prompts: Sequence[Asked]) -> dict[str, Reply]:
    """Every prompt's reply, those first that `file` has from an earlier time."""
    whole = b"" if not file.exists() else file.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]  # behind the last newline is what a kill cut short
    rows = [json.loads(line) for line in whole.split(b"\n")[:-1]]
    found = {row["id"]: Reply(row["text"], row["left_out"]) for row in rows}
    wanting = [asked for asked in prompts if asked.id not in found]
    if not wanting:
        return found
    with (
        open_() as answer,
        file.open("ab") as out,
        Bar(f"{name}: answering", len(prompts), "answers", done=len(found)) as bar,
    ):
        out.truncate(len(whole))
        for at in range(0, len(wanting), AT_ONCE):
            some = wanting[at : at + AT_ONCE]
            for asked, reply in zip(some, answer(some), strict=True):
                found[asked.id] = reply
                out.write(_line({"id": asked.id, **dataclasses.asdict(reply)}).encode())
            out.flush()
            bar.advance(len(some))
    return found


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: not JSON ({error}); correct or remove the line") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: not an object; correct or remove the line")
        yield row, where


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; re-encode the file") from None


def _prompt_of(row: Mapping[str, Any], where: str) -> tuple[str, Messages]:
    name = str(row.get("id", row.get("question_id", "")))
    if isinstance(row.get("messages"), list):
        messages = row["messages"]
        if not all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in messages):
            raise InputError(f"{where}: `messages` are objects with a role and a content, a text")
        return name, _up_to_answer([{"role": str(one.get("role")), "content": one["content"]} for one in messages])
    turns = row.get("turns")
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return name, ({"role": "user", "content": turns[0]},)
    text = next((row[key] for key in _PROMPT_KEYS if isinstance(row.get(key), str) and row[key].strip()), None)
    if text is None:
        raise InputError(f"{where}: no prompt; give `prompt`, `question`, `turns` or `messages`")
    return name, ({"role": "user", "content": text},)


def _up_to_answer(messages: Sequence[dict[str, str]]) -> Messages:
    """What was said before the last answer; all of it, where the user spoke last."""
    end = max((i for i, message in enumerate(messages, 1) if message["role"] == "user"), default=0)
    return tuple(messages[:end])


def _key(messages: Sequence[Mapping[str, str]]) -> Key:
    return tuple((message["role"], message["content"].strip()) for message in messages)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
