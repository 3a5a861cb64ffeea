"""What a config names is packed once: the cache hits when nothing has changed, and only then."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from jaxchat.chat.template import ChatFormat
from jaxchat.corpora.chatterbot import Chatterbot
from jaxchat.data import packing
from jaxchat.data import prepare as prepare_module
from jaxchat.data.config import Corpus, DataConfig, Folder, Packed
from jaxchat.data.dataset import PackedRows, pack
from jaxchat.data.packing import SplitTurns
from jaxchat.data.prepare import prepare
from jaxchat.errors import InputError
from jaxchat.testing import CHATML, ByteTokenizer, small_conversations


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by every folder that is packed."""
    made: list[Path] = []

    def counted(sources, format, out, **options):
        made.append(out)
        return pack(sources, format, out, **options)

    monkeypatch.setattr(prepare_module, "pack", counted)
    return made


def test_the_cache_hits_when_nothing_changed(tmp_path: Path, chat, folder, packings, capsys):
    config = DataConfig((Folder(folder(small_conversations(20))),), seq_len=128, heldout=0.2, cache=tmp_path / "cache")
    [first] = prepare(config, chat)
    said = capsys.readouterr().err
    assert "% full" in said and "cut (0 tokens)" in said
    stamp = (first.folder / "stats.json").stat().st_mtime_ns
    [second] = prepare(replace(config, batch=99), chat)
    assert second.folder == first.folder and len(packings) == 1
    assert (second.folder / "stats.json").stat().st_mtime_ns == stamp and capsys.readouterr().err == ""


def test_the_cache_misses_when_anything_the_rows_depend_on_changed(tmp_path, chat, folder, packings, monkeypatch):
    source = folder(small_conversations(20))
    config = DataConfig((Folder(source),), seq_len=128, heldout=0.2, cache=tmp_path / "cache")

    class Longer(ByteTokenizer):
        fingerprint = "longer"

    runs = [
        (config, chat),
        (replace(config, seq_len=64), chat),
        (replace(config, heldout=0.1), chat),
        (replace(config, train_on="all"), chat),
        (replace(config, long=SplitTurns(overlap=5)), chat),
        (config, ChatFormat(Longer())),
        (config, ChatFormat(ByteTokenizer(), "<|endoftext|>" + CHATML)),
    ]
    folders = [prepare(run, format)[0].folder for run, format in runs]
    assert len(set(folders)) == len(runs) == len(packings)
    monkeypatch.setattr(packing, "VERSION", 2)
    prepare(config, chat)
    (source / "conversations.jsonl").write_text(json.dumps(small_conversations(3)[0].to_json()))
    prepare(config, chat)
    assert len(set(packings)) == len(runs) + 2


def test_a_corpus_is_imported_once_and_read_as_its_options_say(tmp_path, chat, packings, monkeypatch):
    (tmp_path / "talk.yml").write_text("conversations:\n- - Hi\n  - Hello\n- - How are you?\n  - Fine\n")
    source = Corpus("chatterbot", paths=(tmp_path / "talk.yml",))
    config = DataConfig((source,), seq_len=64, heldout=0, cache=tmp_path / "cache")
    [packed] = prepare(config, chat)
    assert packed.stats["splits"]["train"]["conversations"] == 2
    assert prepare(config, chat)[0].folder == packed.folder and len(packings) == 1
    monkeypatch.setattr(Chatterbot, "version", 2)
    prepare(config, chat)
    assert len(list((tmp_path / "cache" / "conversations").glob("chatterbot-*"))) == 2
    assert len(packings) == 1  # read anew, and the same conversations
    with pytest.raises(InputError, match="no option languge; did you mean language"):
        prepare(replace(config, sources=(replace(source, options=(("languge", "german"),)),)), chat)


def test_packed_ahead_is_used_as_it_is_and_only_where_it_fits(tmp_path: Path, chat, folder):
    pack([folder(small_conversations(20))], chat, tmp_path / "ahead", seq_len=128)
    config = DataConfig((Packed(tmp_path / "ahead"),), seq_len=128, cache=tmp_path / "cache")
    assert prepare(config, chat)[0].folder == tmp_path / "ahead"
    with pytest.raises(InputError, match=r"rows of 128 tokens and data\.seq_len is 64"):
        prepare(replace(config, seq_len=64), chat)
    with pytest.raises(InputError, match="another chat template"):
        prepare(config, ChatFormat(ByteTokenizer(), "<|endoftext|>" + CHATML))

    class Longer(ByteTokenizer):
        fingerprint = "longer"

    with pytest.raises(InputError, match="another tokenizer"):
        prepare(config, ChatFormat(Longer()))


def packed_by_a_process(config: DataConfig) -> Path:
    return prepare(config, ChatFormat(ByteTokenizer()))[0].folder


def test_processes_that_ask_at_once_make_the_rows_once(tmp_path: Path, folder):
    config = DataConfig((Folder(folder(small_conversations(60))),), seq_len=128, cache=tmp_path / "cache")
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        folders = pool.map(packed_by_a_process, [config] * 3)
    assert len(set(folders)) == 1
    assert PackedRows(folders[0]).read("train", [0])["tokens"].shape == (1, 128)


def test_what_is_not_there_is_refused(tmp_path: Path, chat):
    config = DataConfig((Folder(tmp_path / "none"),), cache=tmp_path / "cache")
    with pytest.raises(InputError, match="no such file or folder"):
        prepare(config, chat)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to the cache"):
        prepare(replace(config, sources=(Corpus("chatterbot"),), cache=tmp_path / "file"), chat)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "no sources"),
        ({"batch": 0}, "data.batch is 0"),
        ({"seq_len": 1}, "data.seq_len 1"),
        ({"heldout": 1.0}, "data.heldout is 1.0"),
        ({"sources": (Corpus(weight=1.0), Corpus())}, "give all of them one above 0, or none"),
        ({"sources": (Corpus(weight=-1.0), Corpus(weight=1.0))}, "above 0"),
        ({"sources": (Corpus(weight=0.0), Corpus(weight=0.0))}, "above 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        DataConfig(**change)


def test_weights_are_all_or_none():
    assert DataConfig().weights is None
    assert DataConfig((Corpus(weight=3), Folder(Path("a"), weight=1))).weights == (3, 1)
