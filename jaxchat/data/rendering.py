"""Conversations to examples, on all of this machine's cores where there are enough of them to be worth it.

The workers are processes of their own, started by command: they load nothing but the tokenizer and the template (so
they start in a second), they are safe beside JAX's threads, which a forked copy of this process would not be, and they
need no `if __name__ == "__main__"` in a caller's script. Results come in the order of the conversations, whatever the
number of workers.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.errors import InputError

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat, Example

# Conversations handed to a worker at once, how many are worth starting workers for, and the most workers of use: what
# the packing process itself does takes about a tenth of a worker's time.
CHUNK, WORTH_IT, MOST = 32, 1000, 16


def examples(
    conversations: Iterable[Conversation], format: ChatFormat, total: int, workers: int | None = None
) -> Iterator[tuple[Conversation, Example | str]]:
    """Each conversation with its example, or with the reason for which the template refuses it.

    `total`: about how many there are. `workers`: processes, by default one for each core.
    """
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), MOST) if total >= WORTH_IT else 1
    with tempfile.TemporaryDirectory(prefix="jaxchat-") as folder:
        if workers > 1 and _saved(format, Path(folder)):
            yield from _parallel(conversations, Path(folder), format.fingerprint, workers)
            return
    for conversation in conversations:
        yield conversation, _example(format, conversation)


def opening(format: ChatFormat) -> np.ndarray:
    """The tokens, int32[n], with which the template opens a conversation that has no system message of its own: BOS, a
    default system message. None at all where that cannot be told from the first turn."""
    ask, answer = Message("user", "Q"), Message("assistant", "A")
    try:
        first, before, after = (format.text(turns) for turns in ([ask], [ask, answer], [ask, answer, ask]))
    except InputError:
        return np.zeros(0, np.int32)
    turn = after.removeprefix(before)
    text = first[: -len(turn)] if first.endswith(turn) and turn != after else ""
    return np.array(format.tokenizer.encode(text), np.int32)


def _example(format: ChatFormat, conversation: Conversation) -> Example | str:
    try:
        return format.example(conversation)
    except InputError as error:
        return str(error)


def _saved(format: ChatFormat, folder: Path) -> bool:
    """Writes what a worker needs; False where the tokenizer cannot be saved."""
    try:
        format.tokenizer.save(folder)
    except NotImplementedError:
        return False
    own = format.template == format.tokenizer.chat_template
    (folder / "format.pickle").write_bytes(pickle.dumps((None if own else format.template, format.variables)))
    return True


def _parallel(
    conversations: Iterable[Conversation], folder: Path, fingerprint: str, count: int
) -> Iterator[tuple[Conversation, Example | str]]:
    """Chunk i goes to worker i mod count, which is sent the next one when the results of its last have been read: no
    pipe is ever written while its worker has something to say."""
    package = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", "from jaxchat.data.rendering import work; work()", str(folder), fingerprint]
    environment = {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
    source = iter(conversations)
    chunks = iter(lambda: list(islice(source, CHUNK)), [])
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) for _ in range(count)
    ]
    sent: list[list[Conversation]] = [[] for _ in workers]
    try:
        for i, (worker, chunk) in enumerate(zip(workers, chunks)):
            sent[i] = _send(worker, chunk)
        i = 0
        while sent[i]:
            done, results = sent[i], _receive(workers[i])
            sent[i] = _send(workers[i], chunk) if (chunk := next(chunks, None)) else []
            yield from zip(done, results)
            i = (i + 1) % count
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(BrokenPipeError):  # what a dead worker was not given
                    pipe and pipe.close()


def _send(worker: subprocess.Popen[bytes], chunk: list[Conversation]) -> list[Conversation]:
    assert worker.stdin is not None
    try:
        pickle.dump(chunk, worker.stdin)
        worker.stdin.flush()
    except BrokenPipeError:
        raise _died(worker) from None
    return chunk


def _receive(worker: subprocess.Popen[bytes]) -> list[Any]:
    assert worker.stdout is not None
    try:
        return pickle.load(worker.stdout)
    except EOFError:
        raise _died(worker) from None


def _died(worker: subprocess.Popen[bytes]) -> RuntimeError:
    return RuntimeError(f"a rendering worker ended with status {worker.wait()}; it says why above")


def work() -> None:
    """A worker: chunks of conversations in on standard input, lists of examples out on standard output, pickled."""
    from jaxchat.chat.template import ChatFormat
    from jaxchat.chat.tokenizer import load_tokenizer

    results: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whoever prints does not print into the results
    folder, fingerprint = Path(sys.argv[1]), sys.argv[2]
    template, variables = pickle.loads((folder / "format.pickle").read_bytes())
    format = ChatFormat(load_tokenizer(folder), template, variables)
    if format.fingerprint != fingerprint:
        raise RuntimeError("the tokenizer does not read like the one it was saved from")
    while True:
        try:
            chunk = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump([_example(format, conversation) for conversation in chunk], results)
        results.flush()
