"""Small whole corpora in the form of every format, by hand, for fuzz_readers.py to break.

Every text holds a mark of its own (`zq0007q`), by which a text that got lost can be told. A corpus is named for its
format; where that has several forms, for the form behind it (`wechat json`).
"""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any

# Rows of a corpus that is a table of bytes.
TABLE_ROWS = 8
Text = Callable[[], str]
Files = dict[str, str | bytes]


def mark_texts() -> Iterator[str]:
    """Texts of several scripts, each with its mark."""
    kinds = ("Tea, \u201cplease\u201d {}?", "喝茶 {} 吗", "No\u2019 {} way", "{} é 🍵", "Right {} then", "a {}: b - c")
    for number in count():
        yield kinds[number % len(kinds)].format(f"zq{number:04d}q")


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def array(rows: list[Any], before: str = "[", behind: str = "]") -> str:
    """A JSON array, or what holds one, with an element a line: the place of an element tells its line."""
    return f"{before}\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + f"\n{behind}"


@functools.cache
def corpus(name: str) -> Files:
    """Its files by name."""
    texts = mark_texts()
    return CORPORA[name](lambda: next(texts))


def format_of(name: str) -> str:
    return name.partition(" ")[0]


def write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def _cornell(t: Text) -> Files:
    s = " +++$+++ "
    told = [(f"L{i}", f"u{i % 2}", f"m{i // 10}", "ANN" if i % 2 else "BOB", t()) for i in range(20)]
    talks = [("u0", "u1", f"m{i // 5}", str([f"L{2 * i}", f"L{2 * i + 1}"])) for i in range(10)]
    return {
        "movie_lines.txt": "\n".join(map(s.join, reversed(told))),
        "movie_conversations.txt": "\n".join(map(s.join, talks)),
        "movie_titles_metadata.txt": "\n".join(f"m{i}{s}film {i}{s}1999{s}6.9{s}10{s}['drama']" for i in range(2)),
    }


def _convokit(t: Text) -> Files:
    rows = [
        {"id": f"{c}{i}", "conversation_id": f"{c}0", "text": t(), "speaker": f"s{i % 3}", "timestamp": i,
         "reply-to": f"{c}{(i - 1) // 2}" if i else None, "meta": {"score": i % 4}}
        for c in "ab" for i in range(8)
    ]  # fmt: skip
    return {"utterances.jsonl": lines(*rows), "conversations.json": json.dumps({"a0": {"meta": {"title": "Tea"}}})}


def _twitter(t: Text) -> Files:
    head = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id"
    rows = [
        f'{i},{"acme" if i % 2 else 100 + i // 6},{i % 2 == 0},Tue Oct 31,"{t()}{chr(10) if i % 5 == 0 else " "}end",,'
        f"{f'{i - 1}.0' if i % 6 else ''}"
        for i in range(24)
    ]
    return {"twcs.csv": "\n".join([head, *rows]) + "\n"}


def _reddit(t: Text) -> Files:
    comments = [
        {"id": f"c{i}", "parent_id": f"t1_c{i - 1}" if i % 5 else "t3_s1", "link_id": "t3_s1", "body": t(),
         "score": i % 7, "author": f"u{i % 3}", "created_utc": str(i) if i % 2 else i * 1.0, "edited": False}
        for i in range(15)
    ]  # fmt: skip
    submissions = [{"id": f"s{i}", "title": t(), "selftext": t(), "author": "op", "score": 3} for i in range(3)]
    return {"comments.jsonl": lines(*comments), "submissions.jsonl": lines(*submissions)}


def _stackexchange(t: Text) -> Files:
    posts = [
        f'  <row Id="{i}" PostTypeId="1" AcceptedAnswerId="{i + 50}" Score="2" Title="Q{i}" Body="&lt;p&gt;{t()}" />'
        for i in range(10)
    ] + [
        f'  <row Id="{i + 50}" PostTypeId="2" ParentId="{i}" Score="1" Body="&lt;pre&gt;{t()}&lt;/pre&gt;" />'
        for i in range(12)
    ]
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    comments = [f'  <row Id="{i}" PostId="{50 + i}" Score="0" Text="{t()}" UserId="1" />' for i in range(5)]
    return {
        "Posts.xml": head + "\n".join(["<posts>", *posts, "</posts>"]),
        "Comments.xml": head + "\n".join(["<comments>", *comments, "</comments>"]),
    }


def _oasst(t: Text) -> Files:
    def node(i: int, depth: int) -> dict[str, Any]:
        replies = [node(2 * i + k, depth + 1) for k in (1, 2)] if depth < 3 else []
        role = "assistant" if depth % 2 else "prompter"
        return {"message_id": f"m{i}", "text": t(), "role": role, "rank": i % 2, "lang": "en", "replies": replies}

    return {"trees.jsonl": lines(*({"message_tree_id": "m0", "prompt": node(0, 0)} for _ in range(3)))}


def _pairs(t: Text, first: str, second: str, n: int = 4) -> list[dict[str, str]]:
    return [{"from": (first, second)[i % 2], "value": t()} for i in range(n)]


def _messages(t: Text, n: int = 4) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": t()} for i in range(n)]


def _whatsapp(t: Text) -> Files:
    rows = [f"13/12/2020, 21:{i:02d} - {('Ann', 'Bob')[i % 2]}: {t()}" for i in range(20)]
    return {"chat.txt": "\n".join(rows)}


def _telegram(t: Text) -> Files:
    messages = [
        {"id": i, "type": "message", "date": f"2020-01-01T10:{i:02d}:00", "from": ("Ann", "Bob")[i % 2],
         "from_id": f"user{i % 2}", "text": t() if i % 3 else [t(), {"type": "bold", "text": t()}]}
        for i in range(12)
    ]  # fmt: skip
    return {"result.json": array(messages, '{"name": "Ann", "type": "personal_chat", "messages": [', "]}")}


def _discord(t: Text) -> Files:
    messages = [
        {"id": f"{i}", "type": "Default", "timestamp": f"2020-01-01T10:{i:02d}:00+00:00", "content": t(),
         "author": {"id": f"{i % 2}", "name": ("ann", "bob")[i % 2], "isBot": False}}
        for i in range(12)
    ]  # fmt: skip
    return {"chat.json": array(messages, '{"guild": {"name": "g"}, "channel": {"name": "c"}, "messages": [', "]}")}


def _slack(t: Text) -> Files:
    day = [{"type": "message", "user": f"U{i % 2}", "text": t(), "ts": f"16000000{i:02d}.0001"} for i in range(12)]
    return {"general/2020-01-01.json": array(day), "users.json": '[{"id": "U0", "name": "ann"}]'}


def _telegram_account(t: Text) -> Files:
    def chat(name: str) -> str:
        messages = [
            {"id": i, "type": "message", "date_unixtime": f"16000000{i:02d}", "from": (name, "Me")[i % 2],
             "from_id": f"user{i % 2}", "text": t()}
            for i in range(6)
        ]  # fmt: skip
        return array(messages, f'{{"name": "{name}", "type": "personal_chat", "messages": [', "]}")

    chats = ", ".join(map(chat, ("Ann", "Bob")))
    return {"result.json": f'{{"about": "x", "chats": {{"about": "y", "list": [{chats}]}}}}'}


def _wechat(t: Text) -> Files:
    rows = [f'{i},1,0,{i % 2},16000000{i:02d},,"{t()}",2020-01-01 10:{i:02d}:00,Ann,Ann,ann' for i in range(12)]
    head = "localId,Type,SubType,IsSender,CreateTime,Status,StrContent,StrTime,Remark,NickName,Sender"
    return {"chat.csv": "\n".join([head, *rows]) + "\n"}


def _wechat_session(t: Text) -> Files:
    messages = [
        {"localId": i, "type": "文本消息", "createTime": 1600000000 + i, "isSend": i % 2, "content": t(),
         "senderDisplayName": ("Ann", "Me")[i % 2]}
        for i in range(12)
    ]  # fmt: skip
    return {"chat.json": array(messages, '{"session": {"nickname": "Ann"}, "messages": [', "]}")}


def _wechat_array(t: Text) -> Files:
    messages = [{"isSelf": bool(i % 2), "senderName": ("Ann", "Me")[i % 2], "content": t(), "talker": "ann",
                 "time": f"2020-01-01T10:{i:02d}:00Z", "type": 1} for i in range(12)]  # fmt: skip
    return {"chat.json": array(messages)}


def _table(t: Text) -> Any:
    import pyarrow

    rows = [
        {"dialog": [["Ann", t()], ["Bob", t()], ["Ann", t()], ["Bob", t()]], "topic": "tea"} for _ in range(TABLE_ROWS)
    ]
    return pyarrow.Table.from_pylist(rows)


def _parquet(t: Text) -> Files:
    """As plain as the form can be, so that the marks stand in its bytes."""
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(
        _table(t), file, compression="none", use_dictionary=False, write_statistics=False, row_group_size=3
    )
    return {"data/train-00000-of-00001.parquet": file.getvalue()}


def _arrow(t: Text, stream: bool) -> Files:
    import pyarrow

    table, file = _table(t), io.BytesIO()
    make = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with make(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return {"data-00000-of-00001.arrow": file.getvalue(), "dataset_info.json": "{}"}


def _tfds(t: Text) -> Files:
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    talks = [
        {"dialog": [{"speaker": s, "text": t()} for s in ("Ann", "Bob")], "topic": "tea"} for _ in range(TABLE_ROWS)
    ]
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(said), redirect_stderr(said):
        tfds.dataset_builders.store_as_tfds_dataset(
            name="little_talks",
            version="1.0.0",
            features=tfds.features.FeaturesDict(
                {"dialog": tfds.features.Sequence({"speaker": text, "text": text}), "topic": text}
            ),
            split_datasets={"train": list(enumerate(talks))},
            data_dir=folder,
            file_format="array_record",
            disable_shuffling=True,
        )
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


CORPORA: dict[str, Callable[[Text], Files]] = {
    "cornell": _cornell,
    "convokit": _convokit,
    "twitter": _twitter,
    "reddit": _reddit,
    "stackexchange": _stackexchange,
    "oasst": _oasst,
    "whatsapp": _whatsapp,
    "telegram": _telegram,
    "telegram account": _telegram_account,
    "discord": _discord,
    "slack": _slack,
    "wechat": _wechat,
    "wechat session": _wechat_session,
    "wechat array": _wechat_array,
    "hf": lambda t: {
        "train.jsonl": lines(*({"turns": [["Ann", t()], ["Bob", t()], ["Ann", t()]], "id": i} for i in range(8)))
    },
    "hf csv": lambda t: {
        "train.csv": "id,question,answer\n" + "".join(f'{i},"{t()}","{t()}"\n' for i in range(10))
    },
    "hf parquet": _parquet,
    "hf arrow": lambda t: _arrow(t, stream=True),
    "hf arrow file": lambda t: _arrow(t, stream=False),
    "tfds": _tfds,
    "dailydialog": lambda t: {
        "dialogues_text.txt": "\n".join(f"{t()} __eou__ {t()} __eou__ {t()} __eou__" for _ in range(10))
    },
    "chatterbot": lambda t: {
        "talk.yml": "categories:\n- tea\nconversations:\n" + "".join(f"- - '{t()}'\n  - '{t()}'\n" for _ in range(8))
    },
    "chitchat": lambda t: {
        "dataset.json": "{\n"
        + ",\n".join(
            f'"c{i}": ' + json.dumps({"messages": [[{"text": t(), "sender": s}] for s in "xyx"]}) for i in range(8)
        )
        + "\n}"
    },
    "messages": lambda t: {"chat.jsonl": lines(*({"messages": _messages(t)} for _ in range(8)))},
    "messages tools": lambda t: {
        "calls.jsonl": lines(
            *({"messages": [*_messages(t, 1), {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": t()})}}]},
                {"role": "tool", "tool_call_id": "c", "content": json.dumps({"b": t()})}, *_messages(t, 2)[1:]],
               "tools": [{"type": "function", "function": {"name": "f", "description": t()}}]} for _ in range(8))
        )
    },
    "sharegpt": lambda t: {
        "sharegpt.json": array([{"id": f"i{i}", "conversations": _pairs(t, "human", "gpt")} for i in range(8)])
    },
    "alpaca": lambda t: {
        "alpaca.json": array([{"instruction": t(), "input": t() if i % 2 else "", "output": t()} for i in range(8)])
    },
    "dolly": lambda t: {
        "dolly.jsonl": lines(
            *({"instruction": t(), "context": t() if i % 2 else "", "response": t(), "category": "a"} for i in range(8))
        )
    },
    "ultrachat": lambda t: {
        "ultrachat.jsonl": lines(*({"id": f"{i}", "data": [t() for _ in range(4)]} for i in range(8)))
    },
    "preference": lambda t: {
        "pairs.jsonl": lines(
            *({"prompt": t(), "chosen": t(), "rejected": t()} for _ in range(5)),
            *({"chosen": f"\n\nHuman: {(p := t())}\n\nAssistant: {t()}",
               "rejected": f"\n\nHuman: {p}\n\nAssistant: {t()}"} for _ in range(3)),
        )
    },
    "preference arena": lambda t: {
        "arena.jsonl": lines(
            *({"prompt": t(), "response_a": t(), "response_b": t(), "model_a": "x", "model_b": "y", "winner": "model_b"}
              for _ in range(4)),
            *({"conversation_a": [{"role": "user", "content": (p := t())}, {"role": "assistant", "content": t()}],
               "conversation_b": [{"role": "user", "content": p}, {"role": "assistant", "content": t()}], "winner": "a"}
              for _ in range(4)),
        )
    },
    "preference table": lambda t: {
        "arena.csv": "id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
        + "".join(f'{i},"[""{t()}""]","[""{t()}""]","[""{t()}""]",{i % 2},{1 - i % 2},0\n' for i in range(8))
    },
    "preference votes": lambda t: {
        "votes.jsonl": lines(
            *({"prompt": (p := t()) if i % 2 == 0 else p, "completion": t(), "label": i % 2 == 0} for i in range(10))
        )
    },
    "lccc": lambda t: {"lccc.json": array([[t(), t(), t()] for _ in range(8)])},
    "belle": lambda t: {"belle.jsonl": lines(*({"instruction": t(), "input": "", "output": t()} for _ in range(8)))},
    "firefly": lambda t: {"firefly.jsonl": lines(*({"kind": "QA", "input": t(), "target": t()} for _ in range(8)))},
}  # fmt: skip
