"""What Ollama is told writes talks as the chat template does, and ends answers where it does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jaxchat.chat.conversation import Message
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.modelfile import go_template, modelfile
from jaxchat.chat.template import ChatFormat

TALKS = [
    [("user", "Hi")],
    [("user", "Hi"), ("assistant", "Hello! {{ .System }}"), ("user", "A\n\nB")],
    [("system", "Be brief."), ("user", "你好")],
    [("system", "Be brief."), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5")],
]
LOOP = '{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}{{ else if eq .Role "assistant" }}'


def test_templates_read_as_one_would_write_them(formats: dict[str, ChatFormat]) -> None:
    assert go_template(formats["chatml"]) == (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n"
        "{{ else }}<|im_start|>user\n{{ end }}"
        f"{LOOP}<|im_end|>\n<|im_start|>assistant\n{{{{ .Content }}}}<|im_end|>\n<|im_start|>user\n{{{{ end }}}}"
        "{{ end }}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert go_template(formats["gemma"]) == (
        "{{ if .System }}<bos><start_of_turn>user\n{{ .System }}\n\n{{ else }}<bos><start_of_turn>user\n{{ end }}"
        f"{LOOP}<end_of_turn>\n<start_of_turn>model\n{{{{ .Content }}}}<end_of_turn>\n<start_of_turn>user\n"
        "{{ end }}{{ end }}<end_of_turn>\n<start_of_turn>model\n"
    )
    told = go_template(formats["smollm2"])
    assert told is not None and "You are a helpful AI assistant named SmolLM" in told.partition("{{ else }}")[2]


@pytest.mark.skipif(shutil.which("go") is None, reason="Go's own reading of its templates needs Go")
def test_go_renders_talks_as_the_chat_template_does(chat: ChatFormat) -> None:
    talks = [[{"Role": role, "Content": text} for role, text in talk] for talk in TALKS]
    done = subprocess.run(
        ["go", "run", Path(__file__).with_name("ollama_render.go")],
        input=json.dumps({"Template": go_template(chat), "Talks": talks}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [chat.prompt_text([Message(*turn) for turn in talk]) for talk in TALKS]


def test_stops_and_sampling_stand_beside_it(formats: dict[str, ChatFormat]) -> None:
    said = {"do_sample": True, "temperature": 0.35, "top_k": 17, "repetition_penalty": 1.1, "max_length": 99}
    text = modelfile("mine.gguf", formats["llama3"], said)
    assert text.startswith('FROM ./mine.gguf\nTEMPLATE """{{ if .System }}<|begin_of_text|><|start_header_id|>system')
    told = re.findall(r"^PARAMETER (\w+) (.*)$", text, re.M)
    assert told == [("stop", '"<|eot_id|>"'), ("temperature", "0.35"), ("top_k", "17"), ("repeat_penalty", "1.1")]
    assert "PARAMETER temperature 0\n" in modelfile("mine.gguf", formats["llama3"], {})
    assert modelfile("mine.gguf", None, said).startswith("FROM ./mine.gguf\nPARAMETER temperature 0.35")


def test_bos_is_left_to_who_writes_it_anyway(smollm2: HuggingFaceTokenizer, formats: dict[str, ChatFormat]) -> None:
    from jaxchat.chat.hf_tokenizer import frame_plain_text

    gemma = formats["gemma"]
    backend = type(smollm2.backend).from_str(gemma.tokenizer.backend.to_str())
    frame_plain_text(backend, "<bos>", None)
    framed = ChatFormat(HuggingFaceTokenizer(backend, gemma.tokenizer.special_tokens), gemma.template)
    told = go_template(gemma)
    assert told is not None and go_template(framed) == told.replace("<bos>", "")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
        "{% for m in messages[-1:] %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | upper }}\n{% endfor %}assistant:",
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\"\"\"\n{% endfor %}assistant:",
    ],
    ids=["numbered", "last", "capitals", "quotes"],
)
def test_a_template_that_does_more_is_not_told_wrongly(smollm2: HuggingFaceTokenizer, template: str) -> None:
    text = modelfile("mine.gguf", ChatFormat(smollm2, template), {})
    assert "TEMPLATE" not in text.replace("give a TEMPLATE of your own", "") and "has no like in Ollama's" in text


def test_a_system_text_that_is_refused_stands_before_the_first_question(smollm2: HuggingFaceTokenizer) -> None:
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ '{{' }}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    told = go_template(ChatFormat(smollm2, template))
    assert told is not None
    brace = '{{ "{{" }}'
    assert told.startswith(f"{{{{ if .System }}}}<|im_start|>user\n{brace}{{{{ .System }}}}\n\n{{{{ else }}}}")
