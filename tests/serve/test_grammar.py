"""A random choice among the allowed tokens always ends in what was asked for, over every tokenizer of ours."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest

from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.chat.train_bpe import train_bpe
from jaxchat.chat.train_sentencepiece import train_sentencepiece
from jaxchat.serve.errors import ApiError
from jaxchat.serve.grammar import Grammars, Matcher
from jaxchat.serve.tool_calls import CallReader, Spelling
from jaxchat.testing import ByteTokenizer, small_conversations

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "b", "ü"]},
        "count": {"type": "integer", "minimum": -5, "maximum": 500},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
    },
    "required": ["kind", "count", "tags"],
    "additionalProperties": False,
}
TOOLS = [
    {"function": {"name": "weather", "parameters": SCHEMA}},
    {"function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}},
]


@pytest.fixture(scope="module", params=["bytes", "bpe", "sentencepiece unigram", "sentencepiece bpe", "gguf"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param == "bytes":
        return ByteTokenizer()
    if request.param == "gguf":
        return load_tokenizer(request.getfixturevalue("smollm2_gguf"))
    texts = [message.content for talk in small_conversations(200) for message in talk.messages]
    texts += [json.dumps({"kind": "ü", "count": count, "tags": ["the", "cat"]}) for count in range(100)]
    out: Path = tmp_path_factory.mktemp("tokenizer") / "t"
    if request.param == "bpe":
        return train_bpe(texts, out, vocab_size=330)
    return train_sentencepiece(texts, out, vocab_size=340, model=request.param.split()[1])


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, tokenizer.vocab_size + 5, [tokenizer.eos_id])


def draw(grammars: Grammars, matcher: Matcher, seed: int) -> str:
    choose, ids = random.Random(seed), []
    closings = {token for text in '"}' for token in grammars.tokenizer.encode(f"x{text}")[-1:]}  # else few texts end
    for _ in range(400):
        allowed = np.flatnonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little"))
        assert allowed.size and allowed.max() < grammars.vocab_size
        closing = [token for token in closings & set(allowed.tolist()) if choose.random() < 0.5]
        token = closing[0] if closing else int(choose.choice(allowed))
        if token in grammars.ends:
            return grammars.tokenizer.decode(ids)
        ids.append(token)
        matcher.accept(token)
    raise AssertionError(f"no end after {grammars.tokenizer.decode(ids)!r}")


def test_json_by_a_schema_is_valid(grammars: Grammars):
    matcher, valid = grammars.json_schema(SCHEMA), jsonschema_rs.validator_for(SCHEMA)
    for seed in range(10):
        valid.validate(json.loads(draw(grammars, matcher.another(), seed)))


def test_a_json_object_is_one(grammars: Grammars):
    found = [json.loads(draw(grammars, grammars.json_object(), seed)) for seed in (1, 2)]
    assert all(isinstance(value, dict) for value in found)


@pytest.mark.parametrize(
    "spelled", [Spelling(), Spelling("", "", "parameters"), Spelling("[TOOL_CALLS]", "", listed=True)]
)
def test_calls_that_are_forced_are_calls_of_the_tools(grammars: Grammars, spelled: Spelling):
    for several in (False, True):
        matcher = grammars.calls(spelled, TOOLS, several=several)
        for seed in range(4):
            reader = CallReader(spelled, frozenset({"weather", "now"}))
            said = [*reader.write(draw(grammars, matcher.another(), seed)), *reader.write("", last=True)]
            assert said == reader.calls and said and (several or len(said) == 1)
            for call in reader.calls:
                schema = next(t["function"]["parameters"] for t in TOOLS if t["function"]["name"] == call.name)
                jsonschema_rs.validator_for(schema).validate(call.arguments)


def test_a_token_of_the_chat_is_that_token():
    grammars = Grammars(ByteTokenizer(), 260, [257])
    matcher = grammars.calls(Spelling("<|im_start|>", "<|im_end|>"), TOOLS, several=False)
    assert np.flatnonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")).tolist() == [258]


def test_the_bytes_of_tokens_add_up_to_the_text(grammars: Grammars, tokenizer: Tokenizer):
    text = "the cat sees 你好 <|im_start|>"
    ids = tokenizer.encode(text)
    assert b"".join(map(grammars.token_bytes, ids)).decode().lstrip() == text


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"type": "string", "pattern": "(a"},
        {"$ref": "#/nowhere"},
        {"type": "object", "properties": {"a": {"not": {"type": "string"}}}},
        {"enum": ["x" * 100] * 1000},
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused(schema: dict):
    with pytest.raises(ApiError) as refused:
        Grammars(ByteTokenizer(), 260, [257]).json_schema(schema)
    assert refused.value.status == 400 and "\n" not in refused.value.message
