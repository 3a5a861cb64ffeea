"""The files a Hugging Face tokenizer comes in, in the forms that they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.tokenizer import load_tokenizer
from jaxchat.errors import InputError


def folder(path: Path, config: dict[str, Any] | None = None, **parts: Any) -> Path:
    """A small byte-level BPE tokenizer in `path`, with `parts` of it replaced."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["the cat sat on the mat, the hat sat on the cat"] * 3, trainer)
    backend.add_special_tokens(["<s>", "</s>"])
    for name, part in parts.items():
        setattr(backend, name, part)
    path.mkdir(exist_ok=True)
    backend.save(str(path / "tokenizer.json"))
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("bos", ["<s>", {"content": "<s>", "lstrip": False, "__type": "AddedToken"}])
def test_special_tokens_are_texts_or_objects(tmp_path: Path, bos: object) -> None:
    tokenizer = load_tokenizer(folder(tmp_path, {"bos_token": bos, "eos_token": "</s>", "pad_token": None}))
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert (tokenizer.bos_id, tokenizer.eos_id) == (tokenizer.token_id("<s>"), tokenizer.token_id("</s>"))
    assert tokenizer.pad_id == tokenizer.eos_id


def test_special_tokens_come_from_the_older_map_too(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    assert load_tokenizer(tmp_path).special_tokens == {"eos_token": "</s>"}


def test_a_lone_tokenizer_json_is_enough(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder(tmp_path) / "tokenizer.json")
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.chat_template) == (None, None, 0, None)


def test_chat_templates_are_a_text_a_list_or_files(tmp_path: Path) -> None:
    one = load_tokenizer(folder(tmp_path / "a", {"chat_template": "A"}))
    assert one.chat_templates == {"default": "A"}
    named = [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]
    two = load_tokenizer(folder(tmp_path / "b", {"chat_template": named}))
    assert two.chat_templates == {"default": "A", "tool_use": "B"}
    # As transformers writes them today; a file outdoes the config.
    files = folder(tmp_path / "c", {"chat_template": "old"})
    (files / "chat_template.jinja").write_bytes(b"A\r\n")
    (files / "additional_chat_templates").mkdir()
    (files / "additional_chat_templates" / "tool_use.jinja").write_text("B")
    three = load_tokenizer(files)
    assert three.chat_templates["tool_use"] == "B"
    three.save(tmp_path / "d")
    assert load_tokenizer(tmp_path / "d").chat_templates == three.chat_templates
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "d")
    assert theirs.chat_template == three.chat_templates


@pytest.mark.parametrize("single", ["<s> $A", "<s> $A </s>", "$A"])
def test_plain_text_is_framed_as_tokenizer_json_says(tmp_path: Path, single: str) -> None:
    transformers = pytest.importorskip("transformers")
    ids = load_tokenizer(folder(tmp_path / "a")).added_tokens
    template = processors.TemplateProcessing(single=single, special_tokens=list(ids.items()))
    # transformers lets these flags lie, too, where there is a tokenizer.json.
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "add_eos_token": True}
    ours = load_tokenizer(folder(tmp_path / "a", config, post_processor=template))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    ours.save(tmp_path / "b")
    for tokenizer in (ours, load_tokenizer(tmp_path / "b")):
        assert tokenizer.encode("the cat", add_special_tokens=True) == theirs.encode("the cat")
        assert tokenizer.encode_batch(["the cat"], add_special_tokens=True) == [theirs.encode("the cat")]
        assert tokenizer.encode("the cat") == theirs.encode("the cat", add_special_tokens=False)


def test_offsets_hold_the_space_before_a_word_even_where_the_file_trims_it(tmp_path: Path) -> None:
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    parts = [processors.ByteLevel(trim_offsets=True), template]
    for i, processor in enumerate([parts[0], processors.Sequence(parts)]):
        path = folder(tmp_path / str(i), post_processor=processor)
        tokenizer = load_tokenizer(path)
        ids, offsets = tokenizer.encode_with_offsets("the  cat sat")
        assert [end for _, end in offsets[:-1]] == [start for start, _ in offsets[1:]]
        file = Tokenizer.from_file(str(path / "tokenizer.json"))
        assert ids == file.encode("the  cat sat", add_special_tokens=False).ids
        framed = tokenizer.encode("the cat", add_special_tokens=True)
        assert framed == file.encode("the cat").ids


def test_nothing_is_cut_or_padded_though_the_file_asks_for_it(tmp_path: Path) -> None:
    backend = Tokenizer.from_file(str(folder(tmp_path) / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode("the cat sat on the mat")) == "the cat sat on the mat"


def test_tokens_that_only_the_config_declares_are_added(tmp_path: Path) -> None:
    size = load_tokenizer(folder(tmp_path)).vocab_size
    row = {"content": "<|new|>", "special": True, "lstrip": False}
    tokenizer = load_tokenizer(folder(tmp_path, {"added_tokens_decoder": {str(size): row}}))
    assert tokenizer.encode("the<|new|>")[-1] == size == tokenizer.vocab_size - 1
    with pytest.raises(InputError, match="do not belong together"):
        load_tokenizer(folder(tmp_path, {"added_tokens_decoder": {"7": row}}))


def test_holes_in_the_ids_count_to_the_size(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 9}, unk_token="a"))
    backend.add_tokens([AddedToken("c")])
    assert HuggingFaceTokenizer(backend).vocab_size == max(backend.get_vocab().values()) + 1 == 10


def test_files_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"eos_token '<end>' is not in its vocabulary"):
        load_tokenizer(folder(tmp_path, {"eos_token": "<end>"}))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config\.json is not valid JSON"):
        load_tokenizer(tmp_path)
