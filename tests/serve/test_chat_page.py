"""The chat page in a browser, under its Content-Security-Policy: what breaks that or fails in a script fails here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaxchat.serve.app import Service
from jaxchat.serve.feedback import Feedback
from jaxchat.serve.keys import Keys, add_key
from jaxchat.serve.markdown import COLOURED, LONGEST, as_html
from tests.serve.conftest import FakeEngine, served, thumbs


@pytest.fixture
def other() -> FakeEngine:
    return FakeEngine(lambda prompt: "The *other* one.")


@pytest.fixture
def service(engine: FakeEngine, other: FakeEngine, tmp_path: Path) -> Service:
    models = {"fake": served(engine), "other": served(other, "other"), "base": served(other, "base", None)}
    return Service(models, feedback=Feedback(tmp_path / "feedback.jsonl"))


Open = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, live: str) -> Iterator[Open]:
    """Opens the page, in a browser of a language and a width; the tests end with whatever went wrong in it."""
    contexts, wrong = [], []

    def open_page(locale: str = "en-GB", width: int = 1280, **more: Any) -> Any:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 800}, **more)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda asked: None if asked.url.startswith((live, "blob:")) else wrong.append(asked.url))
        page.goto(live)
        return page

    open_page.wrong = wrong  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def say(page: Any, text: str) -> None:
    """Asks, and waits until all is answered."""
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")
    settle(page)


def settle(page: Any) -> None:
    page.locator(".composer [type=submit]").wait_for()
    from playwright.sync_api import expect

    expect(page.locator('main [aria-busy="true"]')).to_have_count(0, timeout=30_000)  # shown to its end


def said(page: Any, role: str = "assistant") -> list[str]:
    return page.locator(f".turn.{role} .said").all_inner_texts()


def prompt(engine: FakeEngine, i: int = -1) -> str:
    return bytes(token for token in engine.asked[i].prompt if token < 256).decode()


def counting(engine: FakeEngine) -> None:
    """Has it answer with how many requests it has had."""
    engine.answer = lambda prompt: f"answer {len(engine.asked)}"


def test_an_answer_streams_and_its_markdown_does_nothing(visit: Open, engine: FakeEngine) -> None:
    code = "def f():\n    return '<b>'\n"
    tail = '\n\n<img src=x onerror="alert(1)"> [x](javascript:alert(1)) ![y](http://elsewhere.example/y.png)'
    engine.answer = lambda prompt: f"So **be** it.\n\n|a|b|\n|--|-:|\n|1|2|\n\n```python\n{code}```{tail}"
    page = visit()
    gate = threading.Semaphore(0)
    engine.go = SimpleNamespace(wait=gate.acquire)  # type: ignore[assignment]
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    page.locator('.turn.assistant[aria-busy="true"] .dots').wait_for()
    gate.release(5)  # deltas of three bytes; the rest is not there yet
    page.locator(".turn.assistant .said", has_text="So be it.").wait_for()
    assert (
        page.locator(".turn.assistant strong").inner_text() == "be"
        and page.get_by_role("button", name="Stop").is_visible()
    )
    gate.release(1000)
    settle(page)
    page.locator(".turn.assistant td.to-right").wait_for()
    answer = page.locator(".turn.assistant .said")
    assert answer.locator("strong").inner_text() == "be" and answer.locator("pre code .k").count() == 2
    assert answer.locator("img, script").count() == 0 and 'onerror="alert(1)"' in answer.inner_text()
    assert answer.locator("a").evaluate_all("links => links.map(link => link.protocol)") == ["http:"]  # no javascript:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer.get_by_label("Copy").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == code


def test_the_end_is_kept_in_sight_unless_one_scrolls_up(visit: Open, engine: FakeEngine) -> None:
    gate = threading.Semaphore(0)
    engine.answer, engine.size = lambda prompt: "".join(f"line {i}\n\n" for i in range(100)), 8
    engine.go = SimpleNamespace(wait=gate.acquire)  # type: ignore[assignment]
    page = visit()
    page.get_by_label("Message", exact=True).fill("Count")
    page.keyboard.press("Enter")
    gate.release(60)
    page.get_by_text("line 50", exact=True).wait_for()
    below = """node => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() =>
        done(node.scrollHeight - node.scrollTop - node.clientHeight))))"""
    column = page.locator(".column")
    assert column.evaluate(below) < 60
    column.hover()
    page.mouse.wheel(0, -600)
    while column.evaluate(below) < 300:
        page.wait_for_timeout(20)
    gate.release(1000)
    settle(page)
    assert page.get_by_text("line 99", exact=True).count() == 1 and column.evaluate(below) > 600
    page.get_by_label("To the end").click()
    assert column.evaluate(below) < 60 and page.get_by_label("To the end").is_hidden()


def test_stopping_ends_the_answer_at_the_server_and_keeps_what_was_said(visit: Open, engine: FakeEngine) -> None:
    engine.answer, engine.size = lambda prompt: "word " * 400, 5
    gate = threading.Semaphore(20)
    engine.go = SimpleNamespace(wait=gate.acquire)  # type: ignore[assignment]
    page = visit()
    page.get_by_label("Message", exact=True).fill("Talk")
    page.keyboard.press("Enter")
    page.get_by_text("word word word").first.wait_for()  # it is read while it is written
    assert page.get_by_role("button", name="Send").is_hidden()
    page.keyboard.press("Escape")
    settle(page)
    page.get_by_text("Stopped").wait_for()
    while not engine.tickets[-1].cancelled:  # soon
        time.sleep(0.01)
    gate.release(1000)
    assert 3 <= said(page)[-1].count("word") < 400
    page.reload()
    page.locator(".turn.assistant .said").wait_for()
    assert said(page)[-1].count("word") >= 3


def test_answering_again_and_editing_grow_branches_that_stay(visit: Open, engine: FakeEngine) -> None:
    counting(engine)
    page = visit()
    say(page, "one")
    page.get_by_label("Answer again").click()
    settle(page)
    assert said(page) == ["answer 2"] and prompt(engine, 0) == prompt(engine, 1)
    say(page, "two")
    assert "answer 2" in prompt(engine) and "answer 1" not in prompt(engine)
    page.get_by_label("Edit", exact=True).first.click()
    page.locator("form.editing textarea").fill("uno")
    page.keyboard.press("Enter")
    settle(page)
    assert said(page, "user") == ["uno"] and said(page) == ["answer 4"]
    assert "uno" in prompt(engine) and "one" not in prompt(engine)
    page.get_by_label("Earlier version").first.click()
    assert said(page, "user") == ["one", "two"] and said(page) == ["answer 2", "answer 3"]
    assert page.locator(":focus").get_attribute("aria-label") == "Later version"  # for who goes on by the keyboard
    page.get_by_label("Earlier version").nth(1).click()
    page.reload()
    page.locator(".turn.assistant").first.wait_for()
    assert said(page) == ["answer 1"]  # the branch that was looked at
    say(page, "three")
    assert "answer 1" in prompt(engine) and "two" not in prompt(engine)


def test_the_settings_change_what_the_request_carries(visit: Open, engine: FakeEngine) -> None:
    page = visit()
    carried: list[dict[str, Any]] = []
    page.on("request", lambda asked: carried.append(asked.post_data_json) if "/chat/" in asked.url else None)
    say(page, "Hello")
    own = {"model", "messages", "stream", "stream_options"}
    assert set(carried[0]) == own  # the model's own settings decide
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Sell shoes.")
    chosen = {"temperature": 0.3, "max_tokens": 5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.2}
    labels = ("Temperature", "Maximum length", "Top-p", "Top-k", "Min-p", "Repetition penalty")
    for label, value in zip(labels, chosen.values()):
        page.get_by_role("slider", name=label).fill(str(value))
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Message", exact=True).click()
    say(page, "Hello")
    assert carried[1]["messages"][0] == {"role": "system", "content": "Sell shoes."}
    assert {name: carried[1][name] for name in set(carried[1]) - own} == {**chosen, "seed": 7}
    sampling = engine.asked[-1].sampling
    assert {name: getattr(sampling, name) for name in chosen} == chosen and sampling.seed == 7
    page.get_by_text("Cut at the maximum length").wait_for()
    page.get_by_role("slider", name="Temperature").focus()
    page.keyboard.press("ArrowRight")  # by the keyboard, too
    page.get_by_label("Back to the model's own").nth(1).click()
    say(page, "Hello")
    assert carried[2]["temperature"] == 0.35 and "max_tokens" not in carried[2]


def test_thumbs_are_stored_and_taken_back(visit: Open, engine: FakeEngine, service: Service) -> None:
    counting(engine)
    page = visit()
    say(page, "Hello")
    page.get_by_label("Good answer").click()
    page.locator('[aria-label="Good answer"][aria-pressed="true"]').wait_for()
    page.get_by_label("Answer again").click()
    settle(page)
    page.get_by_label("Bad answer").click()
    page.locator('[aria-label="Bad answer"][aria-pressed="true"]').wait_for()
    up, down = thumbs(service)
    assert [(row["rating"], row["model"]) for row in (up, down)] == [("up", "fake"), ("down", "fake")]
    assert up["id"] != down["id"] and up["messages"][:-1] == down["messages"][:-1] != []
    page.reload()
    page.locator('[aria-label="Bad answer"][aria-pressed="true"]').click()  # taken back
    page.locator('[aria-label="Bad answer"][aria-pressed="false"]').wait_for()
    *_, last = thumbs(service)
    assert (last["rating"], last["id"], last["messages"]) == ("none", down["id"], down["messages"])


def test_two_models_side_by_side_have_histories_of_their_own(
    visit: Open, engine: FakeEngine, other: FakeEngine
) -> None:
    counting(engine)
    page = visit()
    assert page.get_by_label("Model", exact=True).locator("option").all_inner_texts() == [
        "fake",
        "other",
    ]  # base cannot
    page.get_by_label("Two models side by side").click()
    say(page, "Hello")
    say(page, "And now?")
    columns = page.locator(".column")
    texts = [columns.nth(i).locator(".turn.assistant .said").all_inner_texts() for i in range(2)]
    assert texts == [["answer 1", "answer 2"], ["The other one."] * 2]
    assert "answer 1" in prompt(engine) and "other" not in prompt(engine)
    assert "other" in prompt(other) and "answer 1" not in prompt(other)
    columns.nth(0).get_by_label("Edit", exact=True).first.click()
    page.locator("form.editing textarea").fill("Good day")
    page.keyboard.press("Enter")
    settle(page)
    assert said(page, "user") == ["Good day"] * 2  # a shared question is edited in both
    page.get_by_label("Two models side by side").click()
    assert columns.count() == 1
    page.get_by_label("Model", exact=True).select_option("other")
    say(page, "You?")
    assert "You?" in prompt(other)


def test_conversations_are_kept_named_removed_and_exported(visit: Open, engine: FakeEngine, tmp_path: Path) -> None:
    counting(engine)
    page = visit()
    say(page, "First things")
    page.get_by_role("button", name="New conversation").first.click()
    say(page, "Second things")
    page.reload()
    titles = page.locator(".list .open")
    titles.first.wait_for()
    assert titles.all_inner_texts() == ["Second things", "First things"] and said(page) == ["answer 2"]
    page.locator(".list li").nth(1).hover()
    page.get_by_label("Rename: First things").click()
    page.keyboard.type("Prime things")
    page.keyboard.press("Enter")
    titles.nth(1).click()
    assert said(page) == ["answer 1"] and titles.all_inner_texts() == ["Second things", "Prime things"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    download.value.save_as(tmp_path / "talks.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "talks.jsonl").read_text().splitlines()]
    assert [[turn["content"] for turn in row["messages"]] for row in rows] == [
        ["Second things", "answer 2"], ["First things", "answer 1"],
    ]  # fmt: skip
    page.get_by_label("Delete: Prime things").click()
    assert titles.all_inner_texts() == ["Second things"]
    page.get_by_role("button", name="Undo").click()
    assert titles.count() == 2 and said(page) == ["answer 1"]
    page.get_by_label("Delete: Prime things").click()
    page.reload()
    titles.first.wait_for()
    assert titles.all_inner_texts() == ["Second things"]


def test_conversations_are_found_by_what_was_said(visit: Open, engine: FakeEngine) -> None:
    counting(engine)
    page = visit()
    search, titles = page.get_by_label("Search conversations"), page.locator(".list .open")
    for text in ("Apples", "Pears"):
        say(page, text)
        page.get_by_role("button", name="New conversation").first.click()
    for sought, expected in (("aPPl", ["Apples"]), ("ANSWER 2", ["Pears"]), ("plums", []), ("", ["Pears", "Apples"])):
        search.fill(sought)
        assert titles.all_inner_texts() == expected
        assert page.get_by_text("Nothing found").is_visible() == (not expected)
    search.fill("apple")
    titles.first.click()
    assert said(page) == ["answer 1"] and titles.all_inner_texts() == ["Apples"] and page.title() == "Apples · jaxchat"


def test_each_script_is_written_from_its_own_side(visit: Open, engine: FakeEngine) -> None:
    engine.answer = lambda prompt: "مرحبا **بك**\n\nEnglish\nin two lines\n\n- שלום\n\n```\nx = 1\n```"
    page = visit()
    say(page, "مرحبا")
    side = "node => getComputedStyle(node).direction"
    parts = (".said", ".markdown p", ".markdown p + p", ".markdown li", ".code")
    directions = [page.locator(f".turn {part}").first.evaluate(side) for part in parts]
    assert directions == ["rtl", "rtl", "ltr", "rtl", "ltr"]
    assert page.locator(".markdown p + p").inner_text() == "English\nin two lines"


def test_what_is_exported_is_read_by_data_import(visit: Open, tmp_path: Path) -> None:
    from jaxchat.__main__ import main
    from jaxchat.chat.conversation import read_conversations

    page = visit()
    say(page, "你好\u2028")
    with page.expect_download() as download:
        page.get_by_label("Export this conversation").click()
    download.value.save_as(tmp_path / "talks.jsonl")
    assert main(["data", "import", "messages", str(tmp_path / "talks.jsonl"), "--out", str(tmp_path / "data")]) == 0
    (read,) = read_conversations(tmp_path / "data")
    assert [message.content for message in read.messages] == ["你好", "Hello!"]


def test_it_speaks_chinese_to_who_reads_it_and_to_who_asks(visit: Open) -> None:
    page = visit("zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.get_by_label("消息", exact=True).fill("你好")
    page.keyboard.press("Enter")
    page.get_by_label("重新回答").wait_for()
    page.get_by_label("Switch to English").click()
    page.get_by_label("Answer again").wait_for()
    page.reload()
    page.get_by_label("切换到中文").click()
    page.get_by_label("回答得好").wait_for()


def test_both_languages_say_the_same_things(visit: Open) -> None:
    page = visit()
    english, chinese = page.evaluate("""async () => {
        const text = await (await fetch('pages/words.js')).text();
        const parts = ['ENGLISH', 'CHINESE'].map(name => text.split(`const ${name} = {`)[1].split('};')[0]);
        return parts.map(part => [...part.matchAll(/(?:, | {2})(\\w+): "/g)].map(found => found[1]));
    }""")
    assert english == chinese and len(english) > 60


def test_dark_follows_the_system_until_it_is_chosen(visit: Open) -> None:
    page = visit(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_label("Light colours").click()
    light = page.evaluate(paper)
    assert light == "rgb(255, 255, 255)" != dark
    page.reload()
    page.get_by_label("Dark colours").wait_for()
    assert page.evaluate(paper) == light


def test_a_telephone_shows_one_thing_at_a_time(visit: Open) -> None:
    page = visit(width=390)
    say(page, "Hello")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for opener, drawer in (("Conversations", "#list"), ("Settings", "#settings")):
        assert page.locator(drawer).is_hidden()
        page.get_by_role("button", name=opener).click()
        assert page.locator(drawer).bounding_box()["width"] == 390
        page.keyboard.press("Escape")
        assert page.locator(drawer).is_hidden()


def test_every_control_has_a_name(visit: Open) -> None:
    page = visit()
    say(page, "Hello")
    page.get_by_role("button", name="Settings").click()
    nameless = """() => [...document.querySelectorAll('button, input, select, textarea')]
        .filter(node => !(node.ariaLabel || node.labels?.length || node.textContent.trim()))
        .map(node => node.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_a_server_that_cannot_answer_says_why_and_is_asked_again(visit: Open, engine: FakeEngine) -> None:
    page = visit()
    engine.full = True
    say(page, "Hello")
    page.get_by_text("64 requests wait already").wait_for()
    engine.full = False
    page.get_by_label("Answer again").click()
    page.get_by_text("Hello!").wait_for()
    page.get_by_label("切换到中文").click()
    engine.full = True
    say(page, "Hello")
    page.get_by_text("服务器正忙").wait_for()
    visit.wrong.clear()  # type: ignore[attr-defined]  # the browser's own lines about the status 503


@pytest.fixture
def secret(service: Service, tmp_path: Path) -> str:
    """The one key that the server knows."""
    secret = add_key(tmp_path / "keys.json", "me")
    service.keys = Keys(tmp_path / "keys.json")
    return secret


def test_a_key_is_asked_for_and_kept_if_that_is_wished(secret: str, visit: Open) -> None:
    page = visit()
    for key in ("wrong", secret):
        page.get_by_role("textbox", name="API key").fill(key)
        page.get_by_label("Keep it in this browser").check()
        page.get_by_role("button", name="Use it").click()
    say(page, "Hello")
    page.reload()
    page.locator("select option").first.wait_for(state="attached")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Forget the API key").click()
    page.reload()
    page.get_by_role("textbox", name="API key").wait_for()
    visit.wrong.clear()  # type: ignore[attr-defined]  # the browser's own lines about the status 401


def test_an_answer_goes_on_in_a_conversation_that_is_not_looked_at(visit: Open, engine: FakeEngine) -> None:
    page = visit()
    engine.go.clear()
    page.get_by_label("Message", exact=True).fill("Slow")
    page.keyboard.press("Enter")
    page.locator(".dots").first.wait_for()
    page.get_by_role("button", name="New conversation").first.click()
    threading.Timer(0.2, engine.go.set).start()
    page.get_by_role("button", name="Slow", exact=True).click()
    page.get_by_text("Hello!").wait_for()
    settle(page)


@pytest.mark.parametrize("path", ["/pages/..%2fwidget.py", "/pages/%2e%2e/widget.py", "/pages/chat.html", "/pages/"])
def test_only_pages_are_handed_out(client: Any, path: str) -> None:
    assert client.get(path).status_code == 404


def test_markdown_has_a_bound(client: Any) -> None:
    assert client.post("/markdown", json={"texts": ["*a*", "b"]}).json() == {
        "html": ['<p dir="auto"><em>a</em></p>\n', '<p dir="auto">b</p>\n']
    }
    assert client.post("/markdown", json={"texts": ["a" * (LONGEST // 2 + 1)] * 2}).status_code == 413
    colours = [as_html(f"```python\n{'a = 1  # <b>' * n}\n```").count("<span") > 0 for n in (1, COLOURED // 12 + 1)]
    assert colours == [True, False]


def test_markdown_is_for_who_has_a_key(secret: str, client: Any) -> None:
    asked = {"json": {"texts": ["*a*"]}}
    assert client.get("/").status_code == 200  # where the key is asked for
    assert client.post("/markdown", **asked).status_code == 401
    assert client.post("/markdown", **asked, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
