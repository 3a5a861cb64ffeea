"""WhatsApp's text exports ("Export chat"), as Android and iPhones write them in many languages.

    31/12/2020, 21:15 - Ann: Happy new year!          12/31/20, 9:15 PM - Ann: ...
    [31.12.20, 21:15:10] Ann: ...                     [2020/12/31 下午9:15:10] Ann: ...

A row is a message; its position is the line it begins on. A message goes on over the lines that begin with no date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Literal

from jaxchat.corpora.exports import NOTICE, Chat, Export, Said
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.rows import Source, raw_lines
from jaxchat.errors import InputError

Order = Literal["day-first", "month-first", "year-first"]

_MARKS = "\u200e\u200f\u202a\u202b\u202c\u2068\u2069\ufeff"
_HALF = r"[AaPp][ .\u202f\u00a0]*[Mm]\.?|上午|下午|午前|午後|오전|오후|ص|م|SA|CH"
_HEAD = re.compile(
    rf"[{_MARKS}]*(?P<open>\[)?(?P<date>\d{{1,4}}[./-]\s?\d{{1,2}}[./-]\s?\d{{1,4}})\.?,?،?[\s{_MARKS}]*"
    rf"(?:(?:um|à|at|kl\.?|a las|às|om|alle)\s+)?(?P<before>{_HALF})?\s*"
    rf"(?P<hour>\d{{1,2}})[:.](?P<minute>\d{{2}})(?:[:.](?P<second>\d{{2}}))?[\s{_MARKS}]*(?P<after>{_HALF})?"
    rf"(?:(?P<close>\])\s?|\s*[-–]\s)(?P<rest>.*)",
    re.DOTALL,
)
_AFTERNOON = re.compile(r"[Pp]|下午|午後|오후|م|CH")
_SPEAKER = re.compile(r"(?P<name>[^:\n]{1,100}?): ?(?P<text>.*)", re.DOTALL)
# What stands where something else than text was sent: anything in angle brackets alone, or a phrase.
_MEDIA = re.compile(
    r"<[^<>\n]{3,60}>|\S+\.\w{3,4} \([^()]+\)|null|"
    r"(?:(?:image|video|audio|sticker|GIF|document|Contact card) omitted)|"
    r"(?:Bild|Video|Audio|Sticker|Dokument|GIF) (?:weggelassen|ausgeschlossen)|"
    r"(?:imagen|video|audio|sticker|documento|GIF) omitid[oa]|(?:image|vidéo|audio|sticker|document|GIF) absente?|"
    r"(?:图片|视频|音频|语音|文件|贴图|表情)(?:已忽略|已省略)|"
    r"(?:This message was deleted|You deleted this message|Diese Nachricht wurde gelöscht|Se eliminó este mensaje|"
    r"Ce message a été supprimé|Waiting for this message.*|Missed (?:voice|video|group) .*call.*)\.?"
)
_EDITED = re.compile(rf"\s?[{_MARKS}]*<(?:This message was edited|Diese Nachricht wurde bearbeitet)>$")


@dataclass(frozen=True)
class Whatsapp(Export):
    """A chat with one person or with a group; the archive that the program makes is taken as it is."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)

    dates: Literal["auto", "day-first", "month-first", "year-first"] = "auto"
    """The order of day, month and year; auto: the one in which all dates of the file exist and time goes forward."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            order = _order(source) if self.dates == "auto" else self.dates
            yield from self.conversations(Chat("whatsapp", _chat_name(source)), _messages(source, ledger, order))


def _chat_name(source: Source) -> str:
    name = source.file_name.removesuffix(".txt")
    return "" if name in ("_chat", "chat") else name.removeprefix("whatsapp chat with ").strip()


def _messages(source: Source, ledger: Ledger, order: Order) -> Iterator[Said | Rejected]:
    position, lines = 0, list[bytes]()
    for number, line in raw_lines(source, ledger):
        if _HEAD.match(line[:200].decode(errors="replace")):
            if lines:
                yield from _message(source, ledger, position, lines, order)
            position, lines = number, [line]
        elif lines:
            lines.append(line)
        elif line.strip():
            ledger.read(source.name, number)
            text = line.decode(errors="surrogateescape").rstrip("\r\n")
            yield Rejected(source.name, number, "no date at its beginning, and no message before it", text)
    if lines:
        yield from _message(source, ledger, position, lines, order)


def _message(
    source: Source, ledger: Ledger, position: int, lines: list[bytes], order: Order
) -> Iterator[Said | Rejected]:
    ledger.read(source.name, position)
    whole = b"".join(lines)
    if len(lines) > 5000:
        yield Rejected(source.name, position, "more than 5,000 lines without a date", whole.decode(errors="replace"))
        return
    try:
        row = whole.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        text = whole.decode(errors="surrogateescape")
        yield Rejected(source.name, position, f"not UTF-8 at byte {error.start}", text)
        return
    head = _HEAD.match(row)
    seconds = _seconds(head, order) if head else None
    if head is None or seconds is None:
        yield Rejected(source.name, position, "a date or time that does not exist", row)
        return
    said = _SPEAKER.fullmatch(head["rest"])
    if said is None or _quotes(said["name"]):
        yield Said(source.name, position, row, "", "", seconds, NOTICE)
        return
    speaker = said["name"].strip(_MARKS + " \u202f\u00a0~")
    text = _EDITED.sub("", said["text"])
    bare = text.strip(_MARKS + " \n\r")
    # The program's own words begin with an invisible mark on iPhones.
    if _MEDIA.fullmatch(bare) or (text.startswith("\u200e") and head["open"]):
        yield Said(source.name, position, row, speaker, "", seconds, bare.strip("<>") or "nothing")
    else:
        yield Said(source.name, position, row, speaker, text, seconds)


def _quotes(name: str) -> bool:
    """Names are not quoted; notices quote ("Ann changed the subject to "Trip: Rome"")."""
    return any(mark in name for mark in '"“”«»')


def _order(source: Source) -> Order:
    """The order in which every date exists; where several do, the one in which time goes back least often, and of
    equals day first, or month first beside a clock of twelve hours and slashes."""
    wrong: dict[Order, int] = {"day-first": 0, "month-first": 0, "year-first": 0}
    back: dict[Order, int] = {"day-first": 0, "month-first": 0, "year-first": 0}
    last: dict[Order, float] = {}
    american = found = 0
    for _, line in raw_lines(source, Ledger()):
        head = _HEAD.match(line[:200].decode(errors="replace"))
        if head is None:
            continue
        found += 1
        american += bool(head["after"] and "/" in head["date"])
        for order in wrong:
            seconds = _seconds(head, order)
            if seconds is None:
                wrong[order] += 1
            else:
                back[order] += seconds < last.get(order, seconds)
                last[order] = seconds
    if not found:
        raise InputError(f"{source.path}: no line begins with a date as WhatsApp writes it; is it this format?")
    usual: Order = "month-first" if american * 2 > found else "day-first"
    return min(wrong, key=lambda order: (wrong[order], back[order], order != usual))


def _seconds(head: re.Match[str], order: Order) -> float | None:
    parts = [part.strip() for part in re.split(r"[./-]", head["date"])]
    year_first = len(parts[0]) == 4
    if year_first != (order == "year-first") and (year_first or len(parts[2]) == 4):
        order = "year-first" if year_first else "day-first" if order == "year-first" else order
    match order:
        case "year-first":
            year, month, day = parts
        case "month-first":
            month, day, year = parts
        case _:
            day, month, year = parts
    hour = int(head["hour"])
    if half := head["before"] or head["after"]:
        if hour > 12:
            half = ""
        elif _AFTERNOON.search(half):
            hour = hour % 12 + 12
        else:
            hour %= 12
    try:
        years = int(year) + (2000 if len(year) <= 2 else 0)
        moment = datetime(years, int(month), int(day), hour, int(head["minute"]), int(head["second"] or 0), tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp()
