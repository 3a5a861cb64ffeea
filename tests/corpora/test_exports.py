"""A person's own chats: who speaks, when a conversation begins, and what is no message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaxchat.corpora.exports import seconds_of
from jaxchat.errors import InputError

U, A = "user", "assistant"

ANDROID = """\
31/12/2020, 21:15 - Messages and calls are end-to-end encrypted. No one outside of this chat can read them.
31/12/2020, 21:15 - Ann: Happy new year!
31/12/2020, 21:16 - Bob: You too
What will you do?

I cook
31/12/2020, 21:17 - Bob: <Media omitted>
31/12/2020, 21:18 - Ann: This message was deleted
31/12/2020, 21:20 - Ann changed the subject to "Trip: Rome"
31/12/2020, 21:21 - Ann: Re: cooking
01/01/2021, 15:00 - Bob: Awake?
01/01/2021, 15:01 - Ann: No
"""


def test_whatsapp_whole(import_files):
    made = import_files("whatsapp", {"WhatsApp Chat with Bob.txt": ANDROID})
    assert made.turns == [
        [(U, "Happy new year!"), (A, "You too\nWhat will you do?\n\nI cook"), (U, "Re: cooking")],
        [(A, "Awake?"), (U, "No")],
    ]
    first = made.conversations[0]
    assert first.meta["chat"] == "bob" and first.meta["begins"] == "2020-12-31T21:15:00"
    assert first.meta["rows"] == {"WhatsApp Chat with Bob.txt": [2, 3, 10]}
    assert made.counts == (5, 0, 4)
    assert [row["reason"].partition(",")[0] for row in made.dropped] == [
        "a notice of the program",
        "no text: Media omitted",
        "no text: This message was deleted",
        "a notice of the program",
    ]


@pytest.mark.parametrize(
    ("line", "next_line", "begins"),
    [
        ("12/31/20, 9:15 PM - Ann: a", "12/31/20, 9:16 PM - Bob: b", "2020-12-31T21:15:00"),
        ("3/4/21, 12:05\u202fAM - Ann: a", "3/4/21, 12:06\u202fAM - Bob: b", "2021-03-04T00:05:00"),
        ("\u200e[31.12.20, 21:15:10] Ann: a", "[31.12.20, 21:15:12] Bob: b", "2020-12-31T21:15:10"),
        ("[2020/12/31 下午9:15:10] Ann: a", "[2020/12/31 下午9:15:12] Bob: b", "2020-12-31T21:15:10"),
        ("2020-12-31, 21:15 - Ann: a", "2020-12-31, 21:16 - Bob: b", "2020-12-31T21:15:00"),
        ("31.12.20 um 21:15 - Ann: a", "31.12.20 um 21:16 - Bob: b", "2020-12-31T21:15:00"),
        ("31/12/2020 à 21:15 - Ann: a", "31/12/2020 à 21:16 - Bob: b", "2020-12-31T21:15:00"),
        ("31/12/20 9:15 p. m. - Ann: a", "31/12/20 9:16 p. m. - Bob: b", "2020-12-31T21:15:00"),
        ("04/03/2021, 12:05 - Ann: a", "04/03/2021, 12:06 - Bob: b", "2021-03-04T12:05:00"),
        ("03/12/2021, 12:05 - Ann: a", "03/13/2021, 12:06 - Bob: b", "2021-03-12T12:05:00"),
    ],
)
def test_whatsapp_dates(import_files, line: str, next_line: str, begins: str):
    made = import_files("whatsapp", {"_chat.txt": f"{line}\r\n{next_line}\r\n"}, gap_hours=0)
    assert made.turns == [[(U, "a"), (A, "b")]]
    assert made.conversations[0].meta["begins"] == begins


def test_whatsapp_what_cannot_be_read(import_files):
    chat = b"no date\n1/1/20, 10:00 - Ann: hi\n1/1/20, 10:01 - Bob: caf\xe9\n99/99/20, 10:01 - Bob: when\n"
    made = import_files("whatsapp", {"c.txt": chat + b"1/1/20, 10:02 - Bob: hello\n"})
    assert made.turns == [[(U, "hi"), (A, "hello")]]
    assert [(row["position"], row["reason"].partition(",")[0]) for row in made.rejected] == [
        (1, "no date at its beginning"),
        (3, "not UTF-8 at byte 24"),
        (4, "a date or time that does not exist"),
    ]
    with pytest.raises(InputError, match="no line begins with a date"):
        import_files("whatsapp", {"c.txt": "hello\nworld\n"})


def test_whatsapp_a_group_and_its_names(import_files):
    chat = "".join(f"1/1/20, 10:0{i} - {who}: {who[0]}{i}\n" for i, who in enumerate(["Ann", "Bob", "Cy", "~ Ann"]))
    made = import_files("whatsapp", {"c.txt": chat}, names="prefix", assistant="cy")
    assert made.turns == [[(U, "Ann: A0\nBob: B1"), (A, "C2"), (U, "Ann: ~3")]]
    assert import_files("whatsapp", {"c.txt": chat}, assistant="alternate", consecutive="keep").turns == [
        [(U, "A0"), (A, "B1"), (U, "C2"), (A, "~3")]
    ]
    nobody = import_files(
        "whatsapp", {"c.txt": chat + "1/1/21, 10:00 - Dee: x\n1/1/21, 10:00 - Cy: y\n"}, assistant="dee"
    )
    assert nobody.turns == [[(A, "x"), (U, "y")]]
    assert {row["reason"] for row in nobody.dropped} == {"fewer than 2 turns"}


def telegram(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"name": "Bob", "type": "personal_chat", "id": 7, **more, "messages": list(messages)}


def said(who: str, text: Any, minute: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "type": "message",
        "date_unixtime": str(1609459200 + 60 * minute),
        "from": who,
        "text": text,
        **more,
    }


TELEGRAM = [
    {"id": 0, "type": "service", "actor": "Ann", "action": "create_group", "text": ""},
    said("Ann", "Hi"),
    said("Ann", ["see ", {"type": "link", "text": "https://a.b"}, "!"], 1),
    said("Bob", "", 2, media_type="voice_message"),
    said("Bob", "A photo", 3, photo="photos/1.jpg"),
    said("Bob", {"type": "bold"}, 4),
    said("Ann", "later", 600),
    said("Bob", "yes", 601),
    "odd",
]


def test_telegram_one_chat(import_files):
    made = import_files("telegram", {"result.json": telegram(*TELEGRAM)})
    assert made.turns == [[(U, "Hi\nsee https://a.b!"), (A, "A photo")], [(U, "later"), (A, "yes")]]
    assert made.conversations[0].meta["chat"] == "Bob" and made.conversations[0].meta["type"] == "personal_chat"
    assert made.conversations[0].meta["rows"] == {"result.json": [2, 3, 5]}
    assert [row["position"] for row in made.dropped] == [1, 4] and [r["position"] for r in made.rejected] == [6, 9]
    marked = import_files("telegram", {"result.json": telegram(*TELEGRAM)}, media="mark")
    assert marked.turns[0][1] == (A, "[voice message]\nA photo")


def test_telegram_account_and_a_file_cut_short(import_files):
    chats = [telegram(said("A", "1"), said("B", "2")), telegram(name=None), telegram(said("C", "3"), said("A", "4"))]
    account = {"about": "x", "personal_information": {"a": [1]}, "chats": {"about": "y", "list": chats}, "z": 1}
    made = import_files("telegram", {"result.json": account})
    assert made.turns == [[(U, "1"), (A, "2")], [(U, "3"), (A, "4")]] and made.stats["rows_in"] == 4
    misspelt = json.dumps(account).replace('"messages"', '"massages"', 1)
    made = import_files("telegram", {"result.json": misspelt})
    assert made.counts == (2, 1, 0) and made.rejected[0]["row"][0]["text"] == "1"
    text = json.dumps(account)
    made = import_files("telegram", {"result.json": text[: text.index('"4"')]})
    assert made.turns == [[(U, "1"), (A, "2")]]
    assert made.counts == (2, 1, 1) and "the file ends inside it" in made.rejected[0]["reason"]


def discord(content: str, who: str, minute: int, **more: Any) -> dict[str, Any]:
    author = {"id": who, "name": who.lower(), "nickname": who, "isBot": more.pop("bot", False)}
    time = f"2021-01-01T10:{minute:02d}:00.123+00:00"
    return {"id": str(minute), "type": "Default", "timestamp": time, "content": content, "author": author, **more}


def test_discord_channels(import_files):
    messages = [
        discord("hello", "Ann", 0),
        discord("hi", "Bob", 1, type="Reply"),
        discord("beep", "Bot", 2, bot=True),
        discord("", "Bob", 3, attachments=[{"url": "x"}]),
        discord("Joined", "Cy", 4, type="GuildMemberJoin"),
        discord("", "Bob", 5),
        {"content": "no author"},
    ]
    channel = {"guild": {"name": "G"}, "channel": {"name": "general"}, "messages": messages, "messageCount": 7}
    made = import_files("discord", {"general.json": channel})
    assert made.turns == [[(U, "hello"), (A, "hi")]]
    assert made.conversations[0].meta["guild"] == "G" and made.conversations[0].meta["chat"] == "general"
    assert [row["reason"] for row in made.dropped] == [
        "written by a bot",
        "no text: attachment",
        "a notice of the program, no message",
    ]
    assert [(row["position"], row["reason"]) for row in made.rejected] == [(6, "no text"), (7, "no `author`")]
    assert import_files("discord", {"g.json": channel}, bots="keep").turns[0][2] == (U, "beep")


def slack(text: str, user: str, ts: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "user": user, "text": text, "ts": ts, **more}


def test_slack_threads_over_days_and_names(import_files):
    files = {
        "users.json": [
            {"id": "U1", "profile": {"display_name": "", "real_name": "Ann A"}},
            {"id": "U2", "name": "bob"},
        ],
        "channels.json": [{"id": "C1", "name": "general"}],
        "general/2021-01-01.json": [
            {
                "type": "message",
                "subtype": "channel_join",
                "user": "U1",
                "text": "<@U1> has joined",
                "ts": "1609459200.1",
            },
            slack("Lunch, <@U2>? &lt;3", "U1", "1609459201.1", thread_ts="1609459201.1"),
            slack("see <https://a.b|our page>", "U2", "1609459202.1"),
            slack("<!here> thanks <#C1|general>", "U1", "1609459203.1"),
            slack("", "U2", "1609459204.1", files=[{}]),
        ],
        "general/2021-01-03.json": [slack("Yes", "U2", "1609632000.1", thread_ts="1609459201.1"), 3],
        "random/2021-01-01.json": [slack("alone", "U2", "1609459201.1")],
    }
    made = import_files("slack", files)
    assert made.turns == [
        [(U, "see our page (https://a.b)"), (A, "@here thanks #general")],
        [(U, "Lunch, @bob? <3"), (A, "Yes")],
    ]
    assert made.conversations[1].meta["chat"] == "general"
    assert made.counts == (4, 1, 3) and made.stats["rows_in"] == 8
    assert import_files("slack", files, threads="inline", gap_hours=0).turns == [
        [
            (U, "Lunch, @bob? <3"),
            (A, "see our page (https://a.b)"),
            (U, "@here thanks #general"),
            (A, "Yes"),
        ]
    ]


MEMOTRACE = """\
localId,TalkerId,Type,SubType,IsSender,CreateTime,Status,StrContent,StrTime,Remark,NickName,Sender
1,3,1,0,0,1609459200,,"在吗？
有事",2021-01-01 08:00:00,小明,ming,wxid_1
2,3,1,0,1,1609459260,,在,2021-01-01 08:01:00,小明,ming,wxid_me
3,4,1,0,0,1609459270,,另一个人,2021-01-01 08:01:10,小红,hong,wxid_2
4,3,3,0,1,1609459280,,<msg/>,2021-01-01 08:01:20,小明,ming,wxid_me
5,3,10000,0,0,1609459290,,撤回了一条消息,2021-01-01 08:01:30,小明,ming,wxid_1
6,3,1,0
7,4,1,0,1,1609459300,,你好,2021-01-01 08:01:40,小红,hong,wxid_me
"""


def test_wechat_the_owner_is_the_assistant(import_files):
    made = import_files("wechat", {"messages.csv": MEMOTRACE})
    assert made.turns == [[(U, "在吗？\n有事"), (A, "在")], [(U, "另一个人"), (A, "你好")]]
    assert made.counts == (4, 1, 2)
    assert [row["position"] for row in made.rejected] == [8]
    named = import_files("wechat", {"messages.csv": MEMOTRACE}, assistant="wxid_1")
    assert named.turns == [[(A, "在吗？\n有事"), (U, "在")]]


@pytest.mark.parametrize("indent", [None, 2])
def test_wechat_json_forms(import_files, indent):
    chatlog = [
        {
            "time": "2021-01-01T08:00:00+08:00",
            "sender": "w1",
            "senderName": "M",
            "isSelf": False,
            "type": 1,
            "content": "a",
        },
        {
            "time": "2021-01-01T08:01:00+08:00",
            "sender": "me",
            "senderName": "I",
            "isSelf": True,
            "type": 1,
            "content": "b",
        },
    ]
    dump = [
        {"id": 1, "type_name": "文本", "is_sender": 0, "talker": "w1", "msg": "a", "CreateTime": "2021-01-01 08:00:00"},
        {"id": 2, "type_name": "图片", "is_sender": 1, "talker": "w1", "msg": "", "CreateTime": "2021-01-01 08:00:30"},
        {"id": 3, "type_name": "文本", "is_sender": 1, "talker": "w1", "msg": "b", "CreateTime": "2021-01-01 08:01:00"},
    ]
    flow = {
        "session": {"wxid": "w1", "displayName": "M"},
        "messages": [
            {"localId": 1, "createTime": 1609459200, "type": "文本消息", "localType": 1, "content": "a", "isSend": 0},
            {"localId": 2, "createTime": 1609459260, "type": "文本消息", "localType": 1, "content": "b", "isSend": 1},
        ],
    }
    for form in (chatlog, dump, flow):
        made = import_files("wechat", {"m.json": json.dumps(form, ensure_ascii=False, indent=indent)})
        assert made.turns == [[(U, "a"), (A, "b")]]
    assert made.conversations[0].meta["chat"] == "M" and made.conversations[0].meta["begins"] == "2021-01-01T00:00:00"
    no_flag = "时间,发送者,内容\n2021-01-01 08:00:00,甲,a\n2021-01-01 08:01:00,乙,b\n"
    assert import_files("wechat", {"m.csv": no_flag}, assistant="second").turns == [[(U, "a"), (A, "b")]]


def test_long_chats_are_cut_by_count(import_files):
    chat = "".join(f"1/1/20, 10:00 - {'AB'[i % 2]}: {i}\n" for i in range(10))
    made = import_files("whatsapp", {"c.txt": chat}, max_messages=4)
    assert [len(turns) for turns in made.turns] == [4, 4, 2]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1609459200, 1609459200.0),
        ("1609459200000", 1609459200.0),
        ("2021-01-01 00:00:00", 1609459200.0),
        ("2021/1/1 00:00:00", 1609459200.0),
        ("2021-01-01T01:00:00+01:00", 1609459200.0),
        ("yesterday", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        ("1e400", None),
    ],
)
def test_times(value: Any, seconds: float | None):
    assert seconds_of(value) == seconds
