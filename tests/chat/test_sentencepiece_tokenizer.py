"""SentencePiece models as such, and training them; what holds for every tokenizer is in test_tokenizer.py."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.template import built_in_template
from jaxchat.chat.tokenizer import load_tokenizer
from jaxchat.chat.train_sentencepiece import train_sentencepiece
from jaxchat.errors import InputError


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_ids_are_those_of_the_processor(name: str, texts: list[str], request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer._model)
    assert tokenizer.encode_batch(texts) == [processor.encode(text) for text in texts]
    assert tokenizer.decode(processor.encode(texts[0])) == texts[0]


def test_chat_tokens_have_an_id_each_and_a_new_line_is_always_alone(unigram: SentencePieceTokenizer) -> None:
    ids = [unigram.token_id(text) for text in ("<|pad|>", "<|eos|>", "<|bos|>", "<|unk|>", "<|im_start|>")]
    assert ids == [0, 1, 2, 3, 4]
    encoded = unigram.encode("<|im_start|>user\n\n\nhi<|im_end|>\n<|eos|>")
    assert encoded[0] == 4 and encoded[-1] == 1
    assert [encoded.count(unigram.token_id(text)) for text in ("\n", "<|im_end|>")] == [4, 1]
    assert unigram.chat_template == built_in_template("chatml")
    assert not [p.text for p in unigram.spec.pieces if "\n" in p.text and p.text != "\n"]


def test_training_twice_gives_the_same_file_even_where_lines_are_drawn(texts: list[str], tmp_path: Path) -> None:
    models = []
    for i in range(2):
        train_sentencepiece(texts, tmp_path / str(i), vocab_size=600, max_sentences=1000)
        models.append((tmp_path / str(i) / "tokenizer.model").read_bytes())
    assert models[0] == models[1]


def test_pieces_may_span_words_and_are_read_alike_by_transformers(texts: list[str], tmp_path: Path) -> None:
    said = [f"Is there anything else I can do for you, number {i}?" for i in range(300)]
    tokenizer = train_sentencepiece([*said, *texts[:20]], tmp_path / "out", vocab_size=700, phrases=True)
    assert any(" " in piece.text.replace("▁", " ").strip() for piece in tokenizer.spec.pieces)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in [*said[:20], "<|im_start|>user\nIs there anything  else?<|im_end|>\n"]:
        assert theirs.encode(text) == tokenizer.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "words, size, kind, reason",
    [
        (["the cat sat"], 5000, "unigram", r"too small for a vocabulary of 5000; ask for \d+ or fewer"),
        (["the cat sat"], 5000, "bpe", r"too small for a vocabulary of 5000; ask for \d+ or fewer"),
        (["第一次你好世界今天天气很好" * 3], 266, "unigram", r"characters alone need more .*; ask for over \d+"),
        (["the cat sat"], 200, "unigram", "no room beside 263 reserved"),
        ([], 500, "unigram", "no text"),
        (["\n", ""], 500, "bpe", "no text"),
        (["the cat"], 500, "word", "unigram or bpe"),
    ],
)
def test_a_vocabulary_that_the_text_cannot_fill_is_refused(
    words: list[str], size: int, kind: Any, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason):
        train_sentencepiece(words, tmp_path / "out", vocab_size=size, model=kind)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(InputError, match="exists and is not empty"):
        train_sentencepiece(["the cat"], tmp_path / "out", vocab_size=500)


def foreign(texts: list[str], **options: Any) -> SentencePieceTokenizer:
    """A model as others train them: a space before every text, white space collapsed, Unicode normalised."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in texts for line in text.splitlines()),
        model_writer=written,
        vocab_size=800,
        byte_fallback=True,
        minloglevel=2,
        num_threads=2,
        **options,
    )
    return SentencePieceTokenizer(written.getvalue())


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_other_peoples_models_keep_their_ways(kind: str, texts: list[str], tmp_path: Path) -> None:
    tokenizer = foreign(texts, model_type=kind)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer._model)
    for text in ["the cat", " the  cat", "ﬁne ①", "the number of items"]:
        assert tokenizer.encode(text) == processor.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == processor.decode(processor.encode(text))
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    # Control tokens are read from text, and only the very beginning gets a space.
    ids = tokenizer.encode("the cat</s>the cat")
    assert ids == [*processor.encode("the cat"), processor.eos_id(), *tokenizer._inner.encode("the cat")]
    assert tokenizer._inner.encode("the cat") != processor.encode("the cat")
    assert tokenizer.decode(ids) == "the cat</s>the cat"
    tokenizer.save(tmp_path)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ["the cat</s>the cat", "the number of items ①", *texts[:20]]:
        if kind == "bpe" or "***" not in text:
            assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)


def test_offsets_of_a_model_with_a_prefix_space_cover_the_text(texts: list[str]) -> None:
    tokenizer = foreign(texts)
    ids, offsets = tokenizer.encode_with_offsets("the cat</s>你")
    assert len(ids) == len(offsets) and offsets[0][0] == 0 and offsets[-1][1] == len("the cat</s>你")
    assert all(start < end for start, end in offsets)
    assert all(after[0] in before for before, after in itertools.pairwise(offsets))


def test_a_bos_is_added_to_plain_text_when_the_files_ask_for_it(
    unigram: SentencePieceTokenizer, tmp_path: Path
) -> None:
    framed = SentencePieceTokenizer(unigram._model, unigram.special_tokens, add_bos=True, add_eos=True)
    framed.save(tmp_path)
    for tokenizer in (framed, load_tokenizer(tmp_path)):
        ids = tokenizer.encode("a<|im_end|>b", add_special_tokens=True)
        assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        assert ids[1:-1] == tokenizer.encode("a<|im_end|>b")
        assert tokenizer.encode_batch(["a<|im_end|>b"], add_special_tokens=True) == [ids]
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.encode("a<|im_end|>b") == framed.encode("a<|im_end|>b", add_special_tokens=True)


def test_a_cut_model_is_refused(unigram: SentencePieceTokenizer, tmp_path: Path) -> None:
    for size in (0, 100, 5000, len(unigram._model) // 2):
        (tmp_path / "tokenizer.model").write_bytes(unigram._model[:size])
        with pytest.raises(InputError, match="not a readable SentencePiece model"):
            load_tokenizer(tmp_path / "tokenizer.model")
