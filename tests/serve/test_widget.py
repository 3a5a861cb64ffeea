"""The widget in a browser: on our page, under its Content-Security-Policy, and on another's it asks, streams, stops,
remembers and rates."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaxchat.serve.app import Service
from jaxchat.serve.feedback import Feedback
from jaxchat.serve.page_files import HEADERS
from tests.serve.conftest import FakeEngine, served, thumbs


@pytest.fixture
def service(engine: FakeEngine) -> Service:
    return Service({"fake": served(engine)}, cors=("*",))


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def say(page: Any, text: str) -> None:
    page.get_by_placeholder("Ask a question").fill(text)
    page.keyboard.press("Enter")


def turns(page: Any, role: str) -> list[str]:
    return page.locator(f"#jaxchat-widget .turn.{role}").all_inner_texts()


def test_it_is_answered_by_the_server(live: str, page: Any, service: Any, engine: Any, tmp_path: Path) -> None:
    service.feedback = Feedback(tmp_path / "feedback.jsonl")
    engine.answer = lambda prompt: f"<b>You</b> said **{prompt.count('<|im_start|>user')}** things."
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
    page.goto(f"{live}/widget")
    assert page.locator(".here").inner_text() == live  # the line to copy
    page.get_by_label("Open chat").click()
    say(page, "Hello")
    page.get_by_label("Helpful", exact=True).wait_for()
    page.locator("#jaxchat-widget strong", has_text="1").wait_for()
    assert turns(page, "assistant")[1:] == ["<b>You</b> said 1 things."]  # Markdown, never HTML
    page.get_by_label("Helpful", exact=True).click()
    page.locator('#jaxchat-widget [aria-pressed="true"]').wait_for()
    (row,) = thumbs(service)
    assert row["rating"] == "up" and [message["role"] for message in row["messages"]] == ["user", "assistant"]
    say(page, "And now?")
    page.get_by_text("said 2 things").wait_for()
    page.reload()  # the conversation is still there
    page.get_by_label("Open chat").click()
    page.locator("#jaxchat-widget strong", has_text="2").wait_for()
    assert turns(page, "user") == ["Hello", "And now?"] and "said 2 things" in turns(page, "assistant")[-1]
    (row, *_) = thumbs(service)
    assert row["messages"][-1]["content"] == "<b>You</b> said **1** things."
    page.get_by_label("Start over").click()
    assert turns(page, "user") == [] and wrong == []


def test_its_page_is_held_to_what_the_chat_is(client: Any) -> None:
    chat, widget = client.get("/").headers, client.get("/widget").headers
    assert all(widget[name] == chat[name] for name in HEADERS) and "'unsafe" not in widget["content-security-policy"]
    script = client.get("/widget.js").headers
    assert script["cross-origin-resource-policy"] == "cross-origin" and "content-security-policy" not in script


def test_stopping_ends_the_answer_at_the_server(live: str, page: Any, engine: Any) -> None:
    engine.answer, engine.size = lambda prompt: "word " * 400, 5
    page.goto(f"{live}/widget")
    page.get_by_label("Open chat").click()
    gate = threading.Semaphore(20)
    engine.go = SimpleNamespace(wait=gate.acquire)
    say(page, "Talk")
    page.get_by_text("word word word").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Send").wait_for()
    while not engine.tickets[-1].cancelled:  # soon
        time.sleep(0.01)
    gate.release(1000)
    assert turns(page, "assistant")[-1].count("word") < 400


def test_a_server_that_cannot_answer_is_told_and_the_question_kept(live: str, page: Any, engine: Any) -> None:
    engine.full = True
    page.goto(f"{live}/widget")
    page.get_by_label("Open chat").click()
    say(page, "Hello")
    page.get_by_text("There is no answer just now").wait_for()
    assert page.get_by_placeholder("Ask a question").input_value() == "Hello"


def test_one_script_tag_on_a_page_of_another_origin(
    live: str, page: Any, service: Any, engine: Any, tmp_path: Path
) -> None:
    options = 'data-language="zh" data-title="客服" data-system="Sell shoes." data-thumbs="no"'
    (tmp_path / "shop.html").write_text(
        f'<!doctype html><h1>Shop</h1><script src="{live}/widget.js" {options}></script>'
    )

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as shop:
        threading.Thread(target=shop.serve_forever, daemon=True).start()
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(f"http://127.0.0.1:{shop.server_port}/shop.html")
        page.get_by_label("打开聊天").click()
        panel = page.locator("#jaxchat-widget section").bounding_box()
        assert panel["width"] == 390  # the whole of a telephone
        page.get_by_placeholder("请输入您的问题").fill("你好")
        page.keyboard.press("Enter")
        page.get_by_text("Hello!").wait_for()
        assert "Sell shoes." in bytes(i for i in engine.asked[0].prompt if i < 256).decode()
        shop.shutdown()
