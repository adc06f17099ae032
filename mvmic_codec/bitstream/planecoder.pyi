"""Planes of few values as one adaptive binary rANS lane; see formats/plane.md."""

import numpy as np
import numpy.typing as npt

SYMBOLS_MAX: int

def encode(plane: npt.NDArray[np.uint8], symbols: int, ordered: bool) -> bytes:
    """The lane of a plane [H, W] of symbols 0 to `symbols` - 1.

    `symbols` is 1 to SYMBOLS_MAX. `ordered` says whether symbols that are close are alike: so of an
    alpha channel, not of labels. It changes how many bytes there are, and the decoder must know it.
    A lane is whole little-endian 32-bit words and may be empty.

    Takes up to 52 bytes of memory for each pixel, and 6 where nearly all are like their left
    neighbour. Raises InputError for another type, shape or number of symbols, and for a symbol
    that is too large.
    """

def decode(
    data: bytes, height: int, width: int, symbols: int, ordered: bool
) -> npt.NDArray[np.uint8]:
    """The plane [height, width] of a lane. Any bytes give a plane or one of the errors below.

    A plane from damaged data may be wrong: the caller keeps a checksum of the plane.

    Raises TruncatedError for data that is not whole words, FormatError for a lane that no encoder
    can have written, InputError as `encode`.
    """
