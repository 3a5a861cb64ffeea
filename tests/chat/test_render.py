"""What templates see, and what they may touch: the environment that transformers gives them, and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.template import ChatFormat, ChatFormatError, built_in_template
from tests.chat.tool_talk import CALLED, WEATHER


def test_templates_run_as_in_transformers(smollm2: HuggingFaceTokenizer, tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers")
    smollm2.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    templates = [
        "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ cls_token }}|{{ tools is none }}{{ documents is none }}",
        "{%- for m in messages %}\n  {% if loop.first %}{% continue %}{% endif %}\n{{ m | tojson }}\n{%- endfor %}\n",
        "{{ messages | tojson(indent=2, sort_keys=true) }}{{ '<é&>' | tojson }}",
        "{{ strftime_now('%Y') }}{{ dict(a=1) }}{{ namespace(x=2).x }}{{ messages[0].content | trim | upper }}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{{ tools | tojson }}{{ documents[0].title if documents }}{{ mood }}{{ messages[-1].thinking }}",
    ]
    thinking = Message("assistant", "hm", extra={"reasoning": "deep", "empty": None})
    conversation = Conversation("c", (*CALLED.messages, thinking), (WEATHER,))
    rows = conversation.to_json()["messages"]
    for call in (call for row in rows for call in row.get("tool_calls", ())):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    documents = [{"title": "T", "text": "x"}]
    for template in templates:
        ours = ChatFormat(smollm2, template, {"mood": "glad"})
        options = {"chat_template": template, "tokenize": False, "mood": "glad"}
        assert ours.text(conversation.messages) == theirs.apply_chat_template(rows, **options)
        options |= {"tools": [WEATHER], "documents": documents}
        found = ours.text(conversation.messages, [WEATHER], documents=documents)
        assert found == theirs.apply_chat_template(rows, **options)


@pytest.mark.parametrize(
    "escape",
    [
        "{{ messages.__class__ }}",
        "{{ messages.append(1) }}",
        "{{ dict.__init__.__globals__ }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ raise_exception.__globals__['json'] }}",
    ],
)
def test_a_template_stays_in_its_sandbox(smollm2: HuggingFaceTokenizer, escape: str) -> None:
    chat = ChatFormat(smollm2, escape)
    try:
        text = chat.text(CALLED.messages)
    except ChatFormatError:
        return
    assert text == "" and len(CALLED.messages) == 6


def test_the_date_is_todays_unless_it_is_given(formats: dict[str, ChatFormat], smollm2: HuggingFaceTokenizer) -> None:
    from datetime import datetime

    tokenizer = formats["llama3"].tokenizer
    fixed = ChatFormat(tokenizer, built_in_template("llama3"), {"date_string": "26 Jul 2024"})
    assert "Today Date: 26 Jul 2024\n" in fixed.text(CALLED.messages[:1])
    assert f"Today Date: {datetime.now():%d %b %Y}\n" in formats["llama3"].text(CALLED.messages[:1])
    assert fixed.fingerprint != formats["llama3"].fingerprint
    assert fixed.fingerprint == ChatFormat(tokenizer, built_in_template("llama3"), dict(fixed.variables)).fingerprint
