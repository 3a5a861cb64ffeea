"""Hugging Face datasets by a field map: a hub name (`hf:NAME`), a folder that was downloaded or saved, or plain files
of Parquet, Arrow, JSON lines, JSON or CSV. A row is a row of the table.

Read with pyarrow, a few hundred rows at a time; the `datasets` package is not needed.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar

from jaxchat.corpora.csv_rows import csv_records
from jaxchat.corpora.field_map import FieldMap
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.records import found, json_records
from jaxchat.corpora.rows import Row, Source
from jaxchat.errors import InputError

# Rows of a table taken into memory at once.
ROWS = 256
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
_SIDE_FILES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
_PATTERNS = tuple(f"*{suffix}" for suffix in (".parquet", ".arrow", ".jsonl", ".json", ".ndjson", ".csv", ".tsv"))


@dataclass(frozen=True)
class Hf(FieldMap):
    """A table of conversations, or of questions and answers."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".arrow", ".jsonl", ".json", ".ndjson", ".csv", ".tsv")

    name: str = ""
    """The dataset's name on the hub, or a folder: what stands behind `hf:`. Paths may be given instead."""
    split: str = "train"
    """The split to read, where the files' names tell splits apart; all: every one."""
    subset: str = ""
    """The configuration, where a dataset has several; its default one otherwise."""

    def files(self, paths: Sequence[Path]) -> list[Source]:
        if self.name and not paths:
            local = Path(self.name).expanduser()
            paths = [local if local.exists() else self._downloaded()]
        chosen: list[Source] = []
        for path in paths:
            found = super().files([path])
            chosen += self._of_split(path, found) if path.is_dir() else found
        # Named together, so that files of several folders are told apart.
        from jaxchat.corpora import named

        return named([(source.path, source.member) for source in chosen])

    def fits(self, file: PurePath) -> bool:
        hidden = any(part.startswith(".") for part in file.parts[1:])
        return super().fits(file) and file.name not in _SIDE_FILES and not hidden

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            for row in _rows(source, ledger):
                if isinstance(row, Row):
                    yield from found(row, self.conversations, "hf")
                else:
                    yield row

    def _of_split(self, folder: Path, sources: list[Source]) -> list[Source]:
        relative = {source: _within(source, folder) for source in sources}
        patterns = _configured(folder, self.subset)
        if patterns:
            wanted = [glob for split, globs in patterns for glob in globs if self.split in ("all", split)]
            if not wanted:
                has = ", ".join(dict.fromkeys(split for split, _ in patterns))
                raise InputError(f"{folder}: no split {self.split}; it has {has}; name one by --split")
            return [source for source, name in relative.items() if any(_matches(name, glob) for glob in wanted)]
        if self.subset:
            relative = {source: name for source, name in relative.items() if self.subset in PurePath(name).parts[:-1]}
            if not relative:
                raise InputError(f"{folder}: no folder {self.subset} in it; correct --subset")
        splits = {source: split_of(name) for source, name in relative.items()}
        if self.split == "all" or not any(splits.values()):
            return list(relative)
        chosen = [source for source, split in splits.items() if split == self.split]
        if not chosen:
            has = ", ".join(sorted({split for split in splits.values() if split}))
            raise InputError(f"{folder}: no split {self.split}; it has {has}; name one by --split, or all")
        return chosen

    def _downloaded(self) -> Path:
        import huggingface_hub

        try:
            names = huggingface_hub.HfApi().list_repo_files(self.name, repo_type="dataset")
            data = [name for name in names if any(fnmatch.fnmatch(name.lower(), f"{p}*") for p in _PATTERNS)]
            if self.split != "all" and any(split_of(name) == self.split for name in data):
                data = [name for name in data if split_of(name) in (self.split, "")]
            if self.subset and any(self.subset in PurePath(name).parts for name in data):
                data = [name for name in data if self.subset in PurePath(name).parts]
            folder = huggingface_hub.snapshot_download(
                self.name, repo_type="dataset", allow_patterns=[*data, "README.md"]
            )
        except Exception as error:  # of many kinds: no such name, no access, no network
            why = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.name}: no such folder, and it cannot be had from the hub ({type(error).__name__}: {why})"
            ) from None
        return Path(folder)


def split_of(name: str) -> str:
    """The split that a file's name or folder tells: `data/train_sft-00000-of-00003.parquet` is of train_sft; "" where
    it tells none."""
    path = PurePath(name)
    stem = path.name.partition(".")[0].lower()
    shard = re.fullmatch(r"(.+?)-\d{5}-of-\d{5}(?:-\w+)?", stem)
    if shard and shard[1] not in ("data", "cache"):
        stem = shard[1].rpartition("-")[2] if shard[1].rpartition("-")[2] in _SPLITS else shard[1]
        if stem in _SPLITS or any(stem.startswith(f"{split}_") for split in _SPLITS):
            return stem
    for part in (stem, *(folder.lower() for folder in reversed(path.parts[:-1]))):
        if part in _SPLITS:
            return part
        words = re.split(r"[^a-z]+", part)
        if part == stem and (split := next((word for word in words if word in _SPLITS), "")):
            return split
    return ""


def _within(source: Source, folder: Path) -> str:
    path = source.path.absolute()
    try:
        name = path.relative_to(folder.absolute()).as_posix()
    except ValueError:
        name = path.name
    return f"{name}/{source.member}" if source.member else name


def _configured(folder: Path, subset: str) -> list[tuple[str, list[str]]]:
    """(split, patterns of files) as the dataset's card has them for `subset` or the default; [] where it has none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if not (match := re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)):
        return []
    import yaml

    try:
        card = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return []
    configs = card.get("configs") if isinstance(card, dict) else None
    configs = [config for config in configs or [] if isinstance(config, dict) and config.get("data_files")]
    if not configs:
        return []
    names = [str(config.get("config_name")) for config in configs]
    if subset and subset not in names:
        raise InputError(f"{folder}: no subset {subset}; it has {', '.join(names)}")
    chosen = configs[names.index(subset)] if subset else next((c for c in configs if c.get("default")), None)
    chosen = chosen or (configs[names.index("default")] if "default" in names else configs[0])
    files = chosen["data_files"]
    if isinstance(files, str):
        files = [files]
    if all(isinstance(entry, str) for entry in files):
        return [("train", list(files))]
    found = []
    for entry in files:
        if isinstance(entry, dict) and "path" in entry:
            paths = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            found.append((str(entry.get("split", "train")), [str(path) for path in paths]))
    return found


def _matches(name: str, glob: str) -> bool:
    return fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(name, glob.replace("**/", ""))


def _rows(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    name = source.file_name
    if name.endswith((".parquet", ".arrow")):
        yield from _table(source, ledger)
    elif name.endswith((".csv", ".tsv")):
        yield from csv_records(source, ledger, (), delimiter="\t" if name.endswith(".tsv") else ",")
    else:
        yield from json_records(source, ledger)


def _table(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    import pyarrow

    if source.member or source.path.suffix not in (".parquet", ".arrow"):
        raise InputError(f"{source.path}: Parquet and Arrow files are read as they are; unpack the archive first")
    position = 0
    batches = _batches(source.path)
    while True:
        try:
            batch = next(batches, None)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise InputError(f"{source.path}: cannot be read ({_first_line(error)}); is the file whole?") from None
        if batch is None:
            return
        ledger.on_bytes(batch.nbytes)
        for i in range(batch.num_rows):
            position += 1
            ledger.read(source.name, position)
            try:
                (value,) = batch.slice(i, 1).to_pylist()
                yield Row(source.name, position, value)
            except (UnicodeDecodeError, ValueError, OverflowError, pyarrow.ArrowException) as error:
                yield Rejected(source.name, position, f"cannot be decoded: {_first_line(error)}")


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=ROWS)
        return
    with pyarrow.memory_map(str(path)) as mapped:
        try:
            batches: Any = pyarrow.ipc.open_stream(mapped)
        except pyarrow.ArrowInvalid:
            file = pyarrow.ipc.open_file(mapped)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        for batch in batches:
            # What lies in such a file is believed as it stands: a damaged offset would end the process.
            batch.validate(full=True)
            yield batch


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
