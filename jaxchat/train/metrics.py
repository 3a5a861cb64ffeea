"""What a run writes down: metrics.jsonl, a line a step, and the same numbers for TensorBoard.

metrics.jsonl is the record that programs read. However often a run is killed and started again, every step stands in
it once: opening it for a run restored at step k drops the lines beyond k, which the run is about to write again, and a
line that a kill tore in half. Floats are written in Python's shortest exact form, so equal lines mean equal bits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jaxchat.files import replacing

Record = dict[str, Any]


def read_metrics(path: Path, *, through: int | None = None) -> list[Record]:
    """The whole records of a metrics.jsonl, in order: those up to step `through`, or all; a missing file holds none."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill: its step is beyond every checkpoint, since a save syncs the log first
        if through is None or record["step"] <= through:
            records.append(record)
    return records


class MetricsLog:
    """Appends records to RUN/metrics.jsonl and RUN/tensorboard.

    restored: the step the run goes on from; None for a run that begins, which keeps no line.
    writes: false on every process but the first of a run on many hosts; the log then only remembers.
    """

    def __init__(self, run: Path, *, restored: int | None, writes: bool = True) -> None:
        self.path = run / "metrics.jsonl"
        self.kept = [] if restored is None else read_metrics(self.path, through=restored)
        self._file = None
        self._board = None
        if not writes:
            return
        with replacing(self.path) as file:
            file.writelines(json.dumps(record) + "\n" for record in self.kept)
        self._file = self.path.open("a", encoding="utf-8")
        from tensorboardX import SummaryWriter

        # Events beyond the restored step are hidden by the viewer rather than shown twice.
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=0 if restored is None else restored + 1)

    def write(self, record: Record) -> None:
        """Adds one record; it names its `step` and is a JSON object of finite numbers."""
        if self._file is None or self._board is None:
            return
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()  # survives the process, however it ends
        for name, value in _scalars(record):
            self._board.add_scalar(name, value, record["step"])

    def sync(self) -> None:
        """Puts what was written on the disk, so that no checkpoint is newer than the log of the steps before it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _scalars(record: Record) -> list[tuple[str, float]]:
    """`train/loss` of a step's record, `time/input` of its seconds by cause, `eval/loss` of a held-out one."""
    rooms = {"train": record} | {name: value for name, value in record.items() if isinstance(value, dict)}
    return [
        (f"{room}/{name}", value)
        for room, values in rooms.items()
        for name, value in values.items()
        if name != "step" and isinstance(value, int | float)
    ]
