"""The TFDS builder of packed rows. Imported only where rows are written: importing TFDS takes a second or two, though
it loads no TensorFlow for array_record files."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

Rows = Iterable[Mapping[str, np.ndarray]]


class PackedChat(tfds.core.GeneratorBasedBuilder):
    """Rows of T tokens: `tokens`, `segments`, `positions` int32[T] and `weights` float32[T] (see packing.row_arrays).

    The rows keep the order they are generated in: what shuffles is the pipeline, anew in every epoch.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, splits: Mapping[str, Rows], seq_len: int, **kwargs: Any):
        self._splits, self._seq_len = splits, seq_len
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        def array(dtype: type) -> tfds.features.Tensor:
            # Raw bytes: written five times and read three times as fast as lists of numbers.
            return tfds.features.Tensor(shape=(self._seq_len,), dtype=dtype, encoding="bytes")

        features = {name: array(np.int32) for name in ("tokens", "segments", "positions")}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Conversations packed into rows of one length.",
            features=tfds.features.FeaturesDict({**features, "weights": array(np.float32)}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        return {name: enumerate(rows) for name, rows in self._splits.items()}

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("each split brings its own rows")


def write(splits: Mapping[str, Rows], seq_len: int, folder: Path) -> None:
    """Writes the splits, each of a row at least, as the array_record dataset `folder`."""
    work = folder.with_name(folder.name + ".making")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it announces a download, and there is none
        builder = PackedChat(splits, seq_len, data_dir=work, file_format="array_record")
        try:
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        except RuntimeError as error:  # all that array_record's writer says of a full disk is its text
            for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                if os.strerror(code) in str(error):
                    raise OSError(code, os.strerror(code), str(folder)) from error
            raise
    Path(builder.data_dir).rename(folder)
    shutil.rmtree(work)
