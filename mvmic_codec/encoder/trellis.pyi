"""Dependent quantisation in an encoder."""

import numpy as np
import numpy.typing as npt

def quantise(
    positions: npt.NDArray[np.float64],
    tables: npt.NDArray[np.uint8],
    prices: npt.NDArray[np.float64],
    bits: npt.NDArray[np.float32],
    spacing: float,
    second: int,
) -> npt.NDArray[np.int16]:
    """Symbols int16 [N] of a dependent pass that cost least together, by Viterbi's algorithm.

    positions [N] of all coded places, in steps; tables [N] of the first quantiser, 1 or more;
    prices [N], twice the bits for a squared error of one step. bits [T, M] of a coded number by
    table and magnitude, the last column for all above. spacing of two levels in steps, second as
    for `ans.resolve`.

    Raises ValueError for arrays that do not fit together, MemoryError.
    """
