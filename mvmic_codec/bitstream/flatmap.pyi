"""Maps of flat colours as one adaptive binary rANS lane; see formats/flat.md."""

import numpy as np
import numpy.typing as npt

COLOURS_MAX: int

def encode(
    map: npt.NDArray[np.uint8], colours: int, open: npt.NDArray[np.bool_] | None = None
) -> bytes:
    """The lane of a map [H, W]: 0 where a pixel is not flat, else the number of its colour.

    `colours` is 1 to COLOURS_MAX. Where `open` [H, W] is False the map is known to be 0. A lane is
    whole little-endian 32-bit words and may be empty.

    Raises InputError for another type, shape or number of colours, and for a number above it or
    where nothing is open.
    """

def decode(
    data: bytes,
    height: int,
    width: int,
    colours: int,
    open: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """The map [height, width] of a lane. Whatever the bytes, a map or an error comes back.

    Raises TruncatedError for data that is not whole words, FormatError if no encoder can have
    written it. A map may still be wrong if the data was damaged: its checksum is kept elsewhere.
    """
