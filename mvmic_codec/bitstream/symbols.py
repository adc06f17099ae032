"""Passes of symbols <-> one payload: lanes, their lengths and a checksum of the symbols.

A pass is what is coded between two runs of the networks. formats/ans.md specifies the payload.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import ans
from mvmic_codec.errors import ChecksumError, FormatError, TruncatedError

Symbols = npt.NDArray[np.int16]
Indices = npt.NDArray[np.uint8]


class Pass(NamedTuple):
    """Symbols that are coded one after the other.

    symbols  int16 [N]
    indices  uint8 [N], the frequency table of each symbol; 0 means that nothing is coded
    second   0 for independent symbols; else the pass is dependent (formats/ans.md, section 4), and
             the second quantiser's table of a symbol lies this far behind its first one
    """

    symbols: Symbols
    indices: Indices
    second: int = 0

    def coded(self) -> tuple[Symbols, Indices]:
        """The numbers that are coded for the symbols, and the table of each."""
        if not self.second:
            return self.symbols, self.indices
        return ans.resolve(self.symbols, self.indices, self.second)


# From this size on, four lanes add under 0.2% of bytes and decode about twice as fast as one.
MANY_LANES_FROM_BYTES = 16 * 1024
MANY_LANES = 4

_LANE_COUNT = struct.Struct("<B")
_WORDS = struct.Struct("<I")
_CRC = struct.Struct("<I")
_WORD_BYTES = 4


def pack(passes: Sequence[Pass], tables: ans.Tables) -> bytes:
    """The payload that codes these passes, which are given in decoding order.

    A symbol with table index 0 must be 0. Raises InputError as `ans.resolve` and `ans.encode` do.
    """
    coded = [each.coded() for each in passes]
    lanes = ans.encode(coded, tables, 1)
    if len(lanes[0]) >= MANY_LANES_FROM_BYTES:
        lanes = ans.encode(coded, tables, MANY_LANES)
    crc = 0
    for each in passes:
        crc = _crc_update(crc, each.symbols)
    lengths = b"".join(_WORDS.pack(len(lane) // _WORD_BYTES) for lane in lanes[:-1])
    return b"".join([_LANE_COUNT.pack(len(lanes)), lengths, _CRC.pack(crc), *lanes])


class Unpacker:
    """Decodes the symbols of a payload, pass by pass.

    The symbols are known to be right only after :meth:`finish` has returned. Raises FormatError, or
    its kind TruncatedError, for a payload whose lanes do not fit together.
    """

    def __init__(self, payload: bytes, tables: ans.Tables) -> None:
        lanes, self._expected_crc = _split(payload)
        self._decoder = ans.Decoder(lanes, tables)
        self._crc = 0

    def next(self, indices: Indices, second: int = 0) -> Symbols:
        """Symbols int16 [N] of the next pass, by its table indices uint8 [N]; second as in `Pass`.

        Raises TruncatedError when a lane has run out. Raises InputError for an index that is not
        below the number of tables.
        """
        symbols = self._decoder.decode(indices, second)
        self._crc = _crc_update(self._crc, symbols)
        return symbols

    def finish(self) -> None:
        """Check that the lanes are used up and that the symbols have the stored checksum.

        Raises FormatError or TruncatedError for the lanes, ChecksumError for the symbols.
        """
        self._decoder.finish()
        if self._crc != self._expected_crc:
            raise ChecksumError(
                f"the decoded symbols have checksum {self._crc:08x} but the file says "
                f"{self._expected_crc:08x}: the file is damaged"
            )


def _crc_update(crc: int, symbols: Symbols) -> int:
    return zlib.crc32(np.ascontiguousarray(symbols, dtype="<i2").data, crc)


def _split(payload: bytes) -> tuple[list[bytes], int]:
    """The lanes and the CRC of a payload. Every length is checked before it is used."""
    if len(payload) < _LANE_COUNT.size:
        raise TruncatedError("the coded data is empty: the file was cut")
    (lane_count,) = _LANE_COUNT.unpack_from(payload)
    if lane_count not in ans.LANE_COUNTS:
        raise FormatError(f"the coded data claims {lane_count} lanes: the file is damaged")
    lengths_at = _LANE_COUNT.size
    crc_at = lengths_at + (lane_count - 1) * _WORDS.size
    start = crc_at + _CRC.size
    if len(payload) < start:
        raise TruncatedError("the coded data ends within its lane lengths: the file was cut")
    (crc,) = _CRC.unpack_from(payload, crc_at)
    lanes: list[bytes] = []
    for offset in range(lengths_at, crc_at, _WORDS.size):
        (words,) = _WORDS.unpack_from(payload, offset)
        end = start + words * _WORD_BYTES
        if end > len(payload):
            raise TruncatedError(
                f"lane {len(lanes)} should have {words} words but the coded data ends before: "
                "the file was cut or damaged"
            )
        lanes.append(payload[start:end])
        start = end
    lanes.append(payload[start:])
    return lanes, crc
