"""Slack's export: a folder (or its .zip) with a folder a channel and a JSON array of messages a day.

A row is an element of such an array; `users.json` and the other lists beside the folders are read for names only. A
thread is a conversation of its own, whichever days its replies were written on.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from jaxchat.corpora.exports import NOTICE, Chat, Export, Said, seconds_of
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, inner_json, json_elements, whole

# The lists that stand beside the channels' folders.
_LISTS = {"users.json", "channels.json", "groups.json", "dms.json", "mpims.json", "org_users.json"}
_OTHERS = {"integration_logs.json", "canvases.json", "lists.json", "file_conversations.json", "huddle_transcripts.json"}
_WRITTEN = (None, "", "thread_broadcast", "me_message", "file_share", "reply_broadcast", "file_comment")
_MARK = re.compile(r"<([@#!]?)([^<>|]+)(?:\|([^<>]*))?>")


@dataclass(frozen=True)
class Slack(Export):
    """A workspace's channels and direct messages. Mentions and links become the names and addresses they show."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    threads: Literal["apart", "inline"] = "apart"
    """A message and the replies in its thread are a conversation of their own, or stand in the channel by time."""
    bots: Literal["drop", "keep"] = "drop"
    """What programs wrote."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        names: dict[str, str] = {}
        days = []
        for source in files:
            if source.file_name in _LISTS:
                names.update(_names(source))
            elif source.file_name not in _OTHERS:
                days.append(source)
        rows = self._rows(sorted(days, key=lambda source: source.name), ledger)
        thread_reader = dataclasses.replace(self, gap_hours=0.0)  # replies of the next day belong to a thread as well
        for (channel, thread), group in grouped(rows):
            chat = Chat("slack", channel, {"thread": thread} if thread else {})
            said = (self._message(Row(*row), reason, names) for *row, reason in group)
            yield from (thread_reader if thread else self).conversations(chat, said)

    def _rows(self, days: Sequence[Source], ledger: Ledger) -> Iterator[tuple[tuple[str, str], Any]]:
        """The rows by channel and thread, with the reason where one cannot be read."""
        for source in days:
            channel = PurePosixPath(source.member or source.path.as_posix()).parent.name
            for row in json_elements(source, ledger):
                if isinstance(row, Rejected):
                    yield (channel, ""), (row.file, row.position, row.row, row.reason)
                elif not isinstance(row.value, dict):
                    yield (channel, ""), (row.file, row.position, row.value, "not an object")
                else:
                    thread = row.value.get("thread_ts") if self.threads == "apart" else None
                    yield (channel, thread if isinstance(thread, str) else ""), (row.file, row.position, row.value, "")

    def _message(self, row: Row, reason: str, names: dict[str, str]) -> Said | Rejected:
        if reason:
            return row.reject(reason)
        value = row.value
        subtype = value.get("subtype")
        if value.get("bot_id") or subtype == "bot_message":
            if self.bots == "drop":
                return Dropped(row.file, row.position, "written by a bot", value)
        elif value.get("type", "message") != "message" or subtype not in _WRITTEN:
            return Said(row.file, row.position, value, "", "", media=NOTICE)
        if not isinstance(value.get("text", ""), str):
            return row.reject("`text` is not text")
        user = str(value.get("user") or value.get("username") or value.get("bot_id") or "somebody")
        profile = value.get("user_profile")
        shown = names.get(user) or (_shown(profile) if isinstance(profile, dict) else "") or user
        media = "file" if value.get("files") or value.get("attachments") else ""
        text = _plain(value.get("text", ""), names)
        return Said(row.file, row.position, value, shown, text, seconds_of(value.get("ts")), media)


def _names(source: Source) -> dict[str, str]:
    """Names by id, from users.json; the other lists have none, and a damaged one leaves the ids as they are."""
    text = whole(source, Ledger())
    try:
        users = inner_json(text.decode() if isinstance(text, bytes) else text)
    except ValueError:
        return {}
    found = {}
    for user in users if isinstance(users, list) else []:
        if isinstance(user, dict) and isinstance(user.get("id"), str):
            profile = user.get("profile")
            name = (_shown(profile) if isinstance(profile, dict) else "") or user.get("real_name") or user.get("name")
            if isinstance(name, str) and name.strip():
                found[user["id"]] = name
    return found


def _shown(profile: dict[str, Any]) -> str:
    names = (profile.get(key) for key in ("display_name", "real_name", "name"))
    return next((name for name in names if isinstance(name, str) and name.strip()), "")


def _plain(text: str, names: dict[str, str]) -> str:
    """Without Slack's marks: `<@U1>` is a name, `<#C1|general>` a channel, `<https://a|b>` a link; `&amp;` is &."""

    def shown(match: re.Match[str]) -> str:
        kind, target, label = match.groups()
        if kind in ("@", "#"):
            return kind + (label or names.get(target, target))
        if kind == "!":
            return "@" + (label or target).partition("^")[0].removeprefix("@")
        return f"{label} ({target})" if label and label not in target else target

    return html.unescape(_MARK.sub(shown, text))
