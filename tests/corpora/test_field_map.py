"""Datasets by a field map: what is found without one, what is named, and tables of every kind."""

from __future__ import annotations

import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import read_conversations
from jaxchat.corpora import make_reader
from jaxchat.corpora.hf import split_of
from jaxchat.corpora.importing import import_corpus
from jaxchat.errors import InputError

U, A = "user", "assistant"
TALK = [(U, "a"), (A, "b")]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"conversations": {"from": ["human", "gpt"], "value": ["a", "b"]}},
        {"dialog": ["a", "b"]},
        {"turns": [["USER", "a"], ["SYSTEM", "b"]]},
        {"turns": [["Ann", "a"], ["Bob", "b"]]},
        {"utterances": [{"speaker": 3, "text": "a"}, {"speaker": 1, "text": "b"}]},
        {"conversation": [{"human": "a", "assistant": "b"}]},
        {"instruction": "a", "input": "", "output": "b"},
        {"instruction": "a", "context": None, "response": "b"},
        {"prompt": "a", "completion": "b"},
        {"question": "a", "answer": ["b"]},
        {"inputs": "a", "targets": "b"},
        {"query": "a", "response": "b"},
    ],
)
def test_usual_fields_need_no_map(import_files, record: dict[str, Any]):
    assert import_files("hf", {"rows.jsonl": [{**record, "lang": "en"}]}).turns == [TALK]


@pytest.mark.parametrize(
    ("record", "options", "turns"),
    [
        ({"x": {"t": [{"who": 0, "says": "a"}, {"who": 1, "says": "b"}]}},
         {"messages": "x.t", "role_field": "who", "text_field": "says"}, TALK),
        ({"t": [["Ann", "a"], ["Bob", "b"]]}, {"messages": "t", "speaker": "ann"}, [(A, "a"), (U, "b")]),
        ({"t": ["a", "b"]}, {"messages": "t", "speaker": "first"}, [(A, "a"), (U, "b")]),
        ({"q": "a", "c": "about", "r": "b", "s": "be kind"}, {"user": "q, c", "assistant": "r", "system": "s"},
         [("system", "be kind"), (U, "a\n\nabout"), (A, "b")]),
        ({"t": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'}, {"messages": "t"}, TALK),
    ],
)  # fmt: skip
def test_fields_by_name(import_files, record: dict[str, Any], options: dict[str, str], turns: list):
    made = import_files("hf", {"rows.jsonl": [{**record, "key": "k7", "lang": "en"}]}, id="key", **options)
    assert made.turns == [turns]
    assert made.conversations[0].id == "k7" and made.conversations[0].meta["lang"] == "en"


def test_preferences_are_preferences(import_files):
    made = import_files("hf", {"a.jsonl": [{"prompt": "a", "chosen": "b", "rejected": "c"}]}).conversations[0]
    named = import_files(
        "hf", {"a.jsonl": [{"q": "a", "good": "b", "bad": "c"}]}, user="q", assistant="good", rejected="bad"
    )
    for conversation in (made, named.conversations[0]):
        assert [m.content for m in conversation.rejected] == ["a", "c"]
        assert [m.content for m in conversation.messages] == ["a", "b"]


def test_what_the_map_does_not_fit_is_rejected_with_what_there_is(import_files):
    rows = [
        {"user": "a", "assistant": "b"},
        {"text": "a"},
        {"user": 3, "assistant": "b"},
        {"user": " ", "assistant": "b"},
        {"question_id": 81, "turns": ["Write.", "Write again."]},
    ]
    made = import_files("hf", {"a.jsonl": rows})
    assert made.turns == [TALK]
    assert [row["reason"].partition(":")[0] for row in made.rejected] == [
        "no usual field; its fields are text",
        "`user` is not text",
        "`user` is empty",
        "a benchmark's questions, which have no answers",
    ]
    with pytest.raises(InputError, match="no field q; its fields are user, assistant"):
        import_files("hf", {"a.jsonl": rows[:1]}, messages="q")


ROWS = [
    {"dialog": [["x", f"a{i}"], ["y", f"b{i}"]], "when": datetime.datetime(2020, 1, 1), "n": float("nan"), "b": b"\xff"}
    for i in range(600)
]


def tables(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(ROWS)
    folder.mkdir()
    (folder / "data").mkdir()
    pyarrow.parquet.write_table(table, folder / "data" / "train-00000-of-00001-a1b2.parquet", row_group_size=100)
    pyarrow.parquet.write_table(table[:5], folder / "data" / "test-00000-of-00001.parquet")


def test_parquet_by_split(tmp_path: Path):
    tables(tmp_path / "set")
    stats = import_corpus("hf", [tmp_path / "set"], tmp_path / "out")
    assert stats["rows_in"] == stats["rows_used"] == 600 and stats["files"] == ["train-00000-of-00001-a1b2.parquet"]
    last = list(read_conversations(tmp_path / "out"))[-1]
    assert [m.content for m in last.messages] == ["a599", "b599"] and last.meta["rows"] == {stats["files"][0]: [600]}
    assert last.meta["when"] == "2020-01-01 00:00:00" and last.meta["b"] == "<1 bytes>" and "n" not in last.meta
    assert import_corpus("hf", [tmp_path / "set"], tmp_path / "all", {"split": "all"})["rows_in"] == 605
    with pytest.raises(InputError, match="no split dev; it has test, train"):
        import_corpus("hf", [tmp_path / "set"], tmp_path / "no", {"split": "dev"})


def test_the_cards_configurations_are_followed(tmp_path: Path):
    tables(tmp_path / "set")
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: big\n  data_files: data/train-*\n- config_name: small\n  default: true\n"
        "  data_files:\n  - split: train\n    path: data/test-*.parquet\n---\n# A set\n"
    )
    assert import_corpus("hf", [tmp_path / "set"], tmp_path / "small")["rows_in"] == 5
    assert import_corpus("hf", [tmp_path / "set"], tmp_path / "big", {"subset": "big"})["rows_in"] == 600
    with pytest.raises(InputError, match="no subset huge; it has big, small"):
        import_corpus("hf", [tmp_path / "set"], tmp_path / "no", {"subset": "huge"})


def test_a_saved_folder_and_damaged_tables(tmp_path: Path):
    import pyarrow

    table = pyarrow.Table.from_pylist(ROWS)
    for split, rows in (("train", table), ("test", table[:5])):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
        (folder / "dataset_info.json").write_text("{}")
        with pyarrow.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), rows.schema) as writer:
            writer.write_table(rows)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert import_corpus("hf", [tmp_path / "saved"], tmp_path / "out")["rows_used"] == 600
    content = (tmp_path / "saved" / "train" / "data-00000-of-00001.arrow").read_bytes()
    for name, damaged in (("a.arrow", content[:3000]), ("b.parquet", b"PAR1" + content[:500]), ("c.arrow", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=r"cannot be read|no conversation"):
            import_corpus("hf", [tmp_path / name], tmp_path / "no")


def test_a_string_that_is_not_utf8_rejects_its_row_alone(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    broken = pyarrow.array([b"fine", b"caf\xe9", b"too"]).view(pyarrow.string())
    table = pyarrow.table({"prompt": broken, "response": ["1", "2", "3"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    stats = import_corpus("hf", [tmp_path / "a.parquet"], tmp_path / "out")
    assert (stats["rows_used"], stats["rows_rejected"]) == (2, 1)


def test_csv_and_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "a.csv").write_text('frage,antwort\n"a","b"\n"c, d","e\nf"\n')
    command = ["data", "import", f"hf:{tmp_path / 'a.csv'}", "--user", "frage", "--assistant", "antwort"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert [len(c.messages) for c in read_conversations(tmp_path / "out")] == [2, 2]
    assert main(["data", "import", "hf:no/such-name-at-all", "--out", str(tmp_path / "no")]) == 2
    assert "no such folder, and it cannot be had from the hub" in capsys.readouterr().err
    assert main(["data", "import", "hff:x", "--out", str(tmp_path / "no")]) == 2
    assert make_reader("hf:org/set", {"split": "test"}).name == "org/set"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002-abc123.parquet", "train"),
        ("data/train_sft-00000-of-00003.parquet", "train_sft"),
        ("train/data-00000-of-00001.arrow", "train"),
        ("en/validation/0000.parquet", "validation"),
        ("my_test.jsonl", "test"),
        ("train.jsonl.gz", "train"),
        ("wiki-train-00000-of-00001.parquet", "train"),
        ("everything.parquet", ""),
        ("constraints.json", ""),
    ],
)
def test_splits_by_names(name: str, split: str):
    assert split_of(name) == split


@pytest.mark.parametrize(("name", "used"), [("sgd_text", 50), ("star_text", 48), ("smilechat_text", 50)])
def test_talk_between_people_and_machines(real_data: Path, tmp_path: Path, name: str, used: int):
    with open(real_data / "corpora" / f"{name}.jsonl", encoding="utf-8") as whole:
        (tmp_path / "some.jsonl").write_text("".join(islice(whole, 50)))
    stats = import_corpus("hf", [tmp_path / "some.jsonl"], tmp_path / "out")
    assert (stats["rows_in"], stats["rows_used"]) == (50, used)
    assert set(stats["reasons"]) <= {"no turns in it", "the assistant says nothing in it"}
    for conversation in read_conversations(tmp_path / "out"):
        roles = [message.role for message in conversation.messages]
        assert roles == [(U, A)[i % 2] for i in range(len(roles))]  # turns of one side in a row are merged


@pytest.mark.parametrize("form", ["array_record", "tfrecord"])
def test_a_tensorflow_dataset_in_both_forms(tmp_path: Path, form: str):
    pytest.importorskip("tensorflow_datasets")
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "dialog": tfds.features.Sequence({"speaker": tfds.features.Text(), "text": tfds.features.Text()}),
            "topic": tfds.features.Text(),
        }
    )
    talk = [{"speaker": "Ann", "text": "é"}, {"speaker": "Bob", "text": "b"}]
    rows = [{"dialog": talk, "topic": "tea"}, {"dialog": [], "topic": "none"}]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="little_talks",
        version="1.0.0",
        features=features,
        split_datasets={"train": list(enumerate(rows)), "test": list(enumerate(rows[:1]))},
        data_dir=tmp_path / "sets",
        file_format=form,
        disable_shuffling=True,
    )
    stats = import_corpus("tfds", [tmp_path / "sets" / "little_talks"], tmp_path / "out")
    assert (stats["rows_in"], stats["rows_used"], stats["rows_rejected"]) == (2, 1, 1)
    (conversation,) = read_conversations(tmp_path / "out")
    assert [(m.role, m.content) for m in conversation.messages] == [(U, "é"), (A, "b")]
    assert conversation.meta == {"topic": "tea", "rows": {"little_talks/train": [1]}}
    options = {"data_dir": str(tmp_path / "sets"), "split": "test"}
    assert import_corpus("tfds:little_talks", [], tmp_path / "named", options)["rows_used"] == 1
    with pytest.raises(InputError, match="no split dev; it has"):
        import_corpus("tfds", [tmp_path / "sets" / "little_talks"], tmp_path / "no", {"split": "dev"})


def test_a_tensorflow_dataset_that_is_not_there(tmp_path: Path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(InputError, match="no TensorFlow dataset is called no_such_set_at_all"):
        import_corpus("tfds:no_such_set_at_all", [], tmp_path / "no", {"data_dir": str(tmp_path)})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no folder of one prepared dataset; it has no dataset_info"):
        import_corpus("tfds", [tmp_path / "empty"], tmp_path / "no")
