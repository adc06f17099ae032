"""Dependent quantisation in an encoder."""

import numpy as np
import numpy.typing as npt

def quantise(
    positions: npt.NDArray[np.float64],
    tables: npt.NDArray[np.uint8],
    lambdas: npt.NDArray[np.float64],
    bits: npt.NDArray[np.float32],
    spacing: float,
    second: int,
) -> npt.NDArray[np.int16]:
    """The symbols of a dependent pass that cost least together, int16 [N], by Viterbi's algorithm.

    positions  [N] of all coded places, in steps
    tables     [N] of the first quantiser, 1 or more
    lambdas    [N], bits for a squared error of one step, twice
    bits       [T, M] of a coded number by table and magnitude; the last column is for all above
    spacing    of two levels of a quantiser, in steps
    second     as for `ans.resolve`

    Raises ValueError for arrays that do not fit together, MemoryError.
    """
