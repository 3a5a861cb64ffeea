"""Breaks small corpora in many ways and imports them: no traceback, no hang, no text lost in silence.

    python tools/fuzz_readers.py                         2,000 broken files of every format
    python tools/fuzz_readers.py --count 100 twitter reddit "hf parquet"
    python tools/fuzz_readers.py --only 1234 twitter     the one that failed, with its traceback

A file is cut short, has bits flipped, columns or lines swapped, bytes put in or taken out, another encoding, or is
compressed first and then damaged. Each import must end with every row accounted for, or refuse in a sentence. Every
text of the corpora holds a mark; a mark that still stands in the broken file must stand in what the import wrote, or
in a row that it says was used. Exits 1 where that fails, with the number that makes it again.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import re
import shutil
import signal
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_seeds
import zstandard

from jaxchat.corpora.importing import FILES, import_corpus
from jaxchat.errors import InputError

SECONDS = 20
MARK = re.compile(rb"zq\d{4}q")
TABLES = (".parquet", ".arrow")
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "gb18030", "cp1252", "latin-1", "big5", "shift-jis", "utf-7")


class HungError(BaseException):
    """An import took longer than SECONDS; no Exception, so that no reader can catch it."""


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def swap_columns(data: bytes, chance: random.Random) -> bytes:
    """Two fields of a line, or of every line, change places."""
    rows = data.split(b"\n")
    everywhere = chance.random() < 0.3
    chosen = range(len(rows)) if everywhere else [chance.randrange(len(rows))]
    a, b = chance.randrange(8), chance.randrange(8)
    for i in chosen:
        spans = [match.span() for match in re.finditer(rb'"(?:[^"\\]|\\.)*"|[^,\s"]+', rows[i])]
        if max(a, b) < len(spans) and a != b:
            (s, t), (u, v) = sorted((spans[a], spans[b]))
            rows[i] = rows[i][:s] + rows[i][u:v] + rows[i][t:u] + rows[i][s:t] + rows[i][v:]
    return b"\n".join(rows)


def move_lines(data: bytes, chance: random.Random) -> bytes:
    rows = data.split(b"\n")
    for _ in range(chance.choice((1, 2, 5))):
        i, j = chance.randrange(len(rows)), chance.randrange(len(rows))
        kind = chance.randrange(4)
        if kind == 0:
            rows[i], rows[j] = rows[j], rows[i]
        elif kind == 1:
            rows.insert(i, rows[j])
        elif kind == 2 and len(rows) > 1:
            del rows[i]
        else:
            rows[i] += rows.pop(j) if i != j and j > i else b""
    return b"\n".join(rows)


def put_in(data: bytes, chance: random.Random) -> bytes:
    """Noise, marks of structure, or a piece of the file itself."""
    at = chance.randrange(len(data) + 1)
    start = chance.randrange(len(data))
    piece = chance.choice(
        [chance.randbytes(chance.randint(1, 40)), b'"', b"\0", b"\r", b"[" * 500, b"{", b"}", b"]", b"\xff\xfe",
         b"[" * 300 + b"]" * 300,
         b"null", b'"\\ud800"', b"<!DOCTYPE a>", b"&a;", b"\n\n", b"1e999", b"-1",
         data[start : start + chance.randint(1, 300)]]
    )  # fmt: skip
    return data[:at] + piece + data[at:]


def take_out(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randint(1, 60) :]


def re_encode(data: bytes, chance: random.Random) -> bytes:
    return data.decode("utf-8", errors="replace").encode(chance.choice(ENCODINGS), errors="replace")


BREAKS: list[Callable[[bytes, random.Random], bytes]] = [
    cut,
    flip_bits,
    swap_columns,
    move_lines,
    put_in,
    take_out,
    re_encode,
]


def pack(data: bytes, name: str, suffix: str) -> bytes:
    if suffix == ".zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        return file.getvalue()
    if suffix == ".7z":
        import py7zr

        file = io.BytesIO()
        with py7zr.SevenZipFile(file, "w") as archive:
            archive.writestr(data, name)
        return file.getvalue()
    kinds: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }
    return kinds[suffix](data)


def write_broken(files: fuzz_seeds.Files, folder: Path, chance: random.Random) -> tuple[str, set[bytes]]:
    """Writes the files, one of them broken: (how, the marks that are still there, where that can be told)."""
    victim = chance.choice(list(files))
    how, marks = "", set()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        if name == victim:
            if chance.random() < 0.08:
                suffix = chance.choice((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z"))
                data = pack(data, Path(name).name, suffix)
                broken = chance.choice((cut, flip_bits, take_out))
                path = path.with_name(path.name + suffix)
                how = f"{broken.__name__} {path.name}"
                data = broken(data, chance)
            else:
                broken = chance.choice(BREAKS)
                how = f"{broken.__name__} {name}"
                data = broken(data, chance)
                if broken is not swap_columns and chance.random() < 0.3:
                    second = chance.choice([cut, flip_bits, put_in])
                    how += f", {second.__name__}"
                    data = second(data, chance) if data else data
        marks |= set(MARK.findall(data))
        path.write_bytes(data)
    return how, marks


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def lost_marks(folder: Path, out: Path, marks: set[bytes]) -> set[bytes]:
    """Marks that stand in none of the files written, nor in a row that was used (its text may have stood in a column
    that makes no message)."""
    written = b"".join((out / name).read_bytes() for name in FILES)
    missing = marks - set(MARK.findall(written))
    if not missing:
        return missing
    if any(path.suffix in TABLES for path in folder.rglob("*")):
        # Where the damaged bytes say which bytes are text, a text may stand in no row: then the rows are counted.
        rows = json.loads((out / "stats.json").read_text(encoding="utf-8"))["rows_in"]
        return missing if rows < fuzz_seeds.TABLE_ROWS else set()
    used: dict[str, set[int]] = {}
    for row in map(json.loads, (out / "conversations.jsonl").open(encoding="utf-8")):
        for name, positions in row["meta"]["rows"].items():
            used.setdefault(name, set()).update(positions)
    # A row's position is its line, or that less the lines before the first row (of an XML file, two) and those that
    # stand together in a row that was rejected.
    rejected = list(map(json.loads, (out / "rejected.jsonl").open(encoding="utf-8")))
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        positions = used.get(path.name, set()) | used.get(path.relative_to(folder).as_posix(), set())
        joined = sum(str(row["row"]).count("\n") for row in rejected if row["file"] == path.name)
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            comment = path.suffix == ".yml" and b"#" in line  # what YAML has no row for
            if comment or not positions.isdisjoint(range(number - 2 - joined, number + 1)):
                missing -= set(MARK.findall(line))
    return missing


def try_one(corpus: str, number: int, folder: Path) -> tuple[str, str]:
    """(outcome, details): read, refused, or what must not be: traceback, hang, lost."""
    chance = random.Random(f"{corpus} {number}")
    files = fuzz_seeds.corpus(corpus)
    shutil.rmtree(folder, ignore_errors=True)
    source, out = folder / "in", folder / "out"
    source.mkdir(parents=True)
    how, marks = write_broken(files, source, chance)
    try:
        with time_limit(), contextlib.redirect_stderr(io.StringIO()):
            import_corpus(fuzz_seeds.format_of(corpus), [source], out)
    except InputError as error:
        text = str(error)
        return (
            ("refused", how)
            if text and "\n" not in text.strip()
            else ("traceback", f"{how}: not one sentence: {text!r}")
        )
    except HungError:
        return "hang", f"{how}: more than {SECONDS} s"
    except Exception:
        return "traceback", f"{how}\n{traceback.format_exc()}"
    if lost := lost_marks(source, out, marks):
        return "lost", f"{how}: {sorted(lost)[:5]}"
    return "read", how


def fuzz(corpus: str, count: int, only: int | None = None) -> tuple[Counter[str], list[str]]:
    """Tries `count` broken files: (outcomes, what failed)."""
    outcomes: Counter[str] = Counter()
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count) if only is None else [only]:
            outcome, details = try_one(corpus, number, Path(folder, "one"))
            outcomes[outcome] += 1
            if outcome not in ("read", "refused"):
                failed.append(f"{corpus!r} --only {number}: {outcome}: {details}")
            elif only is not None:
                print(outcome, details)
    return outcomes, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=[], help="corpora of fuzz_seeds.py (default: all)")
    parser.add_argument("--count", type=int, default=2000, help="broken files of each (default 2000)")
    parser.add_argument("--only", type=int, help="the number of one broken file to try again")
    arguments = parser.parse_args()
    known = sorted(fuzz_seeds.CORPORA)
    chosen = [name for name in known if not arguments.corpora or name in arguments.corpora]
    if unknown := set(arguments.corpora) - set(known):
        parser.error(f"no seeds for {', '.join(unknown)}; there are {', '.join(known)}")
    bad = 0
    for corpus in chosen:
        outcomes, failed = fuzz(corpus, arguments.count, arguments.only)
        print(corpus, dict(sorted(outcomes.items())), flush=True)
        for failure in failed[:10]:
            print("  " + failure.replace("\n", "\n  "), flush=True)
        bad += len(failed)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
