"""The process beside each process that trains: it hears the other hosts, and ends the one that cannot end itself.

A training process that waits in a collective for a peer that is gone waits for ever, and one that is stopped cannot
even be told. So `jaxchat train`, where it is one of several, runs as two: a worker that trains, and this guard, its
parent, which is small, never waits, and exchanges a datagram a second with the guards of all the others. When a worker
ends, stands still or is stopped, or a guard falls silent, every guard says why, ends its worker, and exits with the
status by which a launcher knows what to do (see `cause`). From the loss of a process to the end of all it takes at
most heartbeat_timeout and SETTLE seconds, and one or two for the system.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jaxchat.distributed.cause import LOST, REFUSED, Cause, of_exit
from jaxchat.distributed.place import Distributed, Place

VARIABLE = "JAXCHAT_GUARD"  # the worker's end of the socket between the two, by its number
BEAT = 1.0  # seconds between heartbeats
# What a run does between two steps that may take step_timeout at most; packing, compiling and evaluating take what they
# take.
LIMITED = {"input": "waiting for its data", "compute": "waiting for a step to end", "checkpoint": "saving"}
SETTLE = 4.0  # seconds in which all hear what each has seen, before the likeliest cause is named


@dataclass
class Peer:
    """Another process's guard. heard: when last, in this clock. gone: it ended well, and is silent with reason."""

    address: tuple[str, int]
    host: str
    heard: float
    gone: bool = False


@dataclass
class Worker:
    """What the worker last said of itself."""

    heard: float
    doing: str = ""
    since: float = 0.0  # seconds that it has been doing this
    joining: str = ""  # what to say should it end while it waits for the others
    ending: tuple[int, str] | None = None  # the exit status that it is about to end with, and why


@dataclass
class Guard:
    """One worker's guard. Where only JAX knows which process it is, the worker says so once it has joined."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    options: Distributed
    number: int = 0
    count: int = 1
    token: str = ""
    peers: dict[int, Peer] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)
    asked: signal.Signals | None = None
    _udp: socket.socket | None = None
    _pending: bytes = b""
    _decided_at: float = 0.0

    def run(self) -> int:
        """Until the worker has ended and it is clear why; returns the status to exit with."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        self.worker = Worker(time.monotonic())
        last = beat = time.monotonic()
        code = None
        while True:
            self._listen(0.2)
            now = time.monotonic()
            if now - last > self.options.heartbeat_timeout:
                self._name(Cause(1, self.number, LOST, f"{self._who()} stood still for {now - last:.0f} s"))
            last = now
            if now - beat >= BEAT:
                beat = now
                self._send({"beat": True})
                self._answer({"alive": True})
            if code is None:
                code = self.process.poll()
                if code is not None:
                    self._worker_ended(code)
                else:
                    self._look(now)
            if self.causes and not self._decided_at:
                self._decided_at = now
            if self._decided_at and now - self._decided_at > SETTLE:
                return self._end()
            if code is not None and not self.causes:
                for _ in range(3):  # datagrams may get lost
                    self._send({"gone": True})
                    time.sleep(0.05)
                return 128 + self.asked if self.asked and code > 128 else code

    def _pass_on(self, number: int, frame: Any) -> None:
        """A scheduler's SIGTERM or a person's Ctrl-C becomes the SIGTERM that JAX tells all processes of. A second one
        ends the worker."""
        self.process.send_signal(signal.SIGKILL if self.asked else signal.SIGTERM)
        self.asked = signal.Signals(number)

    def _who(self, number: int | None = None) -> str:
        number = self.number if number is None else number
        if number == self.number:
            return f"process {number} of {self.count} ({socket.gethostname()}, pid {self.process.pid})"
        return f"process {number} of {self.count} ({self.peers[number].host})"

    def _worker_ended(self, code: int) -> None:
        if self.asked and code in (-signal.SIGTERM, -signal.SIGKILL):  # before it could save, or for a second signal
            self._name(Cause(0, self.number, 128 + self.asked, f"{self._who()} was asked to stop ({self.asked.name})"))
        elif code == -signal.SIGKILL and self._decided_at:
            pass  # by this guard
        elif self.worker.joining and code < 0:
            self._name(Cause(0, self.number, LOST, self.worker.joining))
        else:
            said, why = self.worker.ending or (code, "")
            cause = of_exit(said, self.number, self._who(), why)
            if cause:
                self._name(cause)

    def _look(self, now: float) -> None:
        """Whether the worker or a peer has fallen silent."""
        silence, limit = now - self.worker.heard, self.options.heartbeat_timeout
        if silence > limit / 2 and _stopped(self.process.pid):
            self._name(Cause(0, self.number, LOST, f"{self._who()} has been stopped (SIGSTOP) for {silence:.0f} s"))
        elif self.peers and silence > 4 * limit:  # a long call of a library that lets no thread of Python run
            self._name(Cause(1, self.number, LOST, f"{self._who()} has not moved for {silence:.0f} s"))
        elif self.worker.doing in LIMITED and self.worker.since > self.options.step_timeout:
            doing = f"{LIMITED[self.worker.doing]} for {self.worker.since:.0f} s"
            waits = self.worker.doing == "compute"  # perhaps for another process, which is then the cause
            self._name(Cause(2 if waits else 1, self.number, LOST, f"{self._who()} has been {doing}"))
        for number, peer in self.peers.items():
            if not peer.gone and now - peer.heard > limit:
                self._name(self._silent(number, now))

    def _silent(self, number: int, now: float) -> Cause:
        text = (
            f"{self._who()} has heard nothing of {self._who(number)} for {now - self.peers[number].heard:.0f} s: "
            "it hangs, its host is down, or the network between them is cut"
        )
        return Cause(2, number, LOST, text)

    def _name(self, cause: Cause) -> None:
        """Takes note of a cause and tells all."""
        if all(cause.process != other.process or cause.rank < other.rank for other in self.causes):
            self.causes.append(cause)
            for _ in range(3):
                self._send({"cause": asdict(cause)})

    def _hear(self, number: int, message: dict[str, Any]) -> None:
        now, peer = time.monotonic(), self.peers[number]
        peer.heard = now
        peer.gone = peer.gone or "gone" in message
        if "cause" not in message:
            return
        cause = Cause(**message["cause"])
        if cause not in self.causes:
            self.causes.append(cause)
        silent = self.peers.get(cause.process)
        if cause.rank == 2 and cause.process != number and silent and now - silent.heard < 3 * BEAT:
            between = f"process {number} ({peer.host}) and process {cause.process} ({silent.host})"
            text = f"the connection between {between} of {self.count} is cut: both are alive and do not hear each other"
            self._name(Cause(1, -1, LOST, text))

    def _end(self) -> int:
        """Ends the worker, if it has not ended, and says why."""
        now = time.monotonic()
        # A guard that was killed tells nobody: what its peers then see are failures without a first cause.
        if min(cause.rank for cause in self.causes) > 2:
            for number, peer in self.peers.items():
                if not peer.gone and now - peer.heard > SETTLE:
                    self.causes.append(self._silent(number, now))
        self._kill()
        cause = min(self.causes, key=lambda cause: (cause.rank, cause.process))
        # A worker that refuses its input says so itself.
        if not any(cause.process == self.number and cause.code == REFUSED for cause in self.causes):
            then = {LOST: "all processes stop, and the same command goes on from the newest checkpoint"}
            line = f"jaxchat: {cause.text}; {then.get(cause.code, 'all processes stop')} (exit status {cause.code})"
            print(line, file=sys.stderr, flush=True)
        return cause.code

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # ends a stopped process too
            self.process.wait()

    def _listen(self, seconds: float) -> None:
        """Takes in what the worker and the peers send."""
        sources = [source for source in (self.channel, self._udp) if source is not None and source.fileno() >= 0]
        for source in select.select(sources, [], [], seconds)[0]:
            if source is self.channel:
                self._hear_worker()
                continue
            try:
                message = json.loads(source.recv(4096))
                if message.pop("token") == self.token and message["from"] in self.peers:
                    self._hear(message.pop("from"), message)
            except (OSError, ValueError, LookupError, TypeError):
                continue  # a datagram of somebody else's

    def _hear_worker(self) -> None:
        try:
            data = self.channel.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.channel.close()  # it is ending
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        self.worker.heard = time.monotonic()
        for line in lines:
            message = json.loads(line)
            if "bind" in message:
                self._bind(message["bind"])
            elif "joining" in message:
                self.worker.joining = message["joining"]
            elif "joined" in message:
                self.worker.joining = ""
                self._join(**message["joined"])
            elif "ending" in message:
                self.worker.ending = tuple(message["ending"])
                cause = of_exit(message["ending"][0], self.number, self._who(), message["ending"][1])
                if cause:
                    self._name(cause)
            else:
                self.worker.doing, self.worker.since = message["beat"]

    def _bind(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind((address, 0))
        self._answer({"port": self._udp.getsockname()[1]})

    def _join(self, number: int, token: str, peers: list[list[Any]]) -> None:
        now = time.monotonic()
        self.number, self.count, self.token = number, len(peers), token
        for other, (host, address, port) in enumerate(peers):
            if other != number:
                self.peers[other] = Peer((address, port), host, now)

    def _send(self, message: dict[str, Any]) -> None:
        if self._udp is None:
            return
        data = json.dumps({"token": self.token, "from": self.number, **message}).encode()
        for peer in self.peers.values():
            try:
                self._udp.sendto(data, peer.address)
            except OSError:
                pass  # no way there: its silence will tell

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            self.channel.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT)
        except OSError:
            pass  # it is ending, or stopped


def _stopped(pid: int) -> bool:
    """Whether a process is held by SIGSTOP (or a debugger), where the system tells."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def run_guarded(argv: Sequence[str], place: Place, options: Distributed) -> int:
    """Runs `argv`, which takes the place `place`, as a worker under a guard; returns the status to exit with."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = subprocess.Popen(
            argv,
            env={**os.environ, VARIABLE: str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C in a terminal reaches the guard alone, which passes it on
        )
        theirs.close()
        return Guard(worker, ours, options, place.process or 0, place.processes or 1).run()
