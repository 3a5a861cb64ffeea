"""What a SentencePiece .model file says beside what its processor does: piece types, normalisation, kind of model.

The file is a protocol buffer message (sentencepiece_model.proto). The few fields needed are read from its wire format
here, since the module that SentencePiece ships for it asks for a newer protobuf than TensorFlow allows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxchat.errors import InputError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """`charsmap` is the compiled normalisation, empty for none."""

    pieces: tuple[Piece, ...]
    kind: int
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    @staticmethod
    def parse(data: bytes, path: Path) -> SentencePieceModel:
        """Raises InputError when `data`, read from `path`, is no SentencePiece model."""
        pieces: list[Piece] = []
        trainer: dict[int, Any] = {}
        normalizer: dict[int, Any] = {}
        try:
            for number, value in _fields(data):
                if number == 1:
                    fields = dict(_fields(value))
                    pieces.append(Piece(fields[1].decode(), fields.get(2, 0.0), fields.get(3, NORMAL)))
                elif number == 2:
                    trainer.update(_fields(value))
                elif number == 3:
                    normalizer.update(_fields(value))
        except (KeyError, ValueError, IndexError, AttributeError, TypeError, struct.error):
            raise InputError(f"{path} is not a readable SentencePiece model; download or train it again") from None
        return SentencePieceModel(
            pieces=tuple(pieces),
            kind=trainer.get(3, UNIGRAM),
            byte_fallback=bool(trainer.get(35, 0)),
            charsmap=normalizer.get(2, b""),
            add_dummy_prefix=bool(normalizer.get(3, 1)),
            remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        )


def without_dummy_prefix(data: bytes) -> bytes:
    """The same model, adding no space before a text: a later field of a message overrules an earlier one."""
    normalizer_spec, add_dummy_prefix = 3, 3
    return data + bytes([normalizer_spec << 3 | 2, 2, add_dummy_prefix << 3, 0])


def with_pieces(data: bytes, change: Callable[[Piece], Piece]) -> bytes:
    """The same model with `change` made to every piece; ids stay."""
    out, start = bytearray(), 0
    for number, value, end in _spans(data):
        if number == 1:
            fields = dict(_fields(value))
            piece = change(Piece(fields[1].decode(), fields.get(2, 0.0), fields.get(3, NORMAL)))
            text = piece.text.encode()
            body = b"\x0a" + _as_varint(len(text)) + text + struct.pack("<Bf", 0x15, piece.score) + b"\x18"
            body += _as_varint(piece.kind)
            out += b"\x0a" + _as_varint(len(body)) + body
        else:
            out += data[start:end]
        start = end
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of each field: int for varints, float for 32-bit, bytes for the rest."""
    for number, value, _ in _spans(data):
        yield number, value


def _spans(data: bytes) -> Iterator[tuple[int, Any, int]]:
    """(field number, value, where the field ends)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 5:
            (value,) = struct.unpack_from("<f", data, at)
            at += 4
        elif wire == 1:
            value, at = data[at : at + 8], at + 8
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(data):
            raise IndexError
        yield number, value, at


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
