"""Maps of flat colours as one adaptive binary rANS lane; see formats/flat.md."""

import numpy as np
import numpy.typing as npt

COLOURS_MAX: int

def encode(
    map: npt.NDArray[np.uint8], colours: int, open: npt.NDArray[np.bool_] | None = None
) -> bytes:
    """The lane of a map [H, W]: 0 where a pixel is not flat, else the number of its colour.

    `colours` is 1 to COLOURS_MAX. Where `open` [H, W] is False, both sides know that the map is 0.
    A lane is whole little-endian 32-bit words and may be empty.

    Raises InputError for another type, shape or number of colours. Raises it too for a number in
    the map that is above `colours`, or that is not 0 where `open` is False.
    """

def decode(
    data: bytes,
    height: int,
    width: int,
    colours: int,
    open: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """The map [height, width] of a lane. Any bytes give a map or one of the errors below.

    A map from damaged data may be wrong: the caller keeps a checksum of the map.

    Raises TruncatedError for data that is not whole words, FormatError for a lane that no encoder
    can have written, InputError as `encode`.
    """
