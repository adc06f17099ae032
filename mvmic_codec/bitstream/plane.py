"""Planes of few values, stored exactly: alpha channels, masks, labels and palette indices.

A plane [H, W] has symbols 0 to K - 1. A transform would spend most of its bits on their hard edges
and would not return them exactly.

formats/plane.md specifies the bytes, `mvmic_codec.bitstream.planecoder` codes the symbols.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import planecoder
from mvmic_codec.errors import ChecksumError, TruncatedError

_CRC = struct.Struct("<I")


def to_payload(plane: npt.NDArray[np.uint8], symbols: int, ordered: bool) -> bytes:
    """The payload of a plane [H, W] of symbols 0 to `symbols` - 1.

    symbols  how many there may be, 1 to planecoder.SYMBOLS_MAX
    ordered  whether symbols that are close are alike; a reader must know it as well as `symbols`

    Raises InputError for another type, shape or number of symbols, and for a symbol that is too
    large.
    """
    lane = planecoder.encode(plane, symbols, ordered)
    return _CRC.pack(_crc_of(plane)) + lane


def from_payload(
    payload: bytes, height: int, width: int, symbols: int, ordered: bool
) -> npt.NDArray[np.uint8]:
    """The plane [height, width] of a payload.

    Takes one byte of memory for each pixel and less than a megabyte more. Raises TruncatedError,
    FormatError and ChecksumError for data that is damaged, InputError as `to_payload`.
    """
    if len(payload) < _CRC.size:
        raise TruncatedError("the plane ends before its data: the file was cut")
    (crc,) = _CRC.unpack_from(payload)
    plane = planecoder.decode(payload[_CRC.size :], height, width, symbols, ordered)
    if _crc_of(plane) != crc:
        raise ChecksumError("the plane has another checksum: the file is damaged")
    return plane


def _crc_of(plane: npt.NDArray[np.uint8]) -> int:
    return zlib.crc32(np.ascontiguousarray(plane).data)
