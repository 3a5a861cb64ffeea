"""A server under load, under attack and on its way out: what must hold is checked, and what was seen is printed.

    python tools/check_serving.py [--model MODEL] [--requests 1000] [--clients 100] [--json FILE]

The load: of the requests a third are cancelled midway, a tenth are malformed, some are read slowly; half of the others
stream. Each prompt carries a number of its own. Good requests must be answered as the same prompt is answered when it
is asked alone, after the storm: 200 of them, and of a real model, which goes on with its prompt's number, every one
that does not, or that holds another number as well. No slot may stay taken. The storm comes in four parts: memory that
one of them took is buffers that were wanted for the first time; what each of them takes is a leak. Then come SIGTERM
under load, and bodies and paths that are traps.
Without --model, a tiny one with random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from serving import Server, running

TOKENS = 24
PARTS = 4  # of the storm
LEAVE = 10  # seconds to end in, beyond the draining: what the systemd unit and the Compose file give it
LEAK, BUFFERS = 32, 400  # MB that it may take in every part, added up, and in all
MALFORMED: list[dict[str, Any]] = [
    {"content": b"{"},
    {"content": b'{"prompt": "\xff"}'},
    {"content": b"[" * 5000},
    {"json": {"prompt": 3}},
    {"json": {"prompt": "x", "temperature": -1}},
    {"json": {"prompt": "x", "n": 99}},
    {"json": {"prompt": "x" * 100_000}},
    {"json": {"prompt": "x", "nonsense": 1}},
    {"json": {"prompt": "x", "model": "another"}},
    {"json": {}},
]
JSON = {"Content-Type": "application/json"}


class Failure(Exception):  # noqa: N818  it is none of the program's: what was checked does not hold
    """Something that must hold does not."""


def must(holds: bool, what: str) -> None:
    if not holds:
        raise Failure(what)


def prompt_of(number: int) -> str:
    """Copying goes on with the number, which a small model can."""
    return f"{number}, {number}, {number}, {number}, {number},"


def asked(number: int, stream: bool) -> dict[str, Any]:
    return {"prompt": prompt_of(number), "max_tokens": TOKENS, "temperature": 0, "stream": stream, "ignore_eos": True}


async def events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])


def work_of(requests: int, seed: int) -> list[tuple[int, str]]:
    """The number in each request's prompt, and what kind of request it is."""
    rng = random.Random(seed)
    numbers = rng.sample(range(10_000, 99_999), requests)
    kinds = ["cancelled"] * (requests // 3) + ["malformed"] * (requests // 10) + ["slow"] * (requests // 20)
    kinds += ["streamed", "whole"] * requests
    kinds = kinds[:requests]
    rng.shuffle(kinds)
    return list(zip(numbers, kinds, strict=True))


async def storm(url: str, work: list[tuple[int, str]], clients: int) -> dict[int, str]:
    """Answers by number."""
    rng, answers, work = random.Random(0), dict[int, str](), list(work)

    async def client(web: httpx.AsyncClient) -> None:
        while work:
            number, kind = work.pop()
            if kind == "malformed":
                sent = {"headers": JSON, **MALFORMED[number % len(MALFORMED)]}
                response = await web.post("/v1/completions", **sent)
                must(response.status_code in (400, 404), f"malformed: {response.status_code} {response.text[:200]}")
            elif kind == "whole":
                response = await web.post("/v1/completions", json=asked(number, False))
                must(response.status_code == 200, f"{response.status_code} {response.text[:200]}")
                answers[number] = response.json()["choices"][0]["text"]
            else:
                await streamed(web, number, kind)

    async def streamed(web: httpx.AsyncClient, number: int, kind: str) -> None:
        text, leave_after = "", rng.randint(0, 4)
        async with web.stream("POST", "/v1/completions", json=asked(number, True)) as response:
            must(response.status_code == 200, f"a stream begins with {response.status_code}")
            count = 0
            async for event in events(response):
                must("error" not in event, f"a good request failed: {event}")
                text += event["choices"][0]["text"]
                count += 1
                if kind == "cancelled" and count > leave_after:
                    return
                if kind == "slow":
                    await asyncio.sleep(0.1)
        if kind != "cancelled":
            answers[number] = text

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as web:
        await asyncio.gather(*(client(web) for _ in range(clients)))
    return answers


async def alone(url: str, numbers: list[int]) -> dict[int, str]:
    async with httpx.AsyncClient(base_url=url, timeout=600) as web:
        found = {}
        for number in numbers:
            response = await web.post("/v1/completions", json=asked(number, False))
            found[number] = response.json()["choices"][0]["text"]
        return found


def by_number(answers: dict[int, str]) -> tuple[int, set[int]]:
    """How many answers hold their own number, and which hold none or another."""
    held = {number: {int(found) for found in re.findall(r"\d{5}", answer)} for number, answer in answers.items()}
    return sum(number in found for number, found in held.items()), {n for n, found in held.items() if found != {n}}


def idle(server: Server) -> None:
    """Waits until no slot is taken; Failure where one stays so."""
    until = time.monotonic() + 60
    while True:
        page = httpx.get(f"{server.url}/metrics").text
        gauges = dict(re.findall(r"^(jaxchat_(?:slots_busy|waiting|requests_open))\S* (\S+)$", page, re.MULTILINE))
        if gauges == {"jaxchat_slots_busy": "0.0", "jaxchat_waiting": "0.0", "jaxchat_requests_open": "1.0"}:
            return
        must(time.monotonic() < until, f"a minute after the last request there are still {gauges}")
        time.sleep(0.2)


def load(server: Server, requests: int, clients: int, real: bool) -> dict[str, Any]:
    """A small storm and a large one, and the same prompts alone."""
    asyncio.run(storm(server.url, work_of(max(requests // 10, clients), 0), clients))  # compiles, fills what is kept
    idle(server)
    work, answers = work_of(requests, 1), dict[int, str]()
    memory, begun = [server.megabytes()], time.monotonic()
    for part in range(PARTS):
        answers |= asyncio.run(storm(server.url, work[part::PARTS], clients))
        idle(server)
        memory.append(server.megabytes())
    seconds = time.monotonic() - begun
    grown = [after - before for before, after in pairwise(memory)]
    counts = Counter(kind for _, kind in work)
    good = counts["whole"] + counts["streamed"] + counts["slow"]
    must(len(answers) == good, f"{good} good requests, {len(answers)} answers")
    own, strange = by_number(answers)
    some = set(random.Random(2).sample(sorted(answers), min(len(answers), 200)))
    some |= strange if real else set()
    expected = asyncio.run(alone(server.url, sorted(some)))
    mixed = [number for number in some if answers[number] != expected[number]]
    must(not mixed, f"{len(mixed)} of {len(some)} answers differ from the same prompt's alone, first {mixed[:1]}")
    must(not real or own >= 0.95 * good, f"only {own} of {good} answers hold their own number")
    leak = min(grown) * PARTS
    must(leak < LEAK and sum(grown) < BUFFERS, f"{requests} requests left {', '.join(f'{mb:.0f}' for mb in grown)} MB")
    found = {
        "requests": requests,
        "answered": good,
        **counts,
        "seconds": round(seconds, 1),
        "grown_mb": [round(mb, 1) for mb in grown],
    }
    return {**found, "as_alone": len(some), "own_number": own, "strange": len(strange)}


def attacks(server: Server, key: str) -> dict[str, int]:
    """What must be refused, by status."""

    def endless() -> Any:
        yield b'{"prompt": "'
        for _ in range(2000):  # an end for this tool, should the server see none
            yield b"a" * 1_000_000

    mine = {"Authorization": f"Bearer {key}", **JSON}
    post: dict[str, tuple[int, dict[str, Any]]] = {
        "an endless prompt": (413, {"content": endless(), "headers": mine}),
        "a body of 100 MB": (413, {"content": b'"' + b"a" * 100_000_000 + b'"', "headers": mine}),
        "a prompt beyond the context": (400, {"json": {"prompt": "a " * 200_000}, "headers": mine}),
        "deep JSON": (400, {"content": b'{"prompt": ' + b"[" * 500_000, "headers": mine}),
        "invalid UTF-8": (400, {"content": b'{"prompt": "\xc3\x28"}', "headers": mine}),
        "a forged key": (401, {"json": {"prompt": "a"}, "headers": {"Authorization": f"Bearer {key[:-2]}xx"}}),
        "no key": (401, {"json": {"prompt": "a"}}),
    }
    found = {}
    with httpx.Client(base_url=server.url, timeout=120) as web:
        for name, (status, sent) in post.items():
            found[name] = web.post("/v1/completions", **sent).status_code
            must(found[name] == status, f"{name}: {found[name]}, not {status}")
        for path in (
            "/../../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/widget.js/..%2f..%2fserver.py",
            "//x",
            "/%00",
        ):
            request = web.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            found[path] = web.send(request).status_code
            must(found[path] == 404, f"{path}: {found[path]}")
        must(web.post("/v1/completions", json={"prompt": "a"}, headers=mine).status_code == 200, "it is dead")
    return found


async def _open_streams(server: Server, count: int) -> tuple[list[str], float]:
    """How each of so many long answers ended, while the server was told to stop, and when it was."""

    async def one(web: httpx.AsyncClient, number: int) -> str:
        body = {"prompt": f"{number}", "max_tokens": 3000, "stream": True, "ignore_eos": True}
        ended = "cut off"
        try:
            async with web.stream("POST", "/v1/completions", json=body) as response:
                async for event in events(response):
                    begun.release()
                    if "error" in event:
                        ended = event["error"]["code"]
                    elif event["choices"] and event["choices"][0]["finish_reason"]:
                        ended = event["choices"][0]["finish_reason"]
        except httpx.HTTPError:
            pass
        return ended

    begun = asyncio.Semaphore(0)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=httpx.Limits(max_connections=count)) as web:
        tasks = [asyncio.ensure_future(one(web, number)) for number in range(count)]
        for _ in range(3):
            await begun.acquire()
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        return list(await asyncio.gather(*tasks)), told


def stop_under_load(server: Server, drain: float, streams: int) -> dict[str, Any]:
    answers, told = asyncio.run(_open_streams(server, streams))
    ended, status = Counter(answers), server.process.wait(drain + 30)
    seconds = time.monotonic() - told
    must(status == 0, f"exit status {status} after SIGTERM")
    must(seconds <= drain + LEAVE, f"stopping took {seconds:.1f} s, of which {drain} were allowed")
    must(set(ended) <= {"length", "stop", "shutting_down"}, f"open answers ended as {dict(ended)}")
    return {"drain": drain, "seconds": round(seconds, 1), **ended}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--drain", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    from jaxchat.files import replacing
    from jaxchat.serve.keys import add_key

    results: dict[str, Any] = {}
    room = ("--queue", str(args.clients * 2), "--max-tokens", "3000", "--drain", str(args.drain))
    context = ("--context", "2048") if args.model else ()
    with tempfile.TemporaryDirectory() as folder:
        log, keys = Path(folder) / "log", Path(folder) / "keys.json"
        try:
            with running(args.model, *room, *context, log=log) as server:
                results["load"] = load(server, args.requests, args.clients, bool(args.model))
                print("load:", results["load"], flush=True)
                results["stop"] = stop_under_load(server, args.drain, 16)
                print("SIGTERM:", results["stop"], flush=True)
            key = add_key(keys, "check")
            with running(args.model, *context, "--keys", str(keys), log=log) as server:
                results["attacks"] = attacks(server, key)
                print("attacks:", results["attacks"], flush=True)
        except Failure as failure:
            sys.exit(f"FAILED: {failure}\n{log.read_text()[-3000:]}")
    if args.json:
        with replacing(args.json) as out:
            json.dump(results, out, indent=1)


if __name__ == "__main__":
    main()
