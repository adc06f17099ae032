"""Flat areas: pixels of a few exact colours, stored beside the learned image and painted over it.

Examples are the black around an endoscope's picture, the margin of a CT scan and burned-in text. A
transform spends most of its bits on their hard edges, while a map of them costs next to nothing.
A file may therefore hold one FLAT chunk: a few colours, and a map that says which pixels have them.
Pixels along an edge may be blends of a colour and the decoded image.

formats/flat.md specifies the bytes. `mvmic_codec.encoder.flat_search` finds flat areas.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import flatmap
from mvmic_codec.bitstream.header import RGB, Header, sample_type
from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

# A blend of k mixes in k quarters of the colour.
BLENDS = 3
# The order in which neighbours are searched for a flat colour: (rows down, columns right).
NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))

_COUNT = struct.Struct("<B")
# Flag in the same byte: the payload has blends.
_WITH_BLENDS = 0x80
_CRC = struct.Struct("<I")
_WORDS = struct.Struct("<I")
_WORD_BYTES = 4


@dataclass(frozen=True)
class Flat:
    """Which pixels of an image have which flat colour.

    colours  int32 [K, C] sample values, K = 1 to flatmap.COLOURS_MAX; C = 3 for photometric RGB,
             else 1
    map      uint8 [H, W]: 0 where a pixel is not flat, else 1 plus the row of its colour
    blends   uint8 [H, W], 0 to BLENDS: how many quarters of a neighbour's flat colour are mixed in;
             0 where the pixel is flat or has no flat neighbour. None for files of version 0.5.0,
             which had no blends
    """

    colours: npt.NDArray[np.int32]
    map: npt.NDArray[np.uint8]
    blends: npt.NDArray[np.uint8] | None

    @property
    def hidden(self) -> npt.NDArray[np.bool_] | None:
        """Pixels [H, W] that the image data may leave out; None if all of them are coded."""
        return None if self.blends is None else self.map > 0


def beside(map: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """For each pixel that is not flat, the map's number of its first flat neighbour; else 0.

    map and result are uint8 [H, W].
    """
    padded = np.pad(map, 1)
    flat = padded > 0
    of_rows = flat[:-2] | flat[1:-1] | flat[2:]
    around = of_rows[:, :-2] | of_rows[:, 1:-1] | of_rows[:, 2:]
    # Pixels along edges are few.
    row, column = np.nonzero(around & ~flat[1:-1, 1:-1])
    first = np.zeros(len(row), np.uint8)
    for down, right in NEIGHBOURS:
        first = np.where(first, first, padded[row + 1 + down, column + 1 + right])
    numbers = np.zeros_like(map)
    numbers[row, column] = first
    return numbers


def to_payload(flat: Flat, bits: int, signed: bool) -> bytes:
    """The payload of a FLAT chunk for an image of this depth.

    bits is 1 to 16. Raises InputError for a colour that does not fit this depth.
    """
    colours = flat.colours.astype(np.dtype(sample_type(bits, signed)))
    if (colours != flat.colours).any():
        raise InputError(f"a flat colour does not fit the image's {bits} bits")
    flags = 0 if flat.blends is None else _WITH_BLENDS
    start = _COUNT.pack(len(flat.colours) | flags) + colours.tobytes()
    lane = flatmap.encode(flat.map, len(flat.colours))
    parts = [start, _CRC.pack(_crc_of(start, flat)), lane]
    if flat.blends is not None:
        parts.insert(2, _WORDS.pack(len(lane) // _WORD_BYTES))
        parts.append(flatmap.encode(flat.blends, BLENDS, beside(flat.map) > 0))
    return b"".join(parts)


def from_payload(payload: bytes, header: Header) -> Flat:
    """The flat areas of a file with this header, from the payload of its FLAT chunk.

    Takes at most about five bytes of memory for each pixel. Raises FormatError or one of its kinds,
    TruncatedError and ChecksumError.
    """
    if len(payload) < _COUNT.size:
        raise TruncatedError("the chunk of flat colours is empty: the file was cut")
    (first,) = _COUNT.unpack_from(payload)
    count, blended = first & ~_WITH_BLENDS, bool(first & _WITH_BLENDS)
    if not 1 <= count <= flatmap.COLOURS_MAX:
        raise FormatError(f"the file claims {count} flat colours; 1 to {flatmap.COLOURS_MAX} exist")
    kind = np.dtype(sample_type(header.bits, header.signed))
    channels = 3 if header.photometric == RGB else 1
    crc_at = _COUNT.size + count * channels * kind.itemsize
    start = crc_at + _CRC.size + (_WORDS.size if blended else 0)
    if len(payload) < start:
        raise TruncatedError("the chunk of flat colours ends before its map: the file was cut")
    colours = np.frombuffer(payload, kind, count * channels, _COUNT.size).astype(np.int32)
    if colours.min() < header.lo or colours.max() > header.hi:
        raise FormatError(
            f"a flat colour lies outside of the image's range, {header.lo} to {header.hi}"
        )
    (crc,) = _CRC.unpack_from(payload, crc_at)
    end = len(payload)
    if blended:
        (words,) = _WORDS.unpack_from(payload, crc_at + _CRC.size)
        end = start + words * _WORD_BYTES
        if end > len(payload):
            raise TruncatedError("the map of flat colours ends before it should: the file was cut")
    size = (header.height, header.width)
    map = flatmap.decode(payload[start:end], *size, count)
    blends = flatmap.decode(payload[end:], *size, BLENDS, beside(map) > 0) if blended else None
    flat = Flat(colours.reshape(count, channels), map, blends)
    if _crc_of(payload[:crc_at], flat) != crc:
        raise ChecksumError("the flat colours have another checksum: the file is damaged")
    return flat


def _crc_of(start: bytes, flat: Flat) -> int:
    """CRC-32 of the bytes before it (count and colours), then of map and blends."""
    crc = zlib.crc32(np.ascontiguousarray(flat.map).data, zlib.crc32(start))
    return crc if flat.blends is None else zlib.crc32(np.ascontiguousarray(flat.blends).data, crc)
