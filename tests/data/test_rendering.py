"""Any number of workers gives the same examples in the same order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.chat.template import ChatFormat
from jaxchat.chat.tokenizer import load_tokenizer
from jaxchat.data import rendering
from jaxchat.data.rendering import examples, opening
from jaxchat.testing import CHATML, ByteTokenizer, small_conversations


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> ChatFormat:
    return ChatFormat(load_tokenizer(smollm2_gguf))


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing(smollm2: ChatFormat, workers: int):
    refused = Conversation("refused", (Message("assistant", "I begin."), Message("assistant", "And go on.")))
    conversations = [*small_conversations(150), Conversation("none", ()), refused, *small_conversations(30, seed=1)]
    alone = list(examples(conversations, smollm2, total=len(conversations), workers=1))
    shared = list(examples(iter(conversations), smollm2, total=len(conversations), workers=workers))
    assert len(alone) == len(shared) == 182
    for (first, ours), (second, theirs) in zip(alone, shared):
        assert first == second and type(ours) is type(theirs)
        if isinstance(ours, str) or isinstance(theirs, str):
            assert ours == theirs
        else:
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_array_equal(ours.weights, theirs.weights)
            assert ours.turns == theirs.turns
    assert any(isinstance(example, str) and "no messages" in example for _, example in shared)


def test_workers_end_when_no_more_is_wanted(smollm2: ChatFormat):
    before = len(children())
    stream = examples(small_conversations(500), smollm2, total=500, workers=2)
    next(stream)
    assert len(children()) == before + 2
    stream.close()
    assert len(children()) == before


def children() -> list[str]:
    import os

    tasks = Path(f"/proc/{os.getpid()}/task")
    return [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def test_a_worker_that_dies_is_not_taken_for_the_end(smollm2: ChatFormat, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rendering.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        list(examples(small_conversations(100), smollm2, total=100, workers=2))


def test_rendering_imports_no_jax_and_no_tensorflow():
    script = (
        "import sys, jaxchat.data.rendering, jaxchat.chat.template, jaxchat.chat.tokenizer; print(sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "'jaxchat.data.rendering'" in loaded and "'jax'" not in loaded and "'tensorflow'" not in loaded


def test_what_a_template_opens_with(smollm2: ChatFormat):
    default = smollm2.tokenizer.decode(opening(smollm2).tolist())
    assert default.startswith("<|im_start|>system\nYou are a helpful AI assistant") and default.endswith("<|im_end|>\n")
    example = smollm2.example(Conversation("a", (Message("user", "Hi"), Message("assistant", "Hello"))))
    np.testing.assert_array_equal(example.ids[: len(opening(smollm2))], opening(smollm2))
    assert len(opening(ChatFormat(ByteTokenizer()))) == 0
    begun = ChatFormat(ByteTokenizer(), "<|endoftext|>" + CHATML)
    assert opening(begun).tolist() == [257]
    fussy = "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}" + CHATML
    assert len(opening(ChatFormat(ByteTokenizer(), fussy))) == 0
