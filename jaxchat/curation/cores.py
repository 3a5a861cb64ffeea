"""The chain on this machine's cores.

Workers read their own chunks and write what is kept into a folder of work; the main process holds of every conversation
its position and a digest, and what near duplicates are grouped by lies on disk, one file a band. Chunks are of a fixed
size and taken up in their order, so the output does not depend on the number of workers.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np

from jaxchat.curation.chain import Counts, Done, Earlier, clean_chunk, cluster_sizes, without_duplicates
from jaxchat.curation.chunks import Chunk, File, chunks
from jaxchat.curation.near_duplicates import BANDS, SKETCH, NearDuplicates, comparable, pairs_of_band
from jaxchat.curation.steps import Prepared
from jaxchat.errors import InputError
from jaxchat.progress import Bar, track

A = TypeVar("A")
B = TypeVar("B")
Outputs = tuple[IO[bytes], IO[bytes], IO[bytes]]
Sizes = dict[str, dict[str, int]]
# Pairs that a worker compares at once.
PAIRS = 4096


class Each(Protocol):
    """`map`, on all workers: results in the order of their arguments, few of which are taken up ahead."""

    def __call__(self, function: Callable[[A], B], arguments: Iterable[A], /) -> Iterator[B]: ...


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    files: Sequence[File], prepared: Prepared, workers: int, work: Path, outputs: Outputs | None
) -> tuple[Counts, Sizes]:
    """Cleans `files` into `outputs` (conversations, dropped, rejected; None: nowhere). `work` is an empty folder for
    what lies between. Returns the counts, and the sizes of the duplicates' clusters by step and id.
    """
    counts: Counts = Counter()
    size = sum(Path(file.path).stat().st_size for file in files)
    numbers: list[tuple[int, str]] = []
    with _workers(min(workers, 1 + size // (1 << 20))) as each:
        with Bar("cleaning", size, "bytes") as bar, _Index(work) as index:
            plan = _plan(files, numbers)
            for summary in each(functools.partial(_first_pass, prepared=prepared, work=work), plan):
                counts.update(summary.counts)
                index.add(summary)
                bar.advance(summary.size)
        exact = index.exact() if prepared.exact else {}
        near = index.near(prepared.near, each, exact) if prepared.near else {}
    ids = dict.fromkeys([*exact.values(), *(place[0] for parts in near.values() for place in parts.values())], "")
    same: dict[int, Earlier] = {}
    alike: dict[int, dict[int, Earlier]] = {}
    for number, name in track(numbers, label="writing", unit="chunks"):
        done = _loaded(work, number)
        for row in done.kept:
            if row.position in ids:
                ids[row.position] = _id(row.line)
        for row in done.kept:
            if (first := exact.get(row.position)) is not None:
                same[row.position] = Earlier(first, ids[first])
            elif parts := near.get(row.position):
                alike[row.position] = {part: Earlier(at, ids[at], other) for part, (at, other) in parts.items()}
        final = without_duplicates(done, same, alike, prepared, name)
        counts.update(final.counts)
        for file, rows in zip(outputs or (), (final.kept, final.dropped, final.rejected)):
            file.writelines(row.line + b"\n" for row in rows)
    return counts, cluster_sizes(prepared, same, alike)


def _plan(files: Sequence[File], numbers: list[tuple[int, str]]) -> Iterator[Chunk]:
    for file in files:
        for chunk in chunks(file):
            numbers.append((chunk.number, file.name))
            yield chunk


def _id(line: bytes) -> str:
    import json

    return json.loads(line)["id"]


@dataclass
class _Summary:
    """Of a chunk: what the main process keeps in memory, or puts into the index."""

    number: int
    size: int
    counts: Counts
    positions_N: np.ndarray
    digests_N2: np.ndarray
    items_M: np.ndarray
    bands_MB: np.ndarray
    sketches_MS: np.ndarray


_ITEM = np.dtype(
    [("position", np.int64), ("chunk", np.int64), ("start", np.int64), ("size", np.int32), ("part", np.int32)]
)


def _first_pass(chunk: Chunk, prepared: Prepared, work: Path) -> _Summary:
    done = clean_chunk(chunk, prepared)
    with open(work / f"{chunk.number}.rows", "wb") as file:
        pickle.dump((done.kept, done.dropped, done.rejected), file, pickle.HIGHEST_PROTOCOL)
    items, bands, sketches, start = [], [], [], 0
    with open(work / f"{chunk.number}.texts", "wb") as file:
        for entry in done.entries:
            for item in entry.items:
                text = item.text.encode()
                items.append((entry.position, chunk.number, start, len(text), item.part))
                bands.append(item.bands)
                sketches.append(item.sketch)
                start += file.write(text)
    digests = b"".join(entry.digest for entry in done.entries)
    return _Summary(
        chunk.number,
        chunk.size,
        done.counts,
        np.array([entry.position for entry in done.entries], np.int64),
        np.frombuffer(digests, np.uint64).reshape(-1, 2),
        np.array(items, _ITEM),
        np.array(bands, np.uint64).reshape(-1, BANDS),
        np.array(sketches, np.uint8).reshape(-1, SKETCH),
    )


def _loaded(work: Path, number: int) -> Done:
    with open(work / f"{number}.rows", "rb") as file:
        kept, dropped, rejected = pickle.load(file)
    (work / f"{number}.rows").unlink()
    return Done(number, kept, dropped, rejected)


class _Index:
    """What duplicates are found by: 24 bytes a conversation in memory and 32 an item, BANDS * 8 + SKETCH on disk."""

    def __init__(self, work: Path):
        self.work = work
        self.positions: list[np.ndarray] = []
        self.digests: list[np.ndarray] = []
        self.items: list[np.ndarray] = []

    def __enter__(self) -> _Index:
        self.files = ExitStack()
        self.bands = [self.files.enter_context(open(self.work / f"band{n}", "wb")) for n in range(BANDS)]
        self.sketches = self.files.enter_context(open(self.work / "sketches", "wb"))
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def add(self, summary: _Summary) -> None:
        self.positions.append(summary.positions_N)
        self.digests.append(summary.digests_N2)
        self.items.append(summary.items_M)
        self.sketches.write(summary.sketches_MS.tobytes())
        for file, column in zip(self.bands, summary.bands_MB.T):
            file.write(column.tobytes())

    def exact(self) -> dict[int, int]:
        """position -> position of the first with the same digest, for all but the first."""
        if not self.positions:
            return {}
        positions_N, digests_N2 = np.concatenate(self.positions), np.concatenate(self.digests)
        if not len(positions_N):
            return {}
        order = np.lexsort((positions_N, digests_N2[:, 0], digests_N2[:, 1]))
        ordered = digests_N2[order]
        first = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
        heads = positions_N[order][np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
        return dict(zip(positions_N[order][~first].tolist(), heads[~first].tolist()))

    def near(self, step: NearDuplicates, each: Each, exact: Mapping[int, int]) -> dict[int, dict[int, tuple[int, int]]]:
        """position -> part -> (position, part) of the earliest that it is nearly the same as."""
        items_M = np.concatenate(self.items) if self.items else np.zeros(0, _ITEM)
        if not len(items_M):
            return {}
        gone = np.fromiter(exact, np.int64, len(exact))
        alive = np.flatnonzero(~np.isin(items_M["position"], gone))
        np.save(self.work / "alive.npy", alive)
        pairs = np.zeros((0, 2), np.int64)
        compare = functools.partial(_pairs_of_band, work=self.work)
        for found in track(each(compare, range(BANDS)), label="grouping", total=BANDS, unit="bands"):
            pairs = np.unique(np.concatenate([pairs, found]), axis=0)
        batches = [items_M[pairs[start : start + PAIRS]] for start in range(0, len(pairs), PAIRS)]
        result: dict[int, dict[int, tuple[int, int]]] = {}
        check = functools.partial(_same, step=step, work=self.work)
        for batch, same in zip(
            batches, track(each(check, batches), label="comparing", total=len(batches), unit="batches")
        ):
            for a, b in batch[same]:
                parts = result.setdefault(int(b["position"]), {})
                earlier = (int(a["position"]), int(a["part"]))
                parts[int(b["part"])] = min(parts.get(int(b["part"]), earlier), earlier)
        return result


def _pairs_of_band(band: int, work: Path) -> np.ndarray:
    alive = np.load(work / "alive.npy")
    hashes_N = np.fromfile(work / f"band{band}", np.uint64)[alive]
    sketches_MS = np.memmap(work / "sketches", np.uint8, "r").reshape(-1, SKETCH)
    return pairs_of_band(hashes_N, sketches_MS, alive)


def _same(pairs_N2: np.ndarray, step: NearDuplicates, work: Path) -> np.ndarray:
    result = np.zeros(len(pairs_N2), bool)
    for n, (a, b) in enumerate(pairs_N2):
        if comparable((a["position"], a["part"]), (b["position"], b["part"])):
            result[n] = step.same(_text(a, work), _text(b, work))
    return result


def _text(item: Any, work: Path) -> str:
    return os.pread(_texts(work, int(item["chunk"])).fileno(), int(item["size"]), int(item["start"])).decode()


@functools.lru_cache(maxsize=200)
def _texts(work: Path, number: int) -> IO[bytes]:
    return open(work / f"{number}.texts", "rb")


@contextmanager
def _workers(count: int) -> Iterator[Each]:
    if count <= 1:
        yield map
        _texts.cache_clear()
        return
    # A fresh interpreter each: the threads of the libraries in use here do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:

        def each(function: Callable[[A], B], arguments: Iterable[A]) -> Iterator[B]:
            ahead: deque[Future[B]] = deque()
            try:
                for argument in arguments:
                    ahead.append(pool.submit(function, argument))
                    if len(ahead) > 2 * count:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            except BrokenProcessPool:
                raise InputError(
                    "a worker was ended from outside, most likely for want of memory; take fewer with --workers"
                ) from None
            finally:
                for future in ahead:
                    future.cancel()

        yield each
