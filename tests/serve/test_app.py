"""The routes beside chat, and what stands before them all: keys, limits, bodies that are traps."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from jaxchat.serve.app import Service, make_app
from jaxchat.serve.feedback import Feedback
from jaxchat.serve.guard import Guard, PersonalData, Words
from jaxchat.serve.keys import Keys, add_key, remove_key
from jaxchat.serve.sampled import Limits
from tests.serve.conftest import served, thumbs

HELLO = {"messages": [{"role": "user", "content": "Hi"}]}
CHAT = "/v1/chat/completions"


def app_client(service: Service) -> TestClient:
    return TestClient(make_app(service), raise_server_exceptions=False)


def code(response) -> tuple[int, str | None]:
    return response.status_code, response.json()["error"]["code"]


def test_text_goes_on_whole_and_streamed(client, engine):
    engine.answer = lambda prompt: f"{prompt}!"
    asked = {"prompt": ["a", "b"], "n": 2, "max_tokens": 5, "logprobs": 1}
    whole = client.post("/v1/completions", json=asked).json()
    assert [choice["text"] for choice in whole["choices"]] == ["a!", "a!", "b!", "b!"]
    assert whole["usage"]["prompt_tokens"] == 2 and whole["usage"]["completion_tokens"] == 12
    assert whole["choices"][0]["logprobs"]["tokens"] == ["a", "!"]
    with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as response:
        rows = [json.loads(line[6:]) for line in response.read().decode().split("\n\n")[:-2]]
    texts = [""] * 4
    for choice in (row["choices"][0] for row in rows):
        texts[choice["index"]] += choice["text"]
    assert texts == ["a!", "a!", "b!", "b!"]
    client.post("/v1/completions", json={"prompt": [104, 105]})
    assert engine.asked[-1].prompt == (104, 105) and engine.asked[-1].sampling.max_tokens == 16


def test_parts_of_characters_have_names_and_places_of_their_own(client, engine):
    engine.answer = lambda prompt: "a你b"
    asked = {"prompt": "x", "logprobs": 2}
    found = client.post("/v1/completions", json=asked).json()["choices"][0]["logprobs"]
    assert found["tokens"] == ["a", "bytes:\\xe4", "bytes:\\xbd", "bytes:\\xa0", "b"]
    assert found["text_offset"] == [0, 1, 1, 1, 2] and set(found["top_logprobs"][2]) == {"bytes:\\xbd", "A"}


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/pages/chat.js", "/nothing"])
def test_head_is_get_without_its_body(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code and head.content == b""
    assert {name: value for name, value in head.headers.items() if name != "x-request-id"} == {
        name: value for name, value in get.headers.items() if name != "x-request-id"
    }


@pytest.mark.parametrize("prompt", ["", [], [""], [300], [-1], [[]], "x" * 5000])
def test_prompts_that_are_none(client, prompt):
    assert client.post("/v1/completions", json={"prompt": prompt}).status_code == 400


def test_embeddings_are_of_length_one_in_both_forms(client):
    rows = client.post("/v1/embeddings", json={"input": ["a", "ab"]}).json()["data"]
    packed = client.post("/v1/embeddings", json={"input": ["a", "ab"], "encoding_format": "base64"}).json()["data"]
    for row, same in zip(rows, packed, strict=True):
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1)
        np.testing.assert_allclose(np.frombuffer(base64.b64decode(same["embedding"]), "<f4"), row["embedding"], 1e-6)
    for input in ("", [], [[]], [[999]]):
        assert client.post("/v1/embeddings", json={"input": input}).status_code == 400


def test_models_are_listed_and_found_by_name(client):
    (row,) = client.get("/v1/models").json()["data"]
    assert row["id"] == "fake" and client.get("/v1/models/fake").json() == row
    assert code(client.get("/v1/models/org/other")) == (404, "model_not_found")


def test_a_model_without_a_template_completes_text_only(engine):
    client = app_client(Service({"plain": served(engine, "plain", None)}))
    assert client.post(CHAT, json=HELLO).status_code == 400
    assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_only_known_keys_are_let_in(service, tmp_path):
    file = tmp_path / "keys.json"
    secret = add_key(file, "shop")
    service.keys = Keys(file)
    client = app_client(service)
    for header in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {secret}"},
                   {"Authorization": f"Bearer {secret}x"}, {"Authorization": f"Bearer {secret[:-1]}"},
                   {"Authorization": "Bearer \u00e9".encode("latin-1")}):  # fmt: skip
        response = client.post(CHAT, json=HELLO, headers=header)
        assert code(response) == (401, "invalid_api_key") and response.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics", headers=header).status_code == 401
    mine = {"Authorization": f"Bearer {secret}"}
    assert client.post(CHAT, json=HELLO, headers=mine).status_code == 200
    assert client.get("/health").status_code == client.get("/widget.js").status_code == 200
    other = add_key(file, "other")  # while serving
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {other}"}).status_code == 200
    remove_key(file, "shop")
    assert client.get("/v1/models", headers=mine).status_code == 401


def test_a_client_that_asks_too_often_waits_and_others_do_not(service, tmp_path):
    file = tmp_path / "keys.json"
    few, many = add_key(file, "few", 2), add_key(file, "many")
    service.keys, service.limits = Keys(file), Limits(per_minute=100)
    client = app_client(service)
    got = [client.get("/v1/models", headers={"Authorization": f"Bearer {few}"}) for _ in range(3)]
    assert [response.status_code for response in got] == [200, 200, 429]
    assert code(got[2]) == (429, "rate_limit_exceeded") and 0 < int(got[2].headers["retry-after"]) <= 30
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {many}"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', (400, "invalid_encoding")),
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', (400, "invalid_encoding")),
        (b'{"tools": ' + b"[" * 100_000, (400, "too_deep")),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, (400, "too_deep")),
        (b"x" * 3_000_000, (413, "request_too_large")),
        (b'{"messages": ', (400, None)),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', (400, None)),
        (b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}", (400, None)),
        (b"", (400, None)),
        (b"null", (400, None)),
    ],
)
def test_bodies_that_are_traps(client, engine, body, status):
    response = client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert code(response) == status and not engine.asked
    assert client.post(CHAT, json=HELLO).status_code == 200


def test_brackets_inside_texts_are_not_deep(client):
    text = '[{"' * 300
    assert client.post(CHAT, json={"messages": [{"role": "user", "content": text}]}).status_code == 200


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/widget.js/../../keys.json", "/%2e%2e/%2e%2e/etc/passwd",
                                  "/v1/models/..%2f..%2fetc%2fpasswd", "//etc/passwd", "/widget.js%00.css",
                                  "/pages/widget.html", "/v1/../v1/nothing"])  # fmt: skip
def test_paths_that_are_tricks(client, path):
    assert client.get(path).status_code == 404


def test_no_other_origin_is_let_in_unless_it_is_named(service):
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in app_client(service).options(CHAT, headers=asks).headers
    service.cors = ("https://shop.example",)
    client = app_client(service)
    assert client.options(CHAT, headers=asks).headers["access-control-allow-origin"] == "https://shop.example"
    assert "X-Request-Id" in client.get("/v1/models", headers=asks).headers["access-control-expose-headers"]
    refused = client.post(CHAT, json={}, headers=asks)  # errors too can be read by the page
    assert refused.status_code == 400 and refused.headers["access-control-allow-origin"] == "https://shop.example"
    assert client.options(CHAT, headers={**asks, "Origin": "https://evil.example"}).status_code == 400


def test_a_server_that_stops_takes_no_more(client, service):
    service.drain()
    assert client.get("/health").status_code == 503
    assert code(client.post(CHAT, json=HELLO)) == (503, "shutting_down")


def test_what_is_open_when_time_is_up_is_told(client, service, engine):
    engine.go.clear()
    found = {}

    def ask(stream: bool) -> None:
        found[stream] = client.post(CHAT, json={**HELLO, "stream": stream})

    threads = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
    for thread in threads:
        thread.start()
    while len(service.open) < 2:
        time.sleep(0.01)
    client.portal.call(service.give_up)
    for thread in threads:
        thread.join()
    assert code(found[False]) == (503, "shutting_down")
    assert '"shutting_down"' in found[True].text and found[True].text.endswith("data: [DONE]\n\n")
    assert all(ticket.cancelled for ticket in engine.tickets) and not service.open
    engine.go.set()


def test_an_engine_that_fails_midway_is_an_error_to_openais_client(live, engine):
    import openai

    submit = engine.submit

    def failing(request, on_delta):
        def hear(delta):
            on_delta(delta if len(heard) < 2 else replace(delta, text="", finish_reason="failed"))
            heard.append(delta)

        heard = []
        return submit(request, hear)

    engine.answer, engine.submit = lambda prompt: "Grüße", failing
    with openai.OpenAI(base_url=f"{live}/v1", api_key="none") as client:
        said = []
        with pytest.raises(openai.APIError, match="failed on this request") as failed:
            for chunk in client.chat.completions.create(model="fake", stream=True, **HELLO):
                said.append(chunk.choices[0].delta.content)
    assert failed.value.code == "engine_failed" and "".join(said) == "Grüß"


def test_an_engine_that_fails_is_an_error_of_the_server(client, engine):
    def fail(prompt: str) -> str:
        raise RuntimeError("a bug")

    engine.submit = fail
    response = client.post(CHAT, json=HELLO)
    assert response.status_code == 500 and "a bug" not in response.text
    assert response.headers["x-request-id"].startswith("req_")


def test_logs_hold_no_content_unless_asked(client, service, caplog):
    caplog.set_level(logging.INFO, "jaxchat.serve")
    secret = {"messages": [{"role": "user", "content": "my secret"}]}
    client.post(CHAT, json=secret)
    line = json.loads(caplog.messages[-1])
    response = client.get("/v1/nothing")
    assert response.headers["x-request-id"] == json.loads(caplog.messages[-1])["id"] != line["id"]
    assert line["model"] == "fake" and line["completion_tokens"] == 7 and line["status"] == 200
    assert "secret" not in caplog.text
    service.log_content = True
    client.post(CHAT, json=secret)
    assert "my secret" in caplog.text


def test_metrics_count_what_was_done(client, service):
    client.post(CHAT, json=HELLO)
    client.post(CHAT, json={})
    client.get("/no/such/path/of/mine")
    page = client.get("/metrics").text
    assert 'jaxchat_requests_total{route="/v1/chat/completions",status="200"} 1.0' in page
    assert 'jaxchat_requests_total{route="/v1/chat/completions",status="400"} 1.0' in page
    assert 'jaxchat_tokens_total{kind="completion",model="fake"} 7.0' in page
    assert "mine" not in page and "jaxchat_requests_open 1.0" in page  # this one


def test_a_guard_counts_what_it_found(client, service):
    service.guard.counts["personal data"] += 3
    assert 'jaxchat_guarded_total{rule="personal data"} 3.0' in client.get("/metrics").text
    assert Guard(asked=(PersonalData(),)).counts == {}


def test_a_guard_ends_text_before_its_word(client, service, engine):
    service.guard = Guard(answered=(Words.of(["bomb"], "block"),))
    engine.answer = lambda prompt: "well, " * 10 + "a bomb is made of"
    asked = {"prompt": "a", "max_tokens": 100}
    (whole,) = client.post("/v1/completions", json=asked).json()["choices"]
    with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as response:
        rows = [json.loads(line[6:])["choices"][0] for line in response.read().decode().split("\n\n")[:-2]]
    assert whole["text"] == "".join(row["text"] for row in rows) and "bomb" not in whole["text"]
    assert whole["finish_reason"] == rows[-1]["finish_reason"] == "content_filter"
    assert all(ticket.cancelled for ticket in engine.tickets)


def test_thumbs_are_kept(service, tmp_path):
    client = app_client(service)
    row = {"id": "chatcmpl-1", "rating": "up", "messages": [*HELLO["messages"], {"role": "assistant", "content": "Ho"}]}
    assert code(client.post("/v1/feedback", json=row)) == (404, "no_feedback")
    service.feedback = Feedback(tmp_path / "feedback.jsonl")
    assert client.post("/v1/feedback", json=row).status_code == 200
    assert client.post("/v1/feedback", json={**row, "messages": HELLO["messages"] * 2}).status_code == 400
    (kept,) = thumbs(service)
    assert kept["rating"] == "up" and kept["messages"] == row["messages"] and kept["created"] > 0


def test_the_document_names_every_route_of_the_api(client):
    document = client.get("/openapi.json").json()
    assert {"/health", "/metrics", "/v1/models", CHAT, "/v1/completions", "/v1/embeddings"} <= set(document["paths"])
    assert client.get("/docs").status_code == 404  # its page loads from elsewhere
