"""Cleaning speed: conversations and megabytes a second and core, of each step and the whole; memory.

    python tools/bench_curation.py CORPUS.jsonl [--json FILE] [--repeats 3] [--steps 2000] [--times 1 4 16]

CORPUS.jsonl holds conversations, or objects with `turns: [[speaker, text], ...]` (corpora/sgd_text.jsonl). Steps are
timed in this process, in CPU time, on the first `--steps` conversations, as each step finds them. The whole is timed
as the command line runs it, start of the program and of its workers included, by the clock and in CPU time. Memory is
measured on `--times` as many distinct conversations, made by exchanging words, in processes of their own: the largest
resident set of any of them, and what the duplicates' index takes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.near_duplicates import BANDS, SKETCH
from jaxchat.curation.step import Kept
from jaxchat.curation.steps import Cleaning, prepare


def read(corpus: Path) -> Iterator[dict[str, Any]]:
    """Conversations in their JSON form; speakers take turns as user and assistant."""
    with open(corpus, encoding="utf-8") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            if "turns" in row:
                sides = ("user", "assistant")
                turns = [{"role": sides[i % 2], "content": text} for i, (_, text) in enumerate(row["turns"])]
                row = {"id": str(row.get("id", number)), "source": corpus.stem, "messages": turns}
            yield row


def distinct(rows: list[dict[str, Any]], copy: int) -> Iterator[dict[str, Any]]:
    """The conversations with half of their words exchanged for others, in another way for every `copy`."""
    if copy == 0:
        yield from rows
        return
    rng = random.Random(copy)
    words = [word for row in rows[:500] for message in row["messages"] for word in message["content"].split()]
    for row in rows:
        messages = [
            {**m, "content": " ".join(rng.choice(words) if rng.random() < 0.5 else w for w in m["content"].split())}
            for m in row["messages"]
        ]
        yield {**row, "id": f"{row['id']}/{copy}", "messages": messages}


def steps(rows: list[dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """What each step takes, and the chain without reading and writing files."""
    prepared = prepare(Cleaning())
    megabytes = sum(len(json.dumps(row, ensure_ascii=False).encode()) for row in rows) / 1e6
    texts = [json.dumps(row) for row in rows]
    seconds: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        start = time.process_time()
        now = [Conversation.from_json(json.loads(text)) for text in texts]
        took = {"reading": time.process_time() - start}
        for step in prepared.steps:
            start = time.process_time()
            outcomes = [step.apply(conversation) for conversation in now]
            took[step.name] = time.process_time() - start
            now = [outcome.conversation for outcome in outcomes if isinstance(outcome, Kept)]
        assert prepared.exact and prepared.near
        for name, key in (("exact-duplicates", prepared.exact.key), ("near-duplicates", prepared.near.items)):
            start = time.process_time()
            for conversation in now:
                key(conversation)
            took[name] = time.process_time() - start
        start = time.process_time()
        for conversation in now:
            json.dumps(conversation.to_json(), ensure_ascii=False).encode()
        took["writing"] = time.process_time() - start
        for name, value in took.items() if repeat else ():  # the first warms up what is loaded once
            seconds.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    medians["all steps"] = sum(medians.values())
    return [line(name, len(rows), megabytes, value) for name, value in medians.items()]


def line(name: str, conversations: int, megabytes: float, seconds: float) -> dict[str, Any]:
    print(f"{name:24} {conversations / seconds:10,.0f} conversations/s {megabytes / seconds:8.2f} MB/s")
    return {
        "name": name,
        "ours": conversations / seconds,
        "peer": None,
        "peer_name": None,
        "unit": "conversations/s",
        "ratio": None,
        "megabytes_per_second": megabytes / seconds,
    }


def whole(source: Path, conversations: int, workers: int) -> dict[str, float]:
    """What one run of the command takes: seconds, CPU seconds of all its processes, memory."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        words = ["data", "clean", str(source), "--out", f"{folder}/out", "--workers", str(workers)]
        script = (
            "import resource, sys; from jaxchat.__main__ import main; status = main(sys.argv[1:]);"
            "used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)];"
            "print(max(one.ru_maxrss for one in used) / 1e3, used[0].ru_maxrss / 1e3,"
            "sum(one.ru_utime + one.ru_stime for one in used)); sys.exit(status)"
        )
        start = time.monotonic()
        done = subprocess.run(
            # By way of a shell: a process begins with the largest size of the one that started it.
            ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", script, *words],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.monotonic() - start
        stats = json.loads((Path(folder) / "out" / "stats.json").read_text(encoding="utf-8"))
        assert stats["rows_in"] == conversations
    largest, main_process, cpu = map(float, done.stdout.split()[-3:])
    return {"seconds": seconds, "cpu_seconds": cpu, "largest_process_mb": largest, "main_process_mb": main_process}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--times", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--cores", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--conversations", type=int, help="of the corpus at most")
    arguments = parser.parse_args()
    rows = list(read(arguments.corpus))[: arguments.conversations]
    results = steps(rows[: arguments.steps], arguments.repeats)
    with tempfile.TemporaryDirectory() as folder:
        for times in arguments.times:
            source = Path(folder) / f"{times}.jsonl"
            with open(source, "w", encoding="utf-8") as file:
                for copy in range(times):
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in distinct(rows, copy))
            count, megabytes = len(rows) * times, source.stat().st_size / 1e6
            for workers in arguments.cores if times == min(arguments.times) else [max(arguments.cores)]:
                took = whole(source, count, workers)
                results.append(line(f"whole, x{times}, {workers} workers", count, megabytes, took["seconds"]))
                results[-1] |= took
                print(
                    f"{'':24} {count / took['cpu_seconds']:10,.0f} conversations a CPU second; main process "
                    f"{took['main_process_mb']:,.0f} MB, largest {took['largest_process_mb']:,.0f} MB",
                    flush=True,
                )
            source.unlink()
    print(f"index: 56 bytes a conversation in memory, {8 * BANDS + SKETCH} on disk")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
