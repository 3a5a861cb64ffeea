"""Kills the arena's server at random moments while people rate, and looks for ratings that got lost or were doubled.

    python tools/kill_arena.py --out DIR [--kills 20] [--raters 6] [--seed N]

Raters rate without a pause, over HTTP as the page does: what is not answered is told again until it is. SIGKILL comes
at a random moment, and the server starts again on the same port. In the end every rating that was answered has to be
in the database once, as it was said, and nothing may be there that nobody said. Exit status 1 where that is not so.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from jaxchat.evals.arena.items import Prompt, open_folder
from jaxchat.evals.arena.judged import read_judged
from jaxchat.evals.arena.making import write
from jaxchat.evals.arena.raters import invite
from jaxchat.evals.arena.store import Store
from jaxchat.evals.arena.study import Study

MODELS, PROMPTS = ("one", "two"), 4000
_UP_SECONDS = 120.0


@dataclass
class Rater:
    """Someone who rates until told to stop. said, answered: what was sent, and what of it the server confirmed, each
    with the comment that marks it; sent: how often all was sent."""

    name: str
    url: str
    token: str
    stop: threading.Event
    said: dict[str, str] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    failed: str = ""

    def run(self) -> None:
        rng, session = random.Random(self.name), f"{self.name:-<40}"
        try:
            with httpx.Client(base_url=self.url, timeout=10, headers={"Authorization": f"Bearer {session}"}) as client:
                self._insist(client, "POST", "/arena/claim", {"invitation": self.token, "session": session})
                while not self.stop.is_set():
                    item = self._insist(client, "GET", "/arena/next")["item"]
                    mark, verdict = f"{self.name} {len(self.said)}", rng.choice(("a", "b", "tie", "both bad"))
                    self.said[mark] = verdict
                    rating = {"key": item["key"], "revision": 0, "verdict": verdict, "comment": mark, "seconds": 1}
                    self._insist(client, "POST", "/arena/ratings", rating)
                    self.answered[mark] = verdict
        except Exception as error:
            self.failed = repr(error)

    def _insist(self, client: httpx.Client, method: str, path: str, body: Any = None) -> Any:
        """The answer, however often the question has to be sent. Anything but 200 is an error of the server's."""
        while True:
            try:
                self.sent += 1
                answer = client.request(method, path, json=body)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            answer.raise_for_status()
            return answer.json()


def start(study: Path, port: int) -> subprocess.Popen[str]:
    """The server, once it listens."""
    command = [sys.executable, "-m", "jaxchat", "arena", "serve", str(study), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    if not any(line.startswith("serving ") for line in process.stdout):
        sys.exit(f"the server did not come up: {' '.join(command)}")
    return process


def differences(study: Path, raters: list[Rater]) -> list[str]:
    """What of the database is not as raters said it."""
    folder = open_folder(study)
    store = Store(folder.ratings)
    try:
        judged = read_judged(folder, store)
        (whole,) = (row[0] for row in store.read("PRAGMA integrity_check"))
    finally:
        store.close()
    kept = Counter(one.rating.comment for one in judged)
    as_seen = {}
    for one in judged:
        sides = {"first": "ab"[one.flipped], "second": "ba"[one.flipped]}
        as_seen[one.rating.comment] = sides.get(one.rating.verdict or "", one.rating.verdict)
    wrong = [] if whole == "ok" else [f"the database: {whole}"]
    for rater in raters:
        wrong += [f"failed: {rater.name}: {rater.failed}"] if rater.failed else []
        wrong += [f"lost: {mark}" for mark in rater.answered if mark not in kept]
        wrong += [f"changed: {mark}" for mark, said in rater.said.items() if mark in kept and as_seen[mark] != said]
    said = {mark for rater in raters for mark in rater.said}
    wrong += [f"doubled: {mark}" for mark, times in kept.items() if times > 1]
    wrong += [f"never said: {mark}" for mark in kept if mark not in said]
    rated = Counter((one.rater, one.item.id) for one in judged)
    wrong += [f"rated twice: {pair}" for pair, times in rated.items() if times > 1]
    over = Counter(one.item.id for one in judged)
    return wrong + [
        f"rated more often than planned: {id}" for id, times in over.items() if times > folder.study.ratings
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--raters", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, study = random.Random(arguments.seed), arguments.out / "study"
    prompts = [
        Prompt(f"{i}", ({"role": "user", "content": f"{i}?"},), {model: f"{model} {i}" for model in MODELS})
        for i in range(PROMPTS)
    ]
    write(Study(models=MODELS, ratings=2), prompts, [], study)
    store = Store(open_folder(study).ratings)
    tokens = invite(store, [f"rater{i}" for i in range(arguments.raters)])
    store.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop = threading.Event()
    raters = [Rater(name, f"http://127.0.0.1:{port}", token, stop) for name, token in tokens.items()]
    threads = [threading.Thread(target=rater.run) for rater in raters]
    process = start(study, port)
    try:
        for thread in threads:
            thread.start()
        for i in range(arguments.kills):
            time.sleep(rng.uniform(0.1, 2.0))
            process.kill()
            process.wait()
            answered = sum(len(rater.answered) for rater in raters)
            print(f"kill {i + 1}: {answered:,} ratings answered until then", flush=True)
            process = start(study, port)
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join(_UP_SECONDS)
    finally:
        stop.set()
        process.kill()
        process.wait()
    wrong = differences(study, raters)
    answered, sent = sum(len(rater.answered) for rater in raters), sum(rater.sent for rater in raters)
    print(f"seed {arguments.seed}: {arguments.kills} kills, {sent:,} requests, {answered:,} ratings answered; ", end="")
    print("none lost, none doubled" if not wrong else f"{len(wrong)} wrong: {'; '.join(wrong[:5])}")
    return 0 if not wrong and answered else 1


if __name__ == "__main__":
    sys.exit(main())
