"""Cleans folders of conversations into one, with all that was left out beside it and every row accounted for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxchat.curation import cores
from jaxchat.curation.chunks import local_files
from jaxchat.curation.stats import make_stats
from jaxchat.curation.steps import Cleaning, prepare
from jaxchat.errors import InputError
from jaxchat.files import new_folder

FILES = ("conversations.jsonl", "dropped.jsonl", "rejected.jsonl")


def clean(
    sources: Sequence[str | Path],
    out: str | Path | None,
    cleaning: Cleaning | None = None,
    *,
    skip: Sequence[str] = (),
    workers: int | None = None,
    runner: str = "cores",
    beam_options: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs the steps over `sources` (folders of conversations, or .jsonl files of them) and writes the folder `out`,
    whole or not at all; `out` None writes nothing.

    conversations.jsonl; dropped.jsonl, one conversation a line with `file`, `position`, `id`, `step`, `reason`,
    `detail`, `of` (of duplicates: the earlier one's id) and the conversation as `row`; rejected.jsonl, lines that are
    no conversation; stats.json, which is also returned. Of what personal data steps hide, dropped.jsonl shows as little
    as conversations.jsonl.

    `workers`: processes, all cores by default; their number changes nothing else. `runner`: "cores", or the name of an
    Apache Beam runner with Beam's own options, which may read and write what Beam's file systems reach
    (gs://BUCKET/FOLDER). Raises InputError when `out` is taken, a source or option is no good, or nothing is left.
    """
    cleaning = cleaning or Cleaning()
    prepared = prepare(cleaning, tuple(skip))
    workers = cores.cores() if workers is None else workers
    if workers < 1:
        raise InputError(f"--workers {workers}: at least 1")
    if not sources:
        raise InputError("no DIR is given; name one or more folders of conversations")
    options = {"skip": list(skip), **json.loads(json.dumps(asdict(cleaning), default=str))}
    if runner != "cores":
        import jaxchat.curation.beam as beam

        if beam.is_remote([*map(str, sources), *([str(out)] if out else [])]):
            counts, sizes = beam.run_remote(
                [*map(str, sources)], str(out) if out else None, prepared, runner, workers, beam_options
            )
            stats = {**make_stats(counts, prepared, sizes, map(str, sources)), "options": options}
            if out:
                beam.write(f"{out}/stats.json", json.dumps(stats, ensure_ascii=False, indent=2).encode())
            return stats
    files = local_files([Path(source).expanduser() for source in sources])
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder(out)) if out is not None else None
        # Beside the output, where there is room for it; a dry run touches nothing there.
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".work-", dir=folder)))
        outputs: Any = None
        if folder is not None:
            outputs = tuple(stack.enter_context(open(folder / name, "wb")) for name in FILES)
        if runner == "cores":
            counts, sizes = cores.run(files, prepared, workers, work, outputs)
        else:
            counts, sizes = beam.run(files, prepared, runner, workers, beam_options, work, outputs)
        stats = {**make_stats(counts, prepared, sizes, [file.name for file in files]), "options": options}
        if folder is not None:
            if not stats["conversations"]:
                why = "; ".join(f"{reason} ({n:,})" for reason, n in list(stats["reasons"].items())[:3])
                raise InputError(f"no conversation of {stats['rows_in']:,} is left: {why or 'there were none'}")
            (folder / "stats.json").write_text(json.dumps(stats, ensure_ascii=False, indent=2), encoding="utf-8")
    return stats


def summary(stats: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal: each step that did something, with its commonest reasons or finds."""
    lines = []
    for step in stats["steps"]:
        parts = [f"{n:,} {reason}" for reason, n in list(step["reasons"].items())[:4]]
        found = [f"{kind} {n:,}" for kind, n in list(step["found"].items())[:6]]
        if parts:
            lines.append(f"{step['name']}: dropped {step['dropped']:,} ({', '.join(parts)})")
        if found:
            lines.append(f"{step['name']}: {', '.join(found)}")
    return lines
