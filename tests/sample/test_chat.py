"""A chat keeps what was said, forgets on command and survives every mistake."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import jax
import pytest

from jaxchat.chat.conversation import read_conversations
from jaxchat.chat.template import ChatFormat
from jaxchat.mesh import make_mesh
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny
from jaxchat.sample.chat import Chat, converse
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.testing import ByteTokenizer

MODEL = Model(replace(tiny(), vocab_size=ByteTokenizer.vocab_size, context_length=256))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    one = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(one):
        params = jax.jit(MODEL.init)(jax.random.key(0))
    with Engine(MODEL, params, ByteTokenizer(), one, stop_ids=[259], slots=1) as engine:
        yield engine


def talk(engine: Engine, text: str, **options) -> tuple[Chat, str]:
    chat = Chat(engine, ChatFormat(ByteTokenizer()), Sampling(temperature=0, max_tokens=8), **options)
    out = io.StringIO()
    chat.answers = converse(chat, io.StringIO(text), out)
    return chat, out.getvalue()


def test_history_is_kept_and_each_answer_follows_from_it(engine):
    chat, out = talk(engine, "Hi\nHow are you?\n", system="Be kind.")
    assert [message.role for message in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert chat.answers == 2
    prompt = chat.format.prompt(chat.messages[:-1])
    assert chat.messages[-1].content == generate(engine, [prompt], chat.sampling)[0].text
    assert chat.messages[-1].content in out


def test_reset_and_system_begin_anew(engine):
    chat, _ = talk(engine, "Hi\n/reset\n", system="Be kind.")
    assert [(message.role, message.content) for message in chat.messages] == [("system", "Be kind.")]
    chat, _ = talk(engine, "Hi\n/system Be brief.\nYes?\n")
    assert [message.content for message in chat.messages[:2]] == ["Be brief.", "Yes?"]


def test_save_adds_a_conversation_that_jaxchat_reads(engine, tmp_path):
    file = tmp_path / "talks" / "mine.jsonl"
    talk(engine, f"Hi\n/save {file}\n")
    chat, _ = talk(engine, f"Ho\n/save {file}\n")
    saved = list(read_conversations(file))
    assert [one.messages[0].content for one in saved] == ["Hi", "Ho"]
    assert len({one.id for one in saved}) == 2
    assert saved[1].messages == tuple(chat.messages)
    assert [json.loads(line)["source"] for line in file.read_text().splitlines()] == ["jaxchat chat"] * 2


def test_exit_leaves_the_rest_unsaid(engine):
    assert talk(engine, "Hi\n/exit\nHo\n")[0].answers == 1


def test_mistakes_are_answered_and_change_nothing(engine, tmp_path):
    chat, out = talk(engine, f"/nonsense\n/save\n/save {tmp_path}\n{'x' * 400}\nHi\n")
    assert "there is no /nonsense" in out
    assert "/save needs a file" in out
    assert "cannot be written" in out
    assert "too long" in out
    assert [message.content for message in chat.messages][:1] == ["Hi"]


def test_the_oldest_turns_leave_the_models_sight_not_the_conversation(engine):
    chat, out = talk(engine, "".join(f"{'word ' * 10}{i}\n" for i in range(6)))
    assert len(chat.messages) == 12
    assert "no longer fit" in out


def test_stopping_an_answer_keeps_what_was_said(engine, monkeypatch):
    def interrupted(engine, prompts, sampling, on_text):
        on_text(0, "half an ans")
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxchat.sample.chat.generate", interrupted)
    chat, out = talk(engine, "Hi\n")
    assert chat.messages[-1].content == "half an ans"
    assert "[stopped]" in out
