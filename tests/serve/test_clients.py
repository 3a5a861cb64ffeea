"""The clients that people have talk with the server: OpenAI's own and LangChain's, with SmolLM2."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel, Field

from tests.tool import tool

serving = tool("serving")
PARIS = [{"role": "user", "content": "What is the capital of France?"}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
pytestmark = pytest.mark.slow


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=120)


@pytest.fixture(scope="module")
def url(smollm2_gguf: Any) -> Iterator[str]:
    with serving.running(serving.SMOLLM2, "--context", "512") as server:
        yield f"{server.url}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", timeout=300)


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "model", "messages": PARIS, "max_tokens": 24, **more})


def test_a_session_of_openais_client(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["model"]
    whole = ask(client, temperature=0, logprobs=True, top_logprobs=3)
    text = whole.choices[0].message.content
    assert "Paris" in text and whole.choices[0].finish_reason == "stop" and whole.usage.completion_tokens < 24
    found = whole.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in found).decode() == text
    for token in found:  # greedy: the likeliest was taken
        assert token.token == token.top_logprobs[0].token and len(token.top_logprobs) == 3
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.0001

    chunks = list(ask(client, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    usage = chunks[-1].usage
    assert usage.total_tokens == whole.usage.total_tokens and sum(bool(chunk.choices) for chunk in chunks) > 3
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens  # it was read for the first request

    assert whole._request_id.startswith("req_")

    seeded = [ask(client, seed=seed, temperature=1, n=2, max_tokens=12) for seed in (7, 7, 8)]
    texts = [[choice.message.content for choice in one.choices] for one in seeded]
    assert texts[0] == texts[1] != texts[2] and texts[0][0] != texts[0][1]
    streamed: Counter[int] = Counter()
    pieces = ["", ""]
    for chunk in ask(client, seed=7, temperature=1, n=2, max_tokens=12, stream=True, logprobs=True):
        (choice,) = chunk.choices
        pieces[choice.index] += choice.delta.content or ""
        streamed[choice.index] += len(choice.logprobs.content) if choice.logprobs else 0
    assert pieces == texts[0] and 0 < max(streamed.values()) <= 12
    assert "France" not in ask(client, temperature=0, stop=["France"]).choices[0].message.content
    banned = client.completions.create(model="model", prompt="The capital of France is", temperature=0, max_tokens=4)
    assert "Paris" in banned.choices[0].text
    vectors = client.embeddings.create(model="model", input=["a cat", "a cat", "the stock market"]).data
    first, same, other = (vector.embedding for vector in vectors)
    assert first == pytest.approx(same) and sum(a * b for a, b in zip(first, other)) < 0.999


def test_json_and_tools_by_openais_client(client: openai.OpenAI):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    messages = [{"role": "user", "content": "Invent a person, as JSON."}]
    made = ask(client, messages=messages, response_format=form, max_tokens=60, temperature=0).choices[0]
    jsonschema_rs.validator_for(PERSON).validate(json.loads(made.message.content))
    chunks = ask(client, messages=messages, response_format=form, max_tokens=60, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    jsonschema_rs.validator_for(PERSON).validate(json.loads(text))
    asked = {"model": "model", "messages": messages, "max_tokens": 60, "temperature": 0, "response_format": Person}
    assert isinstance(client.chat.completions.parse(**asked).choices[0].message.parsed, Person)
    named = {"type": "function", "function": {"name": "get_weather"}}
    messages = [{"role": "user", "content": "How is the weather in Paris?"}]
    asked = {"messages": messages, "tools": [WEATHER], "tool_choice": named, "temperature": 0, "max_tokens": 60}
    choice = ask(client, **asked).choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and json.loads(call.function.arguments) == {"city": "Paris"}
    streamed = [chunk.choices[0].delta.tool_calls for chunk in ask(client, **asked, stream=True)]
    (calls,) = [calls for calls in streamed if calls]
    assert calls[0].function.name == "get_weather" and json.loads(calls[0].function.arguments) == {"city": "Paris"}
    forced = ask(client, **{**asked, "tool_choice": "required"}, parallel_tool_calls=False).choices[0].message
    assert [call.function.name for call in forced.tool_calls] == ["get_weather"]
    assert ask(client, **{**asked, "tool_choice": "none"}).choices[0].finish_reason != "tool_calls"
    messages += [choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "It is 31 degrees."}]
    assert ask(client, messages=messages, tools=[WEATHER], temperature=0).choices[0].message.content


def test_errors_are_those_of_openais_client(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, model="gpt")
    assert refused.value.code == "model_not_found" and refused.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="temperature"):
        ask(client, temperature=9)
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages=[{"role": "user", "content": "word " * 3000}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="schema"):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
        ask(client, response_format=form)


def test_a_session_of_langchain(url: str):
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import SecretStr

    question = "What is the capital of France?"
    chat = ChatOpenAI(base_url=url, api_key=SecretStr("none"), model="model", temperature=0, max_completion_tokens=60)
    whole = chat.bind(logprobs=True, top_logprobs=2).invoke(question)
    assert "Paris" in whole.content and whole.response_metadata["finish_reason"] == "stop"
    tokens = whole.response_metadata["logprobs"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == whole.content
    chunks = list(chat.stream(question, stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == len(tokens) + 1
    assert "France" not in chat.invoke(question, stop=["France"]).content
    drawn = []
    for seed in (7, 7, 8):
        (found,) = chat.generate([[HumanMessage(question)]], seed=seed, temperature=1.0, n=2).generations
        drawn.append([one.text for one in found])
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 2
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat.invoke(question, temperature=9)
    with pytest.raises(openai.NotFoundError, match="no model"):
        chat.invoke(question, model="gpt")
    person = chat.with_structured_output(Person, method="json_schema").invoke("Invent a person, as JSON.")
    assert isinstance(person, Person) and person.name
    asks = HumanMessage("How is the weather in Paris?")
    called = chat.bind_tools([WEATHER], tool_choice="get_weather").invoke([asks])
    assert isinstance(called, AIMessage) and called.tool_calls[0]["args"] == {"city": "Paris"}
    pieces = list(chat.bind_tools([WEATHER], tool_choice="get_weather").stream([asks]))
    streamed = pieces[0]
    for piece in pieces[1:]:
        streamed += piece
    assert [call["args"] for call in streamed.tool_calls] == [{"city": "Paris"}]
    answer = ToolMessage("It is 31 degrees.", tool_call_id=called.tool_calls[0]["id"])
    assert chat.bind_tools([WEATHER]).invoke([asks, called, answer]).content
    vectors = OpenAIEmbeddings(base_url=url, api_key=SecretStr("none"), model="model", check_embedding_ctx_length=False)
    assert len(vectors.embed_query("a cat")) == 576
