"""rANS with static integer tables. The constriction library can decode its lanes, too."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LANE_COUNTS: tuple[int, ...]
"""How many lanes there can be."""

SLOTS: int
"""What the frequencies of every table sum to: 4096."""

ESCAPE_BITS: int
"""Bits of a symbol behind its escape entry: the int16 itself."""

class Tables:
    """Frequency tables, checked and turned into lookups once. Threads can share them.

    half  uint16 [T], T from 1 to 256. Table t has one entry for each symbol in -half[t]..half[t],
          and one more, the escape, for all other symbols. half[t] is at most 1023.
    cdf   uint16 [T, W]. cdf[t, : n + 1], n = 2 * half[t] + 2, rises strictly from 0 to SLOTS.

    Row 0 means "not coded", and its content is ignored. Raises InputError if any of this does not
    hold.
    """

    def __init__(self, half: npt.NDArray[np.uint16], cdf: npt.NDArray[np.uint16]) -> None: ...
    @property
    def count(self) -> int:
        """Number of tables T, row 0 included. Table indices are below it."""

def encode(
    passes: Sequence[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]],
    tables: Tables,
    lanes: int,
) -> list[bytes]:
    """Encode passes of (symbols int16 [N], table indices uint8 [N]), given in decoding order.

    Symbol number i of those coded in all passes goes to lane i % lanes; lanes is one of
    LANE_COUNTS. Index 0 means that the symbol is 0 and is not coded. Every int16 can be coded.
    Returns each lane as little-endian 32-bit words; it may be empty.

    Raises InputError for an index >= tables.count, a symbol other than 0 at index 0, arrays of
    another type or length, or another number of lanes.
    """

def resolve(
    symbols: npt.NDArray[np.int16], indices: npt.NDArray[np.uint8], second: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Symbols and table indices of a dependent pass -> the coded numbers and their tables.

    All arrays are [N]; see formats/ans.md, section 4. The second quantiser's table of a symbol lies
    `second` behind its first one.

    Raises InputError for arrays of another type or length. Raises it too for a symbol that is no
    level of its quantiser, which the symbols before it determine.
    """

class Decoder:
    """Decodes what :func:`encode` wrote, pass by pass.

    Any bytes give symbols or one of the errors below. Symbols may be wrong until :meth:`finish` has
    returned, and after an error. Calls from several threads wait for each other.

    Raises TruncatedError if a lane is not a whole number of words. Raises FormatError if no encoder
    can have written a lane's first or last word. Raises InputError for another number of lanes.
    """

    def __init__(self, lanes: Sequence[bytes], tables: Tables) -> None: ...
    def decode(self, indices: npt.NDArray[np.uint8], second: int = 0) -> npt.NDArray[np.int16]:
        """Symbols int16 [N] of the next N table indices uint8 [N].

        If `second` is not 0, they are one whole dependent pass, as for :func:`resolve`.

        Raises TruncatedError when a lane has run out. Raises InputError for an index >=
        tables.count; after these two nothing more can be decoded. Raises InputError, too, for an
        array of another type.
        """

    def finish(self) -> None:
        """Check that every lane is used up exactly.

        Raises FormatError if words are left. Raises TruncatedError if a lane does not end in the
        state that an encoder starts with: words are missing or damaged.
        """

def estimate_bits(
    symbols: npt.NDArray[np.int16], indices: npt.NDArray[np.uint8], tables: Tables
) -> float:
    """Ideal size of one pass in bits: the sum of -log2(frequency / SLOTS).

    Each escape adds ESCAPE_BITS.

    Raises InputError as :func:`encode` does.
    """
