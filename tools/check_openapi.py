"""Requests made up from our own OpenAPI document, right ones and wrong ones: none may be answered with a 500.

    python tools/check_openapi.py [--cases 2000] [--seed 0]

Schemathesis makes them and sends them to the application, over a tiny model with random weights. What the API
refuses must be refused in OpenAI's form as well.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from serving import running


def check(url: str, cases: int, first: int) -> Counter[str]:
    """How many answers of each status each route gave. Raises AssertionError with the request that broke it."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    counts: Counter[str] = Counter()
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    while counts.total() < cases:  # some routes have fewer than their share to ask
        left = cases - counts.total()
        for operation in operations:
            share = left * _weight(operation) / sum(map(_weight, operations))
            for mode in modes:
                _check(operation, mode, max(1, round(share / 2)), first + counts.total(), counts)
    return counts


def _weight(operation: Any) -> int:
    return 5 if operation.method == "post" else 1


def _check(operation: Any, mode: Any, cases: int, first: int, counts: Counter[str]) -> None:
    @seed(first)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        response = case.call(timeout=120)
        counts[f"{operation.label} {response.status_code}"] += 1
        assert response.status_code < 500, f"{response.status_code}: {case.as_curl_command()}\n{response.text}"
        if response.status_code >= 400 and case.path.startswith("/v1"):
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}, response.text

    try:
        send()
    except Unsatisfiable:
        pass  # a route that takes nothing cannot be asked wrongly


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with running(None, "--context", "256", "--max-tokens", "16") as server:
        try:
            counts = check(server.url, args.cases, args.seed)
        except AssertionError as error:
            sys.exit(f"FAILED: {error}")
    for answer, count in sorted(counts.items()):
        print(f"{count:6,} {answer}")
    print(f"{sum(counts.values()):,} requests, none answered with a 500")


if __name__ == "__main__":
    main()
