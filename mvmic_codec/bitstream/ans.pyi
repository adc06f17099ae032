"""rANS with static integer tables, in lanes that the constriction library can decode too."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LANE_COUNTS: tuple[int, ...]

class Tables:
    """Frequency tables, checked and turned into lookups once; safe to share between threads.

    ``half``: uint16 [T], T in 1..256; table t has an entry of its own for each symbol in
    -half[t]..half[t] (half[t] <= 1023) and one more, the escape, for all others.
    ``cdf``: uint16 [T, W]; cdf[t, : n + 1], n = 2 * half[t] + 2, rises strictly from 0 to 4096.
    Row 0 stands for "not coded": its content is ignored.

    Raises InputError if any of this does not hold.
    """

    def __init__(self, half: npt.NDArray[np.uint16], cdf: npt.NDArray[np.uint16]) -> None: ...
    @property
    def count(self) -> int:
        """Number of tables T, row 0 included; table indices are below it."""

def encode(
    passes: Sequence[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]],
    tables: Tables,
    lanes: int,
) -> list[bytes]:
    """Encode (symbols int16 [N], table indices uint8 [N]) passes, given in decoding order.

    The i-th coded symbol over all passes goes to lane i % lanes (1, 2, 4 or 8 lanes). Index 0
    means that the symbol is not coded and is 0. Any int16 survives. Each lane comes back as
    little-endian 32-bit words and may be empty.

    Raises InputError for an index >= tables.count, a symbol other than 0 at index 0, arrays of
    another type or length, or another number of lanes.
    """

def resolve(
    symbols: npt.NDArray[np.int16], indices: npt.NDArray[np.uint8], second: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Symbols and table indices of a dependent pass -> numbers and tables that code them.

    All [N]; formats/ans.md, section 4. The tables of the second quantiser lie `second` behind those
    of the first.

    Raises InputError for arrays of another type or length, and for a symbol that is not a level of
    the quantiser that those before it leave it.
    """

class Decoder:
    """Decodes what :func:`encode` wrote, pass by pass.

    Whatever the bytes, symbols or an error come back. After an error, or before :meth:`finish`
    has passed, the symbols may be wrong. Calls from several threads wait for each other.

    Raises TruncatedError if a lane is not a whole number of words, FormatError if its first or
    last word cannot have been written by an encoder, InputError for another number of lanes.
    """

    def __init__(self, lanes: Sequence[bytes], tables: Tables) -> None: ...
    def decode(self, indices: npt.NDArray[np.uint8], second: int = 0) -> npt.NDArray[np.int16]:
        """Symbols int16 [N] of the next N table indices, going on where the last call ended.

        With `second` they are a whole dependent pass, as for :func:`resolve`.

        Raises TruncatedError when a lane has run out, InputError for an index >= tables.count or
        an array of another type. Nothing more can be decoded after the first two.
        """

    def finish(self) -> None:
        """Check that every lane is exactly used up.

        Raises FormatError if words are left, TruncatedError if a lane's state is not what an
        encoder starts with, which means that words are missing or damaged.
        """

def estimate_bits(
    symbols: npt.NDArray[np.int16], indices: npt.NDArray[np.uint8], tables: Tables
) -> float:
    """Ideal size of one pass in bits: sum of -log2(frequency / 4096), and 16 for each escape.

    Raises InputError as :func:`encode` does.
    """
