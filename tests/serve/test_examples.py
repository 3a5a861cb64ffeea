"""The examples do what they say, with a server that answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def answer(prompt: str) -> str:
    last = prompt.rpartition("<|im_start|>user")[2]
    if "weather" in last:
        return '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
    return json.dumps({"name": "Ann", "age": 41}) if "JSON" in last else f"An answer to {prompt.count('user')}."


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("openai_client", "", ["An answer to 1.", "{'name': 'Ann', 'age': 41}", 'get_weather {"city": "Paris"}']),
        ("langchain_client", "", ["An answer to 1.", "name='Ann' age=41"]),
        ("terminal_chat", "Hi\n\nAnd?\n", ["> An answer to 1.", "> > An answer to 2."]),
    ],
)
def test_an_example_prints_what_was_answered(live: str, engine: Any, name: str, said: str, expected: list[str]):
    engine.answer = answer
    command = [sys.executable, EXAMPLES / f"{name}.py", f"{live}/v1"]
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[: len(expected)] == expected


def test_the_shop_has_a_chat(live: str, browser: Any):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    text = (EXAMPLES / "widget.html").read_text()
    page.route(
        f"{live}/shop",
        lambda route: route.fulfill(body=text.replace("http://127.0.0.1:8000", live), content_type="text/html"),
    )
    page.goto(f"{live}/shop")
    page.get_by_label("Open chat").click()
    assert page.get_by_text("Hello! What can I do for you?").is_visible()
    page.close()
