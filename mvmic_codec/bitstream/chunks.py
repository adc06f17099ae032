"""Chunks: length, type, payload and checksum, one after the other in a file.

formats/mvm-3.md is the specification. This module knows bytes and nothing of what is in them.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO

from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

_START = struct.Struct("<I4s")
_CRC = struct.Struct("<I")
# Bytes of a chunk before its payload, and all that it has besides it.
START_BYTES = _START.size
OVERHEAD = _START.size + _CRC.size
_LARGEST = 2**32 - 1
# A length in a file may be a lie. Bytes are read in pieces of this size, so memory follows what the
# file really holds.
_PIECE = 1 << 20


def pack(kind: bytes, payload: bytes) -> bytes:
    """The bytes of a chunk. Raises InputError for a payload that is too long."""
    if len(payload) > _LARGEST:
        raise InputError(f"{named(kind)} holds at most {_LARGEST} bytes")
    crc = zlib.crc32(payload, zlib.crc32(kind))
    return b"".join((_START.pack(len(payload), kind), payload, _CRC.pack(crc)))


def read_start(file: IO[bytes]) -> tuple[bytes, int]:
    """The type of the next chunk and the length of its payload. Raises FormatError."""
    length, kind = _START.unpack(read_exactly(file, _START.size, "list of chunks"))
    if not (kind.isalpha() and kind.isascii()):
        raise FormatError(f"{kind!r} is no chunk type; the file is damaged")
    return kind, length


def pack_start(kind: bytes, length: int) -> bytes:
    """The bytes of a chunk before its payload."""
    return _START.pack(length, kind)


def read_payload(file: IO[bytes], kind: bytes, length: int) -> bytes:
    """The payload of a chunk whose start was read. Raises TruncatedError or ChecksumError."""
    payload = read_exactly(file, length, f"{name(kind)} chunk")
    (crc,) = _CRC.unpack(read_exactly(file, _CRC.size, f"{name(kind)} chunk"))
    if crc != zlib.crc32(payload, zlib.crc32(kind)):
        raise ChecksumError(f"the {name(kind)} chunk's checksum is wrong; the file is damaged")
    return payload


def read_exactly(file: IO[bytes], count: int, what: str) -> bytes:
    """Exactly `count` bytes, or TruncatedError. Never asks for more than one piece at a time."""
    pieces = []
    while count:
        piece = file.read(min(count, _PIECE))
        if not piece:
            raise TruncatedError(f"the file ends within its {what}; it is incomplete, get it again")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def named(kind: bytes) -> str:
    """A chunk of a type for people, with its article."""
    # "xmPP" is read letter by letter.
    return f"{'an' if kind[:1].lower() in b'aeiox' else 'a'} {name(kind)} chunk"


def name(kind: bytes) -> str:
    """A chunk type for people."""
    return kind.decode("ascii")
