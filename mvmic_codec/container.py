"""The `.mvm` container, version 1: magic, HEAD, metadata chunks, FLAT, DATA chunks.

formats/mvm-1.md is the specification; this module has its field names in its order. It knows
bytes and nothing else: no samples, no latents, no torch, no numpy.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from mvmic_codec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    TruncatedError,
    VersionError,
)

# High bit, name, CR LF, ^Z, LF: a transfer that treats the file as text damages these bytes first.
MAGIC = b"\x89MVM\r\n\x1a\n"
VERSION = 1

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
# Bytes a chunk takes besides its payload.
CHUNK_OVERHEAD = _CHUNK.size + _CRC.size
# version, rate_index, flags, channels, bits, signed, photometric, tile_log2,
# width, height, frames, lo, hi, model, fingerprint
_HEAD = struct.Struct("<BBBBBBBBIIHii8s8s")

# A later version may lengthen HEAD, and its reader must still be able to say which version it is.
_LONGEST_HEAD = 255
# Pillow's own bound: its image sizes are C ints.
_LARGEST_SIDE = 2**31 - 1
_LARGEST_CHUNK = 2**32 - 1
# Lengths read from a file are not believed: bytes are asked for in pieces of this size, so memory
# follows what the file really holds.
_PIECE = 1 << 20

Source = bytes | bytearray | memoryview | IO[bytes]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What HEAD says, field by field in file order (`flags`, always 0 in version 1, is left out).

    version      container version, 1
    rate_index   0 (smallest file) to 63 (best quality)
    channels     1 (gray) or 3 (RGB)
    bits         bits per sample, 1 to 16
    signed       samples are two's complement
    photometric  0 = smallest value is black, 1 = smallest value is white, 2 = RGB,
                 3 = RGB whose three channels are equal, coded as gray
    tile_log2    0 = one tile; version 1 has no other value
    width, height  in pixels, 1 to 2^31 - 1
    frames       1 in version 1
    lo, hi       sample values that the model's 0.0 and 1.0 stand for, lo <= hi
    model        name of the model, 1 to 8 printable ASCII characters
    fingerprint  8 bytes, a hash of the model's weights and tables
    """

    version: int = VERSION
    rate_index: int
    channels: int
    bits: int
    signed: bool
    photometric: int
    tile_log2: int = 0
    width: int
    height: int
    frames: int = 1
    lo: int
    hi: int
    model: str
    fingerprint: bytes

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
    """A whole file: its header and the payloads of the chunks that this version knows.

    metadata  of the metadata chunks, by type
    flat      of FLAT, or None where there is none
    payloads  of the DATA chunks
    """

    header: Header
    metadata: dict[bytes, bytes]
    flat: bytes | None
    payloads: list[bytes]


def write(
    header: Header,
    payloads: Sequence[bytes],
    metadata: Mapping[bytes, bytes],
    flat: bytes | None = None,
) -> bytes:
    """A file's bytes. Raises InputError for anything that `read` would not take back."""
    fault = _fault(header)
    if fault:
        raise InputError(f"the header cannot be written: {fault}")
    if len(payloads) != header.frames:
        raise InputError(
            f"{header.frames} DATA payload(s) are needed for this header, got {len(payloads)}"
        )
    unknown = [kind for kind in metadata if kind not in METADATA]
    if unknown:
        raise InputError(f"chunk type {unknown[0]!r} is not one of version 1's metadata chunks")
    head = _HEAD.pack(
        header.version,
        header.rate_index,
        0,
        header.channels,
        header.bits,
        header.signed,
        header.photometric,
        header.tile_log2,
        header.width,
        header.height,
        header.frames,
        header.lo,
        header.hi,
        header.model.encode("ascii"),
        header.fingerprint,
    )
    chunks = [MAGIC, _chunk(HEAD, head)]
    chunks += [_chunk(kind, metadata[kind]) for kind in METADATA if kind in metadata]
    if flat is not None:
        chunks.append(_chunk(FLAT, flat))
    chunks += [_chunk(DATA, payload) for payload in payloads]
    return b"".join(chunks)


def read_header(data: Source) -> Header:
    """The header alone: reads the magic and HEAD, and not a byte after them.

    A file object is read from where it stands. Raises FormatError or one of its kinds
    (TruncatedError, ChecksumError, VersionError).
    """
    return _read_head(_stream(data))


def read_info(data: Source) -> tuple[Header, dict[bytes, bytes]]:
    """Header and the known chunks before the image data, by type, without reading that.

    Errors as `read_header`.
    """
    file = _stream(data)
    header = _read_head(file)
    chunks, _ = _read_chunks(file)
    return header, chunks


def read(data: Source) -> Container:
    """A whole file, every checksum checked. Errors as `read_header`."""
    file = _stream(data)
    header = _read_head(file)
    chunks, length = _read_chunks(file)
    payloads = [_read_payload(file, DATA, length)]
    while len(payloads) < header.frames:
        kind, length = _read_chunk_start(file)
        if kind != DATA:
            raise FormatError(f"a {_name(kind)} chunk stands between the image data chunks")
        payloads.append(_read_payload(file, DATA, length))
    if file.read(1):
        raise FormatError("there are bytes after the last image data chunk; the file was altered")
    return Container(header, chunks, chunks.pop(FLAT, None), payloads)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    if len(payload) > _LARGEST_CHUNK:
        raise InputError(f"a {_name(kind)} chunk holds at most {_LARGEST_CHUNK} bytes")
    crc = zlib.crc32(payload, zlib.crc32(kind))
    return b"".join((_CHUNK.pack(len(payload), kind), payload, _CRC.pack(crc)))


def _stream(data: Source) -> IO[bytes]:
    return io.BytesIO(data) if isinstance(data, (bytes, bytearray, memoryview)) else data


def _take(file: IO[bytes], count: int, what: str) -> bytes:
    """Exactly `count` bytes, or TruncatedError. Never asks for more than a piece at a time."""
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
        # A short read is not yet the end: raw files and sockets may give less than asked.
        rest = _take(file, len(MAGIC) - len(start), "first 8 bytes")
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
    if length != _HEAD.size:
        raise FormatError(f"the header has {length} bytes, version 1 has {_HEAD.size}")
    return _parse_head(payload)


def _parse_head(payload: bytes) -> Header:
    (
        version,
        rate_index,
        flags,
        channels,
        bits,
        signed,
        photometric,
        tile_log2,
        width,
        height,
        frames,
        lo,
        hi,
        model,
        fingerprint,
    ) = _HEAD.unpack(payload)
    if flags:
        raise FormatError(f"the header sets flags {flags:#04x}, version 1 has none")
    if signed > 1:
        raise FormatError(f"the header's sign is {signed}, it can only be 0 or 1")
    if tile_log2:
        raise FormatError(f"the image is cut into tiles of 2^{tile_log2}; this reader takes one")
    if frames != 1:
        raise FormatError(f"the file holds {frames} frames; this reader takes exactly one")
    header = Header(
        version=version,
        rate_index=rate_index,
        channels=channels,
        bits=bits,
        signed=bool(signed),
        photometric=photometric,
        tile_log2=tile_log2,
        width=width,
        height=height,
        frames=frames,
        lo=lo,
        hi=hi,
        # Every byte decodes in latin-1, so `_fault` sees the name as it stands.
        model=model.rstrip(b"\0").decode("latin-1"),
        fingerprint=fingerprint,
    )
    fault = _fault(header)
    if fault:
        raise FormatError(f"the header is wrong: {fault}")
    return header


def _fault(header: Header) -> str:
    """What is wrong with a header, in words; empty if nothing is."""
    if header.version != VERSION:
        return f"container version {header.version} does not exist"
    if not 0 <= header.rate_index <= 63:
        return f"rate index {header.rate_index} is not in 0 to 63"
    if header.channels not in (1, 3):
        return f"{header.channels} channels, where 1 or 3 are possible"
    if not 1 <= header.bits <= 16:
        return f"{header.bits} bits per sample are not in 1 to 16"
    if header.channels == 3 and (header.bits > 8 or header.signed):
        return "colour samples have at most 8 bits and no sign"
    if header.photometric not in (MIN_IS_BLACK, MIN_IS_WHITE, RGB, GRAY_RGB):
        return f"photometric {header.photometric} is not in 0 to 3"
    if (header.photometric in (RGB, GRAY_RGB)) != (header.channels == 3):
        return f"photometric {header.photometric} does not go with {header.channels} channel(s)"
    if header.tile_log2 != 0 or header.frames != 1:
        return "version 1 has one tile and one frame"
    if not (1 <= header.width <= _LARGEST_SIDE and 1 <= header.height <= _LARGEST_SIDE):
        return f"{header.width}x{header.height} pixels, each side being 1 to {_LARGEST_SIDE}"
    least = -(1 << header.bits - 1) if header.signed else 0
    most = least + (1 << header.bits) - 1
    if not least <= header.lo <= header.hi <= most:
        return f"value range {header.lo} to {header.hi} does not lie in {least} to {most}"
    if not 1 <= len(header.model) <= 8 or any(not "!" <= c <= "~" for c in header.model):
        return f"model name {header.model!r} is not 1 to 8 printable ASCII characters"
    if len(header.fingerprint) != 8:
        return f"a fingerprint of {len(header.fingerprint)} bytes, where 8 are needed"
    return ""


def _read_chunk_start(file: IO[bytes]) -> tuple[bytes, int]:
    start = _take(file, _CHUNK.size, "list of chunks")
    length, kind = _CHUNK.unpack(start)
    if not (kind.isalpha() and kind.isascii()):
        raise FormatError(f"{kind!r} is no chunk type; the file is damaged")
    return kind, length


def _read_payload(file: IO[bytes], kind: bytes, length: int) -> bytes:
    payload = _take(file, length, f"{_name(kind)} chunk")
    (crc,) = _CRC.unpack(_take(file, _CRC.size, f"{_name(kind)} chunk"))
    if crc != zlib.crc32(payload, zlib.crc32(kind)):
        raise ChecksumError(f"the {_name(kind)} chunk's checksum is wrong; the file is damaged")
    return payload


def _read_chunks(file: IO[bytes]) -> tuple[dict[bytes, bytes], int]:
    """Known chunks up to the first DATA chunk, whose length is returned with them."""
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
