"""HEAD: the fields of a file's header, to bytes and back.

formats/mvm-3.md is the specification. This module uses its field names in its order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mvmic_codec.errors import FormatError, InputError, VersionError
from mvmic_codec.rate import RATES

VERSION = 3
# Still read. It is version 3 without frames, tiles, transparency and indexed images.
OLDER_VERSION = 2

MIN_IS_BLACK = 0
MIN_IS_WHITE = 1
RGB = 2
GRAY_RGB = 3

# Sides of tiles are multiples of what one position of the hyper-latent covers.
TILE_UNIT = 64
# Tiles of all frames together. What a reader keeps for each of them stays small.
LARGEST_COUNT = 2**24

# version, rate, kind, generation; the fingerprint and width - 1 and height - 1 follow
_START = struct.Struct("<BBBB")
FINGERPRINT_BYTES = 8
# lo, hi
_RANGE = struct.Struct("<ii")
# Flags of `rate`, above rate_index.
_ALPHA = 0x40
_FORMED = 0x80
# Flags of `kind`. The bits below them hold photometric, the bits above them bits - 1.
_SIGNED = 0x04
_RANGED = 0x08
# Flags of `form`. A reader refuses others: they will announce what it cannot read.
_FRAMES = 0x01
_TILES = 0x02
_PALETTE = 0x04

# Pillow's own bound: its image sizes are C ints.
_LARGEST_SIDE = 2**31 - 1
# Bytes that the largest side needs, at 7 bits each.
_LONGEST_VARINT = 5


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of HEAD, in file order.

    version      container version, 2 or 3
    rate_index   0 (smallest file) to 63 (best quality); 0 for an indexed image
    alpha        whether the image has transparency
    photometric  0 = gray, smallest value is black; 1 = gray, smallest value is white; 2 = RGB;
                 3 = RGB with three equal channels, coded as gray
    signed       whether samples are two's complement; False for RGB
    bits         bits per sample, 1 to 16; at most 8 for RGB and with transparency
    generation   generation of the model, 1 to 255; 0 for an indexed image, which needs no model
    fingerprint  8 bytes, a hash of the model's weights and tables; empty for an indexed image
    width, height  in pixels, 1 to 2^31 - 1
    frames       images in the file, all of this size and kind
    tile         side of the tiles that each frame is cut into, a multiple of 64; 0 if it is not cut
    palette      whether an indexed image is shown as indices into a palette
    lo, hi       sample values that 0.0 and 1.0 of the model stand for, lo <= hi
    """

    version: int = VERSION
    rate_index: int
    alpha: bool = False
    photometric: int
    signed: bool
    bits: int
    generation: int
    fingerprint: bytes
    width: int
    height: int
    frames: int = 1
    tile: int = 0
    palette: bool = False
    lo: int
    hi: int

    @property
    def indexed(self) -> bool:
        """Whether the image is coded as indices into a list of colours, exactly."""
        return self.generation == 0

    @property
    def channels(self) -> int:
        """Channels without transparency: 1 for gray, 3 for RGB, also with equal channels."""
        return 3 if self.photometric in (RGB, GRAY_RGB) else 1

    @property
    def model(self) -> str:
        """Name of the model for people, "mvmic-1g". Only the fingerprint identifies a model."""
        if self.indexed:
            return "none"
        return f"mvmic-{self.generation}{'c' if self.photometric == RGB else 'g'}"

    @property
    def mode(self) -> str:
        """Pillow mode of the decoded image.

        "L", "LA", "RGB", "RGBA", "I;16" above 8 bits, or "I" for signed samples. For an indexed
        image also "P", and "1" for 1 bit.
        """
        if self.palette:
            return "P"
        if self.channels == 3:
            return "RGBA" if self.alpha else "RGB"
        if self.signed:
            return "I"
        if self.bits > 8:
            return "I;16"
        if self.alpha:
            return "LA"
        return "1" if self.indexed and self.bits == 1 else "L"

    @property
    def rows(self) -> int:
        """Rows of tiles in each frame."""
        return -(-self.height // self.tile) if self.tile else 1

    @property
    def columns(self) -> int:
        """Columns of tiles in each frame."""
        return -(-self.width // self.tile) if self.tile else 1

    @property
    def count(self) -> int:
        """Tiles in all frames together."""
        return self.frames * self.rows * self.columns


def pack(header: Header) -> bytes:
    """The payload of HEAD. Raises InputError for what `parse` would refuse."""
    fault = _fault(header)
    if fault:
        raise InputError(f"the header cannot be written: {fault}")
    ranged = (header.lo, header.hi) != whole_range(header.bits, header.signed)
    form = _FRAMES * (header.frames > 1) | _TILES * (header.tile > 0) | _PALETTE * header.palette
    rate = header.rate_index | _ALPHA * header.alpha | _FORMED * (form > 0)
    flags = _SIGNED * header.signed | _RANGED * ranged
    kind = header.photometric | flags | (header.bits - 1) << 4
    parts = [
        _START.pack(header.version, rate, kind, header.generation),
        header.fingerprint,
        _pack_varint(header.width - 1),
        _pack_varint(header.height - 1),
    ]
    if form:
        parts.append(bytes((form,)))
    if header.frames > 1:
        parts.append(_pack_varint(header.frames - 2))
    if header.tile:
        parts.append(_pack_varint(header.tile // TILE_UNIT - 1))
    if ranged:
        parts.append(_RANGE.pack(header.lo, header.hi))
    return b"".join(parts)


def parse(payload: bytes) -> Header:
    """The header, from the payload of HEAD. Raises FormatError or VersionError."""
    _check_version(payload)
    fields = _Fields(payload)
    version, rate, kind, generation = _START.unpack(fields.take(_START.size))
    fingerprint = fields.take(FINGERPRINT_BYTES) if generation else b""
    width, height = fields.varint() + 1, fields.varint() + 1
    form, frames, tile = 0, 1, 0
    if rate & _FORMED and version > OLDER_VERSION:
        (form,) = fields.take(1)
        if form & ~(_FRAMES | _TILES | _PALETTE):
            raise FormatError(
                "the file needs a reader that knows what its header announces; update mvmic_codec"
            )
        if not form:
            raise FormatError("the header has a form of 0, which goes without saying")
        frames = fields.varint() + 2 if form & _FRAMES else 1
        tile = (fields.varint() + 1) * TILE_UNIT if form & _TILES else 0
    signed, bits = bool(kind & _SIGNED), (kind >> 4) + 1
    lo, hi = whole_range(bits, signed)
    if kind & _RANGED:
        given = _RANGE.unpack(fields.take(_RANGE.size))
        if given == (lo, hi):
            raise FormatError(f"the header gives the range {lo} to {hi}, which goes without saying")
        lo, hi = given
    if fields.at != len(payload):
        raise FormatError(f"the header has {len(payload)} bytes, its fields take {fields.at}")
    # Version 2 has no flags there: its rate index is the whole byte.
    flags = _ALPHA | _FORMED if version > OLDER_VERSION else 0
    header = Header(
        version=version,
        rate_index=rate & ~flags,
        alpha=bool(rate & flags & _ALPHA),
        photometric=kind & 3,
        signed=signed,
        bits=bits,
        generation=generation,
        fingerprint=fingerprint,
        width=width,
        height=height,
        frames=frames,
        tile=tile,
        palette=bool(form & _PALETTE),
        lo=lo,
        hi=hi,
    )
    fault = _fault(header)
    if fault:
        raise FormatError(f"the header is wrong: {fault}")
    return header


def whole_range(bits: int, signed: bool) -> tuple[int, int]:
    """The smallest and the largest sample value of this depth."""
    least = -(1 << bits - 1) if signed else 0
    return least, least + (1 << bits) - 1


def sample_type(bits: int, signed: bool) -> str:
    """The type of one stored sample, as numpy names it: 1 or 2 bytes, little-endian."""
    return f"<{'i' if signed else 'u'}{1 if bits <= 8 else 2}"


class _Fields:
    """The fields of a payload, one after the other."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at = payload, 0

    def take(self, count: int) -> bytes:
        """The next bytes, exactly so many."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.payload):
            raise FormatError(f"the header ends after {len(self.payload)} bytes, within its fields")
        return self.payload[start : self.at]

    def varint(self) -> int:
        """The next unsigned LEB128 number, of at most 5 bytes and in its shortest form."""
        value = 0
        for count in range(_LONGEST_VARINT):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                if byte == 0 and count > 0:
                    raise FormatError("a number in the header is not in its shortest form")
                return value
        raise FormatError(f"a number in the header takes more than {_LONGEST_VARINT} bytes")


def _pack_varint(value: int) -> bytes:
    """Unsigned LEB128: 7 bits a byte, least significant first. The high bit says: more follow."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _check_version(payload: bytes) -> None:
    """Before anything else is looked at: other versions may have other fields."""
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


def _fault(header: Header) -> str:
    """What is wrong with a header, in words; empty for a valid header."""
    if header.version not in (OLDER_VERSION, VERSION):
        return f"container version {header.version} does not exist"
    if not 0 <= header.rate_index < RATES:
        return f"rate index {header.rate_index} is not in 0 to {RATES - 1}"
    if header.photometric not in (MIN_IS_BLACK, MIN_IS_WHITE, RGB, GRAY_RGB):
        return f"photometric {header.photometric} is not in 0 to 3"
    if not 1 <= header.bits <= 16:
        return f"{header.bits} bits per sample are not in 1 to 16"
    if header.channels == 3 and (header.bits > 8 or header.signed):
        return "colour samples have at most 8 bits and no sign"
    if header.alpha and (header.bits > 8 or header.signed):
        return "samples with transparency have at most 8 bits and no sign"
    least = 0 if header.version > OLDER_VERSION else 1
    if not least <= header.generation <= 255:
        return f"generation {header.generation} of the model is not in {least} to 255"
    if len(header.fingerprint) != (0 if header.indexed else FINGERPRINT_BYTES):
        return f"a fingerprint of {len(header.fingerprint)} bytes"
    if not (1 <= header.width <= _LARGEST_SIDE and 1 <= header.height <= _LARGEST_SIDE):
        return f"{header.width}x{header.height} pixels, each side being 1 to {_LARGEST_SIDE}"
    least, most = whole_range(header.bits, header.signed)
    if not least <= header.lo <= header.hi <= most:
        return f"value range {header.lo} to {header.hi} does not lie in {least} to {most}"
    return _fault_of_form(header) or _fault_of_indexed(header)


def _fault_of_form(header: Header) -> str:
    """As `_fault`, about frames and tiles."""
    if header.frames < 1:
        return f"{header.frames} frames"
    if header.tile % TILE_UNIT or header.tile < 0:
        return f"tiles of {header.tile} pixels, which is no multiple of {TILE_UNIT}"
    if header.tile and header.rows * header.columns == 1:
        return f"tiles of {header.tile} pixels, where one holds the whole image"
    if header.count > LARGEST_COUNT:
        return f"{header.count} tiles in all, more than {LARGEST_COUNT}"
    formed = header.frames > 1 or header.tile or header.palette or header.alpha
    if header.version <= OLDER_VERSION and formed:
        return f"container version {header.version} has one opaque image"
    return ""


def _fault_of_indexed(header: Header) -> str:
    """As `_fault`, about images that are indices into a list of colours, and those that are not."""
    if not header.indexed:
        return "a palette for an image that has no indices" if header.palette else ""
    if header.rate_index:
        return f"rate index {header.rate_index} of an indexed image, which has none"
    if (header.lo, header.hi) != whole_range(header.bits, header.signed):
        return "a value range of an indexed image, which has none"
    if header.palette and (header.signed or header.bits != 8):
        return "a palette of other than 8 bits"
    return ""
