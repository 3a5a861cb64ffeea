"""The arena in a browser, under its Content-Security-Policy: what breaks that or fails in a script fails here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from jaxchat.evals.arena.app import Arena, make_app
from jaxchat.evals.arena.judged import counting, read_judged
from jaxchat.evals.arena.raters import invite
from jaxchat.serve.page_files import HEADERS
from tests.evals.arena.conftest import CHECK, Open
from tests.on_a_port import on_a_port

MODELS = ("secret-one", "secret-two")


class Visits:
    """Browsers at the page of a study. heard: the text of every answer of the server."""

    def __init__(self, browser: Any, url: str, arena: Open) -> None:
        self.browser, self.url, self.arena = browser, url, arena
        self.contexts: list[Any] = []
        self.wrong: list[str] = []
        self.heard: list[str] = []

    def invite(self, name: str) -> str:
        return f"{self.url}/#{invite(self.arena.store, [name])[name]}"

    def context(self, width: int = 1280, **more: Any) -> Any:
        options = {"locale": "en-GB", "viewport": {"width": width, "height": 800}} | more
        context = self.browser.new_context(**options)
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        return context

    def page(self, context: Any, link: str) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda line: self.wrong.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda asked: None if asked.url.startswith(self.url) else self.wrong.append(asked.url))
        page.on("response", self._hear)
        page.goto(link)
        return page

    def _hear(self, response: Any) -> None:
        self.heard.append(response.url)
        if "/arena/" in response.url and response.request.resource_type == "fetch":
            response.finished()
            self.heard.append(response.text())


Visit = Callable[..., Visits]


@pytest.fixture
def visits(browser: Any, opened: Callable[..., Open]) -> Iterator[Visit]:
    """Serves a study of so many prompts; the test ends with whatever went wrong in its pages."""
    made: list[Visits] = []
    with ExitStack() as stack:

        def serve(number: int = 4, answer: Any = None, **more: Any) -> Visits:
            arena = opened(number, more.pop("models", MODELS), **more)
            url = stack.enter_context(on_a_port(make_app(Arena(arena.desk, answer))))
            arena.store.now = time.time
            made.append(Visits(browser, url, arena))
            return made[-1]

        yield serve
        for one in made:
            for context in one.contexts:
                context.close()
    assert [wrong for one in made for wrong in one.wrong] == []


def begin(page: Any) -> None:
    page.get_by_role("button", name="Begin").click()
    page.locator(".answer").first.wait_for()


def shown(page: Any) -> str:
    """The question on the page, once its answers are there as Markdown."""
    page.locator(".answer strong").last.wait_for()
    return page.locator(".prompt .user").inner_text()


def better(page: Any) -> str:
    """The side on which the answer of the first model stands."""
    return "ab"[page.locator(".answer strong").all_inner_texts().index("a")]


def after(page: Any, question: str) -> None:
    """Waits for what comes after a question."""
    page.wait_for_function(
        """before => document.querySelector('.prompt .user')?.innerText !== before
           && !document.querySelector('main').inert""",
        arg=question,
    )


def by_mouse(page: Any) -> None:
    question = shown(page)
    page.locator(f".verdict.{better(page)}").click()
    after(page, question)


def by_keyboard(page: Any) -> None:
    question = shown(page)
    page.keyboard.press({"a": "1", "b": "4"}[better(page)])
    after(page, question)


@pytest.mark.slow
def test_two_raters_in_parallel_finish_40_items_by_mouse_and_by_keyboard_and_close_and_resume(visits):
    arena = visits(40, ratings=2)
    links = [arena.invite("mouse"), arena.invite("keys")]
    contexts = [arena.context(), arena.context()]
    pages = [arena.page(context, link) for context, link in zip(contexts, links)]
    for page in pages:
        begin(page)
    for i in range(40):
        if i in (13, 27):  # the window, and then the whole browser, closed and opened again
            for n, page in enumerate(pages):
                page.close()
                if i == 27:
                    kept = contexts[n].storage_state()
                    contexts[n].close()
                    contexts[n] = arena.context(storage_state=kept)
                pages[n] = arena.page(contexts[n], links[n] if i == 13 else arena.url)  # the link is not needed again
                pages[n].locator(".answer").first.wait_for()
                assert pages[n].locator(".count").inner_text() == f"{i} / 40"
        by_mouse(pages[0])
        by_keyboard(pages[1])
    for page in pages:
        page.get_by_text("You have rated 40 items").wait_for()
    judged = read_judged(arena.arena.folder, arena.arena.store)
    assert len(judged) == 80 and Counter(one.rater for one in judged) == {"mouse": 40, "keys": 40}
    assert {one.rating.verdict for one in judged} == {"first"} and {one.flipped for one in judged} == {True, False}
    assert len({(one.rater, one.item.id) for one in judged}) == 80 and all(one.rating.seconds > 0 for one in judged)
    told = "".join(arena.heard)
    assert "Question 7?" in told  # all was heard
    assert "secret" not in told and "first" not in told


def test_a_double_click_a_refresh_and_a_lost_answer_count_once(visits):
    arena = visits(5, ratings=1)
    page = arena.page(arena.context(), arena.invite("ann"))
    begin(page)
    question = shown(page)
    page.locator(".verdict.a").dblclick()
    after(page, question)
    question = shown(page)
    page.keyboard.press("1")
    page.keyboard.press("1")
    after(page, question)
    question = shown(page)
    with page.expect_navigation():
        page.evaluate("document.querySelector('.verdict.b').click(); location.reload()")
    page.locator(".answer").first.wait_for()
    rated = len(read_judged(arena.arena.folder, arena.arena.store))
    lost = []

    def lose(route: Any) -> None:
        """The rating is kept, and the browser does not hear of it."""
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().json())
        route.abort()

    page.route("**/arena/ratings", lose)
    question = shown(page)
    page.locator(".verdict.tie").click()
    page.get_by_text("sent again").wait_for()
    after(page, question)
    assert lost[0]["kept"] and any("ERR_FAILED" in text for text in arena.wrong)
    arena.wrong.clear()
    judged = read_judged(arena.arena.folder, arena.arena.store)
    assert len(judged) == rated + 1 and all(one.revision == 0 for one in judged)
    assert len({one.item.id for one in judged}) == len(judged) and rated in (2, 3)


def test_a_wrong_link_and_a_used_one_are_refused_with_a_sentence(visits):
    arena = visits()
    link = arena.invite("ann")
    begin(arena.page(arena.context(), link))
    for place, sentence in (
        (link, "This invitation is used already, in another browser. Please ask for a new link."),
        (f"{link}x", "This link is no invitation. Please ask who sent it for the whole link."),
        (arena.url, "This page is for people who were invited. Please open the link of your invitation."),
    ):
        page = arena.page(arena.context(), place)
        page.get_by_text(sentence).wait_for()
        assert page.locator(".answer").count() == 0
    page = arena.page(arena.context(locale="zh-CN"), link)
    page.get_by_text("此邀请已在另一个浏览器中使用").wait_for()
    assert all("403" in text or "401" in text for text in arena.wrong) and len(arena.wrong) == 4
    arena.wrong.clear()


def test_practice_is_explained_a_comment_is_kept_and_a_mind_is_changed(visits):
    arena = visits(3, ratings=1, practice=[{**CHECK, "why": "Sums have *one* answer."}], checks=[CHECK])
    page = arena.page(arena.context(), arena.invite("ann"))
    page.get_by_text("1 practice item first").wait_for()
    page.locator(".card strong", has_text="tie").wait_for()  # the guidelines
    page.keyboard.press("Enter")
    page.locator(".answer").first.wait_for()
    assert page.locator(".count").inner_text() == "Practice, 1 of 1"
    page.keyboard.press("2")
    page.get_by_text("We would have said otherwise.").wait_for()
    page.locator("em", has_text="one").wait_for()
    assert page.get_by_text("Expected:").inner_text() in ("Expected: A is better", "Expected: B is better")
    page.keyboard.press("Enter")
    page.locator(".answer").first.wait_for()
    assert page.locator(".count").inner_text() == "0 / 4"
    first = page.locator(".prompt .user").inner_text()
    page.keyboard.press("c")
    page.keyboard.type("Both say 1.")  # a digit that is no verdict
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    after(page, first)
    page.keyboard.press("z")
    page.get_by_text("You rated this before").wait_for()
    assert page.locator(".prompt .user").inner_text() == first
    assert page.get_by_label("Comment", exact=True).input_value() == "Both say 1."
    assert page.locator('.verdict[aria-pressed="true"]').inner_text().startswith("Tie")
    page.keyboard.press("3")
    after(page, first)
    assert page.locator(".count").inner_text() == "1 / 4"
    judged = read_judged(arena.arena.folder, arena.arena.store)
    assert [(one.rating.verdict, one.rating.comment) for one in judged[1:]] == [
        ("tie", "Both say 1."),
        ("both bad", "Both say 1."),
    ]
    assert "check" not in "".join(arena.heard) and len(counting(judged)) + judged[1].item.id.startswith("check") == 1


def test_scales_by_keyboard_in_chinese(visits):
    arena = visits(
        1,
        ratings=1,
        kind="scales",
        scales=[{"name": "warmth", "question_zh": "温暖吗？"}, {"name": "wit", "points": 3}],
    )
    page = arena.page(arena.context(locale="zh-CN"), arena.invite("ann"))
    page.get_by_role("button", name="开始").click()
    page.get_by_text("温暖吗？").wait_for()
    assert page.get_by_role("button", name="下一题").is_disabled()
    page.keyboard.press("4")
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="中文").click()
    assert page.locator('.point[aria-checked="true"]').inner_text() == "4"  # and stays
    page.locator("main").focus()
    for key in ("ArrowDown", "9", "2", "ArrowUp", "5", "3", "Enter"):  # nine is no point of a scale of three
        page.keyboard.press(key)
    page.locator(".answer strong", has_text="b").or_(page.locator(".answer strong", has_text="a")).wait_for()
    page.locator(".count", has_text="1 / 2").wait_for()
    (one,) = read_judged(arena.arena.folder, arena.arena.store)
    assert one.rating.scores == {"warmth": 5, "wit": 3}
    page.get_by_role("radio", name="2").first.click()
    page.get_by_role("radio", name="1").last.click()
    page.get_by_role("button", name="下一题").click()
    page.get_by_text("您已评价 2 题").wait_for()
    page.get_by_label("Switch to English").or_(page.get_by_role("button", name="English")).click()
    page.get_by_text("You have rated 2 items").wait_for()


@pytest.mark.parametrize("kind", ["pairs", "scales"])
def test_a_telephone_shows_all_within_its_width(visits, kind):
    arena = visits(2, kind=kind)
    page = arena.page(arena.context(390, has_touch=True, is_mobile=True), arena.invite("ann"))
    wide = "document.documentElement.scrollWidth <= innerWidth"
    page.get_by_role("button", name="Begin").wait_for()
    assert page.evaluate(wide)
    begin(page)
    assert page.evaluate(wide) and page.locator("kbd").first.is_hidden()
    sizes = page.locator(".verdict, .point").evaluate_all("nodes => nodes.map(n => n.getBoundingClientRect().height)")
    assert min(sizes) >= 40


def test_who_waits_for_others_is_given_what_they_leave(visits):
    arena = visits(1, ratings=1)
    one = arena.page(arena.context(), arena.invite("one"))
    begin(one)
    other = arena.page(arena.context(), arena.invite("other"))
    other.get_by_role("button", name="Begin").click()
    other.get_by_text("Others are rating the last items.").wait_for()
    one.keyboard.press("1")
    one.get_by_text("You have rated 1 item.").wait_for()
    other.reload()
    other.get_by_text("There is nothing to be rated now.").wait_for()


def test_live_prompts_are_typed_and_both_answers_come_at_once(visits):
    asked: list[tuple[str, str]] = []

    def answer(model: str, text: str) -> str:
        asked.append((model, text))
        return f"{text} **{'ab'[MODELS.index(model)]}**"

    arena = visits(0, answer, live=dict.fromkeys(MODELS, "x"), per_rater=2)
    page = arena.page(arena.context(), arena.invite("ann"))
    page.get_by_role("button", name="Begin").click()
    for i in range(2):
        page.get_by_label("Ask whatever you like").fill(f"Why {i}?")
        page.keyboard.press("Enter")
        shown(page)
        page.keyboard.press({"a": "1", "b": "4"}[better(page)])
    page.get_by_text("You have rated 2 items").wait_for()
    judged = counting(read_judged(arena.arena.folder, arena.arena.store))
    assert [one.rating.verdict for one in judged] == ["first", "first"] and len(asked) == 4
    assert [one.item.messages[0]["content"] for one in judged] == ["Why 0?", "Why 1?"]
    assert "secret" not in "".join(arena.heard)


def test_the_page_is_held_to_what_the_chat_is_and_answers_to_raters_alone(visits):
    import httpx

    arena = visits()
    page = httpx.get(arena.url)
    assert all(page.headers[name] == value for name, value in HEADERS.items())
    for method, path in (
        ("GET", "/arena/next"),
        ("GET", "/arena/study"),
        ("POST", "/markdown"),
        ("POST", "/arena/ask"),
    ):
        told = httpx.request(
            method, f"{arena.url}{path}", json={"texts": [], "text": "x"} if method == "POST" else None
        )
        assert told.status_code == 401 and told.json()["error"]["code"] == "no_invitation"


@pytest.mark.parametrize(
    "body",
    [{"verdict": "c"}, {"verdict": None}, {"verdict": "a", "scores": {"x": 1}}, {"verdict": "a", "revision": -1},
     {"verdict": "a", "comment": "x" * 4001}, {"verdict": "a", "seconds": -1}],
)  # fmt: skip
def test_what_is_no_rating_is_refused_and_nothing_kept(opened, body):
    from starlette.testclient import TestClient

    arena = opened()
    (token,) = invite(arena.store, ["ann"]).values()
    client = TestClient(make_app(Arena(arena.desk)), raise_server_exceptions=False)
    session = "s" * 40
    assert client.post("/arena/claim", json={"invitation": token, "session": session}).status_code == 200
    mine = {"Authorization": f"Bearer {session}"}
    item = client.get("/arena/next", headers=mine).json()["item"]
    told = client.post("/arena/ratings", json={"key": item["key"], "revision": 0} | body, headers=mine)
    assert told.status_code == 400 and "message" in told.json()["error"]
    assert read_judged(arena.folder, arena.store) == []
    lost = client.post("/arena/ratings", json={"key": "other", "revision": 0, "verdict": "a"}, headers=mine)
    assert lost.status_code == 404
