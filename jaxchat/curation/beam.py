"""The chain as an Apache Beam pipeline: the same steps, the same keys to group by, the same bytes in the end.

Files are read in chunks and chunks cleaned wherever there is a worker. Conversations that are the same are found by
grouping by digest, candidates for near duplicates by grouping by band and hash. Each chunk, joined with what was
found of its conversations, is written as a piece of the output. The pieces are put together in their order by this
process where the output is a local folder; elsewhere they stay numbered shards.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from jaxchat.curation.chain import Counts, Done, Earlier, Entry, clean_chunk, cluster_sizes, without_duplicates
from jaxchat.curation.chunks import Chunk, File, chunks
from jaxchat.curation.near_duplicates import SKETCH, alike, comparable
from jaxchat.curation.steps import Prepared
from jaxchat.errors import InputError

KINDS = ("conversations", "dropped", "rejected")
# Beam's own name for running inside this process; DirectRunner first tries to download a binary.
EMBEDDED = {"beam": "FnApiRunner", "direct": "FnApiRunner", "DirectRunner": "FnApiRunner"}
# (chunk, position, part): where a compared item stands. The order of these is that of the conversations.
Place = tuple[int, int, int]


def run(
    files: Sequence[File],
    prepared: Prepared,
    runner: str,
    workers: int,
    options: Sequence[str],
    work: Path,
    outputs: tuple[IO[bytes], IO[bytes], IO[bytes]] | None,
) -> tuple[Counts, dict[str, dict[str, int]]]:
    """Cleans local `files` into `outputs`, as cores.run does, with `work` for the pieces."""
    _pipeline(list(files), str(work), prepared, runner, workers, options)
    for kind, output in zip(KINDS, outputs or ()):
        for piece in sorted(work.glob(f"{kind}-*")):
            output.write(piece.read_bytes())
    return _gathered(
        [path.read_bytes() for path in work.glob("counts*")], [p.read_bytes() for p in work.glob("lost*")], prepared
    )


def is_remote(paths: Iterable[str]) -> bool:
    """Whether any of the paths is one that Beam's file systems reach and this machine's does not."""
    return any("://" in path for path in paths)


def run_remote(
    sources: Sequence[str], out: str | None, prepared: Prepared, runner: str, workers: int, options: Sequence[str]
) -> tuple[Counts, dict[str, dict[str, int]]]:
    """Cleans what Beam's file systems reach into numbered shards (dropped-..., rejected-... beside them) in `out`.

    A dry run (`out` None) needs a place for its counts all the same: Beam's --temp_location.
    """
    from apache_beam.io.filesystems import FileSystems

    place = out or next((o.partition("=")[2] for o in _words(options) if o.startswith("--temp_location=")), "")
    if not place:
        raise InputError("a dry run over remote files needs --beam-options --temp_location=PLACE")
    files = []
    for source in sources:
        patterns = [source] if source.endswith((".jsonl", ".zst")) else [f"{source.rstrip('/')}/conversations*.jsonl*"]
        found = sorted(entry.path for match in FileSystems.match(patterns) for entry in match.metadata_list)
        if not found:
            raise InputError(f"{source}: no conversations.jsonl there")
        files += found
    named = [File(path, "/".join(path.split("/")[-2:]), n) for n, path in enumerate(files)]
    place = place.rstrip("/")
    _pipeline(named, place, prepared, runner, workers, options, remote=True, keep=out is not None)
    read = {name: [_read(path) for path in _matching(f"{place}/{name}*")] for name in ("counts", "lost")}
    FileSystems.delete([*_matching(f"{place}/counts*"), *_matching(f"{place}/lost*")])
    for kind in KINDS if out else ():
        pieces = sorted(_matching(f"{place}/{kind}-part-*"))
        names = [f"{place}/{kind}-{n:05d}-of-{len(pieces):05d}.jsonl.zst" for n in range(len(pieces))]
        FileSystems.rename(pieces, names)
    return _gathered(read["counts"], read["lost"], prepared)


def write(path: str, content: bytes) -> None:
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(content)


def _matching(pattern: str) -> list[str]:
    from apache_beam.io.filesystems import FileSystems

    return [entry.path for match in FileSystems.match([pattern]) for entry in match.metadata_list]


def _read(path: str) -> bytes:
    with _open(path) as file:
        return file.read()


def _open(path: str) -> IO[bytes]:
    from apache_beam.io.filesystems import CompressionTypes, FileSystems

    return cast(IO[bytes], FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def _words(options: Sequence[str]) -> list[str]:
    return [word for option in options for word in shlex.split(option)]


def _gathered(
    counts: Iterable[bytes], lost: Iterable[bytes], prepared: Prepared
) -> tuple[Counts, dict[str, dict[str, int]]]:
    total: Counts = Counter()
    for text in counts:
        for line in text.splitlines():
            name, number = json.loads(line)
            total[tuple(name)] += number
    exact: dict[int, Earlier] = {}
    near: dict[int, dict[int, Earlier]] = {}
    for text in lost:
        for line in text.splitlines():
            position, part, earlier = json.loads(line)
            if part is None:
                exact[position] = Earlier(*earlier)
            else:
                near.setdefault(position, {})[part] = Earlier(*earlier)
    return total, cluster_sizes(prepared, exact, near)


def _pipeline(
    files: list[File],
    place: str,
    prepared: Prepared,
    runner: str,
    workers: int,
    options: Sequence[str],
    remote: bool = False,
    keep: bool = True,
) -> None:
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError("Apache Beam is not installed; pip install 'jaxchat[beam]', or leave out --runner") from None

    runner = EMBEDDED.get(runner, runner)
    flags = _words(options)
    if runner == "FnApiRunner" and workers > 1:
        flags = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing", *flags]
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    try:
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(flags=flags))
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"--runner {runner}: {str(error).splitlines()[0]}") from None
    names = {file.number: file.name for file in files}
    with pipeline as start:
        done = (
            start
            | "files" >> beam.Create(files)
            | "chunks" >> beam.FlatMap(_chunks, remote)
            | "spread" >> beam.Reshuffle()
            | "clean" >> beam.Map(clean_chunk, prepared)
        )
        lost: list[Any] = []
        if prepared.exact or prepared.near:
            entries = done | "entries" >> beam.FlatMap(_entries)
            if prepared.exact:
                grouped = (
                    entries | beam.Map(_by_digest) | "the same" >> beam.GroupByKey() | beam.FlatMap(_first_and_rest)
                )
                lost.append(grouped | beam.Filter(_is_lost))
                entries = grouped | "firsts" >> beam.Filter(_is_entry)
            if prepared.near:
                items = entries | "items" >> beam.FlatMap(_items)
                texts = items | "texts" >> beam.Map(_text)
                pairs = (
                    items
                    | beam.FlatMap(_by_band)
                    | "bands" >> beam.GroupByKey()
                    | beam.FlatMap(_pairs)
                    | beam.Distinct()
                )
                half = {"text": texts, "pairs": pairs} | "earlier" >> beam.CoGroupByKey() | beam.FlatMap(_earlier_texts)
                joined = {"text": texts, "pairs": half} | "later" >> beam.CoGroupByKey()
                lost.append(joined | "near" >> beam.FlatMap(_compare, prepared))
        rows = done | "rows" >> beam.Map(
            lambda one: (one.number, Done(one.number, one.kept, one.dropped, one.rejected))
        )
        flat = lost | "lost" >> beam.Flatten() if lost else start | beam.Create([])
        final = (
            {"rows": rows, "lost": flat | "by chunk" >> beam.Map(lambda one: (one[0], one[1:]))}
            | "join" >> beam.CoGroupByKey()
            | "finish" >> beam.Map(_finish, prepared, names)
        )
        _ = final | "write" >> beam.Map(_write, place, remote, keep)
        counts = (done | beam.FlatMap(_counts), final | "changes" >> beam.FlatMap(_counts))
        _ = (
            counts
            | "both" >> beam.Flatten()
            | "add up" >> beam.CombinePerKey(sum)
            | "as JSON" >> beam.Map(lambda pair: json.dumps([json.loads(pair[0]), pair[1]]))
            | "counts" >> beam.io.WriteToText(f"{place}/counts", num_shards=1)
        )
        _ = (
            flat
            | "lost as JSON" >> beam.Map(lambda one: json.dumps(one[1:], ensure_ascii=False))
            | "lost ones" >> beam.io.WriteToText(f"{place}/lost")
        )


def _chunks(file: File, remote: bool) -> Iterator[Chunk]:
    return chunks(file, _open if remote else None)


def _counts(done: Done) -> Iterator[tuple[str, int]]:
    for name, number in done.counts.items():
        yield json.dumps(name), number


def _entries(done: Done) -> Iterator[tuple[int, Entry]]:
    for entry in done.entries:
        yield done.number, entry


def _by_digest(pair: tuple[int, Entry]) -> tuple[bytes, tuple[int, Entry]]:
    return pair[1].digest, pair


def _first_and_rest(group: tuple[bytes, Iterable[tuple[int, Entry]]]) -> Iterator[Any]:
    """(chunk, entry) of the first, (chunk, position, None, earlier) of all others."""
    ordered = sorted(group[1], key=lambda pair: pair[1].position)
    first = ordered[0][1]
    yield ordered[0]
    for chunk, entry in ordered[1:]:
        yield chunk, entry.position, None, (first.position, first.id)


def _is_lost(one: tuple[Any, ...]) -> bool:
    return len(one) == 4


def _is_entry(one: tuple[Any, ...]) -> bool:
    return len(one) == 2


def _items(pair: tuple[int, Entry]) -> Iterator[tuple[Place, str, bytes, bytes, str]]:
    chunk, entry = pair
    for item in entry.items:
        place = (chunk, entry.position, item.part)
        yield place, entry.id, item.bands.tobytes(), item.sketch.tobytes(), item.text


def _text(item: tuple[Place, str, bytes, bytes, str]) -> tuple[Place, tuple[str, str]]:
    return item[0], (item[1], item[4])


def _by_band(item: tuple[Place, str, bytes, bytes, str]) -> Iterator[tuple[str, tuple[Place, bytes]]]:
    for n, value in enumerate(np.frombuffer(item[2], np.uint64)):
        yield f"{n} {value:x}", (item[0], item[3])


def _pairs(group: tuple[str, Iterable[tuple[Place, bytes]]]) -> Iterator[tuple[Place, Place]]:
    members = sorted(group[1])
    if len(members) < 2:
        return
    sketches = np.frombuffer(b"".join(sketch for _, sketch in members), np.uint8).reshape(-1, SKETCH)
    for i, j in alike(sketches):
        yield members[i][0], members[j][0]


def _earlier_texts(group: tuple[Place, dict[str, Any]]) -> Iterator[tuple[Place, tuple[Place, str, str]]]:
    place, both = group
    for name, text in both["text"]:
        for later in both["pairs"]:
            yield later, (place, name, text)


def _compare(group: tuple[Place, dict[str, Any]], prepared: Prepared) -> Iterator[tuple[int, int, int, tuple]]:
    place, both = group
    assert prepared.near is not None
    near = prepared.near
    for _, text in both["text"]:
        for earlier, name, other in sorted(both["pairs"]):
            if comparable(earlier[1:], place[1:]) and near.same(other, text):
                yield *place, (earlier[1], name, earlier[2])
                return


def _finish(group: tuple[int, dict[str, Any]], prepared: Prepared, names: dict[int, str]) -> Done:
    number, both = group
    exact: dict[int, Earlier] = {}
    near: dict[int, dict[int, Earlier]] = {}
    for position, part, earlier in both["lost"]:
        if part is None:
            exact[position] = Earlier(*earlier)
        else:
            near.setdefault(position, {})[part] = Earlier(*earlier)
    (done,) = both["rows"]
    return without_duplicates(done, exact, near, prepared, names[number >> 24])


def _write(done: Done, place: str, remote: bool, keep: bool) -> None:
    if not keep:
        return
    for kind, rows in zip(KINDS, (done.kept, done.dropped, done.rejected)):
        content = b"".join(row.line + b"\n" for row in rows)
        if not remote:
            Path(place, f"{kind}-{done.number:015d}").write_bytes(content)
        elif content:
            import zstandard

            write(f"{place}/{kind}-part-{done.number:015d}", zstandard.ZstdCompressor().compress(content))
