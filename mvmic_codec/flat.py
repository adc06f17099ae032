"""Flat areas: pixels of a few exact colours, kept beside the learned image and painted over it.

The black around an endoscope's picture, the circle of a CT scan and burned-in text cost a transform
most of its bits at their hard edges, and a map of them next to nothing. A file may therefore hold
one FLAT chunk: a few colours, and a map that says which pixels have them. formats/flat.md has the
bytes; `flat_search` finds such areas.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mvmic_codec import flatmap
from mvmic_codec.container import RGB, Header
from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

_COUNT = struct.Struct("<B")
_CRC = struct.Struct("<I")


@dataclass(frozen=True)
class Flat:
    """Which pixels of an image have which flat colour.

    colours  int32 [K, C], K = 1 to flatmap.COLOURS_MAX, sample values; C = 3 for photometric RGB,
             else 1
    map      uint8 [H, W]: 0 where a pixel is not flat, else 1 plus the row of its colour
    """

    colours: npt.NDArray[np.int32]
    map: npt.NDArray[np.uint8]


def to_payload(flat: Flat, bits: int, signed: bool) -> bytes:
    """The payload of a FLAT chunk for an image of this depth.

    Raises InputError for a colour that no sample of this depth can have.
    """
    colours = flat.colours.astype(_sample_type(bits, signed))
    if (colours != flat.colours).any():
        raise InputError(f"a flat colour does not fit the image's {bits} bits")
    start = _COUNT.pack(len(flat.colours)) + colours.tobytes()
    lane = flatmap.encode(flat.map, len(flat.colours))
    return b"".join((start, _CRC.pack(_crc_of(start, flat.map)), lane))


def from_payload(payload: bytes, header: Header) -> Flat:
    """The flat areas of a file with this header.

    Raises FormatError, or TruncatedError or ChecksumError, which are kinds of it. Memory is about
    two bytes for each of the header's pixels.
    """
    if len(payload) < _COUNT.size:
        raise TruncatedError("the chunk of flat colours is empty: the file was cut")
    (count,) = _COUNT.unpack_from(payload)
    if not 1 <= count <= flatmap.COLOURS_MAX:
        raise FormatError(f"the file claims {count} flat colours; 1 to {flatmap.COLOURS_MAX} exist")
    kind = _sample_type(header.bits, header.signed)
    channels = 3 if header.photometric == RGB else 1
    crc_at = _COUNT.size + count * channels * kind.itemsize
    start = crc_at + _CRC.size
    if len(payload) < start:
        raise TruncatedError("the chunk of flat colours ends before its map: the file was cut")
    colours = np.frombuffer(payload, kind, count * channels, _COUNT.size).astype(np.int32)
    if colours.min() < header.lo or colours.max() > header.hi:
        raise FormatError(
            f"a flat colour lies outside of the image's range, {header.lo} to {header.hi}"
        )
    (crc,) = _CRC.unpack_from(payload, crc_at)
    map = flatmap.decode(payload[start:], header.height, header.width, count)
    if _crc_of(payload[:crc_at], map) != crc:
        raise ChecksumError("the flat colours have another checksum: the file is damaged")
    return Flat(colours.reshape(count, channels), map)


def paint(planes: npt.NDArray[np.float32], flat: Flat, lo: int, hi: int) -> npt.NDArray[np.float32]:
    """Planes [C, H, W] in 0 to 1 with the flat pixels at their colours.

    lo and hi are the samples that 0.0 and 1.0 stand for; a colour is the exact sample again when
    the planes are rounded to samples.
    """
    # Colour 0 is not painted, its row only fills the place.
    table = np.vstack((np.zeros_like(flat.colours[:1]), flat.colours)) - np.int32(lo)
    values = (table / max(hi - lo, 1)).astype(np.float32).T
    painted: npt.NDArray[np.float32] = np.where(flat.map, values[:, flat.map], planes)
    return painted


def _crc_of(start: bytes, map: npt.NDArray[np.uint8]) -> int:
    """Checksum of what stands before it, count and colours, and of the map."""
    return zlib.crc32(np.ascontiguousarray(map).data, zlib.crc32(start))


def _sample_type(bits: int, signed: bool) -> np.dtype[np.integer]:
    """As many bytes as a sample needs, little-endian."""
    return np.dtype(f"<{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
