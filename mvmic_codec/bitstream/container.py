"""The `.mvm` container, version 2: magic, HEAD, metadata chunks, FLAT, DATA.

formats/mvm-2.md is the specification. This module uses its field names in its order. It knows
bytes and nothing else: no samples, no latents, no torch, no numpy.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError, VersionError
from mvmic_codec.rate import RATES

# A byte with its high bit set, the name, CR LF, ^Z, LF. A transfer that treats the file as text
# damages these bytes, so a reader can tell the user what happened.
MAGIC = b"\x89MVM\r\n\x1a\n"
VERSION = 2

HEAD = b"HEAD"
FLAT = b"FLAT"
DATA = b"DATA"
EXIF = b"exIF"
ICC = b"icCP"
XMP = b"xmPP"
DPI = b"dpIX"
TEXT = b"teXT"
METADATA = (EXIF, ICC, XMP, DPI, TEXT)

MIN_IS_BLACK = 0
MIN_IS_WHITE = 1
RGB = 2
GRAY_RGB = 3

_CHUNK = struct.Struct("<I4s")
_CRC = struct.Struct("<I")
# Bytes of a chunk besides its payload.
CHUNK_OVERHEAD = _CHUNK.size + _CRC.size
# version, rate_index, kind, generation, fingerprint; width - 1 and height - 1 follow as varints
_HEAD = struct.Struct("<BBBB8s")
# lo, hi
_RANGE = struct.Struct("<ii")
# Flags of `kind`. The bits below them hold photometric, the bits above them bits - 1.
_SIGNED = 0x04
_RANGED = 0x08

# A later version may lengthen HEAD up to here: a reader of today can still say which version it is.
_LONGEST_HEAD = 255
# Pillow's own bound: its image sizes are C ints.
_LARGEST_SIDE = 2**31 - 1
# Bytes that the largest side needs, at 7 bits each.
_LONGEST_VARINT = 5
_LARGEST_CHUNK = 2**32 - 1
# A length in a file may be a lie. Bytes are read in pieces of this size, so memory follows what the
# file really holds.
_PIECE = 1 << 20

Source = bytes | bytearray | memoryview | IO[bytes]


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of HEAD, in file order.

    version      container version, 2
    rate_index   0 (smallest file) to 63 (best quality)
    photometric  0 = gray, smallest value is black; 1 = gray, smallest value is white; 2 = RGB;
                 3 = RGB with three equal channels, coded as gray
    signed       whether samples are two's complement; False for RGB
    bits         bits per sample, 1 to 16; at most 8 for RGB
    generation   generation of the model, 1 to 255
    fingerprint  8 bytes, a hash of the model's weights and tables
    width, height  in pixels, 1 to 2^31 - 1
    lo, hi       sample values that 0.0 and 1.0 of the model stand for, lo <= hi
    """

    version: int = VERSION
    rate_index: int
    photometric: int
    signed: bool
    bits: int
    generation: int
    fingerprint: bytes
    width: int
    height: int
    lo: int
    hi: int

    @property
    def channels(self) -> int:
        """Channels of the decoded image: 1 for gray, 3 for RGB, also with equal channels."""
        return 3 if self.photometric in (RGB, GRAY_RGB) else 1

    @property
    def model(self) -> str:
        """Name of the model for people, "mvmic-1g". Only the fingerprint identifies a model."""
        return f"mvmic-{self.generation}{'c' if self.photometric == RGB else 'g'}"

    @property
    def mode(self) -> str:
        """Pillow mode of the decoded image: "L", "RGB", "I;16", or "I" for signed samples."""
        if self.channels == 3:
            return "RGB"
        if self.signed:
            return "I"
        return "L" if self.bits <= 8 else "I;16"


@dataclass(frozen=True)
class Container:
    """A whole file: its header, and the payloads of the chunks that this version knows.

    metadata  payloads of the metadata chunks, by chunk type
    flat      payload of FLAT, or None if the file has no such chunk
    payload   payload of DATA
    """

    header: Header
    metadata: dict[bytes, bytes]
    flat: bytes | None
    payload: bytes


def write(
    header: Header,
    payload: bytes,
    metadata: Mapping[bytes, bytes],
    flat: bytes | None = None,
) -> bytes:
    """The bytes of a file. Raises InputError for anything that `read` would refuse."""
    fault = _fault(header)
    if fault:
        raise InputError(f"the header cannot be written: {fault}")
    unknown = [kind for kind in metadata if kind not in METADATA]
    if unknown:
        raise InputError(f"chunk type {unknown[0]!r} is not one of version 2's metadata chunks")
    chunks = [MAGIC, _chunk(HEAD, _pack_head(header))]
    chunks += [_chunk(kind, metadata[kind]) for kind in METADATA if kind in metadata]
    if flat is not None:
        chunks.append(_chunk(FLAT, flat))
    chunks.append(_chunk(DATA, payload))
    return b"".join(chunks)


def read_header(data: Source) -> Header:
    """The header alone. Reads the magic and HEAD, and not a byte after them.

    A file object is read from its current position. Raises FormatError or one of its kinds:
    TruncatedError, ChecksumError, VersionError.
    """
    return _read_head(_stream(data))


def read_info(data: Source) -> tuple[Header, dict[bytes, bytes]]:
    """The header, and the payloads of the known chunks before DATA, by chunk type.

    Does not read the image data. Errors as `read_header`.
    """
    file = _stream(data)
    header = _read_head(file)
    chunks, _ = _read_chunks(file)
    return header, chunks


def read(data: Source) -> Container:
    """A whole file, with every checksum checked. Errors as `read_header`."""
    file = _stream(data)
    header = _read_head(file)
    chunks, length = _read_chunks(file)
    payload = _read_payload(file, DATA, length)
    if file.read(1):
        raise FormatError("there are bytes after the image data chunk; the file was altered")
    return Container(header, chunks, chunks.pop(FLAT, None), payload)


def _pack_head(header: Header) -> bytes:
    """The payload of HEAD."""
    ranged = (header.lo, header.hi) != _whole_range(header.bits, header.signed)
    flags = _SIGNED * header.signed | _RANGED * ranged
    kind = header.photometric | flags | (header.bits - 1) << 4
    fixed = _HEAD.pack(
        header.version, header.rate_index, kind, header.generation, header.fingerprint
    )
    sides = _pack_varint(header.width - 1) + _pack_varint(header.height - 1)
    return fixed + sides + (_RANGE.pack(header.lo, header.hi) if ranged else b"")


def _pack_varint(value: int) -> bytes:
    """Unsigned LEB128: 7 bits a byte, least significant first. The high bit says: more follow."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _whole_range(bits: int, signed: bool) -> tuple[int, int]:
    """The smallest and the largest sample value of this depth."""
    least = -(1 << bits - 1) if signed else 0
    return least, least + (1 << bits) - 1


def _chunk(kind: bytes, payload: bytes) -> bytes:
    if len(payload) > _LARGEST_CHUNK:
        raise InputError(f"a {_name(kind)} chunk holds at most {_LARGEST_CHUNK} bytes")
    crc = zlib.crc32(payload, zlib.crc32(kind))
    return b"".join((_CHUNK.pack(len(payload), kind), payload, _CRC.pack(crc)))


def _stream(data: Source) -> IO[bytes]:
    return io.BytesIO(data) if isinstance(data, (bytes, bytearray, memoryview)) else data


def _read_exactly(file: IO[bytes], count: int, what: str) -> bytes:
    """Exactly `count` bytes, or TruncatedError. Never asks for more than one piece at a time."""
    pieces = []
    while count:
        piece = file.read(min(count, _PIECE))
        if not piece:
            raise TruncatedError(f"the file ends within its {what}; it is incomplete, get it again")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _read_head(file: IO[bytes]) -> Header:
    start = file.read(len(MAGIC))
    if not start:
        raise TruncatedError("the file is empty")
    if not MAGIC.startswith(start[: len(MAGIC)]):
        if start.startswith(MAGIC[:4]):
            raise FormatError("the file was damaged by a transfer in text mode; get it in binary")
        raise FormatError("this is not an mvm file")
    if len(start) < len(MAGIC):
        # A short read is not yet the end: raw files and sockets may give less than was asked for.
        rest = _read_exactly(file, len(MAGIC) - len(start), "first 8 bytes")
        if start + rest != MAGIC:
            raise FormatError("this is not an mvm file")
    kind, length = _read_chunk_start(file)
    if kind != HEAD or length > _LONGEST_HEAD:
        raise FormatError("the file does not begin with a header chunk; it is damaged")
    payload = _read_payload(file, HEAD, length)
    if payload and payload[0] > VERSION:
        raise VersionError(
            f"the file has container version {payload[0]}, this mvmic_codec reads up to {VERSION}; "
            "update it"
        )
    if payload and payload[0] == 1:
        raise VersionError(
            "the file has container version 1, written by mvmic_codec before 0.12: "
            "read it with mvmic_codec 0.11 or the version that wrote it"
        )
    return _parse_head(payload)


def _parse_head(payload: bytes) -> Header:
    if len(payload) < _HEAD.size:
        raise FormatError(f"the header ends after {len(payload)} bytes, within its fields")
    version, rate_index, kind, generation, fingerprint = _HEAD.unpack_from(payload)
    width, at = _parse_varint(payload, _HEAD.size)
    height, at = _parse_varint(payload, at)
    signed, bits = bool(kind & _SIGNED), (kind >> 4) + 1
    lo, hi = _whole_range(bits, signed)
    if kind & _RANGED:
        if len(payload) < at + _RANGE.size:
            raise FormatError(f"the header ends after {len(payload)} bytes, within its range")
        given = _RANGE.unpack_from(payload, at)
        at += _RANGE.size
        if given == (lo, hi):
            raise FormatError(f"the header gives the range {lo} to {hi}, which goes without saying")
        lo, hi = given
    if at != len(payload):
        raise FormatError(f"the header has {len(payload)} bytes, its fields take {at}")
    header = Header(
        version=version,
        rate_index=rate_index,
        photometric=kind & 3,
        signed=signed,
        bits=bits,
        generation=generation,
        fingerprint=fingerprint,
        width=width + 1,
        height=height + 1,
        lo=lo,
        hi=hi,
    )
    fault = _fault(header)
    if fault:
        raise FormatError(f"the header is wrong: {fault}")
    return header


def _parse_varint(payload: bytes, at: int) -> tuple[int, int]:
    """The value of the varint at an offset, and the offset after it."""
    value = 0
    for count, byte in enumerate(payload[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if byte == 0 and count > 0:
                raise FormatError("the header's width or height is not in its shortest form")
            return value, at + count + 1
    if len(payload) < at + _LONGEST_VARINT:
        raise FormatError(f"the header ends after {len(payload)} bytes, within its width or height")
    raise FormatError(f"the header's width or height takes more than {_LONGEST_VARINT} bytes")


def _fault(header: Header) -> str:
    """What is wrong with a header, in words; empty for a valid header."""
    if header.version != VERSION:
        return f"container version {header.version} does not exist"
    if not 0 <= header.rate_index < RATES:
        return f"rate index {header.rate_index} is not in 0 to {RATES - 1}"
    if header.photometric not in (MIN_IS_BLACK, MIN_IS_WHITE, RGB, GRAY_RGB):
        return f"photometric {header.photometric} is not in 0 to 3"
    if not 1 <= header.bits <= 16:
        return f"{header.bits} bits per sample are not in 1 to 16"
    if header.channels == 3 and (header.bits > 8 or header.signed):
        return "colour samples have at most 8 bits and no sign"
    if not 1 <= header.generation <= 255:
        return f"generation {header.generation} of the model is not in 1 to 255"
    if len(header.fingerprint) != 8:
        return f"a fingerprint of {len(header.fingerprint)} bytes, where 8 are needed"
    if not (1 <= header.width <= _LARGEST_SIDE and 1 <= header.height <= _LARGEST_SIDE):
        return f"{header.width}x{header.height} pixels, each side being 1 to {_LARGEST_SIDE}"
    least, most = _whole_range(header.bits, header.signed)
    if not least <= header.lo <= header.hi <= most:
        return f"value range {header.lo} to {header.hi} does not lie in {least} to {most}"
    return ""


def _read_chunk_start(file: IO[bytes]) -> tuple[bytes, int]:
    start = _read_exactly(file, _CHUNK.size, "list of chunks")
    length, kind = _CHUNK.unpack(start)
    if not (kind.isalpha() and kind.isascii()):
        raise FormatError(f"{kind!r} is no chunk type; the file is damaged")
    return kind, length


def _read_payload(file: IO[bytes], kind: bytes, length: int) -> bytes:
    payload = _read_exactly(file, length, f"{_name(kind)} chunk")
    (crc,) = _CRC.unpack(_read_exactly(file, _CRC.size, f"{_name(kind)} chunk"))
    if crc != zlib.crc32(payload, zlib.crc32(kind)):
        raise ChecksumError(f"the {_name(kind)} chunk's checksum is wrong; the file is damaged")
    return payload


def _read_chunks(file: IO[bytes]) -> tuple[dict[bytes, bytes], int]:
    """The payloads of the known chunks before DATA, by type, and the length of DATA."""
    chunks: dict[bytes, bytes] = {}
    while True:
        kind, length = _read_chunk_start(file)
        if kind == DATA:
            return chunks, length
        if kind == HEAD or kind in chunks:
            raise FormatError(f"the file has a second {_name(kind)} chunk")
        if kind[:1].isupper() and kind != FLAT:
            raise FormatError(
                f"the file needs a reader that knows {_name(kind)} chunks; update mvmic_codec"
            )
        payload = _read_payload(file, kind, length)
        if kind in METADATA or kind == FLAT:
            chunks[kind] = payload


def _name(kind: bytes) -> str:
    return kind.decode("ascii")
