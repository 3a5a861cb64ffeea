"""Imports every file of a folder of real corpora by the command line and accounts for every row.

    python tools/check_imports.py [FOLDER]      $JAXCHAT_REAL_DATA otherwise

FOLDER holds formats/NAME/ and corpora/. Formats that it has no files of are read from the small corpora of
fuzz_seeds.py or the packages they come in. Each import is a process of its own that must end with status 0; its
stats.json must add up (rows_in = rows_used + rows_rejected + rows_dropped) and agree with the lines of the files beside
it. A file that no import has read is named. Prints a table; exits 1 where anything fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fuzz_seeds

from jaxchat.corpora import READERS

# What a folder's files are read as: each alone, or with True all together, as files of one corpus.
FOLDERS: dict[str, tuple[str, bool]] = {
    "formats/cornell": ("cornell", True),
    "formats/convokit": ("convokit", True),
    "formats/stackexchange": ("stackexchange", True),
    "formats/twitter": ("twitter", False),
    "formats/reddit": ("reddit", False),
    "formats/oasst": ("oasst", False),
    "formats/sharegpt": ("sharegpt", False),
    "formats/alpaca": ("alpaca", False),
    "formats/dolly": ("dolly", False),
    "formats/openai_messages": ("messages", False),
    "formats/ultrachat": ("ultrachat", False),
    "formats/ultrafeedback": ("preference", False),
    "formats/hh_rlhf": ("preference", False),
    "formats/dailydialog": ("dailydialog", False),
    "formats/lccc": ("lccc", False),
    "formats/belle": ("belle", False),
    "formats/firefly": ("firefly", False),
    "corpora": ("hf", False),
}
# Folders read once more as another format, or with all their files together.
AGAIN = {
    "formats/openai_messages/azure_dpo_chat.jsonl": "preference",
    "formats/reddit": "reddit",
    "formats/ultrafeedback": "hf",
}
# What holds no conversation: a benchmark's questions, which go to `data clean --decontaminate`.
NO_TALK = "formats/mtbench"
FATES = ("in", "used", "rejected", "dropped")
PACKAGES = ("chatterbot", "chitchat")


def imports(folder: Path, seeds: Path) -> Iterator[tuple[str, Path | None]]:
    """(format, path) of all that is to be imported; None: a package."""
    for name, (format, together) in FOLDERS.items():
        place = folder / name
        yield from ((format, path) for path in ([place] if together else sorted(place.iterdir())))
    yield from ((format, folder / name) for name, format in AGAIN.items())
    yield from ((format, None) for format in PACKAGES)
    there = {format for format, _ in FOLDERS.values()} | set(PACKAGES)
    for corpus in fuzz_seeds.CORPORA:
        if (format := fuzz_seeds.format_of(corpus)) not in there or format == "hf":
            fuzz_seeds.write(fuzz_seeds.corpus(corpus), seeds / corpus)
            yield format, seeds / corpus


def import_one(format: str, path: Path | None, out: Path) -> tuple[dict, str]:
    """(stats, what is wrong)."""
    command = [sys.executable, "-m", "jaxchat", "data", "import", format, *([str(path)] if path else [])]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    if done.returncode:
        return {}, f"exit status {done.returncode}: {done.stderr.strip().splitlines()[-1]}"
    stats = json.loads((out / "stats.json").read_text(encoding="utf-8"))
    if stats["rows_in"] != stats["rows_used"] + stats["rows_rejected"] + stats["rows_dropped"]:
        return stats, "the rows do not add up"
    lines = {name: (out / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1] for name in (
        "conversations", "rejected", "dropped")}  # fmt: skip
    if [len(lines[name]) for name in lines] != [
        stats[key] for key in ("conversations", "rows_rejected", "rows_dropped")
    ]:
        return stats, "the files have other numbers of lines than stats.json says"
    used = {(name, position) for line in lines["conversations"]
            for name, positions in json.loads(line)["meta"]["rows"].items() for position in positions}  # fmt: skip
    if len(used) != stats["rows_used"]:
        return stats, f"the conversations name {len(used)} rows"
    return stats, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("JAXCHAT_REAL_DATA"))
    folder: Path | None = parser.parse_args().folder
    if folder is None or not Path(folder).is_dir():
        parser.error("name the folder of real corpora, or set JAXCHAT_REAL_DATA to it")
    folder = Path(folder)
    print(f"{'format':14}{'conversations':>14}{'rows in':>10}{'used':>10}{'rejected':>10}{'dropped':>9}  file")
    bad, read, formats = 0, set[Path](), set[str]()
    with tempfile.TemporaryDirectory() as work:
        for number, (format, path) in enumerate(imports(folder, Path(work, "seeds"))):
            stats, wrong = import_one(format, path, Path(work, f"{number}"))
            formats.add(format)
            if path is not None and not wrong:
                read |= {path, *path.rglob("*")} if path.is_dir() else {path}
            numbers = [stats.get(key, 0) for key in ("conversations", *(f"rows_{n}" for n in FATES))]
            shown = path.relative_to(folder) if path and path.is_relative_to(folder) else path and f"made: {path.name}"
            print(f"{format:14}{numbers[0]:14,}{numbers[1]:10,}{numbers[2]:10,}{numbers[3]:10,}{numbers[4]:9,}"
                  f"  {shown or 'a package'}{f'   WRONG: {wrong}' if wrong else ''}", flush=True)  # fmt: skip
            bad += bool(wrong)
    for path in sorted(path for room in ("formats", "corpora") for path in (folder / room).rglob("*")):
        if path.is_file() and path not in read and not path.is_relative_to(folder / NO_TALK):
            print(f"NOT READ: {path.relative_to(folder)}")
            bad += 1
    if missing := set(READERS) - formats:
        print(f"NOT TRIED: {', '.join(sorted(missing))}")
        bad += 1
    print("every row of every file is accounted for" if not bad else f"{bad} of them failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
