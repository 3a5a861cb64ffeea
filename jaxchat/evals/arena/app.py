"""The arena's page and what it asks for. Nothing that goes out names a model, a prompt's id or a check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from starlette.responses import Response

import jaxchat
from jaxchat.errors import InputError
from jaxchat.evals.arena.assign import Desk, Next
from jaxchat.evals.arena.items import Item
from jaxchat.evals.arena.raters import LEAST, UnknownInvitationError, UsedInvitationError, claim, rater_of
from jaxchat.evals.arena.store import ConflictError, Rating, Shown
from jaxchat.serve.body import Bodies
from jaxchat.serve.errors import ApiError, stopping, unusable
from jaxchat.serve.page_files import file_of, markdown, page_files
from jaxchat.serve.refusals import refuse_in_one_form

PAGES = Path(__file__).parent / "pages"
MOST_BODY, MOST_COMMENT, MOST_ASKED, MOST_SECONDS = 256 * 1024, 4000, 8000, 3600.0

Seen = Literal["a", "b", "tie", "both bad"]


@dataclass
class Arena:
    """A study that is open. answer: what model NAME answers to a text, where answers are live. draining: whether the
    server stops; ratings are short, so that those that are open end by themselves."""

    desk: Desk
    answer: Callable[[str, str], str] | None = None
    draining: bool = False

    def drain(self) -> None:
        self.draining = True

    def give_up(self) -> None:
        pass


def make_app(arena: Arena) -> FastAPI:
    """The application, to be run by any ASGI server."""
    app = FastAPI(title="jaxchat arena", version=jaxchat.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.arena = arena
    app.include_router(page)
    app.include_router(page_files(PAGES))
    app.include_router(markdown, dependencies=[Depends(who)])
    app.include_router(routes)
    refuse_in_one_form(app)
    app.add_middleware(Bodies, most=MOST_BODY)
    return app


page = APIRouter()


@page.get("/")
def arena_page() -> Response:
    return file_of(PAGES / "arena.html", "text/html")


@page.get("/health")
def health(request: Request) -> dict[str, str]:
    """200 while ratings are taken."""
    _arena(request)
    return {"status": "ok"}


def _arena(request: Request) -> Arena:
    arena: Arena = request.app.state.arena
    if arena.draining:
        raise stopping({"Connection": "close"})
    return arena


def _unkept(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


def who(
    request: Request,
    given: HTTPAuthorizationCredentials | None = Depends(HTTPBearer(auto_error=False)),  # noqa: B008
) -> int:
    """The rater that asks, by the secret of their browser."""
    rater = rater_of(_arena(request).desk.store, given.credentials) if given else None
    if rater is None:
        raise ApiError(401, "this page is for raters; open the link of your invitation", code="no_invitation")
    return rater.id


routes = APIRouter(prefix="/arena", dependencies=[Depends(_unkept)])


class Claim(BaseModel):
    """POST /arena/claim"""

    invitation: str = Field(max_length=200)
    session: str = Field(min_length=LEAST, max_length=200)


class Said(BaseModel):
    """POST /arena/ratings: of what was shown under `key`; revision 0 is the first, and each change of mind the next."""

    key: str = Field(max_length=100)
    revision: int = Field(ge=0, lt=1000)
    verdict: Seen | None = None
    scores: dict[str, int] = {}
    comment: str = Field("", max_length=MOST_COMMENT)
    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)


class Asked(BaseModel):
    """POST /arena/ask"""

    text: str = Field(min_length=1, max_length=MOST_ASKED)


@routes.post("/claim")
def use_invitation(asked: Claim, request: Request) -> dict[str, Any]:
    """Ties an invitation to the browser that uses it first."""
    try:
        claim(_arena(request).desk.store, asked.invitation, asked.session)
    except UnknownInvitationError:
        raise ApiError(
            403, "this link is no invitation; ask who sent it for the whole link", code="unknown_invitation"
        ) from None
    except UsedInvitationError:
        raise ApiError(
            403, "this invitation is used already, in another browser; ask for a new link", code="used_invitation"
        ) from None
    return {"claimed": True}


@routes.get("/study")
def study(request: Request, rater: int = Depends(who)) -> dict[str, Any]:
    """What the page needs to know."""
    study = _arena(request).desk.study
    english, chinese = study.told
    return {
        "title": study.title,
        "kind": study.kind,
        "guidelines": {"en": english, "zh": chinese},
        "scales": [dataclasses.asdict(scale) for scale in study.scales] if study.kind == "scales" else [],
        "practice": len(study.practice),
    }


@routes.get("/next")
def next_item(request: Request, rater: int = Depends(who)) -> dict[str, Any]:
    arena = _arena(request)
    return _told(arena, arena.desk.next(rater), rater)


@routes.post("/ask")
def ask(asked: Asked, request: Request, rater: int = Depends(who)) -> dict[str, Any]:
    """Live: two answers to what a rater typed."""
    arena = _arena(request)
    if arena.answer is None or not asked.text.strip():
        raise unusable("nothing can be asked here" if arena.answer is None else "the question is blank")
    try:
        return _told(arena, arena.desk.ask(rater, asked.text.strip(), arena.answer), rater)
    except InputError as error:
        raise unusable(str(error)) from None


@routes.get("/shown/{key}")
def shown_before(key: str, request: Request, rater: int = Depends(who)) -> dict[str, Any]:
    """An item that was rated before, to change one's mind."""
    arena = _arena(request)
    shown = _shown(arena, key, rater)
    now = arena.desk.next(rater)
    return {
        **_told(arena, dataclasses.replace(now, state="item", shown=shown, item=arena.desk.item(shown.item)), rater)
    }


@routes.post("/ratings")
def rate(said: Said, request: Request, rater: int = Depends(who)) -> dict[str, Any]:
    """Keeps a rating; when this is answered, it is on the disk."""
    arena = _arena(request)
    shown = _shown(arena, said.key, rater)
    item = arena.desk.item(shown.item)
    rating = _rating(arena, said, shown)
    try:
        arena.desk.store.rate(rater, said.key, said.revision, rating)
    except ConflictError:
        raise ApiError(
            409, "this item was rated in another window; the page shows what it is now", code="rated_elsewhere"
        ) from None
    practised = {}
    if item.practice and item.trial is not None:
        expected = item.trial.expected
        practised = {
            "right": item.trial.right(rating.verdict, rating.scores),
            "expected": _seen(expected, shown.flipped) if isinstance(expected, str) else expected,
            "why": {"en": item.trial.why, "zh": item.trial.why_zh or item.trial.why},
        }
    return {"kept": True, "practised": practised or None}


def _shown(arena: Arena, key: str, rater: int) -> Shown:
    found = next((shown for shown in arena.desk.store.shown_to(rater) if shown.key == key), None)
    if found is None:
        raise ApiError(404, "this item was not shown to you; reload the page", code="not_shown")
    return found


def _rating(arena: Arena, said: Said, shown: Shown) -> Rating:
    study = arena.desk.study
    seconds = min(said.seconds, MOST_SECONDS, max(0.0, arena.desk.store.now() - shown.at))
    if study.kind == "pairs":
        if said.verdict is None or said.scores:
            raise unusable("a rating here is one of a, b, tie and both bad", "verdict")
        return Rating(_canonical(said.verdict, shown.flipped), {}, said.comment.strip(), seconds)
    points = {scale.name: scale.points for scale in study.scales}
    if said.verdict is not None or set(said.scores) != set(points):
        raise unusable(f"a rating here gives points for {', '.join(points)}", "scores")
    for name, given in said.scores.items():
        if not 1 <= given <= points[name]:
            raise unusable(f"{name} takes 1 to {points[name]}", "scores")
    return Rating(None, said.scores, said.comment.strip(), seconds)


def _canonical(verdict: str, flipped: bool) -> str:
    """From what stood left and right to the item's own order."""
    return {"a": ("first", "second")[flipped], "b": ("second", "first")[flipped]}.get(verdict, verdict)


def _seen(verdict: str, flipped: bool) -> str:
    return {"first": "ab"[flipped], "second": "ba"[flipped]}.get(verdict, verdict)


def _told(arena: Arena, now: Next, rater: int) -> dict[str, Any]:
    """A rater's place in the study, and the item there."""
    rated = [shown for shown in arena.desk.store.shown_to(rater) if shown.rated]
    told: dict[str, Any] = {"state": now.state, "done": now.done, "total": now.total, "before": None, "item": None}
    told["practised"] = sum(1 for shown in rated if arena.desk.item(shown.item).practice)
    back = [shown.key for shown in rated if not arena.desk.item(shown.item).practice]
    if now.shown is None or now.item is None:
        told["before"] = back[-1] if back else None
        return told
    if now.shown.key in back:
        back = back[: back.index(now.shown.key)]
    told["before"] = back[-1] if back else None
    told["item"] = _item(arena, now.shown, now.item)
    return told


def _item(arena: Arena, shown: Shown, item: Item) -> dict[str, Any]:
    last = arena.desk.store.last_rating(shown.id)
    said = None
    if last is not None:
        verdict = None if last.verdict is None else _seen(last.verdict, shown.flipped)
        said = {"verdict": verdict, "scores": last.scores, "comment": last.comment}
    flip = shown.flipped and len(item.answers) == 2
    return {
        "key": shown.key,
        "messages": [{"role": one["role"], "content": one["content"]} for one in item.messages],
        "answers": list(reversed(item.answers) if flip else item.answers),
        "practice": item.practice,
        "revision": shown.rated,
        "rating": said,
    }
