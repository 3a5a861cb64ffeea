"""What holds for every tokenizer behind the face; transformers is the reference for ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.errors import InputError

# U+2581 is how SentencePiece writes a space; SmolLM2's vocabulary has not all bytes, so that it drops some controls and
# characters that mean nothing.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn", "Co"], exclude_characters="▁\x04\x06\x13\x14\x16\x1d")
TEXT = st.text(CHARACTERS, max_size=40)
SAMPLES = [
    "",
    " ",
    "Hello  there,\n\n\n world 12345\t!",
    "你好，世界 😀 ﷽ é e\u0301",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "almost <|im_end |> and <|im_ end|>",
    "\x00 \x7f \u200b \ufeff \u2028",
    # Runs that can be cut in many equally likely ways, alone and after what is a token.
    "*" * 301 + "\n" + "-" * 99 + "<|im_end|>" + "ha" * 77 + "\n" * 9,
]
each_text = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@each_text
@given(text=TEXT)
def test_text_comes_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@each_text
@given(text=TEXT)
def test_offsets_cover_every_character_in_order(tokenizer: Tokenizer, text: str) -> None:
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    at = 0
    for start, end in offsets:
        assert start <= at <= end <= len(text) and start < end
        at = end
    assert at == len(text)


def test_a_batch_is_each_text_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(SAMPLES) == [tokenizer.encode(text) for text in SAMPLES]
    assert tokenizer.encode_batch([]) == []


def test_added_tokens_are_one_id_wherever_they_stand(tokenizer: Tokenizer) -> None:
    for text, i in tokenizer.added_tokens.items():
        assert tokenizer.token_id(text) == i
        assert tokenizer.encode(f"a{text}b").count(i) == 1
        assert tokenizer.decode(tokenizer.encode(f"a{text}b")) == f"a{text}b"
    assert tokenizer.token_id("no such token anywhere") is None


def test_special_tokens_can_be_left_out_of_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>user\nhi <|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\nhi "


def test_special_ids_are_those_of_their_texts(tokenizer: Tokenizer) -> None:
    special = tokenizer.special_tokens
    assert tokenizer.bos_id == tokenizer.token_id(special["bos_token"])
    assert tokenizer.eos_id == tokenizer.token_id(special["eos_token"])
    assert tokenizer.pad_id == tokenizer.token_id(special["pad_token"])


def test_a_saved_tokenizer_is_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.chat_templates == tokenizer.chat_templates
    assert (again.special_tokens, again.added_tokens) == (tokenizer.special_tokens, tokenizer.added_tokens)
    assert again.encode_batch(SAMPLES) == tokenizer.encode_batch(SAMPLES)


def test_transformers_reads_what_is_saved_with_the_same_ids(
    tokenizer: Tokenizer, texts: list[str], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*SAMPLES, *texts[:50]]:
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs.encode(SAMPLES[2]) == tokenizer.encode(SAMPLES[2], add_special_tokens=True)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert theirs.pad_token_id == tokenizer.pad_id
    assert theirs.chat_template == tokenizer.chat_template
    assert len(theirs) == tokenizer.vocab_size


def test_no_heavy_package_is_imported_to_read_a_gguf(smollm2_gguf: Path) -> None:
    code = (
        "import sys; from jaxchat.chat.tokenizer import load_tokenizer; load_tokenizer(sys.argv[1]);"
        "print(*[n for n in ('torch', 'transformers', 'gguf', 'tensorflow', 'jax') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code, smollm2_gguf], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    for name, reason in [
        ("nothing", "no such tokenizer"),
        ("", "holds neither tokenizer.json nor tokenizer.model"),
        ("a.txt", "a tokenizer is a folder"),
        ("a.json", "not a readable tokenizer.json"),
        ("a.model", "not a readable SentencePiece model"),
        ("a.gguf", "not a GGUF file"),
    ]:
        path = tmp_path / name
        if path.suffix:
            path.write_text("this is something else")
        with pytest.raises(InputError, match=reason):
            load_tokenizer(path)
