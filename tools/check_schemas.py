"""Answers by random JSON schemas: each must be valid by its own.

    python tools/check_schemas.py [--model MODEL] [--count 200] [--seed 0]

Objects, lists, texts with lengths, patterns and formats, numbers within bounds, choices and alternatives, nested. An
answer that was cut off (finish_reason "length") is no JSON yet and counts as a failure too. Without --model, a tiny one
with random weights, which knows nothing of JSON: what it writes is the grammar's alone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema_rs
from serving import running

TEXTS: list[dict[str, Any]] = [
    {"maxLength": 8},
    {"minLength": 2, "maxLength": 5},
    {"pattern": "^[a-z]{2,6}-[0-9]{1,3}$"},
    {"format": "date"},
    # No "time": the grammar lets a leap second (11:50:60Z) stand anywhere, as RFC 3339 does, and validators do not.
    {"format": "ipv4"},
    {"format": "uuid"},
    {"enum": ["red", "grün", "蓝"]},
    {"const": "x"},
]


def schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema whose texts and lists have an end."""
    kinds = ["text", "whole", "number", "boolean", "null", "choice"]
    kind = rng.choice(kinds + ["object", "list", "any"] * (2 if depth < 3 else 0))
    if kind == "object":
        return object_schema(rng, depth)
    if kind == "list":
        least = rng.randint(0, 2)
        return {
            "type": "array",
            "items": schema(rng, depth + 1),
            "minItems": least,
            "maxItems": least + rng.randint(0, 2),
        }
    if kind == "any":
        return {"anyOf": [schema(rng, depth + 1) for _ in range(2)]}
    if kind == "text":
        return {"type": "string", **rng.choice(TEXTS)}
    if kind == "whole":
        low = rng.randint(-1000, 1000)
        return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 5000)}
    if kind == "number":
        return {"type": "number", "minimum": 0, "maximum": rng.choice([1, 2.5, 100]), "multipleOf": 0.25}
    if kind == "choice":
        return {"enum": rng.sample([1, 2.5, "a", "b", None, True], 3)}
    return {"type": kind}


def object_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    names = rng.sample(["id", "name", "größe", "标签", "with space", 'quo"te', "n"], rng.randint(1, 4))
    properties = {name: schema(rng, depth + 1) for name in names}
    needed = [name for name in names if rng.random() < 0.7]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def failures(url: str, count: int, seed: int, workers: int = 8) -> list[str]:
    """What was wrong with the answers that were."""
    schemas = [object_schema(random.Random(seed * 1_000_003 + i)) for i in range(count)]

    def ask(i: int) -> str | None:
        body = {
            "messages": [{"role": "user", "content": "Give an example."}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schemas[i]}},
            "max_tokens": 1500,
            "seed": i,
        }
        response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=600)
        if response.status_code != 200:
            return f"{response.text} for {json.dumps(schemas[i])}"
        choice = response.json()["choices"][0]
        text = choice["message"]["content"]
        try:
            jsonschema_rs.validator_for(schemas[i], validate_formats=True).validate(json.loads(text))
        except (ValueError, jsonschema_rs.ValidationError) as error:
            return f"{choice['finish_reason']}: {text} by {json.dumps(schemas[i])}: {error}"
        return None

    with ThreadPoolExecutor(workers) as pool:
        return [found for found in pool.map(ask, range(count)) if found]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with running(args.model, "--context", "2048", "--max-tokens", "1500") as server:
        found = failures(server.url, args.count, args.seed)
    for failure in found[:10]:
        print(failure)
    print(f"{args.count - len(found)} of {args.count} answers are valid by their schemas")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
