"""The `<row attribute="..."/>` elements of big XML files, one at a time; a broken one costs itself alone.

Document type declarations are refused wherever they stand: with them a small file can name other files or grow without
bound. Each row is then parsed by expat alone, so that an entity nobody declared is an error of that row.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO
from xml.parsers import expat

from jaxchat.corpora import rows as rows_module
from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.corpora.rows import LONGEST, Row, Source, _opened, _read, _refuse_utf16
from jaxchat.errors import InputError

_ROW = re.compile(r"""<row\b(?>[^<>"'/]++|/(?!>)|"[^"<]*+"|'[^'<]*+')*+(?:/>|>\s*+</row\s*+>)""")
_ROW_BEGINS = re.compile(r"<row\b")
_ASIDE = re.compile(
    r"""\s++|<\?xml(?:\s+(?:version|encoding|standalone)\s*=\s*(?:"[\w.:-]*"|'[\w.:-]*'))*\s*\?>|<!--.*?-->""",
    re.DOTALL,
)
_HOLDER = re.compile(r"<(?!row\b)[A-Za-z][\w-]*+(?:\s+xmlns[^<>]*+)?\s*>")
_NEXT = re.compile(r"<row\b|</|<!")
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_KNOWN = {"utf8": "utf-8", "ascii": "utf-8", "usascii": "utf-8", "iso88591": "iso-8859-1", "latin1": "iso-8859-1",
          "windows1252": "windows-1252", "cp1252": "windows-1252"}  # fmt: skip


def xml_rows(source: Source, ledger: Ledger) -> Iterator[Row | Rejected]:
    """The rows' attributes; the position counts rows, and pieces of anything else that stands between them.

    `Row.key` is the name of the element that holds the rows. InputError for what is no XML at all, for a document type
    declaration and for an encoding other than UTF-8, ISO-8859-1 and Windows-1252.
    """
    with _opened(source, ledger) as file:
        window = _Window(source, file)
        position, holder = 0, None
        while window.more():
            if window.match(_ASIDE):
                continue
            if edge := window.match(_HOLDER if holder is None else re.compile(f"</{holder}>")):
                holder = holder or edge[1:-1].split()[0]
                continue
            window.refuse_declarations()
            position += 1
            ledger.read(source.name, position)
            raw = window.match(_ROW)
            if raw is None:
                broken = window.up_to_next()
                reason = "not XML: a row that is not closed" if _ROW_BEGINS.match(broken) else "not a row"
                yield Rejected(source.name, position, reason, broken.rstrip())
                continue
            row = _attributes(raw)
            if isinstance(row, str):
                yield Rejected(source.name, position, row, raw)
            else:
                yield Row(source.name, position, row, holder)


def _attributes(raw: str) -> dict[str, str] | str:
    """The attributes of an element, or why there are none."""
    found: list[dict[str, str]] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda name, attributes: found.append(attributes)
    try:
        parser.Parse(raw.encode(), True)
    except UnicodeEncodeError as error:
        return f"a byte that is not of the file's encoding, after {raw[max(0, error.start - 20) : error.start]!r}"
    except expat.ExpatError as error:
        return f"not XML: {expat.ErrorString(error.code)}"
    return found[0]


class _Window:
    """Decoded text over a file that may be far larger than memory."""

    def __init__(self, source: Source, file: IO[bytes]):
        self.source, self.file = source, file
        first = _read(source, lambda: file.read(max(rows_module.CHUNK, 200)))  # with the declaration of its encoding
        _refuse_utf16(source, first)
        first = first.removeprefix(codecs.BOM_UTF8)
        if first.strip() and not first.lstrip().startswith(b"<"):
            raise InputError(f"{source.path}: is not XML; is it this format?")
        declared = _ENCODING.match(first)
        name = declared.group(1).decode() if declared else "utf-8"
        known = _KNOWN.get(re.sub(r"[-_]", "", name.lower()))
        if known is None:
            raise InputError(f"{source.path}: says that it is encoded as {name}; convert it to UTF-8 (iconv)")
        self.decoder = codecs.getincrementaldecoder(known)("surrogateescape")
        self.text, self.at, self.ended = self.decoder.decode(first), 0, False

    def more(self) -> bool:
        while self.at >= len(self.text):
            if not self._fill():
                return False
        return True

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """What matches here, passed over; reads on while what begins here may not have ended."""
        while True:
            found = pattern.match(self.text, self.at)
            if found and (found.end() < len(self.text) or self.ended):
                self.at = found.end()
                return found.group()
            # Whatever does not match is settled once another row, or the end, is in sight.
            if not found and _NEXT.search(self.text, self.at + 1):
                return None
            if not self._fill():
                if found:
                    self.at = found.end()
                return found.group() if found else None

    def refuse_declarations(self) -> None:
        if self.text.startswith("<!", self.at) and not self.text.startswith("<!--", self.at):
            raise InputError(
                f"{self.source.path}: holds a document type declaration ({self.text[self.at : self.at + 40]!r}), which "
                "is refused because it can name other files and grow without bound; take it out"
            )

    def up_to_next(self) -> str:
        """What stands here up to the next row or end, passed over."""
        found = _NEXT.search(self.text, self.at + 1)
        end = found.start() if found else len(self.text)
        broken, self.at = self.text[self.at : end], end
        return broken

    def _fill(self) -> bool:
        if self.ended:
            return False
        self.text, self.at = self.text[self.at :], 0
        if len(self.text) > LONGEST:
            raise InputError(
                f"{self.source.path}: a row longer than {LONGEST >> 20} MB, or one that is not closed; it begins "
                f"{self.text[:60]!r}"
            )
        chunk = _read(self.source, lambda: self.file.read(max(rows_module.CHUNK, len(self.text))))
        self.ended = not chunk
        added = self.decoder.decode(chunk, final=self.ended)
        self.text += added
        return bool(added) or not self.ended
