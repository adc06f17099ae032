"""Passes of symbols <-> one payload: lanes, their lengths and a checksum of the symbols.

The layout is described in formats/ans.md.
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
    """Symbols int16 [N] and table indices uint8 [N]; where an index is 0 nothing is coded.

    second is 0, or says that the pass is dependent and how far behind its table each symbol has the
    one of the second quantiser.
    """

    symbols: Symbols
    indices: Indices
    second: int = 0

    def coded(self) -> tuple[Symbols, Indices]:
        """The numbers that are coded for the symbols, and their tables."""
        if not self.second:
            return self.symbols, self.indices
        return ans.resolve(self.symbols, self.indices, self.second)


# From this size on, four lanes cost under 0.2% and decode about twice as fast as one.
MANY_LANES_FROM_BYTES = 16 * 1024
MANY_LANES = 4

_LANE_COUNT = struct.Struct("<B")
_WORDS = struct.Struct("<I")
_CRC = struct.Struct("<I")
_WORD_BYTES = 4


def pack(passes: Sequence[Pass], tables: ans.Tables) -> bytes:
    """Code the passes, given in decoding order, as one payload.

    Where an index is 0 the symbol must be 0 as well. Raises InputError as
    :func:`mvmic_codec.bitstream.ans.resolve` and :func:`mvmic_codec.bitstream.ans.encode` do.
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
    """Takes the symbols out of a payload, one pass after the other.

    The symbols are known to be right only when :meth:`finish` has passed. Raises FormatError or
    its kin TruncatedError if the payload's lanes cannot be what they are said to be.
    """

    def __init__(self, payload: bytes, tables: ans.Tables) -> None:
        lanes, self._expected_crc = _split(payload)
        self._decoder = ans.Decoder(lanes, tables)
        self._crc = 0

    def next(self, indices: Indices, second: int = 0) -> Symbols:
        """Symbols int16 [N] for the next pass's table indices uint8 [N]; second as for `Pass`.

        Raises InputError for an index at or over the number of tables.
        """
        symbols = self._decoder.decode(indices, second)
        self._crc = _crc_update(self._crc, symbols)
        return symbols

    def finish(self) -> None:
        """Check that the lanes are used up and the symbols are those that were packed.

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
    """The lanes and the CRC of a payload; no length is believed before it is checked."""
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
