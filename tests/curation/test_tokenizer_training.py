"""Tokenizers trained by the command line: languages as asked for, read alike everywhere, measured beside others."""

from __future__ import annotations

import json
import random
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import read_conversations
from jaxchat.chat.tokenizer import load_tokenizer
from jaxchat.chat.train_sentencepiece import train_sentencepiece
from tests.tool import tool

KINDS = {"unigram": (), "bpe": ("--model", "bpe"), "byte-level": ("--kind", "bpe"), "phrases": ("--phrases",)}


check_tokenizer = tool("check_tokenizer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English of Python's own help, and half as much Chinese, each conversation's language written in it."""
    path = tmp_path_factory.mktemp("talk") / "talk"
    path.mkdir()
    rng = random.Random(0)
    words = (
        "我们",
        "今天",
        "天气",
        "很好",
        "你们",
        "想要",
        "学习",
        "什么",
        "明天",
        "再见",
        "朋友",
        "因为",
        "😀",
        "所以",
    )
    chinese = ["".join(rng.choices(words, k=40)) + "。" for _ in range(1000)]
    rows = [("en", text) for text in topics.values()] + [("zh", text) for text in chinese] + [("fr", "bonjour à tous")]
    with open(path / "conversations.jsonl", "w", encoding="utf-8") as file:
        for language, text in rows:
            messages = [{"role": "user", "content": text[:200]}, {"role": "assistant", "content": text}]
            file.write(json.dumps({"messages": messages, "meta": {"language": language}}) + "\n")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_reads_alike_and_gives_the_text_back(kind: str, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "t"
    assert main(["tokenizer", "train", str(folder), *KINDS[kind], "--vocab-size", "1500", "--out", str(out)]) == 0
    assert load_tokenizer(out).vocab_size == 1500
    texts = [m.content or "" for c in read_conversations(folder) for m in c.messages][::5]
    result = check_tokenizer.check(out, iter([*check_tokenizer.rare_lines(), *texts]))
    assert result["differ"] and not any(result["differ"].values()), result["examples"]
    assert result["not_round_trip"] == 0 and result["messages"] > 250, result["examples"]


def test_a_byte_pieces_name_in_a_text_is_no_byte_even_where_its_signs_are_too_rare_to_learn(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(200))
    train_sentencepiece([text * 20], tmp_path / "t", vocab_size=484)
    result = check_tokenizer.check(tmp_path / "t", iter(["<0x0A>", "a space: <0xE2><0x96>"]))
    assert not any(result["differ"].values()) and result["not_round_trip"] == 0, result


def test_the_check_finds_a_tokenizer_json_that_reads_otherwise(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    main(["tokenizer", "train", str(folder), "--vocab-size", "700", "--out", str(tmp_path / "a")])
    main(["tokenizer", "train", str(folder), "--vocab-size", "700", "--model", "bpe", "--out", str(tmp_path / "b")])
    (tmp_path / "a/tokenizer.json").write_bytes((tmp_path / "b/tokenizer.json").read_bytes())
    result = check_tokenizer.check(tmp_path / "a", iter(["the functions of an object"]))
    assert result["differ"] == {"jaxchat": 0, "tokenizer.json": 1, "transformers": 1}


def test_languages_get_the_shares_asked_for_and_the_report_says_so(folder: Path, tmp_path: Path) -> None:
    def train(name: str, *options: str) -> dict:
        out = str(tmp_path / name)
        assert main(["tokenizer", "train", str(folder), "--vocab-size", "900", "--out", out, *options]) == 0
        return json.loads((tmp_path / name / "report.json").read_text())

    mostly_english = train("en", "--balance", "en=80", "zh=20", "--most-bytes", "200000")
    mostly_chinese = train("zh", "--balance", "zh=80", "en=20", "--most-bytes", "200000")
    drawn = {name: row["drawn"] for name, row in mostly_english["languages"].items()}
    assert drawn["en"] / sum(drawn.values()) == pytest.approx(0.8, abs=0.05) and drawn["fr"] == 0
    assert sum(drawn.values()) == pytest.approx(200_000, rel=0.1)
    held = {name: row["bytes_per_token"] for name, row in mostly_english["bytes_per_token"].items()}
    other = {name: row["bytes_per_token"] for name, row in mostly_chinese["bytes_per_token"].items()}
    assert list(held) == ["en", "zh", "fr", "all"] or list(held) == ["zh", "en", "fr", "all"]
    assert held["en"]["this"] > other["en"]["this"] and held["zh"]["this"] <= other["zh"]["this"]


def test_tokenizers_to_compare_with_are_measured_on_the_same_text(
    folder: Path, tmp_path: Path, smollm2_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["tokenizer", "train", str(folder), "--vocab-size", "600", "--out", str(tmp_path / "mine")])
    command = [
        "tokenizer",
        "train",
        str(folder),
        "--vocab-size",
        "900",
        "--out",
        str(tmp_path / "t"),
        "--heldout",
        "0.2",
    ]
    capsys.readouterr()
    assert main([*command, "--reference", str(smollm2_gguf), str(tmp_path / "mine")]) == 0
    report = json.loads((tmp_path / "t/report.json").read_text())
    row = report["bytes_per_token"]["all"]
    assert set(row["bytes_per_token"]) == {"this", smollm2_gguf.name, "mine"}
    text = [m.content for c in read_conversations(folder) for m in c.messages]
    assert 0.1 < row["bytes"] / sum(len((t or "").encode()) for t in text) < 0.3
    assert report["measured_on"] == "conversations held out"
    assert "bytes per token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--balance", "en=1", "de=1"), "there is no text in de; there is en"),
        (("--balance", "en"), "write LANGUAGE=SHARE"),
        (("--balance", "en=0"), "write LANGUAGE=SHARE"),
        (("--balance", "en=1", "en=2"), "names en twice"),
        (("--most-bytes", "0"), "--most-bytes 0: at least 1"),
        (("--reference", "nowhere"), "nowhere: no such tokenizer"),
        (("--kind", "bpe", "--vocab-size", "100"), "no room beside 262 reserved"),
        (("--kind", "bpe", "--vocab-size", "900000"), "too small for a vocabulary of 900000; ask for"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    options: tuple[str, ...], sentence: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = () if "--vocab-size" in options else ("--vocab-size", "700")
    assert main(["tokenizer", "train", str(folder), *size, *options, "--out", str(tmp_path / "t")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
