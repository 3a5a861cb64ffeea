"""Checks that cleaning gives the same bytes on one core, on several, and as an Apache Beam pipeline.

    python tools/check_runners.py CORPUS.jsonl ... [--conversations 20000] [--workers 2]

The corpora hold conversations, or objects with `turns: [[speaker, text], ...]`; so many of them are taken, copies
included. Files are compared whole, and line by line sorted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_curation import read

from jaxchat.curation.clean import FILES, clean


def planted(corpora: list[Path]) -> Iterator[dict[str, Any]]:
    """The conversations of the corpora, each tenth followed by a copy, of which every other has a word more."""
    for number, row in enumerate(itertools.chain.from_iterable(map(read, corpora))):
        yield row
        if number % 10 == 0 and row["messages"]:
            copy = json.loads(json.dumps({**row, "id": f"copy of {row['id']}"}))
            if number % 20 == 0:
                copy["messages"][-1]["content"] = "Changed. " + (copy["messages"][-1]["content"] or "")
            yield copy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "conversations.jsonl"
        rows = itertools.islice(planted(arguments.corpora), arguments.conversations)
        with open(source, "w", encoding="utf-8") as file:
            count = sum(file.write(json.dumps(row, ensure_ascii=False) + "\n") > 0 for row in rows)
        outputs = {}
        runs = [("cores", 1), ("cores", arguments.workers), ("beam", 1), ("beam", arguments.workers)]
        for runner, workers in runs:
            start = time.monotonic()
            out = Path(folder) / f"{runner}{workers}"
            stats = clean([source], out, runner=runner, workers=workers)
            seconds, dropped = time.monotonic() - start, stats["rows_dropped"]
            print(
                f"{runner}, {workers} workers: {dropped:,} of {count:,} dropped, {seconds:.0f} s",
                flush=True,
            )
            outputs[f"{runner}, {workers} workers"] = {
                name: (out / name).read_bytes() for name in (*FILES, "stats.json")
            }
        first, *others = outputs
        for other in others:
            for name, content in outputs[other].items():
                if content != outputs[first][name]:
                    as_sorted = sorted(content.splitlines()) == sorted(outputs[first][name].splitlines())
                    raise SystemExit(f"{name} of {other} differs{' in order alone' if as_sorted else ''} from {first}")
        print(f"{count:,} conversations: the same bytes from all {len(outputs)} runs")


if __name__ == "__main__":
    main()
