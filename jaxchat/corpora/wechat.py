"""WeChat, as the common exporters write it: a CSV or JSON file of messages.

MemoTrace's CSV (`Type, IsSender, CreateTime, StrContent, Remark ...`), PyWxDump's CSV and JSON (`type_name, is_sender,
talker, msg, CreateTime`), chatlog's JSON (`isSelf, senderName, content, time`), the JSON of exporters that put the
messages under `messages` beside a `session`, and tables with Chinese headings (时间, 发送者, 内容, 类型). A row is a
message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxchat.corpora.csv_rows import csv_records
from jaxchat.corpora.exports import NOTICE, Chat, Export, Said, seconds_of
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.records import json_form, json_records, json_tree
from jaxchat.corpora.rows import Row, Source, first_byte

_TEXT = ("StrContent", "content", "msg", "message", "内容", "消息内容", "消息")
_MINE = ("IsSender", "is_sender", "isSend", "isSelf", "is_self", "isSender", "是否发送")
_SPEAKER = ("senderDisplayName", "senderName", "Sender", "sender", "发送者", "发送人", "昵称", "senderUsername")
_PARTNER = ("Remark", "NickName", "talkerName", "talker", "备注")
_TIME = ("CreateTime", "createTime", "create_time", "StrTime", "time", "formattedTime", "时间", "timestamp")
_TYPE = ("Type", "localType", "type_name", "type", "类型", "消息类型")
_CHAT = ("TalkerId", "talker", "room_name", "StrTalker", "会话", "chat")
# Of the messages' types, those that are text, and what the others are.
_TEXTS = {"1", "文本", "文本消息", "text", "text message", "引用消息", "引用回复", "带有引用的文本消息"}
_KINDS = {"3": "photo", "34": "voice", "43": "video", "47": "sticker", "48": "location", "49": "card", "50": "call"}
_NOTICES = {"10000", "10002", "系统消息", "系统通知", "system", "撤回消息", "拍一拍"}


@dataclass(frozen=True)
class Wechat(Export):
    """Chats of the account's owner, who becomes the assistant; where the exporter does not say which messages are the
    owner's, name somebody else."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".json", ".jsonl")

    assistant: str = "me"
    """Who becomes the assistant: me (the account's owner), the first or second person to speak, a person by name, or
    alternate (whoever answers). All others are the user."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for (_, name), group in grouped(self._rows(files, ledger)):
            yield from self.conversations(Chat("wechat", name), (_message(Row(*row), reason) for *row, reason in group))

    def _rows(self, files: Sequence[Source], ledger: Ledger) -> Iterator[tuple[tuple[str, str], Any]]:
        """The rows by chat, of which one file may hold many, with the reason where one cannot be read."""
        for source in files:
            session = ""
            for path, row in _records(source, ledger):
                if isinstance(row, Rejected):
                    yield (source.name, session), (row.file, row.position, row.row, row.reason)
                elif row is not None and not row.position:
                    if path == ("session",) and isinstance(row.value, dict):
                        session = str(_first(row.value, ("displayName", "nickname", "remark", "wxid")) or "")
                elif row is not None and not isinstance(row.value, dict):
                    yield (source.name, session), (row.file, row.position, row.value, "not an object")
                elif row is not None:
                    name = session or str(_first(row.value, _CHAT) or "")
                    yield (source.name, name), (row.file, row.position, row.value, "")


def _records(source: Source, ledger: Ledger) -> Iterator[tuple[Any, Row | Rejected | None]]:
    if source.file_name.endswith(".csv") or first_byte(source) not in (b"{", b"["):
        yield from (((), row) for row in csv_records(source, ledger, ()))
    elif json_form(source) in ("lines", "object") and not _under_messages(source):
        yield from (((), row) for row in json_records(source, ledger))
    else:
        yield from json_tree(source, ledger, [(), ("messages",), ("data", "messages"), ("items",)])


def _under_messages(source: Source) -> bool:
    """Whether the whole file is one object on one line, with the messages inside."""
    for path, _ in json_tree(source, Ledger(), [("messages",), ("data", "messages"), ("items",)]):
        if path and path[-1] in ("messages", "items"):
            return True
    return False


def _message(row: Row, reason: str) -> Said | Rejected:
    if reason:
        return row.reject(reason)
    value = row.value
    kind = str(_first(value, _TYPE) if _first(value, _TYPE) is not None else "1").strip()
    if kind.lower() in _NOTICES:
        return Said(row.file, row.position, value, "", "", media=NOTICE)
    text = _first(value, _TEXT)
    if text is not None and not isinstance(text, str):
        return row.reject("its content is not text")
    mine = _flag(_first(value, _MINE))
    if text is None and not any(key in value for key in _TEXT):
        return row.reject(f"no content; its keys are {', '.join(map(str, value))}")
    speaker = _first(value, _SPEAKER) or ("me" if mine else _first(value, _PARTNER)) or "somebody"
    seconds = next((s for s in (seconds_of(value.get(key)) for key in _TIME) if s is not None), None)
    is_text = kind.lower() in _TEXTS
    media = "" if is_text else _KINDS.get(kind, kind)
    return Said(row.file, row.position, value, str(speaker), (text or "") if is_text else "", seconds, media, mine)


def _first(value: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((value[key] for key in keys if value.get(key) not in (None, "")), None)


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool) or value is None:
        return value
    text = str(value).strip().lower()
    return True if text in ("1", "true", "是", "1.0") else False if text in ("0", "false", "否", "0.0") else None
