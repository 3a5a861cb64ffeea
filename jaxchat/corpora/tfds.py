"""Any TensorFlow dataset by a field map: `tfds:NAME`, or the folder of one that was prepared. A row is an example.

A dataset in array_record form is read without TensorFlow; one in TFRecord form needs it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxchat.corpora.field_map import FieldMap
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.records import found
from jaxchat.corpora.rows import Row, Source
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Tfds(FieldMap):
    """A dataset of the TFDS catalogue, or one's own."""

    suffixes: ClassVar[tuple[str, ...]] = (".tfrecord", ".array_record")

    name: str = ""
    """The dataset: NAME, NAME/CONFIG or NAME/CONFIG:VERSION, what stands behind `tfds:`. A prepared dataset's folder
    may be given as a path instead."""
    split: str = "train"
    """The split to read; all: every one."""
    data_dir: str = ""
    """Where datasets are prepared; TFDS's own folder otherwise."""

    def files(self, paths: Sequence[Path]) -> list[Source]:
        """The files of the split, which a cache can hash; they are read together."""
        if not paths and not self.name:
            raise InputError("no dataset to read; write tfds:NAME, or name the folder of a prepared dataset")
        sources = []
        for builder in [self._at(path) for path in paths] or [self._prepared()]:
            for split in self._splits(builder):
                try:
                    files = [Path(file) for file in builder.info.splits[split].filepaths]
                except Exception as error:  # whatever is wrong with its description
                    raise InputError(f"{builder.data_dir}: no files can be named ({_short(error)})") from None
                if missing := [file for file in files if not file.is_file()]:
                    raise InputError(f"{missing[0]}: no such file, and dataset_info.json names it")
                sources += [Source(file, file.name) for file in files]
        return sources

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for folder in dict.fromkeys(source.path.parent for source in files):
            builder = self._at(folder)
            for split in self._splits(builder):
                name = f"{builder.info.name}/{split}"
                for position, example in enumerate(self._examples(builder, split), 1):
                    ledger.read(name, position)
                    yield from found(Row(name, position, _python(example)), self.conversations, "tfds")

    def _examples(self, builder: Any, split: str) -> Iterator[Any]:
        try:
            yield from self._stored(builder, split)
        except InputError:
            raise
        except Exception as error:  # of a damaged file or description: of any kind, by several libraries
            raise InputError(f"{builder.data_dir}: cannot be read ({_short(error)}); is the dataset whole?") from None

    def _stored(self, builder: Any, split: str) -> Iterator[Any]:
        import tensorflow_datasets as tfds

        if builder.info.file_format is tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
            from array_record.python.array_record_module import ArrayRecordReader

            said = builder.info.splits[split].num_examples
            there = sum(ArrayRecordReader(str(file)).num_records() for file in builder.info.splits[split].filepaths)
            if there != said:
                raise InputError(
                    f"{builder.data_dir}: {there:,} rows in {split}, where dataset_info.json says {said:,}"
                )
            yield from builder.as_data_source(split)
        else:
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")
            yield from tfds.as_numpy(builder.as_dataset(split, shuffle_files=False))

    def _splits(self, builder: Any) -> list[str]:
        has = list(builder.info.splits)
        if self.split == "all":
            return has
        if self.split not in has:
            raise InputError(f"{builder.info.name}: no split {self.split}; it has {', '.join(has)}; or say all")
        return [self.split]

    def _at(self, path: Path) -> Any:
        import tensorflow_datasets as tfds

        if not path.is_dir():
            raise InputError(f"{path}: no folder; name the folder of a prepared dataset, which has dataset_info.json")
        # A dataset's folder holds one folder a version, and perhaps one a configuration above it.
        inside = sorted(info.parent for info in path.rglob("dataset_info.json"))
        if len(inside) != 1:
            has = f"it holds {len(inside)} of them" if inside else "it has no dataset_info.json"
            raise InputError(f"{path}: no folder of one prepared dataset; {has}")
        try:
            return tfds.builder_from_directory(inside[0])
        except Exception as error:  # whatever is wrong with its description
            raise InputError(f"{path}: no prepared dataset that can be read ({_short(error)})") from None

    def _prepared(self) -> Any:
        import tensorflow_datasets as tfds

        where = str(Path(self.data_dir).expanduser()) if self.data_dir else None
        try:
            builder = tfds.builder(self.name, data_dir=where)
            # Where a prepared form is there already this does nothing.
            with contextlib.redirect_stdout(sys.stderr):  # where it says what it downloads
                builder.download_and_prepare(file_format="array_record")
        except tfds.core.registered.DatasetNotFoundError:
            raise InputError(f"no TensorFlow dataset is called {self.name}; see tensorflow.org/datasets") from None
        except Exception as error:  # no network, no space, a source that has gone, a package that it needs
            raise InputError(f"tfds:{self.name} cannot be prepared ({type(error).__name__}: {_short(error)})") from None
        return builder


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _python(value: Any) -> Any:
    """Arrays and ragged ones as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _python(inner) for key, inner in value.items()}
    for convert in ("to_list", "tolist"):
        if hasattr(value, convert):
            return getattr(value, convert)()
    return [_python(inner) for inner in value] if isinstance(value, list | tuple) else value
