"""The routes, and what stands before them."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import jaxchat
from jaxchat.errors import InputError
from jaxchat.serve import chat_completions, text_completions
from jaxchat.serve.access import Access
from jaxchat.serve.answering import Answers, refused
from jaxchat.serve.body import Bodies
from jaxchat.serve.chat_page import chat_page
from jaxchat.serve.errors import ApiError, stopping
from jaxchat.serve.events import Events, unless_left
from jaxchat.serve.feedback import Feedback
from jaxchat.serve.guard import Guard
from jaxchat.serve.head import Heads
from jaxchat.serve.keys import Keys
from jaxchat.serve.metrics import CONTENT_TYPE, Metrics
from jaxchat.serve.page_files import markdown, page_files
from jaxchat.serve.refusals import refuse_in_one_form
from jaxchat.serve.request_log import RequestLog
from jaxchat.serve.sampled import Limits
from jaxchat.serve.served import Served
from jaxchat.serve.usage import Usage
from jaxchat.serve.widget import widget
from jaxchat.serve.wire import ChatRequest, CompletionRequest, EmbeddingRequest, FeedbackRequest


@dataclass
class Service:
    """What is served, to whom and within which limits. models: by the name clients call them; the first is the one
    that who names none gets. feedback: None where it is not kept. cors: the origins of pages that may ask.
    draining: whether it takes no more requests."""

    models: Mapping[str, Served]
    limits: Limits = field(default_factory=Limits)
    keys: Keys | None = None
    guard: Guard = field(default_factory=Guard)
    feedback: Feedback | None = None
    cors: tuple[str, ...] = ()
    log_content: bool = False
    draining: bool = False
    open: set[Answers] = field(default_factory=set)

    def model(self, name: str | None) -> Served:
        """Raises ApiError for a name that is none."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ApiError(
                404,
                f"there is no model {name[:200]!r} here; there are: {', '.join(self.models)}",
                code="model_not_found",
                param="model",
            )
        return self.models[name]

    def drain(self) -> None:
        """Takes no more requests; those that are open go on."""
        self.draining = True

    def give_up(self) -> None:
        """Ends what is still open, with an error to its client."""
        for answers in list(self.open):
            answers.give_up()


def make_app(service: Service) -> FastAPI:
    """The application; to be run by any ASGI server. Its engines are closed by who made them."""
    app = FastAPI(
        title="jaxchat",
        version=jaxchat.__version__,
        description="OpenAI's API over models of jaxchat.",
        docs_url=None,  # their pages load from a CDN
        redoc_url=None,
    )
    app.state.service = service
    app.state.metrics = metrics = Metrics(service.models, service.guard)
    app.include_router(open_routes)
    app.include_router(routes)
    app.include_router(chat_page)
    app.include_router(page_files())
    app.include_router(markdown)
    app.include_router(widget)
    refuse_in_one_form(app)
    # The last that is added stands first.
    app.add_middleware(Bodies, most=service.limits.body)
    app.add_middleware(Access, keys=service.keys, per_minute=service.limits.per_minute)
    if service.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(Heads)
    return app


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text}
    for status, text in {
        400: "a request that cannot be used",
        401: "no key that is known here",
        404: "no such model",
        408: "the body did not come",
        413: "too large",
        429: "too many requests",
        503: "no room, or the server stops",
    }.items()
}
_BEARER = HTTPBearer(auto_error=False, description="a key made with `jaxchat key`, where the server wants one")
open_routes = APIRouter()
routes = APIRouter(prefix="/v1", responses=_ERRORS, dependencies=[Depends(_BEARER)])  # Access is who looks


def _service(request: Request) -> Service:
    return request.app.state.service


@open_routes.get("/health")
def health(request: Request) -> Response:
    """200 while requests are taken, 503 once the server stops."""
    draining = _service(request).draining
    return JSONResponse({"status": "draining" if draining else "ok"}, 503 if draining else 200)


@open_routes.get("/metrics")
def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.metrics.page(), media_type=CONTENT_TYPE)


@routes.get("/models")
def list_models(request: Request) -> dict[str, Any]:
    """The models that are served; `context_length` counts a prompt and its answer."""
    return {"object": "list", "data": [_model_row(model) for model in _service(request).models.values()]}


@routes.get("/models/{name:path}")
def get_model(name: str, request: Request) -> dict[str, Any]:
    """One of them."""
    return _model_row(_service(request).model(name))


def _model_row(model: Served) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "jaxchat",
        "context_length": model.context,
        "chats": model.chat is not None,
    }


@routes.post("/chat/completions")
async def create_chat_completion(asked: ChatRequest, request: Request) -> Response:
    """A conversation goes on: as text, as JSON by a schema, by calling tools. Streams where `stream` is set."""
    return await _complete(chat_completions, asked, request)


@routes.post("/completions")
async def create_completion(asked: CompletionRequest, request: Request) -> Response:
    """Text goes on, as the model reads plain text. Streams where `stream` is set."""
    return await _complete(text_completions, asked, request)


async def _complete(kind: Any, asked: ChatRequest | CompletionRequest, request: Request) -> Response:
    service, state = _service(request), request.scope["state"]
    usage = Usage()
    _refuse_while_draining(service)
    model = service.model(asked.model)
    prepared = await run_in_threadpool(kind.prepare, asked, model, service.limits, service.guard, state["client"])
    usage.ask(prepared.requests, asked.n or 1)
    state |= {"model": model.name, "usage": usage}
    if service.log_content:
        state["content"] = asked.model_dump(mode="json", exclude_none=True)
    answers = Answers(model.engine, prepared.requests)
    answers.begin()
    service.open.add(answers)

    def ended() -> None:
        answers.cancel()
        service.open.discard(answers)

    if asked.stream:
        return Events(kind.events(prepared, answers, usage), ended)
    try:
        return JSONResponse(await unless_left(request.receive, kind.whole(prepared, answers, usage)))
    finally:
        ended()


@routes.post("/embeddings")
async def create_embeddings(asked: EmbeddingRequest, request: Request) -> Response:
    """The mean of the model's last hidden states over each text's tokens, of length 1."""
    service = _service(request)
    _refuse_while_draining(service)
    model = service.model(asked.model)
    if asked.dimensions is not None:
        raise ApiError(400, "embeddings have the model's width; ask without dimensions", param="dimensions")

    def embed() -> tuple[np.ndarray, int]:
        prompts = [text_completions.ids(text, model, service.guard) for text in asked.inputs()]
        found_BD = model.engine.embed(prompts)
        length_B = np.linalg.norm(found_BD, axis=1, keepdims=True)
        return found_BD / np.maximum(length_B, 1e-12), sum(map(len, prompts))

    try:
        found_BD, tokens = await unless_left(request.receive, run_in_threadpool(embed))
    except InputError as error:
        raise refused(error) from None
    usage = Usage(prompt=tokens)
    request.scope["state"] |= {"model": model.name, "usage": usage}
    encode: Callable[[np.ndarray], Any] = _base64 if asked.encoding_format == "base64" else _numbers
    rows = [
        {"object": "embedding", "index": i, "embedding": encode(found_D.astype("<f4"))}
        for i, found_D in enumerate(found_BD)
    ]
    totals = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": rows, "model": model.name, "usage": totals})


def _numbers(x: np.ndarray) -> list[float]:
    return x.tolist()


def _base64(x: np.ndarray) -> str:
    return base64.b64encode(x.tobytes()).decode()


@routes.post("/feedback")
async def give_feedback(asked: FeedbackRequest, request: Request) -> dict[str, Any]:
    """A thumb up or down for an answer; kept for `jaxchat data import preference`, which pairs them."""
    service = _service(request)
    if service.feedback is None:
        raise ApiError(404, "this server keeps no feedback; start it with --feedback FILE", code="no_feedback")
    row = asked.model_dump(mode="json", exclude_none=True)
    row |= {"created": int(time.time()), "client": request.scope["state"]["client"]}
    await run_in_threadpool(service.feedback.add, row)
    return {"id": asked.id, "object": "feedback", "rating": asked.rating}


def _refuse_while_draining(service: Service) -> None:
    if service.draining:
        raise stopping({"Connection": "close"})
