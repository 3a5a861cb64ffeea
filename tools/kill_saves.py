"""Kills a process while it saves, at random moments, and looks at what is left.

    python tools/kill_saves.py --out DIR [--kills 50] [--megabytes 12] [--seed N]

A process saves one checkpoint after the other and is killed (SIGKILL) within a save. Each time a new one has to find
the newest whole checkpoint, which is the last that was finished (the one before the save that was cut short, or that
one), read it back to the bit, and go on. Exit status 1 where it is not so.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from processes import options


def main() -> int:
    arguments = options(__doc__, kills=50, megabytes=12)
    import jax  # noqa: F401  # loaded once, in the process that all others are forked from
    import orbax.checkpoint  # noqa: F401

    import jaxchat.hub.checkpoints  # noqa: F401

    rng, folder = random.Random(arguments.seed), arguments.out.absolute() / "checkpoints"
    finished = saves = lost = left_over = 0
    for turn in range(arguments.kills + 1):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_save, args=(folder, arguments.megabytes * 1024**2 // 4, theirs)
        )
        process.start()
        theirs.close()
        found, whole = ours.recv()
        if not whole or found < finished:
            print(f"seed {arguments.seed}, kill {turn}: step {finished} was saved and {found} found, whole: {whole}")
            process.kill()
            return 1
        lost += saves - found
        first = time.monotonic()
        for _ in range(rng.randrange(2, 4)):  # a save, then the next, which waits for it
            saves = ours.recv()
            took = time.monotonic() - first
        time.sleep(rng.uniform(0, took))
        process.kill()
        process.join()
        while ours.poll():
            try:
                saves = ours.recv()
            except EOFError:
                break
        finished = saves - 1  # a save begins when the one before is on the disk
        left_over += sum("tmp" in path.name for path in folder.iterdir())
    print(
        f"seed {arguments.seed}: {arguments.kills} kills while saving {arguments.megabytes} MB, {left_over} saves cut "
        f"short on the disk; the newest whole checkpoint was found and read back to the bit each time, "
        f"and {lost} saves lost, each the one that was cut short"
    )
    return 0


def _save(folder: Path, numbers: int, pipe: Connection) -> None:
    """Says what is found there, then begins one save after the other, and says which."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxchat.hub.checkpoints import Checkpoints

    jax.config.update("jax_platforms", "cpu")

    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class State:
        step: Any
        params: Any

    checkpoints = Checkpoints(folder, keep=2)
    step, whole = checkpoints.latest() or 0, True
    if step:
        shape = jax.ShapeDtypeStruct((numbers,), jnp.float32)
        read = checkpoints.restore_params(step, {"w": shape})["w"]
        whole = bool(np.array_equal(read, np.full(numbers, step, np.float32)))
    pipe.send((step, whole))
    while True:
        step += 1
        checkpoints.save(step, State(jnp.int32(step), {"w": jnp.full((numbers,), float(step))}))
        pipe.send(step)


if __name__ == "__main__":
    sys.exit(main())
