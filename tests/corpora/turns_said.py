"""Turns as many formats write them, for the tests of their readers."""

from __future__ import annotations

from typing import Any

S, U, A = "system", "user", "assistant"


def turn(who: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"from": who, "value": text, **more}


def chat(*turns: str) -> list[dict[str, Any]]:
    return [{"role": (U, A)[i % 2], "content": text} for i, text in enumerate(turns)]
